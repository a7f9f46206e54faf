package keylatch

// The crossings of shared tables.

/*
#include "cgo_shared.h"

#cgo noescape glue_shared_open
#cgo nocallback glue_shared_open
#cgo nocallback glue_shared_free
#cgo noescape glue_shared_acquire
#cgo nocallback glue_shared_acquire
#cgo nocallback glue_shared_change
#cgo noescape glue_shared_hold
#cgo nocallback glue_shared_hold
#cgo noescape glue_shared_list
#cgo nocallback glue_shared_list
#cgo noescape glue_shared_waiting
#cgo nocallback glue_shared_waiting
#cgo nocallback glue_shared_revoke
*/
import "C"

import (
	"sync/atomic"
	"unsafe"
)

const (
	sharedRelease   = C.GLUE_SHARED_RELEASE
	sharedDowngrade = C.GLUE_SHARED_DOWNGRADE
	sharedUpgrade   = C.GLUE_SHARED_UPGRADE
)

func openShared(path string, o *SharedOptions) (handle, error) {
	raceDisable()
	defer raceEnable()
	text := C.CString(path)
	defer C.free(unsafe.Pointer(text))
	label, labelLen := bytesOf(o.Label)
	answer := C.glue_shared_open(text, label, labelLen, C.uint32_t(o.Keys), C.uint32_t(o.Members), C.uint32_t(o.Holds),
		C.uint32_t(o.Mode.Perm()))
	return handle(answer.number), problem(answer)
}

func freeShared(table handle) error { return problem(C.glue_shared_free(table)) }

// ask waits until it has the lock, or the word that cancels is not 0; without one it does not wait.
func (t *SharedTable) ask(key *Key, mode Mode, cancelled *atomic.Uint32, owner string) (Grant, error) {
	raceDisable()
	defer raceEnable()
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := bytesOf(key.Version)
	name, nameLen := bytesOf(owner)
	answer := C.glue_shared_acquire(t.handle, bucket, bucketLen, object, objectLen, version, versionLen,
		modeBits(key, mode), (*C.uint32_t)(unsafe.Pointer(cancelled)), name, nameLen)
	return Grant(answer.number), problem(answer)
}

func (t *SharedTable) change(grant Grant, what int) error {
	raceDisable()
	defer raceEnable()
	return problem(C.glue_shared_change(t.handle, C.uint64_t(grant), C.int32_t(what)))
}

func (t *SharedTable) hold(grant Grant) (fence uint64, died, valid bool, err error) {
	raceDisable()
	defer raceEnable()
	var number C.uint64_t
	var isDead, isValid C.int32_t
	err = problem(C.glue_shared_hold(t.handle, C.uint64_t(grant), &number, &isDead, &isValid))
	return uint64(number), isDead != 0, isValid != 0, err
}

func (t *SharedTable) list(key *Key) ([]SharedHolder, error) {
	raceDisable()
	defer raceEnable()
	one := C.int32_t(1)
	if key == nil {
		key, one = new(Key), 0
	}
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := bytesOf(key.Version)
	answer := C.glue_shared_list(t.handle, bucket, bucketLen, object, objectLen, version, versionLen,
		modeBits(key, Shared), one)
	if err := problem(answer); err != nil {
		return nil, err
	}
	block := C.uintptr_t(answer.number)
	if block == 0 {
		return nil, &Error{Code: ErrSystem, Message: "no memory for a listing"}
	}
	defer C.glue_free(block)
	length := *(*uint64)(pointer(block))
	from := reader{rest: unsafe.String((*byte)(pointer(block)), length)[8:]}
	var holders []SharedHolder
	for from.number() != 0 {
		holder := SharedHolder{Key: from.key(), Owner: from.text(), Program: from.text(), Label: from.text()}
		holder.Mode, holder.PID, holder.For = Mode(from.number()), int(from.number()), duration(from.number())
		holder.hold, holder.member = from.number(), uint32(from.number())
		holders = append(holders, holder)
	}
	return holders, nil
}

func (t *SharedTable) waiting(key *Key) (int, error) {
	raceDisable()
	defer raceEnable()
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := bytesOf(key.Version)
	answer := C.glue_shared_waiting(t.handle, bucket, bucketLen, object, objectLen, version, versionLen,
		modeBits(key, Shared))
	return int(answer.number), problem(answer)
}

func (t *SharedTable) revoke(hold uint64, member uint32) error {
	raceDisable()
	defer raceEnable()
	return problem(C.glue_shared_revoke(t.handle, C.uint64_t(hold), C.uint32_t(member)))
}
