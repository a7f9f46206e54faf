package keylatch

// Asking for locks, one or many, and giving them back.

/*
#include "cgo_glue.h"

#cgo noescape glue_lock
#cgo nocallback glue_lock
#cgo nocallback glue_lock_pinned
#cgo noescape glue_request
#cgo nocallback glue_request
#cgo noescape glue_batch
#cgo nocallback glue_batch
#cgo noescape glue_in_order
#cgo nocallback glue_in_order
#cgo noescape glue_begin_leases
#cgo nocallback glue_begin_leases
#cgo nocallback glue_release
#cgo noescape keylatch_release_many
#cgo nocallback keylatch_release_many
#cgo noescape keylatch_cancel
#cgo nocallback keylatch_cancel
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

// versionOf is the version of a key as bytes, which are at no address if there is none.
func versionOf(key *Key) (*C.char, C.size_t) {
	switch {
	case key.Version != "":
		return bytesOf(key.Version)
	case key.EmptyVersion:
		return noBytes, 0
	}
	return nil, 0
}

// lock asks for a lock; if it is held, a result will lie in the queue.
func (m *Manager) lock(key *Key, mode Mode, r *request) outcome {
	return m.askIn(m.queue, key, mode, r)
}

// try asks for a lock that is free.
func (m *Manager) try(key *Key, mode Mode, r *request) outcome { return m.askIn(0, key, mode, r) }

// askIn asks for a lock; with a queue as lock does, without one as try.
func (m *Manager) askIn(queue handle, key *Key, mode Mode, r *request) outcome {
	if err := mode.known(); err != nil {
		return outcome{err: err}
	}
	if !r.plain {
		return m.request(queue, key, mode, r)
	}
	if r.pin != nil {
		return r.pin.lock(queue, mode, r.timeout)
	}
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := versionOf(key)
	raceDisable()
	answer := C.glue_lock(m.handle, queue, bucket, bucketLen, object, objectLen, version, versionLen, C.int32_t(mode),
		C.uint64_t(r.timeout))
	raceEnable()
	return outcomeOf(answer)
}

// lock asks for the key of a pin, as Manager.askIn does.
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
	options, err := r.options(one)
	if err != nil {
		return outcome{err: err}
	}
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := versionOf(key)
	name, nameLen := bytesOf(r.ownerName)
	raceDisable()
	answer := C.glue_request(m.handle, queue, bucket, bucketLen, object, objectLen, version, versionLen, C.int32_t(mode),
		C.uint64_t(r.timeout), &options, name, nameLen)
	raceEnable()
	return outcomeOf(answer)
}

// options are what the request says, except its timeout and the name of its owner.
func (r *request) options(what purpose) (options C.glue_options, err error) {
	options.owner, err = r.by(what)
	options.ttl_ns, options.request_id, options.priority = C.uint64_t(r.ttl), C.uint64_t(r.id), C.uint32_t(r.priority)
	if r.bestEffort {
		options.flags = C.KEYLATCH_BEST_EFFORT
	}
	return options, err
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
	bucket, begin := "", 0
	for i := range items {
		key := &items[i].Key
		if len(key.Bucket) != len(bucket) || unsafe.StringData(key.Bucket) != unsafe.StringData(bucket) {
			bucket, begin = key.Bucket, len(bytes)
			bytes = append(bytes, cut(bucket)...)
		}
		head := &heads[i]
		head.mode = C.int32_t(items[i].Mode)
		head.bucket, head.bucket_len = C.size_t(begin), C.uint32_t(len(cut(bucket)))
		head.object, head.object_len = C.size_t(len(bytes)), C.uint32_t(len(cut(key.Object)))
		bytes = append(bytes, cut(key.Object)...)
		head.version_len = C.GLUE_NO_VERSION
		// Not versioned(), for which the whole key would be copied.
		if key.Version != "" || key.EmptyVersion {
			bytes = append(bytes, cut(key.Version)...)
			head.version_len = C.uint32_t(len(cut(key.Version)))
		}
	}
	p.heads, p.bytes = heads, bytes
}

func (p *packed) pointers() (*C.char, *C.glue_head) {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(p.bytes))), unsafe.SliceData(p.heads)
}

func (p *packed) firstGrant() *C.uint64_t { return (*C.uint64_t)(unsafe.SliceData(p.grants)) }

// lockAll tries to lock all the keys together; the grants are in p.grants.
func (m *Manager) lockAll(p *packed, r *request) error {
	options, err := r.options(many)
	if err != nil {
		return err
	}
	said := &options
	if options == (C.glue_options{}) && r.ownerName == "" {
		said = nil
	}
	var waits C.int32_t
	if r.timeout != 0 {
		waits = 1
	}
	bytes, heads := p.pointers()
	name, nameLen := bytesOf(r.ownerName)
	raceDisable()
	answer := C.glue_batch(m.handle, bytes, heads, C.size_t(len(p.heads)), said, name, nameLen, waits, p.firstGrant())
	raceEnable()
	return problem(answer)
}

// lockInOrder takes the keys from a place on, one after the other, and moves it as far as it comes. Leases are not begun.
func (m *Manager) lockInOrder(p *packed, next *int, timeout uint64, r *request) outcome {
	options, err := r.options(many)
	if err != nil {
		return outcome{err: err}
	}
	options.ttl_ns, options.flags = 0, 0
	bytes, heads := p.pointers()
	name, nameLen := bytesOf(r.ownerName)
	place := C.size_t(*next)
	raceDisable()
	answer := C.glue_in_order(m.handle, m.queue, bytes, heads, C.size_t(len(p.heads)), C.uint64_t(timeout), &options,
		name, nameLen, p.firstGrant(), &place)
	raceEnable()
	*next = int(place)
	return outcomeOf(answer)
}

// beginLeases begins the leases of all that are held, from now on.
func (m *Manager) beginLeases(p *packed, ttl uint64) {
	raceDisable()
	C.glue_begin_leases(m.handle, p.firstGrant(), C.size_t(len(p.grants)), C.uint64_t(ttl))
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
	status := C.keylatch_release_many(m.locks(), first, C.size_t(len(grants)), nil)
	raceEnable()
	if status != C.KEYLATCH_OK {
		return failure(status, 0)
	}
	return nil
}

func (m *Manager) cancel(ticket uint64) {
	var ended C.int32_t
	raceDisable()
	C.keylatch_cancel(m.locks(), C.uint64_t(ticket), &ended)
	raceEnable()
}

// fetch takes results out of the queue and says whether there may be more.
func (m *Manager) fetch(take func(ticket uint64, came outcome)) (more bool) {
	var results [32]C.glue_result
	raceDisable()
	count := C.glue_drain(m.queue, &results[0], C.size_t(len(results)))
	raceEnable()
	for i := range results[:count] {
		result := &results[i]
		came := outcome{grant: Grant(result.came.grant)}
		if result.came.status != C.KEYLATCH_OK {
			came = outcome{err: failure(result.came.status, result.failure)}
		}
		take(uint64(result.came.ticket), came)
	}
	return int(count) == len(results)
}
