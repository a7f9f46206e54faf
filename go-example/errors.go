package keylatch

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Code says what went wrong. The numbers are the same in every language. A Code is an error itself, so that
//
//	errors.Is(err, keylatch.ErrTimeout)
//
// is how to ask for one; an [*Error] wraps it and says more. New ones may come: treat one that you do not know as a
// failure.
type Code int32

const (
	// ErrTimeout says that the time given by [WithTimeout] or [Options] was over before the lock was free. When a
	// context ends, the context's error is returned instead.
	ErrTimeout Code = -1
	// ErrWouldBlock says that the lock is held, and the request was not to wait.
	ErrWouldBlock Code = -2
	// ErrDeadlock says that sessions wait for each other, and this request is the victim.
	ErrDeadlock Code = -3
	// ErrClosed says that the manager was closed.
	ErrClosed Code = -5
	// ErrNotHeld says that the hold is over: released before, revoked by force, or never one.
	ErrNotHeld Code = -6
	// ErrStale is another name for [ErrNotHeld].
	ErrStale = ErrNotHeld
	// ErrLeaseLost says that the lease of the hold ran out and the lock was revoked.
	ErrLeaseLost Code = -7
	// ErrTableFull says that as many locks are in the table as it may hold.
	ErrTableFull Code = -8
	// ErrInvalidKey says that the key is longer than keys may be.
	ErrInvalidKey Code = -9
	// ErrInvalidConfig says that a setting has a value that it cannot have.
	ErrInvalidConfig Code = -10
	// ErrForked says that the process is a fork of the one that made the manager.
	ErrForked Code = -11
	// ErrUpgradeConflict says that another holder already waits to upgrade the same lock: each would wait for the
	// other.
	ErrUpgradeConflict Code = -12
	// ErrTooManyWaiters says that [Options.MaxWaiters] requests wait already.
	ErrTooManyWaiters Code = -13
	// ErrTier says that what the manager shares its keys through, such as [Options.SharedMemory], has failed.
	ErrTier Code = -14
	// ErrLogFull says that a shared table has no room for another hold or waiting request.
	ErrLogFull Code = -40
	// ErrTooManyMembers says that as many processes use a shared table as it was made for.
	ErrTooManyMembers Code = -41
	// ErrFile says that the file of a shared table, or its folder, could not be used.
	ErrFile Code = -42
	// ErrWrongFile says that the file is no shared table of this version and machine, a smaller one, or another user's.
	ErrWrongFile Code = -43
	// ErrDamaged says that the file of a shared table was truncated, removed, replaced or damaged.
	ErrDamaged Code = -44
	// ErrInvalidArgument says that an argument is invalid, such as an unknown mode.
	ErrInvalidArgument Code = -101
	// ErrInternal says that the library has failed inside: a bug in it. What was asked for was not done.
	ErrInternal Code = -104
	// ErrSystem says that the operating system refused what was needed, such as a file descriptor or memory.
	ErrSystem Code = -105
)

const (
	cancelled     Code = -4
	noHandle      Code = -100
	invalidHandle Code = -103
	atEnd         Code = -108
)

var meanings = map[Code]string{
	ErrTimeout:         "the time was over before the lock was free",
	ErrWouldBlock:      "the lock is held",
	ErrDeadlock:        "sessions wait for each other",
	cancelled:          "the request was cancelled",
	ErrClosed:          "the manager is closed",
	ErrNotHeld:         "not held: released before, or revoked",
	ErrLeaseLost:       "the lease ran out and the lock was revoked",
	ErrTableFull:       "the table of locks is full",
	ErrInvalidKey:      "the key is too long",
	ErrInvalidConfig:   "a setting cannot have this value",
	ErrForked:          "the process is a fork of the one that made the manager",
	ErrUpgradeConflict: "another holder already waits to upgrade this lock",
	ErrTooManyWaiters:  "too many requests wait",
	ErrTier:            "what the manager shares its keys through has failed",
	ErrLogFull:         "the shared table has no room for another hold",
	ErrTooManyMembers:  "as many processes use the shared table as may",
	ErrFile:            "the file of a shared table could not be used",
	ErrWrongFile:       "the file is no shared table of this version",
	ErrDamaged:         "the shared table was damaged",
	ErrInvalidArgument: "an argument means nothing",
	ErrInternal:        "the library has failed inside",
	ErrSystem:          "the operating system refused",
}

// Error says what the code means.
func (c Code) Error() string {
	if meaning, known := meanings[c]; known {
		return "keylatch: " + meaning
	}
	return fmt.Sprintf("keylatch: status %d", int32(c))
}

// Timeout reports whether it is [ErrTimeout], as the errors of package net do.
func (c Code) Timeout() bool { return c == ErrTimeout }

// Transient reports whether the same call may succeed when it is made again later.
func (c Code) Transient() bool {
	switch c {
	case ErrTimeout, ErrWouldBlock, ErrDeadlock, ErrTableFull, ErrUpgradeConflict, ErrTooManyWaiters, ErrLogFull, ErrTooManyMembers:
		return true
	}
	return false
}

// Error is a failure with what is known of it. What is not known is zero.
type Error struct {
	// Code is what to ask for with [errors.Is].
	Code Code
	// Message says all of it in English, and what to do about it. Where the lock was held it is empty: Error makes
	// its text from the rest, and only when it is called, because that takes as long as being refused.
	Message string
	// Key is what the request was about; of a batch the key that failed. HasKey says whether it is known.
	Key    Key
	HasKey bool
	// Waited is how long a request waited that timed out.
	Waited time.Duration
	// Holders held the lock when the time was over, or when the request was refused. MoreHolders says how many more did.
	Holders     []Holder
	MoreHolders int
	// Cycle has the sessions of a deadlock, beginning with the one whose request this was: the key that each waits for,
	// which the next one holds.
	Cycle []ChainLink
}

// Error has all that is known in one line.
func (e *Error) Error() string {
	switch {
	case e.Message != "":
		return "keylatch: " + e.Message
	case e.Code == ErrWouldBlock && e.HasKey:
		return fmt.Sprintf("keylatch: %v is not free; %s", e.Key, e.holders())
	case e.Code == ErrTimeout && e.HasKey:
		return fmt.Sprintf("keylatch: %v was not free within %v; %s", e.Key, e.Waited, e.holders())
	}
	return e.Code.Error()
}

// holders names the holders of the lock.
func (e *Error) holders() string {
	const named = 8
	if len(e.Holders) == 0 && e.MoreHolders == 0 {
		return "its holder is gone"
	}
	var names []string
	for _, holder := range e.Holders[:min(len(e.Holders), named)] {
		name := "an unnamed owner"
		if holder.Owner != "" {
			name = strconv.Quote(holder.Owner)
		}
		since := ""
		if holder.For > 0 {
			since = fmt.Sprintf(", for at least %v", holder.For)
		}
		names = append(names, fmt.Sprintf("%s (%v%s)", name, holder.Mode, since))
	}
	if more := len(e.Holders) - len(names) + e.MoreHolders; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return "held by " + strings.Join(names, ", ")
}

// Unwrap returns the code, for [errors.Is].
func (e *Error) Unwrap() error { return e.Code }

// Timeout reports whether it is a timeout, as the errors of package net do.
func (e *Error) Timeout() bool { return e.Code.Timeout() }

// Transient reports whether the same call may succeed when it is made again later.
func (e *Error) Transient() bool { return e.Code.Transient() }
