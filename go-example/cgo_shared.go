package keylatch

// The crossings of shared tables.

/*
#include "cgo_shared.h"

#cgo noescape glue_shared_acquire
#cgo nocallback glue_shared_acquire
#cgo nocallback glue_shared_change
*/
import "C"

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

const (
	sharedRelease   = C.GLUE_SHARED_RELEASE
	sharedDowngrade = C.GLUE_SHARED_DOWNGRADE
	sharedUpgrade   = C.GLUE_SHARED_UPGRADE
)

func openShared(path string, o *SharedOptions) (handle, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	text := C.CString(path)
	defer C.free(unsafe.Pointer(text))
	options := C.keylatch_shared_options{
		struct_size: C.sizeof_keylatch_shared_options,
		keys:        C.uint32_t(o.Keys), members: C.uint32_t(o.Members), holds: C.uint32_t(o.Holds),
		mode: C.uint32_t(o.Mode.Perm()),
	}
	options.label, options.label_len = pinned(&pins, o.Label)
	var table *C.keylatch_shared_table
	err := checked(func() C.int32_t { return C.keylatch_shared_open(text, &options, &table) })
	return handleOf(unsafe.Pointer(table)), err
}

// table is the table for the library's functions.
func (t *SharedTable) table() *C.keylatch_shared_table {
	return (*C.keylatch_shared_table)(pointer(t.handle))
}

func (t *SharedTable) free() error {
	return checked(func() C.int32_t { return C.keylatch_shared_free(t.table()) })
}

// ask waits until it has the lock, or the word that cancels is not 0; without one it does not wait.
func (t *SharedTable) ask(key *Key, mode Mode, cancelled *atomic.Uint32, owner string) (Grant, error) {
	raceDisable()
	defer raceEnable()
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := versionOf(key)
	name, nameLen := bytesOf(owner)
	answer := C.glue_shared_acquire(t.handle, bucket, bucketLen, object, objectLen, version, versionLen, C.int32_t(mode),
		(*C.uint32_t)(unsafe.Pointer(cancelled)), name, nameLen)
	return Grant(answer.number), problem(answer)
}

func (t *SharedTable) change(grant Grant, what int) error {
	raceDisable()
	defer raceEnable()
	return problem(C.glue_shared_change(t.handle, C.uint64_t(grant), C.int32_t(what)))
}

func (t *SharedTable) hold(grant Grant) (fence uint64, died, valid bool, err error) {
	hold := C.keylatch_shared_hold{struct_size: C.sizeof_keylatch_shared_hold}
	err = checked(func() C.int32_t { return C.keylatch_shared_hold_info(t.table(), C.uint64_t(grant), &hold) })
	return uint64(hold.fence), hold.previous_holder_died != 0, hold.is_valid != 0, err
}

func (t *SharedTable) list(key *Key) ([]SharedHolder, error) {
	raceDisable()
	defer raceEnable()
	var pins runtime.Pinner
	defer pins.Unpin()
	answer := C.glue_shared_holders(t.handle, optional(&pins, key))
	if err := problem(answer); err != nil {
		return nil, err
	}
	block := C.uintptr_t(answer.number)
	if block == 0 {
		return nil, &Error{Code: ErrSystem, Message: "no memory for a listing"}
	}
	defer C.free(pointer(block))
	from := records(block)
	record[C.size_t](&from)
	var holders []SharedHolder
	for from.rest != "" {
		next := record[C.keylatch_shared_holder](&from)
		holders = append(holders, SharedHolder{
			Key: from.key(&next.key), Owner: from.text(nil, next.owner_len), Program: from.text(nil, next.program_len),
			Label: from.text(nil, next.label_len), Mode: Mode(next.mode), PID: int(next.pid),
			For: duration(uint64(next.held_ns)), hold: uint64(next.hold), member: uint32(next.member),
		})
	}
	return holders, nil
}

func (t *SharedTable) waiting(key *Key) (int, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	of := pinnedKey(&pins, key)
	var count C.size_t
	err := checked(func() C.int32_t { return C.keylatch_shared_waiting(t.table(), &of, &count) })
	return int(count), err
}

func (t *SharedTable) revoke(hold uint64, member uint32) error {
	return checked(func() C.int32_t {
		return C.keylatch_shared_revoke(t.table(), C.uint64_t(hold), C.uint32_t(member))
	})
}
