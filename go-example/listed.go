package keylatch

import "time"

// Holder is a hold of a key, in failures, listings and events. What is not known is zero.
type Holder struct {
	Key  Key
	Mode Mode
	// Owner is the owner's name, and Source where in the program the owner comes from.
	Owner, Source string
	// Session is true if the owner is a session.
	Session  bool
	Priority uint8
	// For is how long the key has been held, at least: taking a free lock reads no clock, so the time counts from the
	// first look at the hold.
	For time.Duration
	// Grant can be released or looked at. Failures do not tell it.
	Grant Grant
	// Fence is the number of an exclusive hold.
	Fence uint64
	// Lease is how long the lease still lasts, if HasLease.
	Lease    time.Duration
	HasLease bool
}

// Waiter is a request that waits for a key, in listings and events.
type Waiter struct {
	Key  Key
	Mode Mode
	// Owner is the owner's name, and Source where in the program the owner comes from.
	Owner, Source string
	// Session is true if the owner is a session.
	Session  bool
	Priority uint8
	// For is how long the request has waited.
	For time.Duration
	// Position is its place in the queue of the key; 1 is the next one.
	Position int
	// Upgrade is true if the owner holds the key shared and waits to hold it exclusively.
	Upgrade bool
	// Granted is true in an event if the request got the lock in the end.
	Granted bool
}

// TierHold is what a process holds, or waits for, of a key that it shares with others. What is not known is zero.
type TierHold struct {
	Key Key
	// Mode is how the process has the key or wants it.
	Mode Mode
	// Waits is true if the process waits for the key.
	Waits bool
	// Own is true of the process that lists.
	Own bool
	// Owner is the owner's name, as its process gave it.
	Owner string
	// Process is for people: its host, name and number.
	Process string
	// For is how long the process has had the key, or has waited; etcd does not know it.
	For time.Duration
}

// Role is what a [ChainLink] has to do with its key.
type Role uint32

const (
	// Holds says that the owner has the key.
	Holds Role = 1
	// Waits says that the owner wants the key.
	Waits Role = 2
)

// ChainLink is a link of a blocking chain, of a deadlock, or of a report about the order of locks. What is not known is
// zero.
type ChainLink struct {
	// Link is the number of the link in a chain, from 1 on, and After the number of the link that it follows. In a list
	// of deadlocks or of lock orders, Link is the number of the report.
	Link, After int
	Role        Role
	Key         Key
	// Mode is how the owner holds the key or wants it.
	Mode Mode
	// Owner is the owner's name, and Source where in the program the owner comes from.
	Owner, Source string
	// Session is true if the owner is a session.
	Session bool
	// For is how long the key has been held or waited for. In a list of deadlocks or of lock orders it says when the
	// report was made, as the time since the manager was made.
	For time.Duration

	// Grant, Lease and HasLease are as in [Holder], for a holder in a chain.
	Grant    Grant
	Lease    time.Duration
	HasLease bool
	// Runs is true of a holder that waits for nothing, as far as is known: the one to look at.
	Runs bool

	// Position and Upgrade are as in [Waiter], for a waiter in a chain.
	Position int
	Upgrade  bool

	// Victim is true of the session of a deadlock whose request was refused.
	Victim bool
	// BlockedBy is how the next session of a deadlock holds the key, or 0 if that one waits before this one.
	BlockedBy Mode
}

// TopKey is a key that stands out, as [Manager.Top] lists it.
type TopKey struct {
	Key Key
	// Waiters is how many requests wait for the key, and LongestWait how long the first of them has.
	Waiters     int
	LongestWait time.Duration
	// Holder is the oldest holder, or nil if the key was free by then.
	Holder *Holder
}
