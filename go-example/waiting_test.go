package keylatch

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

func TestContextErrorsComeAsTheyAre(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	held := must(m.Lock(background, key))(t)

	cancelled, cancel := context.WithCancelCause(background)
	result := make(chan error)
	go func() {
		_, err := m.Lock(cancelled, key)
		result <- err
	}()
	waits(t, m, 1)
	cancel(errors.New("the cause is for callers that ask for it"))
	if err := <-result; err != context.Canceled {
		t.Fatalf("%v came", err)
	}
	late, cancelLate := context.WithTimeout(background, time.Millisecond)
	defer cancelLate()
	if _, err := m.RLock(late, key); err != context.DeadlineExceeded {
		t.Fatalf("%v came", err)
	}
	// A context that has ended takes nothing, not even what is free.
	if _, err := m.Lock(cancelled, Key{Bucket: "free"}); err != context.Canceled {
		t.Fatalf("%v came", err)
	}
	if _, err := m.LockMany(cancelled, []Item{{Key{Bucket: "free"}, Shared}}); err != context.Canceled {
		t.Fatalf("%v came", err)
	}
	ok(t, held.Unlock())
	empty(t, m)
}

func TestTimeoutsNameTheHolders(t *testing.T) {
	m := newTest(t, Options{DefaultTimeout: time.Millisecond})
	key := Key{Bucket: "b", Object: "o"}
	held := must(m.Lock(background, key, WithOwner("compactor"), WithPriority(7)))(t)
	for _, options := range [][]Option{nil, {WithTimeout(2 * time.Millisecond)}, {WithTimeout(0)}} {
		_, err := m.RLock(background, key, options...)
		failure := wants(t, err, ErrTimeout)
		if len(failure.Holders) != 1 || failure.Holders[0].Owner != "compactor" || failure.Key != key {
			t.Fatalf("it says %+v", failure)
		}
		var timeout net.Error
		if !errors.As(err, &timeout) && !failure.Timeout() {
			t.Fatalf("%v says that it is no timeout", err)
		}
		if options == nil && failure.Waited < time.Millisecond {
			t.Fatalf("it waited %v", failure.Waited)
		}
	}
	ctx, cancel := context.WithTimeout(background, 3*time.Millisecond)
	defer cancel()
	if _, err := m.RLock(ctx, key, WithoutTimeout()); err != context.DeadlineExceeded {
		t.Fatalf("%v came", err)
	}
	ok(t, held.Unlock())
	empty(t, m)
}

func TestAdaptiveTimeouts(t *testing.T) {
	plain := newTest(t, Options{})
	if _, learning, err := plain.Adaptive(); learning || err != nil {
		t.Fatalf("it learns: %v", err)
	}
	m := newTest(t, Options{Adaptive: &AdaptiveTimeout{Floor: time.Millisecond, Ceiling: 2 * time.Millisecond}})
	held := must(m.Lock(background, Key{}))(t)
	for range 40 {
		_, err := m.Lock(background, Key{})
		wants(t, err, ErrTimeout)
	}
	learned, learning, err := m.Adaptive()
	if err != nil || !learning || learned.Samples < 32 || learned.Timeout < time.Millisecond || learned.Timeout > 2*time.Millisecond {
		t.Fatalf("%+v %v %v", learned, learning, err)
	}
	ok(t, held.Unlock())
	_, err = New(Options{Adaptive: &AdaptiveTimeout{QuantilePerMille: 1001}})
	wants(t, err, ErrInvalidConfig)
}
