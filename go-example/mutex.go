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
// Like those of package sync its methods panic on misuse: unlocking what is not locked, or a closed manager.
type RWMutex struct {
	manager *Manager
	key     Key
	// pin is that of the key, or nil.
	pin *PinnedKey
	// writer is the exclusive grant that this value took last; the goroutine that holds the lock may touch it.
	writer Grant
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
}

// mutexGrants are those of one key.
type mutexGrants struct {
	mutex  sync.Mutex
	writer Grant
	// revoked are exclusive grants of which only the values know that took them: another came before they were unlocked.
	revoked []Grant
	// readers are the shared grants: any of them is as good as another to a reader that leaves.
	readers []Grant
	// dropped says that the manager has forgotten these; they are empty for good.
	dropped bool
}

func (g *mutexGrants) empty() bool {
	return g.writer == 0 && len(g.readers) == 0 && len(g.revoked) == 0
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
	if mode == Exclusive {
		if grants.writer != 0 {
			grants.revoked = append(grants.revoked, grants.writer)
		}
		grants.writer = grant
	} else {
		grants.readers = append(grants.readers, grant)
	}
}

// give forgets a grant and returns it: the exclusive one, or one of the shared ones. It is 0 if there is none, and mine if
// that was revoked, so that a holder that lost the lock does not release that of the next one.
func (h *mutexes) give(l *RWMutex, mode Mode, mine Grant) Grant {
	grants := h.locked(l)
	before := grants.empty()
	var grant Grant
	if mode == Exclusive {
		if at := slices.Index(grants.revoked, mine); at >= 0 {
			grant, grants.revoked = mine, slices.Delete(grants.revoked, at, at+1)
		} else {
			grant, grants.writer = grants.writer, 0
		}
	} else if last := len(grants.readers) - 1; last >= 0 {
		grant, grants.readers = grants.readers[last], grants.readers[:last]
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
	l.wrote(grant)
}

// TryLock takes the key exclusively if it is free.
func (l *RWMutex) TryLock() bool {
	grant, err := l.manager.tryAcquire(l.pin, &l.key, Exclusive, nil)
	if err == nil {
		l.wrote(grant)
		return true
	}
	if !Is(err, ErrWouldBlock) {
		panic(err)
	}
	return false
}

func (l *RWMutex) wrote(grant Grant) {
	l.writer = grant
	l.manager.mutexes.took(l, Exclusive, grant)
}

// Unlock ends the exclusive hold.
func (l *RWMutex) Unlock() {
	grant := l.manager.mutexes.give(l, Exclusive, l.writer)
	l.writer = 0
	if err := l.manager.Release(grant); err != nil {
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
	if err := l.manager.Release(l.manager.mutexes.give(l, Shared, 0)); err != nil {
		panic(err)
	}
}

// RLocker is a [sync.Locker] whose Lock and Unlock are RLock and RUnlock.
func (l *RWMutex) RLocker() sync.Locker { return (*readLocker)(l) }

type readLocker RWMutex

func (l *readLocker) Lock()   { (*RWMutex)(l).RLock() }
func (l *readLocker) Unlock() { (*RWMutex)(l).RUnlock() }
