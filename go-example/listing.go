package keylatch

import "time"

// Filter says which holds or waits are meant: those that meet every condition that is set. What is nil or zero is not
// set, so that Filter{} is all of them in a listing. A revocation refuses it: see [Manager.ForceRelease].
type Filter struct {
	// Bucket is for keys in this bucket, Key for this one key.
	Bucket *string
	Key    *Key
	// Prefix is for objects whose names begin so, in whatever bucket and version.
	Prefix *string
	// Owner and Source are for owners of this name, and those that come from there.
	Owner, Source *string
	// Sessions is for those of sessions, not of labels.
	Sessions bool
	// OlderThan is for those that have been held, or waited for, at least as long. A hold's age counts from the first
	// look at it, by a waiter or by a listing: to find old holds without waiters, list them twice.
	OlderThan time.Duration
	// Mode is for those held, or asked for, in this mode.
	Mode Mode
	// All is for all of them, without any other condition. Revoking everything needs it.
	All bool
}

// Text is a pointer to a text, for [Filter].
func Text(text string) *string { return &text }

// TopBy says what stands out.
type TopBy int32

const (
	// TopAge is the locks that have been held for longest.
	TopAge TopBy = 1
	// TopWaiters is the keys that most requests wait for.
	TopWaiters TopBy = 2
)

// Holders lists who holds what, in no particular order. Nothing is stopped for it, however many locks there are: a
// caller that holds a lock from before the call to after it appears exactly once.
func (m *Manager) Holders(filter Filter) ([]Holder, error) {
	if m.freed.Load() {
		return nil, ErrClosed
	}
	found, err := m.list(listHolders, &filter)
	return found.holders, err
}

// Waiters lists who waits for what, line by line, each from its front, as [Manager.Holders] does.
func (m *Manager) Waiters(filter Filter) ([]Waiter, error) {
	if m.freed.Load() {
		return nil, ErrClosed
	}
	found, err := m.list(listWaiters, &filter)
	return found.waiters, err
}

// TierHolds lists what all processes hold and wait for that share keys with this one, of one key or, with nil, of all. It
// is for managers with [Options.SharedMemory] or [Options.Etcd], which it asks, and may wait for. [Manager.Holders] and
// [Manager.Waiters] know this process alone. A process keeps a key for a while after its last hold of it, and is listed
// for as long. Those that wait are listed with etcd.
//
// It fails with [ErrTier] for a manager with neither, and if what it asks does not answer.
func (m *Manager) TierHolds(key *Key) ([]TierHold, error) {
	if m.freed.Load() {
		return nil, ErrClosed
	}
	return m.tierHolds(key)
}

// ForceRelease revokes locks and returns their holders. Waiters get the locks; the old holders' guards are void. A holder
// may still be at work: [Guard.Fence] keeps that work from doing harm.
//
// A filter without a condition is an error ([ErrInvalidArgument]), because a look-up that found nothing must not revoke the
// locks of everyone. Filter{All: true} revokes everything.
func (m *Manager) ForceRelease(filter Filter) ([]Holder, error) {
	return m.revoke(forceRelease, &filter)
}

// Expire revokes locks whose leases have run out, also without waiters, and returns their holders. The filter is as for
// [Manager.ForceRelease].
func (m *Manager) Expire(filter Filter) ([]Holder, error) { return m.revoke(expire, &filter) }

func (m *Manager) revoke(how question, filter *Filter) ([]Holder, error) {
	if *filter == (Filter{}) {
		return nil, &Error{Code: ErrInvalidArgument, Message: "the filter has no condition: set one, or Filter.All to revoke everything"}
	}
	if m.freed.Load() {
		return nil, ErrClosed
	}
	m.mutexes.revoking.Store(true)
	revoked, err := m.list(how, filter)
	m.afterRevoking()
	return revoked.holders, err
}

// afterRevoking delivers revoked locks to the waiters that have them now.
func (m *Manager) afterRevoking() {
	if m.closed.Load() {
		m.freeIfIdle()
	} else if m.parked.Load() != 0 {
		m.deliver()
	}
}

// Top lists the keys that stand out most, at most count of them.
func (m *Manager) Top(by TopBy, count int) ([]TopKey, error) {
	if m.freed.Load() {
		return nil, ErrClosed
	}
	return m.top(by, count)
}

// BlockingChain lists what a request for the key would wait for: the holders of the key, then the holders of what those
// wait for, and so on down to holders that wait for nothing. A holder is followed only if it is a session. circle says
// that the chain leads back to where it began.
func (m *Manager) BlockingChain(key Key) (links []ChainLink, circle bool, err error) {
	if m.freed.Load() {
		return nil, false, ErrClosed
	}
	return m.chain(&key, 0)
}

// BlockingChain is as [Manager.BlockingChain], from whatever the owner waits for.
func (o *Owner) BlockingChain() (links []ChainLink, circle bool, err error) {
	handle, err := o.use()
	if err != nil {
		return nil, false, err
	}
	if o.manager.freed.Load() {
		return nil, false, ErrClosed
	}
	return o.manager.chain(nil, handle)
}

// RecentDeadlocks lists the latest broken deadlocks among sessions, at most 64 of them, oldest first: of each the sessions
// that waited for each other, beginning with the victim. Link is the number of the deadlock, and For says when it was, as
// the time since the manager was made.
func (m *Manager) RecentDeadlocks() ([]ChainLink, error) {
	if m.freed.Load() {
		return nil, ErrClosed
	}
	return m.deadlocks()
}

// LockOrders lists the latest reports of lock orders that contradict each other, at most 64 of them, oldest first, if the
// manager was made with [Options.LockOrder]. Each order is two links: the key that a session held, and the key that it
// asked for next, which the next session held. Link is the number of the report, and For says when it was, as the time since the manager was made.
// reported is how many reports there were altogether.
func (m *Manager) LockOrders() (orders []ChainLink, reported uint64, err error) {
	if m.freed.Load() {
		return nil, 0, ErrClosed
	}
	return m.lockOrders()
}
