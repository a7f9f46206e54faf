package keylatch

// Asking for locks, one or many, and giving them back.

/*
#include "cgo_glue.h"

#cgo noescape glue_lock
#cgo nocallback glue_lock
#cgo noescape glue_try
#cgo nocallback glue_try
#cgo noescape glue_lock_pinned
#cgo nocallback glue_lock_pinned
#cgo noescape glue_request
#cgo nocallback glue_request
#cgo noescape glue_batch
#cgo nocallback glue_batch
#cgo noescape glue_in_order
#cgo nocallback glue_in_order
#cgo noescape glue_next
#cgo nocallback glue_next
#cgo noescape glue_begin_leases
#cgo nocallback glue_begin_leases
#cgo nocallback glue_release
#cgo noescape glue_release_many
#cgo nocallback glue_release_many
#cgo nocallback glue_cancel
#cgo noescape glue_drain
#cgo nocallback glue_drain
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

func outcomeOf(answer C.glue_answer) outcome {
	raceDisable()
	defer raceEnable()
	if answer.status != C.KEYLATCH_OK {
		return outcome{err: failure(answer.status, answer.failure)}
	}
	return outcome{grant: Grant(answer.number), ticket: uint64(answer.ticket)}
}

func modeBits(key *Key, mode Mode) C.int32_t {
	bits := C.int32_t(mode)
	if key.EmptyVersion {
		bits |= C.GLUE_EMPTY_VERSION
	}
	return bits
}

// lock asks for a lock; if it is held, a result will lie in the queue.
func (m *Manager) lock(key *Key, mode Mode, r *request) outcome {
	if err := mode.known(); err != nil {
		return outcome{err: err}
	}
	if r.plain && r.pin != nil {
		return r.pin.lock(m.queue, mode, r.timeout)
	}
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := bytesOf(key.Version)
	if r.plain {
		raceDisable()
		answer := C.glue_lock(m.handle, m.queue, bucket, bucketLen, object, objectLen, version, versionLen,
			modeBits(key, mode), C.uint64_t(r.timeout))
		raceEnable()
		return outcomeOf(answer)
	}
	return m.request(m.queue, key, mode, r)
}

// try asks for a lock that is free.
func (m *Manager) try(key *Key, mode Mode, r *request) outcome {
	if err := mode.known(); err != nil {
		return outcome{err: err}
	}
	if r.plain && r.pin != nil {
		return r.pin.lock(0, mode, r.timeout)
	}
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := bytesOf(key.Version)
	if r.plain {
		raceDisable()
		answer := C.glue_try(m.handle, bucket, bucketLen, object, objectLen, version, versionLen, modeBits(key, mode))
		raceEnable()
		return outcomeOf(answer)
	}
	return m.request(0, key, mode, r)
}

// lock asks for the key of a pin; with a queue as Manager.lock does, without one as Manager.try.
func (p *PinnedKey) lock(queue handle, mode Mode, timeout uint64) outcome {
	pin, err := p.use()
	if err != nil {
		return outcome{err: err}
	}
	raceDisable()
	answer := C.glue_lock_pinned(pin, queue, C.int32_t(mode), C.uint64_t(timeout))
	raceEnable()
	return outcomeOf(answer)
}

func (m *Manager) request(queue handle, key *Key, mode Mode, r *request) outcome {
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := bytesOf(key.Version)
	name, nameLen := bytesOf(r.ownerName)
	owner, err := r.by(one)
	if err != nil {
		return outcome{err: err}
	}
	raceDisable()
	answer := C.glue_request(m.handle, queue, bucket, bucketLen, object, objectLen, version, versionLen,
		modeBits(key, mode), C.uint64_t(r.timeout), owner, name, nameLen, C.uint64_t(r.ttl), C.uint64_t(r.id),
		C.uint32_t(r.priority))
	raceEnable()
	return outcomeOf(answer)
}

// packed is keys as glue_batch wants them.
type packed struct {
	bytes  []byte
	heads  []C.glue_head
	grants []uint64
}

// tooLong is longer than any key may be, so that one that is cut there is refused like the whole.
const tooLong = 1 << 20

func cut(part string) string { return part[:min(len(part), tooLong)] }

// fill copies the keys. Those of a batch are often of one bucket, which is copied once then.
func (p *packed) fill(items []Item) {
	heads := slices.Grow(p.heads[:0], len(items))[:len(items)]
	bytes := p.bytes[:0]
	bucket := ""
	for i := range items {
		key, head := &items[i].Key, &heads[i]
		head.mode = C.int32_t(items[i].Mode)
		if len(key.Bucket) == len(bucket) && unsafe.StringData(key.Bucket) == unsafe.StringData(bucket) {
			head.bucket = C.GLUE_SAME_BUCKET
		} else {
			bucket = key.Bucket
			bytes = append(bytes, cut(bucket)...)
			head.bucket = C.uint32_t(len(cut(bucket)))
		}
		bytes = append(bytes, cut(key.Object)...)
		head.object = C.uint32_t(len(cut(key.Object)))
		head.version = C.GLUE_NO_VERSION
		// Not versioned(), for which the whole key would be copied.
		if key.Version != "" || key.EmptyVersion {
			bytes = append(bytes, cut(key.Version)...)
			head.version = C.uint32_t(len(cut(key.Version)))
		}
	}
	p.heads, p.bytes = heads, bytes
}

func (p *packed) pointers() (*C.char, *C.glue_head) {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(p.bytes))), unsafe.SliceData(p.heads)
}

// lockAll tries to lock all the keys together; the grants are in p.grants.
func (m *Manager) lockAll(p *packed, r *request) error {
	bytes, heads := p.pointers()
	grants := (*C.uint64_t)(unsafe.SliceData(p.grants))
	name, nameLen := bytesOf(r.ownerName)
	owner, err := r.by(many)
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
	answer := C.glue_batch(m.handle, bytes, heads, C.size_t(len(p.heads)), owner, name, nameLen,
		C.uint64_t(r.ttl), C.uint32_t(r.priority), bestEffort, waits, grants)
	raceEnable()
	return problem(answer)
}

// place is where in packed keys one is.
type place = C.glue_place

// lockInOrder takes the keys from a place on, one after the other, and moves it as far as it comes. Leases are not begun.
func (m *Manager) lockInOrder(p *packed, from *place, timeout uint64, r *request) outcome {
	bytes, heads := p.pointers()
	grants := (*C.uint64_t)(unsafe.SliceData(p.grants))
	name, nameLen := bytesOf(r.ownerName)
	owner, err := r.by(many)
	if err != nil {
		return outcome{err: err}
	}
	raceDisable()
	answer := C.glue_in_order(m.handle, m.queue, bytes, heads, C.size_t(len(p.heads)), C.uint64_t(timeout),
		owner, name, nameLen, C.uint32_t(r.priority), grants, from)
	raceEnable()
	return outcomeOf(answer)
}

// next moves a place by one key.
func (p *packed) next(from *place) {
	raceDisable()
	_, heads := p.pointers()
	C.glue_next(heads, from)
	raceEnable()
}

// beginLeases begins the leases of all that are held, from now on.
func (m *Manager) beginLeases(p *packed, ttl uint64) {
	raceDisable()
	C.glue_begin_leases(m.handle, (*C.uint64_t)(unsafe.SliceData(p.grants)), C.size_t(len(p.grants)), C.uint64_t(ttl))
	raceEnable()
}

func (m *Manager) release(grant Grant) error {
	raceDisable()
	status := C.glue_release(m.handle, C.uint64_t(grant))
	raceEnable()
	if status != C.KEYLATCH_OK {
		return failure(status, 0)
	}
	return nil
}

func (m *Manager) releaseMany(grants []uint64) error {
	first := (*C.uint64_t)(unsafe.SliceData(grants))
	raceDisable()
	status := C.glue_release_many(m.handle, first, C.size_t(len(grants)))
	raceEnable()
	if status != C.KEYLATCH_OK {
		return failure(status, 0)
	}
	return nil
}

func (m *Manager) cancel(ticket uint64) {
	raceDisable()
	C.glue_cancel(m.handle, C.uint64_t(ticket))
	raceEnable()
}

// fetch takes results out of the queue and says whether there may be more.
func (m *Manager) fetch(take func(ticket uint64, came outcome)) (more bool) {
	var results [32]C.glue_result
	raceDisable()
	count := C.glue_drain(m.queue, &results[0], C.int32_t(len(results)))
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
