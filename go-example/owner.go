package keylatch

import "sync/atomic"

// Owner is who makes requests. A label, such as a node's name, is for people: errors and listings show it, nothing is
// concluded from it, and two requests of one label contend like strangers. The zero Owner is a closed one.
//
// A session is one logical thread of control, such as a transaction: while one of its requests waits it does nothing
// else. So deadlocks among sessions are found, and a session that asks again for what it holds is recognised.
type Owner struct {
	manager *Manager
	name    string
	handle  atomic.Uintptr
}

// OwnerOption is what an owner says besides its name.
type OwnerOption struct {
	source  string
	release bool
}

// WithSource says where in the program an owner comes from, such as "replicator", for listings.
func WithSource(source string) OwnerOption { return OwnerOption{source: source} }

// ReleaseOnClose has [Owner.Close] release by force whatever a session holds then: what a transaction wants that ends
// without having unlocked everything. [Manager.Owner] refuses it.
func ReleaseOnClose() OwnerOption { return OwnerOption{release: true} }

const (
	sessionFlag  = 1
	releasesFlag = 2
)

// Owner makes a label of a name, once for many requests. Close gives it back.
func (m *Manager) Owner(name string, options ...OwnerOption) (*Owner, error) {
	return m.newOwner(name, 0, options)
}

// Session begins a session. Close ends it; what it holds stays held, unless [ReleaseOnClose] is among the options.
func (m *Manager) Session(name string, options ...OwnerOption) (*Owner, error) {
	return m.newOwner(name, sessionFlag, options)
}

func (m *Manager) newOwner(name string, flags uint32, options []OwnerOption) (*Owner, error) {
	if m.closed.Load() {
		return nil, ErrClosed
	}
	var source string
	for _, option := range options {
		if option.release {
			flags |= releasesFlag
		} else {
			source = option.source
		}
	}
	made, err := newOwner(m, name, source, flags)
	if err != nil {
		return nil, err
	}
	owner := &Owner{manager: m, name: name}
	owner.handle.Store(uintptr(made))
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.owners == nil {
		// Closed meanwhile.
		freeOwner(made)
		return nil, ErrClosed
	}
	m.owners[owner] = struct{}{}
	return owner, nil
}

// Name is what it was made with.
func (o *Owner) Name() string { return o.name }

// Close gives the owner back; of a session it is the end. What it holds stays held, under its name, unless it was begun with
// [ReleaseOnClose]. Requests that wait
// under it are waited for: end them first. Closing again does nothing, and [Manager.Close] closes those that are left.
func (o *Owner) Close() {
	if handle := handle(o.handle.Swap(0)); handle != 0 {
		o.manager.mutex.Lock()
		delete(o.manager.owners, o)
		o.manager.mutex.Unlock()
		freeOwner(handle)
		o.manager.afterRevoking()
	}
}

// ReleaseAll takes away whatever a session holds and says how many locks that were: what a transaction wants that is
// rolled back.
func (o *Owner) ReleaseAll() (int, error) {
	handle, err := o.use()
	if err != nil {
		return 0, err
	}
	if o.manager.freed.Load() {
		return 0, ErrClosed
	}
	count, err := releaseAll(handle)
	o.manager.afterRevoking()
	return count, err
}

// use is the owner's handle for a call; none without an owner.
func (o *Owner) use() (handle, error) {
	if o == nil {
		return 0, nil
	}
	if handle := handle(o.handle.Load()); handle != 0 {
		return handle, nil
	}
	return 0, &Error{Code: ErrInvalidArgument, Message: "the owner was closed"}
}
