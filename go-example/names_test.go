package keylatch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestNumbersHaveNames(t *testing.T) {
	for _, tried := range []struct {
		value fmt.Stringer
		name  string
	}{
		{Eventual, "eventual"}, {ReaderFirst, "reader first"}, {Fairness(0), "Fairness(0)"}, {Fairness(9), "Fairness(9)"},
		{Deny, "deny"}, {Count, "count"}, {Asker, "asker"}, {LowestPriority, "lowest priority"}, {Victim(4), "Victim(4)"},
		{SlotsOn, "slots on"}, {SlotsOff, "slots off"}, {ReaderSlots(0), "ReaderSlots(0)"},
		{Holds, "holds"}, {Waits, "waits"}, {TopAge, "age"}, {TopWaiters, "waiters"}, {TopBy(-1), "TopBy(-1)"},
		{SlowWait, "slow wait"}, {Expired, "expired lease"}, {OrdersGoRound, "lock order"}, {EventKind(99), "EventKind(99)"},
		{Exclusive, "exclusive"}, {Mode(7), "Mode(7)"}, {Health{Healthy: true}, "healthy"},
		{Health{Problems: []string{"a", "b"}}, "not healthy: a; b"},
	} {
		if name := tried.value.String(); name != tried.name {
			t.Errorf("%q, not %q", name, tried.name)
		}
	}
}

func TestHoldsSayWhatTheyAre(t *testing.T) {
	m := newTest(t, Options{})
	guard := must(m.Lock(t.Context(), Key{Bucket: "photos", Object: "cat.jpg"}, WithOwner("indexer"), WithTTL(time.Hour)))(t)
	holders := must(m.Holders(Filter{}))(t)
	text := fmt.Sprint(guard, "; ", holders[0])
	const holds = `"photos"/"cat.jpg" (exclusive); "indexer" holds "photos"/"cat.jpg" (exclusive)`
	if !strings.HasPrefix(text, holds) || !strings.Contains(text, "a lease of ") {
		t.Fatal(text)
	}
	if holders[0].Grant != guard.Grant() {
		t.Fatal("the guard is of another grant")
	}
	ok(t, guard.Unlock())
	if text := guard.String(); text != "a lock that is not held" {
		t.Fatal(text)
	}
	figures := must(m.Metrics())(t)
	if text := figures.String(); !strings.HasPrefix(text, "0 held, 0 waiting, 1 taken (") {
		t.Fatal(text)
	}
}

func TestMetricsCountDeadlocksAndWaitTimes(t *testing.T) {
	m := newTest(t, Options{DeadlockDelay: 1})
	one, two := must(m.Session("one"))(t), must(m.Session("two"))(t)
	a, b := Key{Object: "a"}, Key{Object: "b"}
	must(m.Acquire(t.Context(), a, Exclusive, By(one)))(t)
	must(m.Acquire(t.Context(), b, Exclusive, By(two)))(t)
	waits := make(chan error, 2)
	for session, key := range map[*Owner]Key{one: b, two: a} {
		go func() {
			_, err := m.Acquire(context.Background(), key, Exclusive, By(session))
			if Is(err, ErrDeadlock) {
				_, _ = session.ReleaseAll()
			}
			waits <- err
		}()
	}
	first, second := <-waits, <-waits
	if (first == nil) == (second == nil) || !Is(firstOf(first, second), ErrDeadlock) {
		t.Fatalf("%v and %v", first, second)
	}
	figures := must(m.Metrics())(t)
	if figures.Deadlocks != 1 {
		t.Fatalf("%d deadlocks", figures.Deadlocks)
	}
	var waited uint64
	buckets := must(m.WaitTimes())(t)
	for _, bucket := range buckets {
		waited += bucket.Waits
	}
	if waited == 0 || waited > figures.Waits || buckets[0].Below >= buckets[len(buckets)-1].Below {
		t.Fatalf("%d of %d waits in %v", waited, figures.Waits, buckets)
	}
	for _, session := range []*Owner{one, two} {
		_, _ = session.ReleaseAll()
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestSessionCanReleaseOnClose(t *testing.T) {
	m := newTest(t, Options{})
	session := must(m.Session("transaction", ReleaseOnClose(), WithSource("test")))(t)
	key := Key{Object: "a"}
	grant := must(m.Acquire(t.Context(), key, Exclusive, By(session)))(t)
	came := make(chan error)
	go func() {
		guard, err := m.Lock(context.Background(), key)
		if err == nil {
			err = guard.Unlock()
		}
		came <- err
	}()
	until(t, "one waits", func() bool { return must(m.Metrics())(t).Waiters == 1 })
	session.Close()
	ok(t, <-came)
	wants(t, m.Release(grant), ErrNotHeld)
	if _, err := m.Owner("label", ReleaseOnClose()); err == nil {
		t.Fatal("a label releases nothing")
	}
	empty(t, m)
}

func TestEventsAreLogged(t *testing.T) {
	m := newTest(t, Options{})
	var text bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	events := must(m.Events(ctx, EventOptions{}))(t)
	cancel()
	for range events {
	}
	logged := make(chan error)
	subscribed := must(m.Metrics())(t)
	go func() {
		logged <- m.LogEvents(context.Background(), slog.New(slog.NewJSONHandler(&text, nil)), EventOptions{})
	}()
	// It is subscribed once an event gets through.
	until(t, "an event is logged", func() bool {
		_, err := m.Acquire(t.Context(), Key{Bucket: "photos", Object: "cat.jpg"}, Exclusive, WithOwner("node-7"))
		ok(t, err)
		taken := must(m.ForceRelease(Filter{Owner: Text("node-7")}))(t)
		return len(taken) == 1 && must(m.Metrics())(t).Acquisitions > subscribed.Acquisitions+20
	})
	m.Close()
	ok(t, <-logged)
	for line := range strings.Lines(text.String()) {
		var record struct {
			Level, Msg string
			About      struct{ Key, Owner string }
		}
		ok(t, json.Unmarshal([]byte(line), &record))
		if record.Level != "WARN" || record.Msg != "forced release" || record.About.Owner != "node-7" {
			t.Fatal(line)
		}
	}
	if text.Len() == 0 {
		t.Fatal("nothing was logged")
	}
}
