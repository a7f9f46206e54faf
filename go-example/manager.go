package keylatch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Manager is one table of locks. Most programs have one. It may be used by any number of goroutines together. [New]
// makes one; the zero Manager is a closed one.
type Manager struct {
	handle, queue  handle
	maxKeyBytes    int
	defaultTimeout time.Duration
	onLeak         func(Leak)
	bell           *bell

	// closed says that there will be no new locks, freed that there are none any more either.
	closed, freed atomic.Bool
	leaked        atomic.Uint64
	// parked says how many requests wait for a result. Those who release a lock look at it, to know whether there may be
	// a result to deliver.
	parked atomic.Int64
	// gate lets few goroutines into the library at a time when many wait: see enter.
	gate chan struct{}

	// fetching is held shared by goroutines with results that are not handed over yet.
	fetching sync.RWMutex

	mutex sync.Mutex
	// The next five are protected by mutex. waiting is nil once the manager is closed, owners once it is freed.
	waiting map[uint64]*waiter
	// early are results that arrived before their waiter was there.
	early  map[uint64]outcome
	owners map[*Owner]struct{}
	// pins are nil like owners.
	pins map[*PinnedKey]struct{}
	// mutexes are those that look like Go's own.
	mutexes mutexes
	// asking has requests with numbers that are not answered yet, and what is closed then.
	asking map[numbered]chan struct{}
}

// New makes a manager. It has a goroutine of its own until [Manager.Close].
func New(options Options) (*Manager, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	made, err := newManager(&options)
	if err != nil {
		return nil, err
	}
	m := &Manager{
		handle:         made,
		maxKeyBytes:    options.MaxKeyBytes,
		defaultTimeout: options.DefaultTimeout,
		onLeak:         options.OnLeak,
		waiting:        make(map[uint64]*waiter),
		early:          make(map[uint64]outcome),
		owners:         make(map[*Owner]struct{}),
		pins:           make(map[*PinnedKey]struct{}),
		gate:           make(chan struct{}, gateWidth),
	}
	if m.maxKeyBytes == 0 {
		m.maxKeyBytes = 8192
	}
	if m.onLeak == nil {
		m.onLeak = logLeak
	}
	var descriptor int
	if m.queue, descriptor, err = newQueue(m); err == nil {
		m.bell, err = newBell(descriptor)
	}
	if err != nil {
		if m.queue != 0 {
			m.freeQueue()
		}
		m.free()
		return nil, err
	}
	go m.bell.listen(m.deliver)
	return m, nil
}

// Close closes the manager: requests that wait and those to come fail with [ErrClosed]. What is held stays held until it
// is unlocked; with the last of it the manager's memory goes, and from then on everything fails with ErrClosed. Closing
// again does nothing.
func (m *Manager) Close() error {
	if m.closed.Swap(true) || m.handle == 0 {
		return nil
	}
	// Ends the waits; what was granted in the last moment is delivered still.
	m.close()
	m.deliver()
	m.bell.close()
	// Waits for requests that are just being put in line. After this none gets a ticket.
	m.freeQueue()
	// What others have fetched reaches the callers it is for: only they know of those locks.
	m.fetching.Lock()
	m.mutex.Lock()
	waiting := m.waiting
	m.waiting = nil
	m.mutex.Unlock()
	m.fetching.Unlock()
	for _, left := range waiting {
		left.came <- outcome{err: ErrClosed}
	}
	m.freeIfIdle()
	return nil
}

// freeIfIdle frees a closed manager once nothing is held. A goroutine that gave something up calls it if the
// manager is closed then, and not if it was before: Close may have looked in between, and no other would look again.
func (m *Manager) freeIfIdle() {
	m.mutex.Lock()
	if m.waiting != nil {
		// Close is not that far, and will look itself.
		m.mutex.Unlock()
		return
	}
	figures, err := m.figures(allShards)
	if err != nil || figures.Holders != 0 || m.freed.Swap(true) {
		m.mutex.Unlock()
		return
	}
	owners, pins := m.owners, m.pins
	m.owners, m.pins = nil, nil
	m.mutex.Unlock()
	for owner := range owners {
		owner.Close()
	}
	for pin := range pins {
		pin.Unpin()
	}
	// Calls that are still on their way are waited for; later ones get the error that this is no manager any more.
	m.free()
}

// granted says whether a lock that was just taken is one. It is not if the manager was closed meanwhile and freed before
// the lock was there to be seen. Where it is not seen here that the manager is closed, the lock is seen by freeIfIdle:
// freeing the queue, before, has all processors see what others have done.
func (m *Manager) granted() error {
	if !m.closed.Load() {
		return nil
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.freed.Load() {
		return ErrClosed
	}
	return nil
}

// Lock waits for the key exclusively until ctx ends. A context's error is returned as it is, and then nothing is held.
//
//	guard, err := locks.Lock(ctx, keylatch.Key{Bucket: "photos", Object: "cat.jpg"})
//	if err != nil {
//		return err
//	}
//	defer guard.Unlock()
func (m *Manager) Lock(ctx context.Context, key Key, options ...Option) (*Guard, error) {
	return m.guarded(m.acquire(ctx, nil, &key, Exclusive, options))
}

// RLock waits for the key together with other readers, as [Manager.Lock] does.
func (m *Manager) RLock(ctx context.Context, key Key, options ...Option) (*Guard, error) {
	return m.guarded(m.acquire(ctx, nil, &key, Shared, options))
}

// TryLock takes the key exclusively if it is free, and fails with [ErrWouldBlock] if it is not.
func (m *Manager) TryLock(key Key, options ...Option) (*Guard, error) {
	return m.guarded(m.tryAcquire(nil, &key, Exclusive, options))
}

// TryRLock takes the key together with other readers if there is no writer, as [Manager.TryLock] does.
func (m *Manager) TryRLock(key Key, options ...Option) (*Guard, error) {
	return m.guarded(m.tryAcquire(nil, &key, Shared, options))
}

// Acquire is [Manager.Lock] or [Manager.RLock] for those who keep grants themselves: it makes nothing that the garbage
// collector would have to look after, and a forgotten grant is not noticed.
func (m *Manager) Acquire(ctx context.Context, key Key, mode Mode, options ...Option) (Grant, error) {
	return m.acquire(ctx, nil, &key, mode, options)
}

// TryAcquire is to [Manager.Acquire] as [Manager.TryLock] is to [Manager.Lock].
func (m *Manager) TryAcquire(key Key, mode Mode, options ...Option) (Grant, error) {
	return m.tryAcquire(nil, &key, mode, options)
}

// Release ends a hold. Any goroutine may, and a second release, a late one and a number that is no grant fail with
// [ErrNotHeld] and change nothing.
func (m *Manager) Release(grant Grant) error {
	if m.closed.Load() && m.freed.Load() {
		return ErrNotHeld
	}
	m.raceBeforeRelease(grant)
	var err error
	if m.parked.Load() != 0 {
		err = m.releaseAndDeliver(grant)
	} else {
		err = m.release(grant)
	}
	// Whether it failed or not: one that lost its lock may be the last to come.
	if m.closed.Load() {
		m.freeIfIdle()
	}
	return err
}

// failed is what a request that failed came to. It may have held something for a moment.
func (m *Manager) failed(err error) error {
	if m.closed.Load() {
		m.freeIfIdle()
	}
	return err
}

func (m *Manager) acquire(ctx context.Context, pin *PinnedKey, key *Key, mode Mode, options []Option) (Grant, error) {
	if m.closed.Load() {
		return 0, ErrClosed
	}
	if err := ended(ctx); err != nil {
		return 0, err
	}
	r := read(options)
	r.pin = pin
	var came outcome
	if r.id != 0 && r.owner != nil {
		came = m.askOnce(ctx, key, mode, &r)
	} else {
		came = m.ask(ctx, key, mode, &r)
	}
	if came.err == nil {
		came.err = m.granted()
	}
	if came.err != nil {
		return 0, m.failed(came.err)
	}
	m.raceAfterAcquire(key, mode)
	return came.grant, nil
}

// ask asks for a lock and waits for it.
func (m *Manager) ask(ctx context.Context, key *Key, mode Mode, r *request) outcome {
	gated := m.enter()
	came := m.lock(key, mode, r)
	m.leave(gated)
	if came.ticket != 0 {
		came = m.await(ctx, came.ticket, m.release)
	}
	return came
}

func (m *Manager) tryAcquire(pin *PinnedKey, key *Key, mode Mode, options []Option) (Grant, error) {
	if m.closed.Load() {
		return 0, ErrClosed
	}
	r := read(options)
	r.pin = pin
	came := m.try(key, mode, &r)
	if came.err == nil {
		came.err = m.granted()
	}
	if came.err != nil {
		return 0, m.failed(came.err)
	}
	m.raceAfterAcquire(key, mode)
	return came.grant, nil
}

func (m *Manager) guarded(grant Grant, err error) (*Guard, error) {
	if err != nil {
		return nil, err
	}
	return newGuard(m, grant), nil
}
