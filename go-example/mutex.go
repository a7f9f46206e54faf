package keylatch

import (
	"context"
	"sync"
)

// RWMutex is one key as Go's own locks look: it has the methods of [sync.RWMutex], so it fits where a [sync.Locker] is
// wanted. Two of the same manager and key are the same lock. It makes no guards, and so nobody notices when it is
// forgotten while it is held.
//
// Like those of package sync its methods panic on misuse: unlocking what is not locked, or a closed manager.
type RWMutex struct {
	manager *Manager
	key     Key
	// writer is the exclusive grant; whoever holds it may touch the field.
	writer Grant
	// readers are the shared grants: any of them is as good as another to a reader that leaves.
	mutex   sync.Mutex
	readers []Grant
}

var _ sync.Locker = (*RWMutex)(nil)

// RWMutex is a lock of the key that looks like [sync.RWMutex].
func (m *Manager) RWMutex(key Key) *RWMutex { return &RWMutex{manager: m, key: key} }

// Lock waits for the key exclusively.
func (l *RWMutex) Lock() {
	grant, err := l.manager.acquire(context.Background(), &l.key, Exclusive, nil)
	if err != nil {
		panic(err)
	}
	l.writer = grant
}

// TryLock takes the key exclusively if it is free.
func (l *RWMutex) TryLock() bool {
	grant, err := l.manager.tryAcquire(&l.key, Exclusive, nil)
	if err == nil {
		l.writer = grant
		return true
	}
	if !Is(err, ErrWouldBlock) {
		panic(err)
	}
	return false
}

// Unlock ends the exclusive hold.
func (l *RWMutex) Unlock() {
	grant := l.writer
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
	l.read(grant)
}

// TryRLock takes the key together with other readers if there is no writer.
func (l *RWMutex) TryRLock() bool {
	grant, err := l.manager.tryAcquire(&l.key, Shared, nil)
	if err == nil {
		l.read(grant)
		return true
	}
	if !Is(err, ErrWouldBlock) {
		panic(err)
	}
	return false
}

func (l *RWMutex) read(grant Grant) {
	l.mutex.Lock()
	l.readers = append(l.readers, grant)
	l.mutex.Unlock()
}

// RUnlock ends one shared hold.
func (l *RWMutex) RUnlock() {
	l.mutex.Lock()
	last := len(l.readers) - 1
	if last < 0 {
		l.mutex.Unlock()
		panic(ErrNotHeld)
	}
	grant := l.readers[last]
	l.readers = l.readers[:last]
	l.mutex.Unlock()
	if err := l.manager.Release(grant); err != nil {
		panic(err)
	}
}

// RLocker is a [sync.Locker] whose Lock and Unlock are RLock and RUnlock.
func (l *RWMutex) RLocker() sync.Locker { return (*readLocker)(l) }

type readLocker RWMutex

func (l *readLocker) Lock()   { (*RWMutex)(l).RLock() }
func (l *readLocker) Unlock() { (*RWMutex)(l).RUnlock() }
