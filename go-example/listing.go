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
func (m *Manager) Holders(filter Filter) ([]Party, error) {
	if m.freed.Load() {
		return nil, ErrClosed
	}
	return m.list(listHolders, &filter)
}

// Waiters lists who waits for what, line by line, each from its front, as [Manager.Holders] does.
func (m *Manager) Waiters(filter Filter) ([]Party, error) {
	if m.freed.Load() {
		return nil, ErrClosed
	}
	return m.list(listWaiters, &filter)
}

// ForceRelease takes locks away from their holders, which it returns. Waiters get them; the old
// holder's guard is void. The work that it was for may still be going on: it is [Guard.Fence] that keeps that from doing
// harm.
//
// A filter without a condition is an error ([ErrInvalidArgument]), because a look-up that found nothing must not revoke the
// locks of everyone. Filter{All: true} revokes everything.
func (m *Manager) ForceRelease(filter Filter) ([]Party, error) {
	return m.takeAway(forceRelease, &filter)
}

// Expire takes locks away whose leases have run out, also without waiters, and returns who held them. The filter is as
// for [Manager.ForceRelease].
func (m *Manager) Expire(filter Filter) ([]Party, error) { return m.takeAway(expire, &filter) }

func (m *Manager) takeAway(how int, filter *Filter) ([]Party, error) {
	if *filter == (Filter{}) {
		return nil, &Error{Code: ErrInvalidArgument, Message: "the filter has no condition: set one, or Filter.All to revoke everything"}
	}
	if m.freed.Load() {
		return nil, ErrClosed
	}
	taken, err := m.list(how, filter)
	m.afterTaking()
	return taken, err
}

// afterTaking looks after those who may have locks now that were taken away from others.
func (m *Manager) afterTaking() {
	if m.closed.Load() {
		m.freeIfIdle()
	} else if m.parked.Load() != 0 {
		m.deliver()
	}
}

// Top lists what stands out most, at most count of it: for each a key with its oldest holder, or [Neither] if it was
// free by then, how many wait for it, and for how long.
func (m *Manager) Top(by TopBy, count int) ([]Party, error) {
	if m.freed.Load() {
		return nil, ErrClosed
	}
	return m.top(by, count)
}

// BlockingChain lists who waits for whom: from a key to its holders, to what those wait for, down to the ones who run. A
// holder is followed if it is a session: of a label nothing is concluded. circle says that the chain goes round.
func (m *Manager) BlockingChain(key Key) (links []Party, circle bool, err error) {
	if m.freed.Load() {
		return nil, false, ErrClosed
	}
	return m.chain(&key, 0)
}

// BlockingChain is as [Manager.BlockingChain], from whatever the owner waits for.
func (o *Owner) BlockingChain() (links []Party, circle bool, err error) {
	handle, err := o.use()
	if err != nil {
		return nil, false, err
	}
	if o.manager.freed.Load() {
		return nil, false, ErrClosed
	}
	return o.manager.chain(nil, handle)
}

// RecentDeadlocks lists the latest deadlocks among sessions that were broken, at most 64 of them, oldest first: of each
// the sessions that waited for each other, beginning with the one that had to give way. Link is the number of the
// deadlock, and For says when it was, as the time since the manager was made.
func (m *Manager) RecentDeadlocks() ([]Party, error) {
	if m.freed.Load() {
		return nil, ErrClosed
	}
	return m.deadlocks()
}

// LockOrders lists the latest reports of orders of locks that go round, at most 64 of them, oldest first, if the manager
// was made with [Options.LockOrder]: of each order what a session held and after it what it asked for, which is what the
// next one held. Link is the number of the report, and For says when it was, as the time since the manager was made.
// reported is how many reports there were altogether.
func (m *Manager) LockOrders() (orders []Party, reported uint64, err error) {
	if m.freed.Load() {
		return nil, 0, ErrClosed
	}
	return m.lockOrders()
}
