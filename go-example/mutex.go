package keylatch

import (
	"context"
	"slices"
	"sync"
)

// RWMutex is one key as Go's own locks look: it has the methods of [sync.RWMutex], so it fits where a [sync.Locker] is
// wanted. Two of the same manager and key are the same lock: what was locked by one may be unlocked by the other. It makes
// no guards, and so nobody notices when it is forgotten while it is held.
//
// Like those of package sync its methods panic on misuse: unlocking what is not locked, or a closed manager.
type RWMutex struct {
	manager *Manager
	key     Key
	// writer is the exclusive grant that this value took last; whoever holds the lock may touch it.
	writer Grant
}

// mutexes are the grants of a manager's RWMutexes, by key.
type mutexes struct {
	mutex sync.Mutex
	held  map[Key]*mutexGrants
}

// mutexGrants are never empty.
type mutexGrants struct {
	writer Grant
	// revoked are exclusive grants of which only the values know that took them: another came before they were unlocked.
	revoked []Grant
	// readers are the shared grants: any of them is as good as another to a reader that leaves.
	readers []Grant
}

// took notes a grant.
func (h *mutexes) took(key Key, mode Mode, grant Grant) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	grants := h.held[key]
	if grants == nil {
		if h.held == nil {
			h.held = make(map[Key]*mutexGrants)
		}
		grants = new(mutexGrants)
		h.held[key] = grants
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

// give forgets a grant and returns it: the exclusive one, or one of the shared ones. It is 0 if there is none, and mine if that was
// revoked, so that a holder that lost the lock does not release that of the next one.
func (h *mutexes) give(key Key, mode Mode, mine Grant) Grant {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	grants := h.held[key]
	if grants == nil {
		return 0
	}
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
	if grants.writer == 0 && len(grants.readers) == 0 && len(grants.revoked) == 0 {
		delete(h.held, key)
	}
	return grant
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
	grant, err := l.manager.acquire(context.Background(), &l.key, Exclusive, nil)
	if err != nil {
		panic(err)
	}
	l.wrote(grant)
}

// TryLock takes the key exclusively if it is free.
func (l *RWMutex) TryLock() bool {
	grant, err := l.manager.tryAcquire(&l.key, Exclusive, nil)
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
	l.manager.mutexes.took(l.key, Exclusive, grant)
}

// Unlock ends the exclusive hold.
func (l *RWMutex) Unlock() {
	grant := l.manager.mutexes.give(l.key, Exclusive, l.writer)
	l.writer = 0
	if err := l.manager.Release(grant); err != nil {
		panic(err)
	}
}

// RLock waits for the key together with other readers.
func (l *RWMutex) RLock() {
	grant, err := l.manager.acquire(context.Background(), &l.key, Shared, nil)
	if err != nil {
		panic(err)
	}
	l.manager.mutexes.took(l.key, Shared, grant)
}

// TryRLock takes the key together with other readers if there is no writer.
func (l *RWMutex) TryRLock() bool {
	grant, err := l.manager.tryAcquire(&l.key, Shared, nil)
	if err == nil {
		l.manager.mutexes.took(l.key, Shared, grant)
		return true
	}
	if !Is(err, ErrWouldBlock) {
		panic(err)
	}
	return false
}

// RUnlock ends one shared hold.
func (l *RWMutex) RUnlock() {
	if err := l.manager.Release(l.manager.mutexes.give(l.key, Shared, 0)); err != nil {
		panic(err)
	}
}

// RLocker is a [sync.Locker] whose Lock and Unlock are RLock and RUnlock.
func (l *RWMutex) RLocker() sync.Locker { return (*readLocker)(l) }

type readLocker RWMutex

func (l *readLocker) Lock()   { (*RWMutex)(l).RLock() }
func (l *readLocker) Unlock() { (*RWMutex)(l).RUnlock() }
