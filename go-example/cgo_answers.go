package keylatch

// Only the files named cgo_… call C: the library directly, or what cgo_glue.h adds to it. On the Go side, handles of
// the library are numbers, so that Go neither follows nor checks them.
//
//	cgo_answers.go   what the others share: calls and their failures, and what the library lists
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
#cgo nocallback keylatch_listing_next_holder
#cgo nocallback keylatch_listing_next_waiter
#cgo nocallback keylatch_listing_next_link
#cgo nocallback keylatch_listing_next_key
#cgo nocallback keylatch_listing_next_tier_hold
*/
import "C"

import (
	"fmt"
	"runtime"
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

// handleOf makes a number of a pointer of C's.
func handleOf(made unsafe.Pointer) handle { return handle(uintptr(made)) }

// duration is a number of nanoseconds of the library's; what is longer than a Duration can be is the longest.
func duration(nanoseconds uint64) time.Duration { return time.Duration(min(nanoseconds, 1<<63-1)) }

// nanoseconds is a duration for the library; one that is negative is none at all.
func nanoseconds(d time.Duration) C.uint64_t { return C.uint64_t(max(d, 0)) }

// locks is the manager for the library's functions.
func (m *Manager) locks() *C.keylatch_manager { return (*C.keylatch_manager)(pointer(m.handle)) }

// checked makes a call about locks and tells what it failed with.
func checked(call func() C.int32_t) error {
	raceDisable()
	defer raceEnable()
	return onThread(call)
}

// onThread makes a call and tells what it failed with. The library keeps that in the thread, so the goroutine stays
// there.
func onThread(call func() C.int32_t) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := call(); status != C.KEYLATCH_OK {
		return failure(status, C.glue_failure())
	}
	return nil
}

// problem is what an answer failed with, or nil.
func problem(answer C.glue_answer) error {
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
	from := records(block)
	// The block is Go's now, and so small that a caller who keeps one text of it may keep it all.
	from.rest, from.lasts = strings.Clone(from.rest), true
	C.free(pointer(block))
	about := record[C.glue_about](&from)
	key := from.key(&about.key)
	if failure.HasKey = about.has_key != 0; failure.HasKey {
		failure.Key = key
	}
	failure.Message = from.text(nil, about.message_len)
	failure.Waited = duration(uint64(about.waited_ns))
	for range about.holders {
		failure.Holders = append(failure.Holders, from.holder(record[C.keylatch_holder](&from)))
	}
	failure.MoreHolders = int(about.more_holders)
	for range about.links {
		failure.Cycle = append(failure.Cycle, from.link(record[C.keylatch_chain_link](&from)))
	}
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

// reader reads the texts of what the library lists: from where they are, or from a block, where they lie one after the
// other.
type reader struct {
	rest string
	// lasts says that the block is Go's.
	lasts, inBlock bool
}

// records reads a block of C's, which begins with its length.
func records(block C.uintptr_t) reader {
	start := (*C.size_t)(pointer(block))
	return reader{rest: unsafe.String((*byte)(unsafe.Pointer(start)), *start), inBlock: true}
}

// record is the struct that comes next in a block.
func record[T any](r *reader) *T {
	at := (*T)(unsafe.Pointer(unsafe.StringData(r.rest)))
	r.take(unsafe.Sizeof(*at))
	return at
}

// take takes bytes out of the block. What comes next begins at a multiple of eight.
func (r *reader) take(length uintptr) string {
	taken := r.rest[:length]
	r.rest = r.rest[(length+7)&^7:]
	return taken
}

// text reads one, whose address is at the place if it is in no block. Where it has no bytes, the address may be none at
// all, which Go must not meet in a pointer.
func (r *reader) text(place unsafe.Pointer, length C.size_t) string {
	switch {
	case r.lasts:
		return r.take(uintptr(length))
	case r.inBlock:
		return strings.Clone(r.take(uintptr(length)))
	case length == 0:
		return ""
	}
	return strings.Clone(unsafe.String(*(**byte)(place), length))
}

func (r *reader) key(from *C.keylatch_key) Key {
	key := Key{
		Bucket:  r.text(unsafe.Pointer(&from.bucket), from.bucket_len),
		Object:  r.text(unsafe.Pointer(&from.object), from.object_len),
		Version: r.text(unsafe.Pointer(&from.version), from.version_len),
	}
	key.EmptyVersion = from.version != nil && key.Version == ""
	return key
}

func (r *reader) holder(from *C.keylatch_holder) Holder {
	return Holder{
		Key: r.key(&from.key), Owner: r.text(unsafe.Pointer(&from.owner), from.owner_len),
		Source: r.text(unsafe.Pointer(&from.source), from.source_len), Mode: Mode(from.mode),
		For: duration(uint64(from.held_ns)), Grant: Grant(from.grant), Fence: uint64(from.fence),
		Lease: duration(uint64(from.lease_ns)), Priority: uint8(from.priority),
		Session:  from.flags&C.KEYLATCH_HOLDER_SESSION != 0,
		HasLease: from.flags&C.KEYLATCH_HOLDER_LEASE != 0,
	}
}

func (r *reader) waiter(from *C.keylatch_waiter) Waiter {
	return Waiter{
		Key: r.key(&from.key), Owner: r.text(unsafe.Pointer(&from.owner), from.owner_len),
		Source: r.text(unsafe.Pointer(&from.source), from.source_len), Mode: Mode(from.mode),
		For: duration(uint64(from.waited_ns)), Position: int(from.position), Priority: uint8(from.priority),
		Session: from.flags&C.KEYLATCH_WAITER_SESSION != 0,
		Upgrade: from.flags&C.KEYLATCH_WAITER_UPGRADE != 0,
		Granted: from.flags&C.KEYLATCH_WAITER_GRANTED != 0,
	}
}

func (r *reader) link(from *C.keylatch_chain_link) ChainLink {
	return ChainLink{
		Key: r.key(&from.key), Owner: r.text(unsafe.Pointer(&from.owner), from.owner_len),
		Source: r.text(unsafe.Pointer(&from.source), from.source_len), Mode: Mode(from.mode),
		For: duration(uint64(from.time_ns)), Grant: Grant(from.grant), Lease: duration(uint64(from.lease_ns)),
		Position: int(from.position), Link: int(from.link), After: int(from.after),
		Role: Role(from.role), BlockedBy: Mode(from.blocked_by),
		Session:  from.flags&C.KEYLATCH_LINK_SESSION != 0,
		HasLease: from.flags&C.KEYLATCH_LINK_LEASE != 0,
		Upgrade:  from.flags&C.KEYLATCH_LINK_UPGRADE != 0,
		Runs:     from.flags&C.KEYLATCH_LINK_RUNS != 0,
		Victim:   from.flags&C.KEYLATCH_LINK_VICTIM != 0,
	}
}

func (r *reader) topKey(from *C.keylatch_top_key) TopKey {
	top := TopKey{
		Key: r.key(&from.key), Waiters: int(from.waiters), LongestWait: duration(uint64(from.longest_wait_ns)),
	}
	if from.mode != 0 {
		top.Holder = &Holder{
			Key: top.Key, Owner: r.text(unsafe.Pointer(&from.owner), from.owner_len),
			Source: r.text(unsafe.Pointer(&from.source), from.source_len), Mode: Mode(from.mode),
			For: duration(uint64(from.held_ns)), Grant: Grant(from.grant),
			Session:  from.flags&C.KEYLATCH_HOLDER_SESSION != 0,
			HasLease: from.flags&C.KEYLATCH_HOLDER_LEASE != 0,
		}
	}
	return top
}

func (r *reader) tierHold(from *C.keylatch_tier_hold) TierHold {
	return TierHold{
		Key: r.key(&from.key), Owner: r.text(unsafe.Pointer(&from.owner), from.owner_len),
		Process: r.text(unsafe.Pointer(&from.process), from.process_len), Mode: Mode(from.mode),
		For:   duration(uint64(from.since_ns)),
		Waits: from.flags&C.KEYLATCH_TIER_HOLD_WAITS != 0,
		Own:   from.flags&C.KEYLATCH_TIER_HOLD_OWN != 0,
	}
}

// copied takes a text of C's over, and gives it back.
func copied(text *C.char) string {
	if text == nil {
		return ""
	}
	defer C.keylatch_text_free(text)
	return C.GoString(text)
}

// entries are what a listing or an event consists of, each kind in its order.
type entries struct {
	holders []Holder
	waiters []Waiter
	links   []ChainLink
	keys    []TopKey
	tier    []TierHold
}

// listed asks for a listing and reads it.
func listed(ask func(listing **C.keylatch_listing) C.int32_t) (entries, error) {
	var listing *C.keylatch_listing
	if err := checked(func() C.int32_t { return ask(&listing) }); err != nil {
		return entries{}, err
	}
	return entriesOf(listing), nil
}

// entriesOf reads a listing and frees it. Its entries are of one kind, or a waiter and then holders; what fetches
// another kind leaves them where they are.
func entriesOf(listing *C.keylatch_listing) (read entries) {
	raceDisable()
	defer raceEnable()
	defer C.keylatch_listing_free(listing)
	var from reader
	// Memory of C's, where addresses are none of Go's business; links are the largest.
	place := C.malloc(C.sizeof_keylatch_chain_link)
	defer C.free(place)
	waiter := (*C.keylatch_waiter)(place)
	waiter.struct_size = C.sizeof_keylatch_waiter
	for C.keylatch_listing_next_waiter(listing, waiter) == C.KEYLATCH_OK {
		read.waiters = append(read.waiters, from.waiter(waiter))
	}
	holder := (*C.keylatch_holder)(place)
	holder.struct_size = C.sizeof_keylatch_holder
	for C.keylatch_listing_next_holder(listing, holder) == C.KEYLATCH_OK {
		read.holders = append(read.holders, from.holder(holder))
	}
	link := (*C.keylatch_chain_link)(place)
	link.struct_size = C.sizeof_keylatch_chain_link
	for C.keylatch_listing_next_link(listing, link) == C.KEYLATCH_OK {
		read.links = append(read.links, from.link(link))
	}
	key := (*C.keylatch_top_key)(place)
	key.struct_size = C.sizeof_keylatch_top_key
	for C.keylatch_listing_next_key(listing, key) == C.KEYLATCH_OK {
		read.keys = append(read.keys, from.topKey(key))
	}
	hold := (*C.keylatch_tier_hold)(place)
	hold.struct_size = C.sizeof_keylatch_tier_hold
	for C.keylatch_listing_next_tier_hold(listing, hold) == C.KEYLATCH_OK {
		read.tier = append(read.tier, from.tierHold(hold))
	}
	return read
}

// pinned is a text that a struct for C may point to until the pins end. One without bytes has an address, too: C takes
// no address for no text at all.
func pinned(pins *runtime.Pinner, text string) (*C.char, C.size_t) {
	if text == "" {
		return noBytes, 0
	}
	first := unsafe.StringData(text)
	pins.Pin(first)
	return (*C.char)(unsafe.Pointer(first)), C.size_t(len(text))
}

// noBytes is where a text without bytes is.
var noBytes = (*C.char)(unsafe.Pointer(unsafe.StringData("-")))

// pinnedKey is a key that C may read until the pins end.
func pinnedKey(pins *runtime.Pinner, key *Key) (native C.keylatch_key) {
	// In one piece, because each pin costs as much as a short call.
	all, _ := pinned(pins, key.Bucket+key.Object+key.Version)
	part := func(begin int, text string) (unsafe.Pointer, C.size_t) {
		if text == "" {
			return unsafe.Pointer(noBytes), 0
		}
		return unsafe.Add(unsafe.Pointer(all), begin), C.size_t(len(text))
	}
	native.bucket, native.bucket_len = part(0, key.Bucket)
	native.object, native.object_len = part(len(key.Bucket), key.Object)
	if key.versioned() {
		native.version, native.version_len = part(len(key.Bucket)+len(key.Object), key.Version)
	}
	return native
}

// optional is a key as pinnedKey is, or nil.
func optional(pins *runtime.Pinner, key *Key) *C.keylatch_key {
	if key == nil {
		return nil
	}
	native := pinnedKey(pins, key)
	return &native
}

// checkLibrary fails if the library that the program runs with is not the one that the package was compiled for.
var checkLibrary = sync.OnceValue(func() error {
	// A library of another ABI does not link with this.
	C.keylatch_abi_0()
	size := func(which C.int32_t) (size C.size_t) {
		C.keylatch_struct_size(which, &size)
		return size
	}
	abi := C.keylatch_abi_version()
	if abi != C.KEYLATCH_ABI_VERSION || size(C.KEYLATCH_STRUCT_COMPLETION) != C.sizeof_keylatch_completion ||
		size(C.KEYLATCH_STRUCT_HOLDER) < C.sizeof_keylatch_holder ||
		size(C.KEYLATCH_STRUCT_MANAGER_OPTIONS) < C.sizeof_keylatch_manager_options {
		return &Error{Code: ErrSystem, Message: fmt.Sprintf("this program was compiled for keylatch %s (ABI %d) and "+
			"runs with a library of another version, %s (ABI %d): install the two from one release",
			C.KEYLATCH_VERSION, C.KEYLATCH_ABI_VERSION, C.GoString(C.keylatch_version()), uint32(abi))}
	}
	return nil
})
