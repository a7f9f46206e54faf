package keylatch

// Asking for locks, one or many, and giving them back.

/*
#include "border.h"

#cgo noescape border_lock
#cgo nocallback border_lock
#cgo noescape border_try
#cgo nocallback border_try
#cgo noescape border_request
#cgo nocallback border_request
#cgo noescape border_batch
#cgo nocallback border_batch
#cgo noescape border_in_order
#cgo nocallback border_in_order
#cgo nocallback border_release
#cgo noescape border_release_many
#cgo nocallback border_release_many
#cgo nocallback border_cancel
#cgo noescape border_drain
#cgo nocallback border_drain
*/
import "C"

import (
	"slices"
	"unsafe"
)

// outcome is what a request came to: a grant, or a ticket to wait for it with, or an error.
type outcome struct {
	grant  Grant
	ticket uint64
	err    error
}

func outcomeOf(answer C.border_answer) outcome {
	raceDisable()
	defer raceEnable()
	if answer.status != C.KEYLATCH_OK {
		return outcome{err: failure(answer.status, answer.failure)}
	}
	return outcome{grant: Grant(answer.number), ticket: uint64(answer.ticket)}
}

func modeBits(key *Key, mode Mode) C.int32_t {
	bits := C.int32_t(mode & C.BORDER_MODE)
	if key.EmptyVersion {
		bits |= C.BORDER_EMPTY_VERSION
	}
	return bits
}

// lock asks for a lock; if it is held, a result will lie in the queue.
func (m *Manager) lock(key *Key, mode Mode, r *request) outcome {
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := bytesOf(key.Version)
	if r.plain {
		raceDisable()
		answer := C.border_lock(m.handle, m.queue, bucket, bucketLen, object, objectLen, version, versionLen,
			modeBits(key, mode), C.uint64_t(r.timeout))
		raceEnable()
		return outcomeOf(answer)
	}
	return m.request(m.queue, key, mode, r)
}

// try asks for a lock that is free.
func (m *Manager) try(key *Key, mode Mode, r *request) outcome {
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := bytesOf(key.Version)
	if r.plain {
		raceDisable()
		answer := C.border_try(m.handle, bucket, bucketLen, object, objectLen, version, versionLen, modeBits(key, mode))
		raceEnable()
		return outcomeOf(answer)
	}
	return m.request(0, key, mode, r)
}

func (m *Manager) request(queue handle, key *Key, mode Mode, r *request) outcome {
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := bytesOf(key.Version)
	name, nameLen := bytesOf(r.ownerName)
	owner, err := r.owner.use()
	if err != nil {
		return outcome{err: err}
	}
	raceDisable()
	answer := C.border_request(m.handle, queue, bucket, bucketLen, object, objectLen, version, versionLen,
		modeBits(key, mode), C.uint64_t(r.timeout), owner, name, nameLen, C.uint64_t(r.ttl), C.uint64_t(r.id),
		C.uint32_t(r.priority))
	raceEnable()
	return outcomeOf(answer)
}

// packed is keys as border_batch wants them.
type packed struct {
	bytes   []byte
	lengths []uint32
	modes   []int32
	grants  []uint64
}

// fill makes room for all the keys first, so that copying them is no more than that.
func (p *packed) fill(items []Item) {
	total := 0
	for i := range items {
		key := &items[i].Key
		total += len(key.Bucket) + len(key.Object) + len(key.Version)
	}
	bytes := slices.Grow(p.bytes[:0], total)[:total]
	p.bytes = bytes
	p.lengths = slices.Grow(p.lengths[:0], 3*len(items))[:3*len(items)]
	p.modes = slices.Grow(p.modes[:0], len(items))[:len(items)]
	for i := range items {
		key := &items[i].Key
		bytes = bytes[copy(bytes, key.Bucket):]
		bytes = bytes[copy(bytes, key.Object):]
		version := noVersion
		if key.versioned() {
			bytes = bytes[copy(bytes, key.Version):]
			version = uint32(len(key.Version))
		}
		lengths := p.lengths[3*i : 3*i+3 : 3*i+3]
		lengths[0], lengths[1], lengths[2] = uint32(len(key.Bucket)), uint32(len(key.Object)), version
		p.modes[i] = int32(items[i].Mode)
	}
}

func (p *packed) pointers() (*C.char, *C.uint32_t, *C.int32_t, *C.uint64_t) {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(p.bytes))), (*C.uint32_t)(unsafe.SliceData(p.lengths)),
		(*C.int32_t)(unsafe.SliceData(p.modes)), (*C.uint64_t)(unsafe.SliceData(p.grants))
}

// lockAll tries to have all the keys at once; the grants are in p.grants.
func (m *Manager) lockAll(p *packed, r *request) error {
	bytes, lengths, modes, grants := p.pointers()
	name, nameLen := bytesOf(r.ownerName)
	owner, err := r.owner.use()
	if err != nil {
		return err
	}
	var bestEffort, waits C.int32_t
	if r.bestEffort {
		bestEffort = 1
	}
	if r.timeout != 0 {
		waits = 1
	}
	raceDisable()
	answer := C.border_batch(m.handle, bytes, lengths, modes, C.size_t(len(p.modes)), owner, name, nameLen,
		C.uint64_t(r.ttl), C.uint32_t(r.priority), bestEffort, waits, grants)
	raceEnable()
	return problem(answer)
}

// lockInOrder takes the keys from next on, one after the other, and says how far it came.
func (m *Manager) lockInOrder(p *packed, next int, timeout uint64, r *request) (outcome, int) {
	bytes, lengths, modes, grants := p.pointers()
	name, nameLen := bytesOf(r.ownerName)
	owner, err := r.owner.use()
	if err != nil {
		return outcome{err: err}, next
	}
	at := C.size_t(next)
	raceDisable()
	answer := C.border_in_order(m.handle, m.queue, bytes, lengths, modes, C.size_t(len(p.modes)), C.uint64_t(timeout),
		owner, name, nameLen, C.uint64_t(r.ttl), C.uint32_t(r.priority), grants, &at)
	raceEnable()
	return outcomeOf(answer), int(at)
}

func (m *Manager) release(grant Grant) error {
	raceDisable()
	status := C.border_release(m.handle, C.uint64_t(grant))
	raceEnable()
	if status != C.KEYLATCH_OK {
		return failure(status, 0)
	}
	return nil
}

func (m *Manager) releaseMany(grants []uint64) error {
	first := (*C.uint64_t)(unsafe.SliceData(grants))
	raceDisable()
	status := C.border_release_many(m.handle, first, C.size_t(len(grants)))
	raceEnable()
	if status != C.KEYLATCH_OK {
		return failure(status, 0)
	}
	return nil
}

func (m *Manager) cancel(ticket uint64) {
	raceDisable()
	C.border_cancel(m.handle, C.uint64_t(ticket))
	raceEnable()
}

// fetch takes results out of the queue and says whether there may be more.
func (m *Manager) fetch(take func(ticket uint64, came outcome)) (more bool) {
	var results [32]C.border_result
	raceDisable()
	count := C.border_drain(m.queue, &results[0], C.int32_t(len(results)))
	raceEnable()
	for _, result := range results[:max(count, 0)] {
		came := outcome{grant: Grant(result.grant)}
		if result.status != C.KEYLATCH_OK {
			came = outcome{err: failure(result.status, result.failure)}
		}
		take(uint64(result.ticket), came)
	}
	return int(count) == len(results)
}
