package keylatch

// What can be done with a lock that is held, and asked about it.

/*
#include "cgo_glue.h"

#cgo nocallback glue_free
#cgo nocallback glue_downgrade
#cgo nocallback glue_try_upgrade
#cgo nocallback glue_upgrade
#cgo nocallback glue_renew
#cgo nocallback glue_fence
#cgo nocallback glue_previous_holder_died
#cgo nocallback glue_remaining
#cgo nocallback glue_is_valid
#cgo nocallback glue_grant_mode
#cgo noescape glue_grant_key
#cgo nocallback glue_grant_key
#cgo noescape glue_is_current
#cgo nocallback glue_is_current
*/
import "C"

import (
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

func (m *Manager) downgrade(grant Grant) error {
	raceDisable()
	defer raceEnable()
	return problem(C.glue_downgrade(m.handle, C.uint64_t(grant)))
}

func (m *Manager) tryUpgrade(grant Grant) error {
	raceDisable()
	defer raceEnable()
	return problem(C.glue_try_upgrade(m.handle, C.uint64_t(grant)))
}

func (m *Manager) renew(grant Grant, ttl time.Duration) error {
	raceDisable()
	defer raceEnable()
	return problem(C.glue_renew(m.handle, C.uint64_t(grant), nanoseconds(ttl)))
}

func (m *Manager) fence(grant Grant) (uint64, error) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_fence(m.handle, C.uint64_t(grant))
	return uint64(answer.number), problem(answer)
}

func (m *Manager) previousHolderDied(grant Grant) (bool, error) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_previous_holder_died(m.handle, C.uint64_t(grant))
	return answer.number != 0, problem(answer)
}

func (m *Manager) remaining(grant Grant) (uint64, error) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_remaining(m.handle, C.uint64_t(grant))
	return uint64(answer.number), problem(answer)
}

func (m *Manager) isValid(grant Grant) bool {
	raceDisable()
	defer raceEnable()
	answer := C.glue_is_valid(m.handle, C.uint64_t(grant))
	return problem(answer) == nil && answer.number != 0
}

func (m *Manager) modeOf(grant Grant) (Mode, error) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_grant_mode(m.handle, C.uint64_t(grant))
	return Mode(answer.number), problem(answer)
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
			C.glue_free(answer.failure)
			buffer = make([]byte, m.maxKeyBytes)
			continue
		}
		if err := problem(answer); err != nil {
			return Key{}, err
		}
		text := string(buffer[:])
		key := Key{Bucket: text[:head.bucket]}
		text = text[head.bucket:]
		key.Object, text = text[:head.object], text[head.object:]
		if head.version != C.GLUE_NO_VERSION {
			key.Version = text[:head.version]
			key.EmptyVersion = head.version == 0
		}
		return key, nil
	}
}

func (m *Manager) isCurrent(key *Key, fence uint64) (bool, error) {
	raceDisable()
	defer raceEnable()
	var one packed
	one.fill([]Item{{*key, Exclusive}})
	bytes, head := one.pointers()
	answer := C.glue_is_current(m.handle, bytes, head, C.uint64_t(fence))
	return answer.number != 0, problem(answer)
}
