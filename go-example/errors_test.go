package keylatch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestARefusalSaysByWhom(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "photos", Object: "cat.jpg"}
	for i := range 10 {
		must(m.RLock(background, key, WithOwner(fmt.Sprintf("reader %d", i))))(t)
	}
	_, err := m.TryLock(key)
	failure := wants(t, err, ErrWouldBlock)
	// A refusal that did not wait tells the writer, or a reader if one is at hand.
	if failure.Key != key || len(failure.Holders)+failure.MoreHolders != 10 {
		t.Fatalf("it says %v", failure)
	}
	_, err = m.Lock(background, key, WithTimeout(5*time.Millisecond))
	failure = wants(t, err, ErrTimeout)
	text := failure.Error()
	begins := fmt.Sprintf(`keylatch: "photos"/"cat.jpg" was not free within %v; held by "reader `, failure.Waited)
	if len(failure.Holders) != 1 || failure.MoreHolders != 9 || failure.Waited < 5*time.Millisecond || !strings.HasPrefix(text, begins) ||
		!strings.Contains(text, `" (shared`) || !strings.HasSuffix(text, ", 9 more") {
		t.Fatalf("it says %v, of %d and %d more", text, len(failure.Holders), failure.MoreHolders)
	}
}

func TestWhatErrorsSay(t *testing.T) {
	key := Key{Bucket: "b", Object: "o"}
	holder := Holder{Owner: "one\n", Mode: Exclusive}
	for want, err := range map[string]error{
		"keylatch: the time was over before the lock was free":       &Error{Code: ErrTimeout},
		"keylatch: the lock is held":                                 &Error{Code: ErrWouldBlock},
		"keylatch: as it is":                                         &Error{Code: ErrWouldBlock, Message: "as it is"},
		"keylatch: status -77":                                       Code(-77),
		`keylatch: "b"/"o" is not free; its holder is gone`:          &Error{Code: ErrWouldBlock, Key: key, HasKey: true},
		`keylatch: "b"/"o" is not free; held by 3 more`:              &Error{Code: ErrWouldBlock, Key: key, HasKey: true, MoreHolders: 3},
		`keylatch: "b"/"o" is not free; held by "one\n" (exclusive)`: &Error{Code: ErrWouldBlock, Key: key, HasKey: true, Holders: []Holder{holder}},
		`keylatch: "b"/"o" was not free within 1s; held by an unnamed owner (shared, for at least 2ms), 1 more`: &Error{
			Code: ErrTimeout, Key: key, HasKey: true, Waited: time.Second,
			Holders: []Holder{{Mode: Shared, For: 2 * time.Millisecond}}, MoreHolders: 1,
		},
	} {
		if err.Error() != want {
			t.Errorf("%q, not %q", err.Error(), want)
		}
		if failure := new(Error); errors.As(err, &failure) && !errors.Is(err, failure.Code) {
			t.Errorf("%v is not %v", err, failure.Code)
		}
	}
}
