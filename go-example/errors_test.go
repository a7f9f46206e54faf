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
	told := wants(t, err, ErrWouldBlock)
	// A refusal that did not wait tells the writer, or a reader if one is at hand.
	if told.Key != key || len(told.Holders)+told.MoreHolders != 10 {
		t.Fatalf("it says %v", told)
	}
	_, err = m.Lock(background, key, WithTimeout(5*time.Millisecond))
	told = wants(t, err, ErrTimeout)
	text := told.Error()
	begins := fmt.Sprintf(`keylatch: "photos"/"cat.jpg" was not free within %v; held by "reader `, told.Waited)
	if len(told.Holders) != 1 || told.MoreHolders != 9 || told.Waited < 5*time.Millisecond || !strings.HasPrefix(text, begins) ||
		!strings.Contains(text, `" (shared`) || !strings.HasSuffix(text, ", 9 more") {
		t.Fatalf("it says %v, of %d and %d more", text, len(told.Holders), told.MoreHolders)
	}
}

func TestWhatErrorsSay(t *testing.T) {
	key := Key{Bucket: "b", Object: "o"}
	holder := Party{Owner: "one\n", Mode: Exclusive}
	for want, err := range map[string]error{
		"keylatch: the time was over before the lock was free":       &Error{Code: ErrTimeout},
		"keylatch: the lock is held":                                 &Error{Code: ErrWouldBlock},
		"keylatch: as it was told":                                   &Error{Code: ErrWouldBlock, Message: "as it was told"},
		"keylatch: status -77":                                       Code(-77),
		`keylatch: "b"/"o" is not free; nobody holds it any more`:    &Error{Code: ErrWouldBlock, Key: key, HasKey: true},
		`keylatch: "b"/"o" is not free; held by 3 more`:              &Error{Code: ErrWouldBlock, Key: key, HasKey: true, MoreHolders: 3},
		`keylatch: "b"/"o" is not free; held by "one\n" (exclusive)`: &Error{Code: ErrWouldBlock, Key: key, HasKey: true, Holders: []Party{holder}},
		`keylatch: "b"/"o" was not free within 1s; held by somebody unnamed (shared, for at least 2ms), 1 more`: &Error{
			Code: ErrTimeout, Key: key, HasKey: true, Waited: time.Second,
			Holders: []Party{{Mode: Shared, For: 2 * time.Millisecond}}, MoreHolders: 1,
		},
	} {
		if err.Error() != want {
			t.Errorf("%q, not %q", err.Error(), want)
		}
		if told := new(Error); errors.As(err, &told) && !errors.Is(err, told.Code) {
			t.Errorf("%v is not %v", err, told.Code)
		}
	}
}
