package keylatch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestListings(t *testing.T) {
	m := newTest(t, Options{Fairness: FIFO})
	key := Key{Bucket: "photos", Object: "cat.jpg", Version: "v1"}
	owner := must(m.Owner("node-7", WithSource("replicator")))(t)
	held := must(m.Lock(background, key, By(owner), WithTTL(time.Hour), WithPriority(3)))(t)
	other := must(m.RLock(background, Key{Bucket: "b"}))(t)
	ctx, cancel := context.WithCancel(background)
	results := make(chan error)
	for place := range 2 {
		go func() {
			_, err := m.RLock(ctx, key, WithOwner(fmt.Sprint("reader ", place)))
			results <- err
		}()
		waits(t, m, uint64(place+1))
	}
	all := must(m.Holders(Filter{}))(t)
	if len(all) != 2 {
		t.Fatalf("%+v hold", all)
	}
	for _, filter := range []Filter{
		{Bucket: Text("photos")}, {Key: &key}, {Prefix: Text("cat")}, {Owner: Text("node-7")}, {Source: Text("replicator")}, {Mode: Exclusive},
	} {
		found := must(m.Holders(filter))(t)
		if len(found) != 1 {
			t.Fatalf("%+v hold by %+v", found, filter)
		}
		one := found[0]
		if one.Key != key || one.Owner != "node-7" || one.Source != "replicator" || one.Grant != held.Grant() || one.Mode != Exclusive ||
			!one.HasLease || one.Priority != 3 || one.Session || one.Fence != must(held.Fence())(t) {
			t.Fatalf("it says %+v", one)
		}
	}
	for _, filter := range []Filter{{Bucket: Text("")}, {Key: &Key{Bucket: "photos", Object: "cat.jpg"}}, {Sessions: true}, {OlderThan: time.Hour}} {
		if found := must(m.Holders(filter))(t); len(found) != 0 {
			t.Fatalf("%+v hold by %+v", found, filter)
		}
	}
	line := must(m.Waiters(Filter{Key: &key}))(t)
	if len(line) != 2 || line[0].Owner != "reader 0" || line[0].Position != 1 || line[1].Position != 2 {
		t.Fatalf("%+v wait", line)
	}
	chain, circle, err := m.BlockingChain(key)
	if err != nil || circle || len(chain) != 1 || chain[0].Owner != "node-7" || !chain[0].Runs {
		t.Fatalf("%+v %v %v", chain, circle, err)
	}
	if top := must(m.Top(TopWaiters, 5))(t); len(top) != 1 || top[0].Waiters != 2 || top[0].Key != key || top[0].Holder == nil || top[0].Holder.Owner != "node-7" {
		t.Fatalf("%+v stand out", top)
	}
	if taken := must(m.ForceRelease(Filter{Owner: Text("node-7")}))(t); len(taken) != 1 || taken[0].Grant != held.Grant() {
		t.Fatalf("%+v were taken", taken)
	}
	wants(t, held.Unlock(), ErrNotHeld)
	for range 2 {
		ok(t, <-results)
	}
	cancel()
	for _, revoke := range []func(Filter) ([]Holder, error){m.ForceRelease, m.Expire} {
		_, err := revoke(Filter{}) // a look-up may have found nothing
		wants(t, err, ErrInvalidArgument)
		_, err = revoke(Filter{All: true, Owner: Text("other")})
		wants(t, err, ErrInvalidArgument)
	}
	if taken := must(m.ForceRelease(Filter{All: true}))(t); len(taken) != 3 {
		t.Fatalf("%+v were taken", taken)
	}
	wants(t, other.Unlock(), ErrNotHeld)
	must(m.Lock(background, key, WithTTL(1)))(t)
	until(t, "the lease has run out", func() bool { return len(must(m.Expire(Filter{All: true}))(t)) == 1 })
	empty(t, m)
}

func TestEvents(t *testing.T) {
	m := newTest(t, Options{})
	ctx, cancel := context.WithCancel(background)
	events := must(m.Events(ctx, EventOptions{WaitAbove: 1}))(t)
	key := Key{Bucket: "b", Object: "o"}
	held := must(m.Lock(background, key, WithOwner("holder")))(t)
	_, err := m.Lock(background, key, WithOwner("waiter"), WithTimeout(time.Millisecond))
	wants(t, err, ErrTimeout)
	kinds := map[EventKind]Event{}
	for len(kinds) < 2 {
		event := <-events
		kinds[event.Kind] = event
	}
	timedOut := kinds[TimedOut]
	if timedOut.Waiter == nil || timedOut.Waiter.Owner != "waiter" || len(timedOut.Holders) != 1 || timedOut.Holders[0].Owner != "holder" {
		t.Fatalf("it tells %+v", timedOut)
	}
	if slow := kinds[SlowWait]; slow.Waiter == nil || slow.Waiter.Granted || len(slow.Holders) != 0 {
		t.Fatalf("it tells %+v", slow)
	}
	must(m.ForceRelease(Filter{Owner: Text("holder")}))(t)
	if event := <-events; event.Kind != Forced || event.Waiter != nil || len(event.Holders) != 1 || event.Holders[0].Grant != held.Grant() {
		t.Fatalf("it tells %+v", event)
	}
	cancel()
	for range events {
	}
	if _, err := m.Events(ctx, EventOptions{}); err != context.Canceled {
		t.Fatalf("%v came", err)
	}
	// Closing the manager ends the others.
	until := must(m.Events(background, EventOptions{}))(t)
	m.Close()
	for range until {
	}
}

func TestSettings(t *testing.T) {
	_, err := New(Options{Shards: 3})
	failure := wants(t, err, ErrInvalidConfig)
	if failure.Message == "" {
		t.Fatal("it does not say why")
	}
	m := newTest(t, Options{MaxKeyBytes: 300})
	long := Key{Bucket: "b", Object: string(slices.Repeat([]byte{'x'}, 299))}
	guard := must(m.Lock(background, long))(t)
	if found := must(guard.Key())(t); found != long {
		t.Fatalf("it holds %v", found)
	}
	ok(t, guard.Unlock())
	_, err = m.Lock(background, Key{Bucket: "bb", Object: long.Object})
	wants(t, err, ErrInvalidKey)
	_, err = m.Acquire(background, Key{}, 7)
	wants(t, err, ErrInvalidArgument)
}

func TestFigures(t *testing.T) {
	m := newTest(t, Options{})
	guard := must(m.Lock(background, Key{Bucket: "b"}))(t)
	_, err := m.TryLock(Key{Bucket: "b"})
	wants(t, err, ErrWouldBlock)
	figures := must(m.Metrics())(t)
	if figures.Acquisitions != 1 || figures.Refused != 1 || figures.Holders != 1 || figures.Bytes == 0 {
		t.Fatalf("%+v", figures)
	}
	health := must(m.Health())(t)
	if !health.Healthy || len(health.Problems) != 0 {
		t.Fatalf("%+v", health)
	}
	for range 20 {
		_, err := m.Lock(background, Key{Bucket: "b"}, WithTimeout(100*time.Microsecond))
		wants(t, err, ErrTimeout)
	}
	if health := must(m.Health())(t); health.Healthy || len(health.Problems) == 0 {
		t.Fatalf("after timeouts: %+v", health)
	}
	waits, cancel := context.WithCancel(background)
	waiting := make(chan error)
	go func() {
		_, err := m.Lock(waits, Key{Bucket: "b"})
		waiting <- err
	}()
	for must(m.Metrics())(t).Waiters == 0 {
		runtime.Gosched()
	}
	without, with := must(m.OpenMetrics())(t), must(m.OpenMetricsWithKeys())(t)
	if line := `keylatch_hot_key_waiters{`; strings.Contains(without, line) || !strings.Contains(with, line) {
		t.Fatalf("keys are labels only where asked for:\n%s\n%s", without, with)
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	ok(t, guard.Unlock())
	if report := must(m.Report())(t); report == "" {
		t.Fatal("the report is empty")
	}
	_, err = m.ShardMetrics(1 << 20)
	wants(t, err, ErrInvalidArgument)
}
