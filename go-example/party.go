package keylatch

import "time"

// Role is what a party has to do with a key.
type Role uint32

const (
	// Holds is who has the key.
	Holds Role = 1
	// Waits is who wants it.
	Waits Role = 2
	// Neither: only the key is known.
	Neither Role = 3
)

// Party is who holds a key or waits for it, in failures, listings and events.
// What is not known is zero.
type Party struct {
	Key  Key
	Role Role
	// Mode is how it holds the key or wants it.
	Mode Mode
	// Owner is the owner's name, and Source where in the program the owner comes from.
	Owner, Source string
	// Session is true if the owner is a session.
	Session  bool
	Priority uint8
	// For is how long it has waited, or how long at least it has held the key: taking a free lock reads no clock, so the
	// time counts from the first look at it.
	For time.Duration

	// Of one who holds: Grant, to be released or looked at, which failures do not tell; Fence, the number of an
	// exclusive hold; and how long the lease still lasts, if HasLease.
	Grant    Grant
	Fence    uint64
	Lease    time.Duration
	HasLease bool

	// Of one who waits: its place in the line for this key, 1 being the next; and whether it waits to upgrade.
	Position int
	Upgrade  bool
	// Granted is true of one whose wait an event is about, if it got the lock.
	Granted bool

	// Of [Manager.Top]: how many wait for the key, and how long the one that came first has.
	Waiters     int
	LongestWait time.Duration

	// Of a chain: the number of the link, from 1 on, and of the link that it follows from. In a list of deadlocks Link
	// is the number of the deadlock. Runs is true of one who waits for nothing, as far as is known: the one to look at.
	Link, After int
	Runs        bool
	// Of a deadlock: whether it had to give way, and how the next one holds the key, or 0 if that one waits in line
	// before this one.
	Victim    bool
	BlockedBy Mode
}
