package keylatch

import (
	"context"
	"sync/atomic"
)

// PinnedKey is a key that stays in its manager's table, held or not, so that locking it costs less. It is the same lock as
// that of the key without the pin. It takes one place of [Options.MaxLocks] until it is unpinned or the manager's memory goes.
//
// Pin what is locked again and again, such as an inode of a table in memory. Requests that say more than a timeout are as
// fast as without the pin.
type PinnedKey struct {
	manager *Manager
	key     Key
	handle  atomic.Uintptr
}

// Pin keeps a key in the table until [PinnedKey.Unpin].
func (m *Manager) Pin(key Key) (*PinnedKey, error) {
	if m.closed.Load() {
		return nil, ErrClosed
	}
	made, err := newPin(m, &key)
	if err != nil {
		return nil, err
	}
	pinned := &PinnedKey{manager: m, key: key}
	pinned.handle.Store(uintptr(made))
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.pins == nil {
		// Closed meanwhile.
		unpin(made)
		return nil, ErrClosed
	}
	m.pins[pinned] = struct{}{}
	return pinned, nil
}

// Unpin ends the pin. What is held of the key stays held; requests that are being made through the pin are waited for.
// Unpinning again does nothing.
func (p *PinnedKey) Unpin() {
	if handle := handle(p.handle.Swap(0)); handle != 0 {
		p.manager.mutex.Lock()
		delete(p.manager.pins, p)
		p.manager.mutex.Unlock()
		unpin(handle)
	}
}

// use is the pin's handle for a call.
func (p *PinnedKey) use() (handle, error) {
	if handle := handle(p.handle.Load()); handle != 0 {
		return handle, nil
	}
	if p.manager.closed.Load() {
		return 0, ErrClosed
	}
	return 0, &Error{Code: ErrInvalidArgument, Message: "the key was unpinned; pin it again, or lock it without a pin"}
}

// Key is what is pinned.
func (p *PinnedKey) Key() Key { return p.key }

// String is for people.
func (p *PinnedKey) String() string { return p.key.String() + " (pinned)" }

// Lock is [Manager.Lock] of the key.
func (p *PinnedKey) Lock(ctx context.Context, options ...Option) (*Guard, error) {
	return p.manager.guarded(p.manager.acquire(ctx, p, &p.key, Exclusive, options))
}

// RLock is [Manager.RLock] of the key.
func (p *PinnedKey) RLock(ctx context.Context, options ...Option) (*Guard, error) {
	return p.manager.guarded(p.manager.acquire(ctx, p, &p.key, Shared, options))
}

// TryLock is [Manager.TryLock] of the key.
func (p *PinnedKey) TryLock(options ...Option) (*Guard, error) {
	return p.manager.guarded(p.manager.tryAcquire(p, &p.key, Exclusive, options))
}

// TryRLock is [Manager.TryRLock] of the key.
func (p *PinnedKey) TryRLock(options ...Option) (*Guard, error) {
	return p.manager.guarded(p.manager.tryAcquire(p, &p.key, Shared, options))
}

// Acquire is [Manager.Acquire] of the key.
func (p *PinnedKey) Acquire(ctx context.Context, mode Mode, options ...Option) (Grant, error) {
	return p.manager.acquire(ctx, p, &p.key, mode, options)
}

// TryAcquire is [Manager.TryAcquire] of the key.
func (p *PinnedKey) TryAcquire(mode Mode, options ...Option) (Grant, error) {
	return p.manager.tryAcquire(p, &p.key, mode, options)
}

// RWMutex is [Manager.RWMutex] of the key, and locks through the pin: unlock it before the pin ends.
func (p *PinnedKey) RWMutex() *RWMutex {
	mutex := p.manager.RWMutex(p.key)
	mutex.pin = p
	return mutex
}
