package keylatch

import (
	"cmp"
	"fmt"
	"strings"
)

// Key says what is locked. The parts are bytes: anything is fine in them, and they are never joined, so that
// {"a/b", "c"} is not {"a", "b/c"}.
//
// A version of an object is a key of its own, and so is the object without a version.
type Key struct {
	Bucket, Object string
	// Version is empty for the object itself.
	Version string
	// EmptyVersion says, when Version is empty, that the version named by no bytes is meant and not the object itself.
	EmptyVersion bool
}

func (k Key) versioned() bool { return k.Version != "" || k.EmptyVersion }

// Compare orders keys as batches take them: by bucket, object and version, an object before its versions.
func (k Key) Compare(other Key) int {
	if c := strings.Compare(k.Bucket, other.Bucket); c != 0 {
		return c
	}
	if c := strings.Compare(k.Object, other.Object); c != 0 {
		return c
	}
	rank := func(k Key) int {
		if k.versioned() {
			return 1
		}
		return 0
	}
	if c := cmp.Compare(rank(k), rank(other)); c != 0 {
		return c
	}
	return strings.Compare(k.Version, other.Version)
}

// String is for people; different keys may look alike in it only where they hold unprintable bytes.
func (k Key) String() string {
	if k.versioned() {
		return fmt.Sprintf("%q/%q@%q", k.Bucket, k.Object, k.Version)
	}
	return fmt.Sprintf("%q/%q", k.Bucket, k.Object)
}

// Mode is how a lock is held.
type Mode int32

const (
	// Shared is held by any number at a time.
	Shared Mode = 1
	// Exclusive is held by one, alone.
	Exclusive Mode = 2
)

// known fails for a mode that is none.
func (m Mode) known() error {
	if m == Shared || m == Exclusive {
		return nil
	}
	return &Error{Code: ErrInvalidArgument, Message: fmt.Sprintf("%v is none; Shared and Exclusive are", m)}
}

func (m Mode) String() string {
	switch m {
	case Shared:
		return "shared"
	case Exclusive:
		return "exclusive"
	}
	return fmt.Sprintf("Mode(%d)", int32(m))
}
