package keylatch

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Key says what is locked. The parts are bytes: anything is fine in them, and they are never joined, so that
// {"a/b", "c"} is not {"a", "b/c"}.
//
// A version of an object is a key of its own, and so is the object without a version.
type Key struct {
	// Bucket and Object name the object. Either may be empty.
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

// String is for people. Of a long part it has the beginning and how long it is, so that different keys may look alike.
func (k Key) String() string {
	text := shown(k.Object)
	if k.Bucket != "" {
		text = shown(k.Bucket) + "/" + text
	}
	if k.versioned() {
		text += "@" + shown(k.Version)
	}
	return text
}

func shown(part string) string {
	const most = 64
	if len(part) <= most {
		return strconv.Quote(part)
	}
	return fmt.Sprintf("%q…(%d bytes)", part[:most], len(part))
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

// String is "shared" or "exclusive".
func (m Mode) String() string {
	switch m {
	case Shared:
		return "shared"
	case Exclusive:
		return "exclusive"
	}
	return fmt.Sprintf("Mode(%d)", int32(m))
}
