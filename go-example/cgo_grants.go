package keylatch

// What can be done with a lock that is held, and asked about it.

/*
#include "cgo_glue.h"

#cgo nocallback glue_upgrade
#cgo noescape keylatch_fence
#cgo nocallback keylatch_fence
#cgo noescape keylatch_previous_holder_died
#cgo nocallback keylatch_previous_holder_died
#cgo noescape keylatch_remaining
#cgo nocallback keylatch_remaining
#cgo noescape keylatch_is_valid
#cgo nocallback keylatch_is_valid
#cgo noescape keylatch_grant_mode
#cgo nocallback keylatch_grant_mode
#cgo noescape glue_grant_key
#cgo nocallback glue_grant_key
*/
import "C"

import (
	"runtime"
	"time"
	"unsafe"
)

// upgrade asks for an upgrade; if others read, a result will lie in the queue.
func (m *Manager) upgrade(grant Grant, timeout uint64) outcome {
	raceDisable()
	answer := C.glue_upgrade(m.handle, m.queue, C.uint64_t(grant), C.uint64_t(timeout))
	raceEnable()
	return outcomeOf(answer)
}

func (m *Manager) tryUpgrade(grant Grant) error {
	raceDisable()
	defer raceEnable()
	return problem(C.glue_upgrade(m.handle, 0, C.uint64_t(grant), 0))
}

func (m *Manager) downgrade(grant Grant) error {
	return checked(func() C.int32_t { return C.keylatch_downgrade(m.locks(), C.uint64_t(grant)) })
}

func (m *Manager) renew(grant Grant, ttl time.Duration) error {
	return checked(func() C.int32_t { return C.keylatch_renew(m.locks(), C.uint64_t(grant), nanoseconds(ttl)) })
}

func (m *Manager) fence(grant Grant) (uint64, error) {
	var fence C.uint64_t
	err := checked(func() C.int32_t { return C.keylatch_fence(m.locks(), C.uint64_t(grant), &fence) })
	return uint64(fence), err
}

func (m *Manager) previousHolderDied(grant Grant) (bool, error) {
	var died C.int32_t
	err := checked(func() C.int32_t { return C.keylatch_previous_holder_died(m.locks(), C.uint64_t(grant), &died) })
	return died != 0, err
}

func (m *Manager) remaining(grant Grant) (uint64, error) {
	var left C.uint64_t
	err := checked(func() C.int32_t { return C.keylatch_remaining(m.locks(), C.uint64_t(grant), &left) })
	return uint64(left), err
}

func (m *Manager) isValid(grant Grant) bool {
	raceDisable()
	defer raceEnable()
	var valid C.int32_t
	status := C.keylatch_is_valid(m.locks(), C.uint64_t(grant), &valid)
	return status == C.KEYLATCH_OK && valid != 0
}

func (m *Manager) modeOf(grant Grant) (Mode, error) {
	var mode C.int32_t
	err := checked(func() C.int32_t { return C.keylatch_grant_mode(m.locks(), C.uint64_t(grant), &mode) })
	return Mode(mode), err
}

func (m *Manager) keyOf(grant Grant) (Key, error) {
	raceDisable()
	defer raceEnable()
	var few [256]byte
	buffer := few[:]
	for {
		var head C.glue_head
		answer := C.glue_grant_key(m.handle, C.uint64_t(grant), (*C.char)(unsafe.Pointer(&buffer[0])),
			C.size_t(len(buffer)), &head)
		if answer.status == C.KEYLATCH_EBUFFER && len(buffer) < m.maxKeyBytes {
			C.free(pointer(answer.failure))
			buffer = make([]byte, m.maxKeyBytes)
			continue
		}
		if err := problem(answer); err != nil {
			return Key{}, err
		}
		text := string(buffer[:])
		key := Key{Bucket: text[:head.bucket_len], Object: text[head.object:][:head.object_len]}
		if head.version_len != C.GLUE_NO_VERSION {
			key.Version = text[C.uint32_t(head.object)+head.object_len:][:head.version_len]
			key.EmptyVersion = head.version_len == 0
		}
		return key, nil
	}
}

func (m *Manager) isCurrent(key *Key, fence uint64) (bool, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	native := pinnedKey(&pins, key)
	var current C.int32_t
	err := checked(func() C.int32_t { return C.keylatch_is_current(m.locks(), &native, C.uint64_t(fence), &current) })
	return current != 0, err
}
