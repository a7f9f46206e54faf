package keylatch

import (
	"context"
	"testing"
	"time"
)

func TestLeases(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	guard := must(m.Lock(background, key, WithTTL(time.Hour)))(t)
	left, leased, err := guard.Remaining()
	if err != nil || !leased || left > time.Hour || left < 59*time.Minute {
		t.Fatalf("%v %v %v", left, leased, err)
	}
	ok(t, guard.Renew(time.Millisecond))
	// Its lease runs out, and the next one in line has it.
	next := must(m.Lock(background, key))(t)
	wants(t, guard.Renew(time.Hour), ErrLeaseLost)
	wants(t, guard.Unlock(), ErrLeaseLost)
	if _, leased, err := next.Remaining(); leased || err != nil {
		t.Fatalf("it has a lease that was not asked for: %v", err)
	}
	ok(t, next.Unlock())
	empty(t, m)
}

// What WithTTL cannot mean is refused, as by Renew, and nothing is held.
func TestALeaseOfNoTime(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	for _, ttl := range []time.Duration{0, -1, -time.Hour} {
		refused := func(err error) {
			t.Helper()
			if failure := wants(t, err, ErrInvalidConfig); failure.Message == "" || failure.Transient() {
				t.Fatalf("it says %v", failure)
			}
		}
		for _, lock := range []func(context.Context, Key, ...Option) (*Guard, error){m.Lock, m.RLock} {
			_, err := lock(background, key, WithTTL(ttl))
			refused(err)
		}
		for _, try := range []func(Key, ...Option) (*Guard, error){m.TryLock, m.TryRLock} {
			_, err := try(key, WithTTL(ttl), WithOwner("o"))
			refused(err)
		}
		for _, more := range []Option{{}, WithBestEffort(), WithTimeout(0)} {
			_, err := m.LockMany(background, []Item{{key, Exclusive}, {Key{}, Shared}}, more, WithTTL(ttl))
			refused(err)
		}
		guard := must(m.Lock(background, key, WithTTL(1)))(t)
		refused(guard.Renew(ttl))
		ok(t, guard.Unlock())
	}
	empty(t, m)
}
