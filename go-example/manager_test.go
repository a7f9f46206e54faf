package keylatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

func newTest(t testing.TB, options Options) *Manager {
	t.Helper()
	m, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, err error, code Code) *Error {
	t.Helper()
	if !errors.Is(err, code) {
		t.Fatalf("%v came, not %v", err, code)
	}
	var told *Error
	if !errors.As(err, &told) {
		told = &Error{Code: code}
	}
	return told
}

// until waits for something that cannot be waited for.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for began := time.Now(); !done(); time.Sleep(100 * time.Microsecond) {
		if time.Since(began) > patience {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

func waits(t testing.TB, m *Manager, count uint64) {
	t.Helper()
	until(t, fmt.Sprintf("%d wait", count), func() bool { return must(m.Metrics())(t).Waiters == count })
}

// empty fails unless nobody holds anything and nobody waits.
func empty(t testing.TB, m *Manager) {
	t.Helper()
	figures := must(m.Metrics())(t)
	if figures.Holders != 0 || figures.Waiters != 0 {
		t.Fatalf("%d holders and %d waiters are left", figures.Holders, figures.Waiters)
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if len(m.waiting) != 0 || len(m.early) != 0 || len(m.asking) != 0 || m.parked.Load() != 0 {
		t.Fatalf("%d goroutines, %d results and %d numbers are left", len(m.waiting), len(m.early), len(m.asking))
	}
}

var background = context.Background()

func TestAWriterIsAlone(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "photos", Object: "cat.jpg"}
	guard := must(m.Lock(background, key, WithOwner("indexer")))(t)
	for _, try := range []func(Key, ...Option) (*Guard, error){m.TryLock, m.TryRLock} {
		_, err := try(key)
		told := wants(t, err, ErrWouldBlock)
		if told.Key != key || len(told.Holders) != 1 || told.Holders[0].Owner != "indexer" || !told.Transient() || told.Timeout() {
			t.Fatalf("it says %+v", told)
		}
	}
	other := must(m.TryLock(Key{Bucket: "photos", Object: "dog.jpg"}))(t)
	version := must(m.TryLock(Key{Bucket: "photos", Object: "cat.jpg", Version: "1"}))(t)
	nameless := must(m.TryLock(Key{Bucket: "photos", Object: "cat.jpg", EmptyVersion: true}))(t)
	if found := must(nameless.Key())(t); !found.EmptyVersion {
		t.Fatalf("it holds %v", found)
	}
	if found := must(guard.Key())(t); found != key || must(guard.Mode())(t) != Exclusive || !guard.Valid() {
		t.Fatalf("it holds %v", found)
	}
	for _, held := range []*Guard{guard, other, version, nameless} {
		ok(t, held.Unlock())
	}
	if guard.Valid() {
		t.Fatal("it is valid after it was unlocked")
	}
	empty(t, m)
}

func TestReadersShare(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	one, two := must(m.RLock(background, key))(t), must(m.TryRLock(key))(t)
	_, err := m.TryLock(key)
	wants(t, err, ErrWouldBlock)
	ok(t, one.Unlock())
	ok(t, two.TryUpgrade())
	_, err = m.TryRLock(key)
	wants(t, err, ErrWouldBlock)
	ok(t, two.Unlock())
	empty(t, m)
}

func TestUnlockOnce(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	first := must(m.Lock(background, key))(t)
	ok(t, first.Unlock())
	second := must(m.Lock(background, key))(t)
	wants(t, first.Unlock(), ErrStale)
	wants(t, m.Release(first.Grant()), ErrNotHeld)
	wants(t, m.Release(12345), ErrNotHeld)
	if !second.Valid() {
		t.Fatal("a stale guard took the lock of the next holder")
	}
	// Of many who unlock the same guard one succeeds.
	var succeeded atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if second.Unlock() == nil {
				succeeded.Add(1)
			}
		})
	}
	group.Wait()
	if succeeded.Load() != 1 {
		t.Fatalf("%d of 8 unlocked it", succeeded.Load())
	}
	empty(t, m)
}

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
	cancel(errors.New("the cause is for whoever asks for it"))
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
		told := wants(t, err, ErrTimeout)
		if len(told.Holders) != 1 || told.Holders[0].Owner != "compactor" || told.Key != key {
			t.Fatalf("it says %+v", told)
		}
		var timeout net.Error
		if !errors.As(err, &timeout) && !told.Timeout() {
			t.Fatalf("%v says that it is no timeout", err)
		}
		if options == nil && told.Waited < time.Millisecond {
			t.Fatalf("it waited %v", told.Waited)
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

func TestUpAndDown(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	guard := must(m.Lock(background, key))(t)
	first := must(guard.Fence())(t)
	ok(t, guard.Downgrade())
	reader := must(m.TryRLock(key))(t)
	wants(t, guard.TryUpgrade(), ErrWouldBlock)
	wants(t, guard.Upgrade(background, WithTimeout(time.Millisecond)), ErrTimeout)
	ctx, cancel := context.WithCancel(background)
	result := make(chan error)
	go func() { result <- guard.Upgrade(ctx) }()
	waits(t, m, 1)
	wants(t, reader.Upgrade(background), ErrUpgradeConflict)
	cancel()
	if err := <-result; err != context.Canceled {
		t.Fatalf("%v came", err)
	}
	if mode := must(guard.Mode())(t); mode != Shared {
		t.Fatalf("after an upgrade that was cancelled it is held %v", mode)
	}
	go func() { result <- guard.Upgrade(background) }()
	waits(t, m, 1)
	ok(t, reader.Unlock())
	ok(t, <-result)
	second := must(guard.Fence())(t)
	if second <= first {
		t.Fatalf("fence %d came after %d", second, first)
	}
	if !must(m.IsCurrent(key, second))(t) || must(m.IsCurrent(key, first))(t) {
		t.Fatal("it does not know the current fence")
	}
	ok(t, guard.Unlock())
	wants(t, guard.Downgrade(), ErrNotHeld)
	wants(t, guard.TryUpgrade(), ErrNotHeld)
	wants(t, guard.Upgrade(background), ErrNotHeld)
	empty(t, m)
}

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
		t.Fatalf("it has a lease of nobody's: %v", err)
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
			if told := wants(t, err, ErrInvalidConfig); told.Message == "" || told.Transient() {
				t.Fatalf("it says %v", told)
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
	told := wants(t, err, ErrDeadlock)
	if len(told.Cycle) != 2 || told.Cycle[0].Owner != "bob" || told.Cycle[1].Owner != "alice" || told.Cycle[1].Source != "tests" {
		t.Fatalf("it says %+v", told)
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

// watched is a context that says when somebody waits for its end.
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
		told := wants(t, (<-answers).err, ErrTimeout)
		if told.Waited < timeout || len(told.Holders) != 1 || told.Holders[0].Owner != "holder" || told.Key != x {
			t.Fatalf("it says %v", told)
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
			!one.HasLease || one.Priority != 3 || one.Session || one.Role != Holds || one.Fence != must(held.Fence())(t) {
			t.Fatalf("it says %+v", one)
		}
	}
	for _, filter := range []Filter{{Bucket: Text("")}, {Key: &Key{Bucket: "photos", Object: "cat.jpg"}}, {Sessions: true}, {OlderThan: time.Hour}} {
		if found := must(m.Holders(filter))(t); len(found) != 0 {
			t.Fatalf("%+v hold by %+v", found, filter)
		}
	}
	line := must(m.Waiters(Filter{Key: &key}))(t)
	if len(line) != 2 || line[0].Owner != "reader 0" || line[0].Position != 1 || line[1].Position != 2 || line[0].Role != Waits {
		t.Fatalf("%+v wait", line)
	}
	chain, circle, err := m.BlockingChain(key)
	if err != nil || circle || len(chain) != 1 || chain[0].Owner != "node-7" || !chain[0].Runs {
		t.Fatalf("%+v %v %v", chain, circle, err)
	}
	if top := must(m.Top(TopWaiters, 5))(t); len(top) != 1 || top[0].Waiters != 2 || top[0].Key != key {
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
	if taken := must(m.ForceRelease(Filter{}))(t); len(taken) != 3 {
		t.Fatalf("%+v were taken", taken)
	}
	wants(t, other.Unlock(), ErrNotHeld)
	must(m.Lock(background, key, WithTTL(1)))(t)
	until(t, "the lease has run out", func() bool { return len(must(m.Expire(Filter{}))(t)) == 1 })
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
	if len(timedOut.About) != 2 || timedOut.About[0].Owner != "waiter" || timedOut.About[1].Owner != "holder" {
		t.Fatalf("it tells %+v", timedOut)
	}
	if slow := kinds[SlowWait]; len(slow.About) != 1 || slow.About[0].Granted {
		t.Fatalf("it tells %+v", slow)
	}
	must(m.ForceRelease(Filter{Owner: Text("holder")}))(t)
	if event := <-events; event.Kind != Forced || event.About[0].Grant != held.Grant() {
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

func TestCloseEndsEverything(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	held := must(m.Lock(background, key))(t)
	batch := must(m.LockMany(background, []Item{{Key{Bucket: "c"}, Shared}}))(t)
	owner := must(m.Owner("o"))(t)
	results := make(chan error)
	for range 10 {
		go func() {
			_, err := m.Lock(background, key)
			results <- err
		}()
	}
	waits(t, m, 10)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { m.Close() })
	}
	for range 10 {
		wants(t, <-results, ErrClosed)
	}
	group.Wait()
	_, err := m.Lock(background, key)
	wants(t, err, ErrClosed)
	_, err = m.TryRLock(key)
	wants(t, err, ErrClosed)
	_, err = m.LockMany(background, []Item{{key, Shared}})
	wants(t, err, ErrClosed)
	_, err = m.Session("s")
	wants(t, err, ErrClosed)
	_, err = m.Events(background, EventOptions{})
	wants(t, err, ErrClosed)
	// What is held stays held.
	if found := must(m.Holders(Filter{}))(t); len(found) != 2 || !held.Valid() {
		t.Fatalf("%+v hold", found)
	}
	ok(t, held.Downgrade())
	wants(t, held.Upgrade(background), ErrClosed)
	ok(t, held.Unlock())
	wants(t, held.Unlock(), ErrNotHeld)
	ok(t, batch.Unlock())
	// That was the last.
	_, err = m.Metrics()
	wants(t, err, ErrClosed)
	_, err = m.Holders(Filter{})
	wants(t, err, ErrClosed)
	wants(t, held.Unlock(), ErrNotHeld)
	wants(t, batch.Unlock(), ErrNotHeld)
	owner.Close()
	if !m.freed.Load() {
		t.Fatal("its memory is not given back")
	}
}

// Close comes at every moment of requests that wait, are cancelled, or are granted.
func TestCloseAtAnyMoment(t *testing.T) {
	for round := range 200 {
		m := must(New(Options{Shards: 1}))(t)
		var used [2]int
		var group sync.WaitGroup
		for number := range 8 {
			group.Go(func() {
				for i := range 1000 {
					ctx, cancel := context.WithCancel(background)
					if (number+i)%3 == 0 {
						cancel()
					}
					key := Key{Object: fmt.Sprint(i % 2)}
					var guard interface{ Unlock() error }
					var err error
					switch i % 4 {
					case 0:
						guard, err = m.TryLock(key)
					case 1:
						guard, err = m.LockMany(ctx, []Item{{key, Exclusive}, {Key{Object: "2"}, Shared}})
					default:
						guard, err = m.Lock(ctx, key)
					}
					cancel()
					if err == nil {
						used[i%2]++
						ok(t, guard.Unlock())
					}
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil && err != context.Canceled && !errors.Is(err, ErrWouldBlock) {
						t.Error(err)
					}
				}
			})
		}
		until(t, "some locks were taken", func() bool {
			figures, err := m.Metrics()
			return err != nil || figures.Acquisitions > uint64(round)
		})
		m.Close()
		group.Wait()
		if !m.freed.Load() {
			left, err := m.Holders(Filter{})
			t.Fatalf("nobody has anything, yet its memory is not given back: %+v %v", left, err)
		}
	}
}

// A lock that was granted, and whose news were fetched when Close came, is its caller's.
func TestCloseWhileNewsAreOnTheirWay(t *testing.T) {
	for _, upgrade := range []bool{false, true} {
		m := newTest(t, Options{})
		key := Key{Bucket: "b", Object: "o"}
		held := must(m.Acquire(background, key, Shared))(t)
		reader := must(m.RLock(background, key))(t)
		results := make(chan error)
		go func() {
			if upgrade {
				results <- reader.Upgrade(background)
				return
			}
			guard, err := m.Lock(background, key)
			if err == nil {
				err = guard.Unlock()
			}
			results <- err
		}()
		waits(t, m, 1)
		// Nobody else fetches it.
		m.bell.close()
		if !upgrade {
			ok(t, m.release(reader.Grant()))
		}
		ok(t, m.release(held))
		closed := make(chan struct{})
		m.deliverBy(func(ticket uint64, came outcome) {
			go func() {
				m.Close()
				close(closed)
			}()
			until(t, "Close waits for the news to be handed over", func() bool {
				select {
				case <-closed:
					return true
				default:
				}
				if m.fetching.TryRLock() {
					m.fetching.RUnlock()
					return false
				}
				return true
			})
			m.handOver(ticket, came)
		})
		ok(t, <-results)
		<-closed
		if upgrade {
			ok(t, reader.Unlock())
		}
		if !m.freed.Load() {
			t.Fatal("nobody has anything, yet its memory is not given back")
		}
	}
}

func TestMutualExclusion(t *testing.T) {
	m := newTest(t, Options{})
	const goroutines, rounds, keys = 16, 2000, 3
	var counts [keys]int
	var group sync.WaitGroup
	for range goroutines {
		group.Go(func() {
			for range rounds {
				place := rand.IntN(keys)
				key := Key{Bucket: "b", Object: fmt.Sprint(place)}
				if rand.IntN(4) == 0 {
					guard, err := m.RLock(background, key)
					ok(t, err)
					_ = counts[place]
					ok(t, guard.Unlock())
					continue
				}
				guard, err := m.Lock(background, key)
				ok(t, err)
				counts[place]++
				ok(t, guard.Unlock())
			}
		})
	}
	group.Wait()
	figures := must(m.Metrics())(t)
	if figures.Acquisitions != goroutines*rounds {
		t.Fatalf("%d locks were taken", figures.Acquisitions)
	}
	empty(t, m)
}

func TestSettings(t *testing.T) {
	_, err := New(Options{Shards: 3})
	told := wants(t, err, ErrInvalidConfig)
	if told.Message == "" {
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
	ok(t, guard.Unlock())
	if report := must(m.Report())(t); report == "" {
		t.Fatal("the report is empty")
	}
	_, err = m.ShardMetrics(1 << 20)
	wants(t, err, ErrInvalidArgument)
}

func TestRWMutex(t *testing.T) {
	m := newTest(t, Options{})
	lock, same := m.RWMutex(Key{Bucket: "b"}), m.RWMutex(Key{Bucket: "b"})
	lock.Lock()
	if same.TryLock() || same.TryRLock() {
		t.Fatal("two of the same key are not the same lock")
	}
	lock.Unlock()
	reader := lock.RLocker()
	reader.Lock()
	if !lock.TryRLock() || same.TryLock() {
		t.Fatal("readers do not share")
	}
	lock.RUnlock()
	reader.Unlock()
	for name, misuse := range map[string]func(){
		"Unlock": lock.Unlock, "RUnlock": lock.RUnlock,
	} {
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, ErrNotHeld) {
					t.Errorf("%s of what is not locked: %v", name, err)
				}
			}()
			misuse()
		}()
	}
	empty(t, m)
	m.Close()
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, ErrClosed) {
			t.Errorf("Lock of a closed manager: %v", err)
		}
	}()
	lock.Lock()
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
			if len(event.About) != 4 {
				t.Fatalf("it tells %+v", event)
			}
			break
		}
	}
}
