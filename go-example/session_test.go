package keylatch

import (
	"context"
	"testing"
	"time"
)

func TestSessions(t *testing.T) {
	m := newTest(t, Options{DeadlockDelay: 1})
	x, y := Key{Bucket: "b", Object: "x"}, Key{Bucket: "b", Object: "y"}
	alice := must(m.Session("alice", WithSource("tests")))(t)
	bob := must(m.Session("bob"))(t)
	must(m.Lock(background, x, By(alice)))(t)
	guard := must(m.Lock(background, y, By(bob)))(t)
	_, err := m.Lock(background, x, By(alice))
	wants(t, err, ErrDeadlock)
	result := make(chan error)
	go func() {
		got, err := m.Lock(background, y, By(alice))
		if err == nil {
			err = got.Unlock()
		}
		result <- err
	}()
	waits(t, m, 1)
	_, err = m.Lock(background, x, By(bob))
	failure := wants(t, err, ErrDeadlock)
	if len(failure.Cycle) != 2 || failure.Cycle[0].Owner != "bob" || failure.Cycle[1].Owner != "alice" || failure.Cycle[1].Source != "tests" {
		t.Fatalf("it says %+v", failure)
	}
	if past := must(m.RecentDeadlocks())(t); len(past) < 2 || !past[0].Victim {
		t.Fatalf("it remembers %+v", past)
	}
	ok(t, guard.Unlock())
	ok(t, <-result)
	if count := must(alice.ReleaseAll())(t); count != 1 {
		t.Fatalf("%d locks were released", count)
	}
	alice.Close()
	alice.Close()
	_, err = m.Lock(background, x, By(alice))
	wants(t, err, ErrInvalidArgument)

	label := must(m.Owner("node-7"))(t)
	_, err = label.ReleaseAll()
	wants(t, err, ErrInvalidArgument)
	bob.Close()
	empty(t, m)
}

// watched is a context that says when a goroutine waits for its end.
type watched struct {
	context.Context
	waits chan struct{}
}

func (w watched) Done() <-chan struct{} {
	select {
	case w.waits <- struct{}{}:
	default:
	}
	return w.Context.Done()
}

// A request that is made again with its number, while it waits or later, has one grant.
func TestNumberedRequests(t *testing.T) {
	m := newTest(t, Options{DefaultTimeout: time.Hour})
	x := Key{Bucket: "b", Object: "x"}
	session := must(m.Session("numbered"))(t)
	type answer struct {
		grant Grant
		err   error
	}
	answers := make(chan answer, 10)
	ask := func(ctx context.Context, more ...Option) {
		grant, err := m.Acquire(ctx, x, Exclusive, append([]Option{By(session), WithRequestID(7)}, more...)...)
		answers <- answer{grant, err}
	}
	// repeat makes the request once more and comes back when that waits.
	repeat := func(ctx context.Context, more ...Option) {
		repeated := watched{ctx, make(chan struct{}, 1)}
		go ask(repeated, more...)
		select {
		case <-repeated.waits:
		case came := <-answers:
			t.Fatalf("the repeat does not wait: %v %v", came.grant, came.err)
		}
	}

	held := must(m.Lock(background, x, WithOwner("holder")))(t)
	go ask(background)
	waits(t, m, 1)
	// A repeat that gives up leaves the first one alone.
	ctx, cancel := context.WithCancel(background)
	repeat(ctx)
	cancel()
	if came := <-answers; came.err != context.Canceled {
		t.Fatalf("%v came", came.err)
	}
	for _, timeout := range []time.Duration{0, 2 * time.Millisecond} {
		ask(background, WithTimeout(timeout))
		failure := wants(t, (<-answers).err, ErrTimeout)
		if failure.Waited < timeout || len(failure.Holders) != 1 || failure.Holders[0].Owner != "holder" || failure.Key != x {
			t.Fatalf("it says %v", failure)
		}
	}
	_, err := m.TryAcquire(x, Exclusive, By(session), WithRequestID(7))
	wants(t, err, ErrWouldBlock)
	// Another number does not wait for this one.
	ctx, cancel = context.WithCancel(background)
	go ask(ctx, WithRequestID(8))
	waits(t, m, 2)
	cancel()
	if came := <-answers; came.err != context.Canceled {
		t.Fatalf("%v came", came.err)
	}
	for _, options := range [][]Option{nil, {WithoutTimeout()}, {WithTimeout(time.Hour)}} {
		repeat(background, options...)
	}
	if figures := must(m.Metrics())(t); figures.Waiters != 1 {
		t.Fatalf("%d are in line for one request", figures.Waiters)
	}
	ok(t, held.Unlock())
	first := <-answers
	ok(t, first.err)
	for range 3 {
		if came := <-answers; came != first {
			t.Fatalf("%v and %v are for one request", came, first)
		}
	}
	if again := must(m.Acquire(background, x, Exclusive, By(session), WithRequestID(7)))(t); again != first.grant {
		t.Fatalf("%d and %d are for one request", first.grant, again)
	}
	ok(t, m.Release(first.grant))
	wants(t, m.Release(first.grant), ErrNotHeld)
	empty(t, m)

	// If the first one ends without a lock, the next one waits for itself.
	held = must(m.Lock(background, x))(t)
	ctx, cancel = context.WithCancel(background)
	go ask(ctx)
	waits(t, m, 1)
	repeat(background)
	cancel()
	if came := <-answers; came.err != context.Canceled {
		t.Fatalf("%v came", came.err)
	}
	waits(t, m, 1)
	ok(t, held.Unlock())
	second := <-answers
	ok(t, second.err)
	ok(t, m.Release(second.grant))
	empty(t, m)

	// Closing ends them all.
	held = must(m.Lock(background, x))(t)
	go ask(background)
	waits(t, m, 1)
	repeat(background)
	m.Close()
	for range 2 {
		wants(t, (<-answers).err, ErrClosed)
	}
	ok(t, held.Unlock())
}

func TestOrdersThatGoRound(t *testing.T) {
	m := newTest(t, Options{LockOrder: true})
	events := must(m.Events(background, EventOptions{}))(t)
	for _, order := range [][2]string{{"x", "y"}, {"y", "x"}} {
		session := must(m.Session(order[0] + " first"))(t)
		for _, object := range order {
			must(m.Lock(background, Key{Bucket: "b", Object: object}, By(session)))(t)
		}
		must(session.ReleaseAll())(t)
	}
	orders, reported, err := m.LockOrders()
	if err != nil || reported != 1 || len(orders) != 4 || orders[0].Role != Holds || orders[1].Role != Waits {
		t.Fatalf("%+v %d %v", orders, reported, err)
	}
	for event := range events {
		if event.Kind == OrdersGoRound {
			if len(event.Links) != 4 {
				t.Fatalf("it tells %+v", event)
			}
			break
		}
	}
}
