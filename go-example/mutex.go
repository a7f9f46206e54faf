package keylatch

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// RWMutex is one key as Go's own locks look: it has the methods of [sync.RWMutex], so it fits where a [sync.Locker] is
// wanted. Two of the same manager and key are the same lock: what was locked by one may be unlocked by the other. It makes
// no guards, and so nothing notices when it is forgotten while it is held. It must not be copied.
//
// Like those of package sync its methods panic on misuse: unlocking what is not locked, or a closed manager. Those who lost
// the lock to [Manager.ForceRelease] panic with [ErrNotHeld] when they unlock, and the next holder keeps it. Nothing says
// which goroutine unlocks. So of those who share a value the first to unlock is taken for the one that lost the lock: the
// lock may be held for too long then, not too briefly. Where each has a value, each has to unlock by its own.
type RWMutex struct {
	manager *Manager
	key     Key
	// pin is that of the key, or nil.
	pin *PinnedKey
	// grants is where this value found those of its key last. They may be dropped since.
	grants atomic.Pointer[mutexGrants]
}

// idleMutexes is how many keys a manager remembers, at least, that no RWMutex holds. Then it drops them all.
const idleMutexes = 1024

// mutexes are the grants of a manager's RWMutexes, by key. A key that is free stays for a while: most are locked again.
type mutexes struct {
	// mutex guards keys, and comes before that of any grants.
	mutex sync.Mutex
	keys  map[Key]*mutexGrants
	// idle counts keys without a grant.
	idle atomic.Int64
	// inUse is how many keys had a grant when those without were dropped last.
	inUse atomic.Int64
	// revoking says that locks of the manager have been revoked, or are about to be.
	revoking atomic.Bool
}

// mutexGrants are those of one key.
type mutexGrants struct {
	mutex sync.Mutex
	// writers are the exclusive grants, readers the shared ones. What was revoked stays until it is unlocked, and comes
	// before what was granted later.
	writers, readers []mutexGrant
	// dropped says that the manager has forgotten these; they are empty for good.
	dropped bool
	// first is room for a writer: most keys never have more.
	first [1]mutexGrant
}

// mutexGrant is a grant and the value that took it.
type mutexGrant struct {
	grant Grant
	by    *RWMutex
}

func (g *mutexGrants) empty() bool { return len(g.writers) == 0 && len(g.readers) == 0 }

func (g *mutexGrants) of(mode Mode) *[]mutexGrant {
	if mode == Exclusive {
		return &g.writers
	}
	return &g.readers
}

// locked returns the grants of a value's key with their mutex locked.
func (h *mutexes) locked(l *RWMutex) *mutexGrants {
	if grants := l.grants.Load(); grants != nil {
		grants.mutex.Lock()
		if !grants.dropped {
			return grants
		}
		grants.mutex.Unlock()
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	grants := h.keys[l.key]
	if grants == nil {
		if h.keys == nil {
			h.keys = make(map[Key]*mutexGrants)
		}
		grants = new(mutexGrants)
		grants.writers = grants.first[:0]
		h.keys[l.key] = grants
		h.idle.Add(1)
	}
	l.grants.Store(grants)
	grants.mutex.Lock()
	return grants
}

// took notes a grant.
func (h *mutexes) took(l *RWMutex, mode Mode, grant Grant) {
	grants := h.locked(l)
	defer grants.mutex.Unlock()
	if grants.empty() {
		h.idle.Add(-1)
	}
	held := grants.of(mode)
	at := len(*held)
	if at != 0 && h.revoking.Load() && !l.manager.isValid(grant) {
		// It was revoked before it came here, and a later one may be here.
		at = 0
	}
	*held = slices.Insert(*held, at, mutexGrant{grant, l})
}

// give forgets a grant and returns it: the oldest that the value took, or else the oldest. It is 0 if there is none. Those
// that were revoked are older than those that are held, so that a holder that lost the lock does not release that of the
// next one.
func (h *mutexes) give(l *RWMutex, mode Mode) Grant {
	grants := h.locked(l)
	before := grants.empty()
	var grant Grant
	if held := grants.of(mode); len(*held) != 0 {
		at := max(0, slices.IndexFunc(*held, func(of mutexGrant) bool { return of.by == l }))
		grant = (*held)[at].grant
		*held = slices.Delete(*held, at, at+1)
	}
	freed := !before && grants.empty()
	grants.mutex.Unlock()
	if freed {
		h.idle.Add(1)
	}
	// Dropping looks at all keys, so as many may be idle as were in use the last time.
	if h.idle.Load() > max(idleMutexes, h.inUse.Load()) {
		h.dropIdle()
	}
	return grant
}

// dropIdle forgets all keys without a grant.
func (h *mutexes) dropIdle() {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for key, grants := range h.keys {
		grants.mutex.Lock()
		if grants.empty() {
			grants.dropped = true
			delete(h.keys, key)
			h.idle.Add(-1)
		}
		grants.mutex.Unlock()
	}
	h.inUse.Store(int64(len(h.keys)))
}

var _ sync.Locker = (*RWMutex)(nil)

// RWMutex is a lock of the key that looks like [sync.RWMutex].
func (m *Manager) RWMutex(key Key) *RWMutex {
	// Says nothing of a version that has bytes; two keys that are the same have to look the same.
	key.EmptyVersion = key.EmptyVersion && key.Version == ""
	return &RWMutex{manager: m, key: key}
}

// Lock waits for the key exclusively.
func (l *RWMutex) Lock() {
	grant, err := l.manager.acquire(context.Background(), l.pin, &l.key, Exclusive, nil)
	if err != nil {
		panic(err)
	}
	l.manager.mutexes.took(l, Exclusive, grant)
}

// TryLock takes the key exclusively if it is free.
func (l *RWMutex) TryLock() bool {
	grant, err := l.manager.tryAcquire(l.pin, &l.key, Exclusive, nil)
	if err == nil {
		l.manager.mutexes.took(l, Exclusive, grant)
		return true
	}
	if !Is(err, ErrWouldBlock) {
		panic(err)
	}
	return false
}

// Unlock ends the exclusive hold.
func (l *RWMutex) Unlock() {
	if err := l.manager.Release(l.manager.mutexes.give(l, Exclusive)); err != nil {
		panic(err)
	}
}

// RLock waits for the key together with other readers.
func (l *RWMutex) RLock() {
	grant, err := l.manager.acquire(context.Background(), l.pin, &l.key, Shared, nil)
	if err != nil {
		panic(err)
	}
	l.manager.mutexes.took(l, Shared, grant)
}

// TryRLock takes the key together with other readers if there is no writer.
func (l *RWMutex) TryRLock() bool {
	grant, err := l.manager.tryAcquire(l.pin, &l.key, Shared, nil)
	if err == nil {
		l.manager.mutexes.took(l, Shared, grant)
		return true
	}
	if !Is(err, ErrWouldBlock) {
		panic(err)
	}
	return false
}

// RUnlock ends one shared hold.
func (l *RWMutex) RUnlock() {
	if err := l.manager.Release(l.manager.mutexes.give(l, Shared)); err != nil {
		panic(err)
	}
}

// RLocker is a [sync.Locker] whose Lock and Unlock are RLock and RUnlock.
func (l *RWMutex) RLocker() sync.Locker { return (*readLocker)(l) }

type readLocker RWMutex

func (l *readLocker) Lock()   { (*RWMutex)(l).RLock() }
func (l *readLocker) Unlock() { (*RWMutex)(l).RUnlock() }
