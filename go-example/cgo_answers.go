package keylatch

// Only the files named cgo_… call C; cgo_glue.h says what each C function does. On the Go side, handles and pointers of
// the library are numbers, so that Go neither follows nor checks them.
//
//	cgo_answers.go   what the others share: answers, failures, and lists as blocks of memory
//	cgo_requests.go  asking for locks, one or many, and giving them back
//	cgo_grants.go    what can be done with a lock that is held
//	cgo_managers.go  managers, queues and owners; settings and figures
//	cgo_listings.go  who holds and who waits; events
//
// For the race detector every call into C comes after every other one, which would hide that a program uses data without
// the lock. So it does not look while a call is made, and learns of locks in race_on.go.

/*
#include "cgo_glue.h"

// None of these functions calls back into Go, and none keeps a pointer that it is given, so that Go need not prepare for
// either. Here and in the other files:
#cgo nocallback glue_free
#cgo noescape glue_library
#cgo nocallback glue_library
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"
	"unsafe"
)

const (
	waitForever = uint64(C.KEYLATCH_WAIT_FOREVER)
	waitDefault = uint64(C.KEYLATCH_WAIT_DEFAULT)
	never       = uint64(C.KEYLATCH_NEVER)
)

// handle is a manager, a queue or an owner of the library's.
type handle = C.uintptr_t

func bytesOf(text string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text))
}

// pointer makes a pointer of a number that C gave out for one.
func pointer(number C.uintptr_t) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&number)) }

// duration is a number of nanoseconds of the library's; what is longer than a Duration can be is the longest.
func duration(nanoseconds uint64) time.Duration { return time.Duration(min(nanoseconds, 1<<63-1)) }

// nanoseconds is a duration for the library; one that is negative is none at all.
func nanoseconds(d time.Duration) C.uint64_t { return C.uint64_t(max(d, 0)) }

// problem is what an answer failed with, or nil.
func problem(answer C.glue_answer) error {
	raceDisable()
	defer raceEnable()
	if answer.status == C.KEYLATCH_OK {
		return nil
	}
	return failure(answer.status, answer.failure)
}

// failure reads a block of glue_failure and gives it back.
func failure(status C.int32_t, block C.uintptr_t) error {
	raceDisable()
	defer raceEnable()
	failure := &Error{Code: Code(status)}
	if block == 0 {
		return closedOr(failure)
	}
	defer C.glue_free(block)
	length := *(*uint64)(pointer(block))
	from := reader{rest: strings.Clone(unsafe.String((*byte)(pointer(block)), length))[8:], lasts: true}
	failure.Message = from.text()
	if failure.HasKey = from.number() != 0; failure.HasKey {
		failure.Key = from.key()
	}
	failure.Waited = duration(from.number())
	failure.Holders = from.entries().holders
	failure.MoreHolders = int(from.number())
	failure.Cycle = from.entries().links
	return closedOr(failure)
}

// closedOr returns [ErrClosed] for the handle of a manager that was freed during the call, or never made. The handle of
// another manager is a mistake of the caller, and stays one.
func closedOr(failure *Error) error {
	switch {
	case failure.Code == noHandle, failure.Code == invalidHandle && !strings.Contains(failure.Message, "another manager"):
		return ErrClosed
	case failure.Code == invalidHandle:
		failure.Code = ErrInvalidArgument
		failure.Message = "the owner belongs to another manager; make one with Owner or Session of this one"
	}
	return failure
}

// reader takes apart what cgo_glue.c put together.
type reader struct {
	rest string
	// lasts says that the block is Go's, and so small that a caller who keeps one text of it may keep it all.
	lasts bool
}

func (r *reader) number() uint64 {
	number := binary.NativeEndian.Uint64(unsafe.Slice(unsafe.StringData(r.rest[:8]), 8))
	r.rest = r.rest[8:]
	return number
}

func (r *reader) text() string {
	length := r.number()
	text := r.rest[:length]
	r.rest = r.rest[length:]
	if !r.lasts {
		text = strings.Clone(text)
	}
	return text
}

func (r *reader) key() Key {
	key := Key{Bucket: r.text(), Object: r.text()}
	versioned := r.number() != 0
	key.Version = r.text()
	key.EmptyVersion = versioned && key.Version == ""
	return key
}

// entries are what a failure, a listing or an event consists of, each kind in its order.
type entries struct {
	holders []Holder
	waiters []Waiter
	links   []ChainLink
	keys    []TopKey
}

// entries reads up to the end of a list. What comes first of each entry is its kind.
func (r *reader) entries() (read entries) {
	for {
		switch r.number() {
		case C.GLUE_A_HOLDER:
			read.holders = append(read.holders, r.holder())
		case C.GLUE_A_WAITER:
			read.waiters = append(read.waiters, r.waiter())
		case C.GLUE_A_LINK:
			read.links = append(read.links, r.link())
		case C.GLUE_A_KEY:
			read.keys = append(read.keys, r.topKey())
		default:
			return read
		}
	}
}

func (r *reader) holder() Holder {
	holder := Holder{Key: r.key(), Owner: r.text(), Source: r.text(), Mode: Mode(r.number())}
	holder.For, holder.Grant, holder.Fence = duration(r.number()), Grant(r.number()), r.number()
	holder.Lease, holder.Priority = duration(r.number()), uint8(r.number())
	flags := r.number()
	holder.Session = flags&C.KEYLATCH_HOLDER_SESSION != 0
	holder.HasLease = flags&C.KEYLATCH_HOLDER_LEASE != 0
	return holder
}

func (r *reader) waiter() Waiter {
	waiter := Waiter{Key: r.key(), Owner: r.text(), Source: r.text(), Mode: Mode(r.number())}
	waiter.For, waiter.Position, waiter.Priority = duration(r.number()), int(r.number()), uint8(r.number())
	flags := r.number()
	waiter.Session = flags&C.KEYLATCH_WAITER_SESSION != 0
	waiter.Upgrade = flags&C.KEYLATCH_WAITER_UPGRADE != 0
	waiter.Granted = flags&C.KEYLATCH_WAITER_GRANTED != 0
	return waiter
}

func (r *reader) link() ChainLink {
	link := ChainLink{Key: r.key(), Owner: r.text(), Source: r.text(), Mode: Mode(r.number())}
	link.For, link.Grant, link.Lease = duration(r.number()), Grant(r.number()), duration(r.number())
	link.Position, link.Link, link.After = int(r.number()), int(r.number()), int(r.number())
	link.Role, link.BlockedBy = Role(r.number()), Mode(r.number())
	flags := r.number()
	link.Session = flags&C.KEYLATCH_LINK_SESSION != 0
	link.HasLease = flags&C.KEYLATCH_LINK_LEASE != 0
	link.Upgrade = flags&C.KEYLATCH_LINK_UPGRADE != 0
	link.Runs = flags&C.KEYLATCH_LINK_RUNS != 0
	link.Victim = flags&C.KEYLATCH_LINK_VICTIM != 0
	return link
}

func (r *reader) topKey() TopKey {
	holder := Holder{Key: r.key(), Owner: r.text(), Source: r.text(), Mode: Mode(r.number())}
	holder.For, holder.Grant = duration(r.number()), Grant(r.number())
	top := TopKey{Key: holder.Key, Waiters: int(r.number()), LongestWait: duration(r.number())}
	flags := r.number()
	holder.Session = flags&C.KEYLATCH_HOLDER_SESSION != 0
	holder.HasLease = flags&C.KEYLATCH_HOLDER_LEASE != 0
	if holder.Mode != 0 {
		top.Holder = &holder
	}
	return top
}

// entriesOf reads a block of entries and gives it back.
func entriesOf(answer C.glue_answer) (entries, error) {
	raceDisable()
	defer raceEnable()
	if err := problem(answer); err != nil {
		return entries{}, err
	}
	block := C.uintptr_t(answer.number)
	if block == 0 {
		return entries{}, &Error{Code: ErrSystem, Message: "no memory for a listing"}
	}
	defer C.glue_free(block)
	length := *(*uint64)(pointer(block))
	from := reader{rest: unsafe.String((*byte)(pointer(block)), length)[8:]}
	return from.entries(), nil
}

// checkLibrary fails if the library that the program runs with is not the one that the package was compiled for.
var checkLibrary = sync.OnceValue(func() error {
	var completion, holder, options C.size_t
	abi := C.glue_library(&completion, &holder, &options)
	if abi != C.KEYLATCH_ABI_VERSION || completion != C.sizeof_keylatch_completion ||
		holder < C.sizeof_keylatch_holder || options < C.sizeof_keylatch_manager_options {
		return &Error{Code: ErrSystem, Message: fmt.Sprintf("this program was compiled for keylatch %s (ABI %d) and "+
			"runs with a library of another version, %s (ABI %d): install the two from one release",
			C.KEYLATCH_VERSION, C.KEYLATCH_ABI_VERSION, C.GoString(C.keylatch_version()), uint32(abi))}
	}
	return nil
})
