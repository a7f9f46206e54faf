package keylatch

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// A mistake of the program is an error, and has no other effect.

func TestZeroValues(t *testing.T) {
	m := new(Manager)
	key := Key{Bucket: "b", Object: "o"}
	for name, err := range map[string]error{
		"Lock":      second(m.Lock(background, key)),
		"RLock":     second(m.RLock(background, key, WithOwner("o"), WithTTL(time.Second))),
		"TryLock":   second(m.TryLock(key)),
		"LockMany":  second(m.LockMany(background, []Item{{key, Shared}})),
		"Session":   second(m.Session("s")),
		"Events":    second(m.Events(background, EventOptions{})),
		"Metrics":   second(m.Metrics()),
		"Holders":   second(m.Holders(Filter{})),
		"Force":     second(m.ForceRelease(Filter{All: true})),
		"Release":   m.Release(1),
		"Downgrade": m.Downgrade(1),
		"Fence":     second(m.Fence(1)),
		"Upgrade":   m.Upgrade(background, 1),
	} {
		if failure := new(Error); errors.As(err, &failure) || !errors.Is(err, ErrClosed) {
			t.Errorf("%s of the zero Manager says %v", name, err)
		}
	}
	other := newTest(t, Options{})
	session := must(other.Session("s"))(t)
	_, err := m.Lock(background, key, By(session), WithRequestID(1))
	wants(t, err, ErrClosed)
	ok(t, m.Close())
	ok(t, m.Close())

	guard, batch := new(Guard), new(Batch)
	for name, err := range map[string]error{
		"Unlock":     guard.Unlock(),
		"Key":        second(guard.Key()),
		"Mode":       second(guard.Mode()),
		"Fence":      second(guard.Fence()),
		"Downgrade":  guard.Downgrade(),
		"Upgrade":    guard.Upgrade(background),
		"TryUpgrade": guard.TryUpgrade(),
		"Renew":      guard.Renew(time.Second),
		"batch":      batch.Unlock(),
	} {
		if !errors.Is(err, ErrNotHeld) {
			t.Errorf("%s of the zero Guard says %v", name, err)
		}
	}
	if guard.Valid() {
		t.Error("the zero Guard is valid")
	}
	owner := new(Owner)
	owner.Close()
	_, err = owner.ReleaseAll()
	wants(t, err, ErrInvalidArgument)
	_, _, err = owner.BlockingChain()
	wants(t, err, ErrInvalidArgument)
	_, err = other.Lock(background, key, By(owner))
	wants(t, err, ErrInvalidArgument)
	empty(t, other)
}

func TestNilContext(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	pin := must(m.Pin(key))(t)
	held := must(m.RLock(background, Key{Bucket: "b", Object: "held"}))(t)
	claims := must(NewClaims(ClaimsOptions{}))(t)
	claimant := must(claims.Claimant("one", 0))(t)
	watch := must(claims.Watch(key, ClaimEventID{}))(t)
	//lint:file-ignore SA1012 that is what is tested
	for name, err := range map[string]error{
		"Lock":     second(m.Lock(nil, key)),
		"RLock":    second(m.RLock(nil, key)),
		"Acquire":  second(m.Acquire(nil, key, Shared)),
		"LockMany": second(m.LockMany(nil, []Item{{key, Shared}})),
		"Pinned":   second(pin.Lock(nil)),
		"Upgrade":  held.Upgrade(nil),
		"Events":   second(m.Events(nil, EventOptions{})),
		"Claim":    second(claimant.Claim(nil, key, ClaimRequest{})),
		"Next":     second(watch.Next(nil)),
	} {
		if wants(t, err, ErrInvalidArgument); !strings.Contains(err.Error(), "context.Background()") {
			t.Errorf("%s with a nil context says %v", name, err)
		}
	}
	watch.Close()
	claimant.Close()
	ok(t, claims.Close())
	ok(t, held.Unlock())
	pin.Unpin()
	empty(t, m)
}

// What is left when the error of a request was not looked at.
func TestNilGuard(t *testing.T) {
	var guard *Guard
	var batch *Batch
	var shared *SharedGuard
	for name, err := range map[string]error{
		"Unlock":           guard.Unlock(),
		"Key":              second(guard.Key()),
		"Fence":            second(guard.Fence()),
		"Upgrade":          guard.Upgrade(background),
		"Renew":            guard.Renew(time.Second),
		"batch":            batch.Unlock(),
		"shared Unlock":    shared.Unlock(),
		"shared Downgrade": shared.Downgrade(),
		"shared Upgrade":   shared.TryUpgrade(),
		"shared Fence":     second(shared.Fence()),
	} {
		if !errors.Is(err, ErrNotHeld) {
			t.Errorf("%s of a nil guard says %v", name, err)
		}
	}
	if guard.Valid() || shared.Valid() || shared.PreviousHolderDied() || guard.Grant() != 0 || shared.Key() != (Key{}) || shared.Mode() != 0 {
		t.Error("a nil guard holds something")
	}
}

func TestOwnerOfAnotherManager(t *testing.T) {
	m, other := newTest(t, Options{}), newTest(t, Options{})
	session := must(other.Session("s"))(t)
	key := Key{Bucket: "b", Object: "o"}
	for name, err := range map[string]error{
		"Lock":     second(m.Lock(background, key, By(session))),
		"TryLock":  second(m.TryLock(key, By(session))),
		"LockMany": second(m.LockMany(background, []Item{{key, Shared}}, By(session))),
	} {
		if !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), "another manager") {
			t.Errorf("%s says %v", name, err)
		}
	}
	empty(t, m)
	m.Close()
	_, err := m.Lock(background, key, By(session))
	wants(t, err, ErrClosed)
}

func second[T any](_ T, err error) error { return err }

func TestModesThatAreNone(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	for _, mode := range []Mode{0, 3, -1, 0x101, 0x102, 1 << 16, math.MinInt32 + 2} {
		for _, err := range []error{
			second(m.Acquire(background, key, mode)),
			second(m.Acquire(background, key, mode, WithOwner("o"))),
			second(m.TryAcquire(key, mode)),
			second(m.LockMany(background, []Item{{Key{}, Shared}, {key, mode}})),
		} {
			wants(t, err, ErrInvalidArgument)
		}
		if _, err := m.Holders(Filter{Mode: mode}); mode != 0 {
			wants(t, err, ErrInvalidArgument)
		}
	}
	empty(t, m)
}

func TestKeysAreShownInALine(t *testing.T) {
	long := strings.Repeat("é\n", 30_000)
	for key, want := range map[Key]string{
		{}: `""`, {Bucket: "b", Object: "o\x00", Version: "v"}: `"b"/"o\x00"@"v"`, {Object: "o", EmptyVersion: true}: `"o"@""`,
	} {
		if got := key.String(); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	if got := (Key{long, long, long, false}).String(); len(got) > 500 || !strings.Contains(got, "(90000 bytes)") {
		t.Errorf("it is %q", got)
	}
}

func TestNegativeSettings(t *testing.T) {
	for _, options := range []Options{
		{FairnessAfter: -1}, {DefaultTimeout: -time.Second}, {LockDelay: -1}, {MaxKeyBytes: -1},
		{HealthWindow: -1}, {HealthWindow: time.Microsecond},
		{Adaptive: &AdaptiveTimeout{Floor: -1}}, {Adaptive: &AdaptiveTimeout{Ceiling: -1}},
	} {
		m, err := New(options)
		if err == nil {
			m.Close()
		}
		if failure := wants(t, err, ErrInvalidConfig); failure.Message == "" {
			t.Fatalf("%+v: %v", options, failure)
		}
	}
	m := newTest(t, Options{DeadlockDelay: -1})
	for _, options := range []EventOptions{{WaitAbove: -1}, {HoldAbove: math.MinInt64}} {
		_, err := m.Events(background, options)
		wants(t, err, ErrInvalidConfig)
	}
}

// An option that could not be heeded is refused: no caller may believe that it was.
func TestOptionsOutOfPlace(t *testing.T) {
	m := newTest(t, Options{DefaultTimeout: time.Second})
	session := must(m.Session("s"))(t)
	key := Key{Bucket: "b", Object: "o"}
	items := []Item{{key, Exclusive}}
	reader := must(m.RLock(background, Key{}))(t)
	for name, err := range map[string]error{
		"best effort":          second(m.Lock(background, key, WithBestEffort())),
		"best effort, no wait": second(m.TryRLock(key, WithBestEffort(), WithTimeout(0))),
		"number":               second(m.LockMany(background, items, By(session), WithRequestID(1))),
		"number, best effort":  second(m.LockMany(background, items, By(session), WithRequestID(1), WithBestEffort())),
		"number to upgrade":    reader.Upgrade(background, WithRequestID(1)),
		"lease to upgrade":     reader.Upgrade(background, WithTTL(time.Second)),
		"effort to upgrade":    reader.Upgrade(background, WithBestEffort()),
	} {
		if failure := wants(t, err, ErrInvalidArgument); failure.Message == "" {
			t.Errorf("%s: %v", name, failure)
		}
	}
	if must(reader.Mode())(t) != Shared {
		t.Fatal("it was upgraded")
	}
	ok(t, reader.Upgrade(background, WithTimeout(0), By(session), WithRequestID(0)))
	ok(t, reader.Unlock())
	ok(t, must(m.LockMany(background, items, WithRequestID(0)))(t).Unlock())
	empty(t, m)
}

func TestContextsThatEnded(t *testing.T) {
	m := newTest(t, Options{})
	past, cancel := context.WithDeadline(background, time.Unix(0, 0))
	defer cancel()
	gone, stop := context.WithCancelCause(background)
	stop(errors.New("no more"))
	for ctx, want := range map[context.Context]error{past: context.DeadlineExceeded, gone: context.Canceled} {
		for _, err := range []error{
			second(m.Lock(ctx, Key{})), second(m.RLock(ctx, Key{})), second(m.Acquire(ctx, Key{}, Shared)),
			second(m.LockMany(ctx, nil)), second(m.Events(ctx, EventOptions{})), m.Upgrade(ctx, 1),
		} {
			if err != want {
				t.Errorf("%v, not %v", err, want)
			}
		}
	}
	empty(t, m)
}
