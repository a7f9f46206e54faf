package keylatch

// Everything that crosses into C does so in this file; border.h says what each function does. Handles and pointers of
// the library are numbers on this side, for Go neither to follow nor to check.
//
// For the race detector every call into C comes after every other one, which would hide that a program uses data without
// the lock. So it does not look while a call is made, and is told of locks in race_on.go.

/*
#include "border.h"

// None of these calls back into Go, and none keeps a pointer that it is given, so that Go need not prepare for either.
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
#cgo nocallback border_free
#cgo nocallback border_downgrade
#cgo nocallback border_try_upgrade
#cgo nocallback border_upgrade
#cgo nocallback border_renew
#cgo nocallback border_fence
#cgo nocallback border_remaining
#cgo nocallback border_is_valid
#cgo nocallback border_grant_mode
#cgo noescape border_grant_key
#cgo nocallback border_grant_key
#cgo noescape border_is_current
#cgo nocallback border_is_current
#cgo nocallback border_manager_new
#cgo nocallback border_manager_close
#cgo nocallback border_manager_free
#cgo noescape border_owner_new
#cgo nocallback border_owner_new
#cgo nocallback border_owner_free
#cgo nocallback border_queue_new
#cgo nocallback border_queue_fd
#cgo nocallback border_queue_free
#cgo noescape border_metrics
#cgo nocallback border_metrics
#cgo noescape border_health
#cgo nocallback border_health
#cgo nocallback border_openmetrics
#cgo nocallback border_report
#cgo nocallback border_text_free
#cgo noescape border_list
#cgo nocallback border_list
#cgo nocallback border_top
#cgo noescape border_chain
#cgo nocallback border_chain
#cgo nocallback border_recent_deadlocks
#cgo nocallback border_lock_orders
#cgo noescape border_adaptive
#cgo nocallback border_adaptive
#cgo nocallback border_owner_release_all
#cgo nocallback border_events_new
#cgo nocallback border_events_fd
#cgo nocallback border_events_next
#cgo nocallback border_events_dropped
#cgo nocallback border_events_free
#cgo noescape border_library
#cgo nocallback border_library
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"
)

const (
	waitForever = uint64(C.KEYLATCH_WAIT_FOREVER)
	waitDefault = uint64(C.KEYLATCH_WAIT_DEFAULT)
	never       = uint64(C.KEYLATCH_NEVER)
	noVersion   = uint32(C.BORDER_NO_VERSION)
)

// handle is a manager, a queue or an owner of the library's.
type handle = C.uintptr_t

func bytesOf(text string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text))
}

// pointer makes a pointer of a number that C gave out for one.
func pointer(number C.uintptr_t) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&number)) }

// problem is what an answer failed with, or nil.
func problem(answer C.border_answer) error {
	raceDisable()
	defer raceEnable()
	if answer.status == C.KEYLATCH_OK {
		return nil
	}
	return failure(answer.status, answer.failure)
}

// failure reads a block of border_failure and gives it back.
func failure(status C.int32_t, block C.uintptr_t) error {
	raceDisable()
	defer raceEnable()
	code := Code(status)
	if code == invalidHandle {
		// The manager was freed while the call was on its way.
		code = ErrClosed
	}
	told := &Error{Code: code}
	if block == 0 {
		return told
	}
	defer C.border_free(block)
	length := *(*uint64)(pointer(block))
	from := reader{unsafe.Slice((*byte)(pointer(block)), length)[8:]}
	told.Message = from.text()
	if told.HasKey = from.number() != 0; told.HasKey {
		told.Key = from.key()
	}
	told.Waited = duration(from.number())
	told.Holders = from.parties()
	told.MoreHolders = int(from.number())
	told.Cycle = from.parties()
	return told
}

// reader takes apart what border.c put together.
type reader struct{ rest []byte }

func (r *reader) number() uint64 {
	number := binary.NativeEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return number
}

func (r *reader) text() string {
	length := r.number()
	text := string(r.rest[:length])
	r.rest = r.rest[length:]
	return text
}

func (r *reader) key() Key {
	key := Key{Bucket: r.text(), Object: r.text()}
	versioned := r.number() != 0
	key.Version = r.text()
	key.EmptyVersion = versioned && key.Version == ""
	return key
}

func (r *reader) parties() (parties []Party) {
	for r.number() != 0 {
		parties = append(parties, r.party())
	}
	return parties
}

func (r *reader) party() Party {
	party := Party{Key: r.key(), Owner: r.text(), Source: r.text(), Grant: Grant(r.number()), Fence: r.number()}
	party.For, party.Lease, party.Position = duration(r.number()), duration(r.number()), int(r.number())
	party.Waiters, party.LongestWait = int(r.number()), duration(r.number())
	party.Link, party.After = int(r.number()), int(r.number())
	party.Mode, party.Role, party.BlockedBy = Mode(r.number()), Role(r.number()), Mode(r.number())
	party.Priority = uint8(r.number())
	flags := r.number()
	party.Session = flags&C.KEYLATCH_PARTY_SESSION != 0
	party.HasLease = flags&C.KEYLATCH_PARTY_LEASE != 0
	party.Upgrade = flags&C.KEYLATCH_PARTY_UPGRADE != 0
	party.Runs = flags&C.KEYLATCH_PARTY_RUNS != 0
	party.Granted = flags&C.KEYLATCH_PARTY_GRANTED != 0
	party.Victim = flags&C.KEYLATCH_PARTY_VICTIM != 0
	return party
}

// partiesOf reads a block of parties and gives it back.
func partiesOf(answer C.border_answer) ([]Party, error) {
	raceDisable()
	defer raceEnable()
	if err := problem(answer); err != nil {
		return nil, err
	}
	block := C.uintptr_t(answer.number)
	if block == 0 {
		return nil, &Error{Code: ErrSystem, Message: "no memory for a listing"}
	}
	defer C.border_free(block)
	length := *(*uint64)(pointer(block))
	from := reader{unsafe.Slice((*byte)(pointer(block)), length)[8:]}
	return from.parties(), nil
}

// duration is a number of nanoseconds of the library's; what is longer than a Duration can be is the longest.
func duration(nanoseconds uint64) time.Duration { return time.Duration(min(nanoseconds, 1<<63-1)) }

// nanoseconds is a duration for the library; one that is negative is none at all.
func nanoseconds(d time.Duration) C.uint64_t { return C.uint64_t(max(d, 0)) }

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
	var bestEffort C.int32_t
	if r.bestEffort {
		bestEffort = 1
	}
	raceDisable()
	answer := C.border_batch(m.handle, bytes, lengths, modes, C.size_t(len(p.modes)), owner, name, nameLen,
		C.uint64_t(r.ttl), C.uint32_t(r.priority), bestEffort, grants)
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

// upgrade asks for an upgrade; if others read, a result will lie in the queue.
func (m *Manager) upgrade(grant Grant, timeout uint64) outcome {
	raceDisable()
	answer := C.border_upgrade(m.handle, m.queue, C.uint64_t(grant), C.uint64_t(timeout))
	raceEnable()
	return outcomeOf(answer)
}

func (m *Manager) downgrade(grant Grant) error {
	raceDisable()
	defer raceEnable()
	return problem(C.border_downgrade(m.handle, C.uint64_t(grant)))
}

func (m *Manager) tryUpgrade(grant Grant) error {
	raceDisable()
	defer raceEnable()
	return problem(C.border_try_upgrade(m.handle, C.uint64_t(grant)))
}

func (m *Manager) renew(grant Grant, ttl time.Duration) error {
	raceDisable()
	defer raceEnable()
	return problem(C.border_renew(m.handle, C.uint64_t(grant), nanoseconds(ttl)))
}

func (m *Manager) fence(grant Grant) (uint64, error) {
	raceDisable()
	defer raceEnable()
	answer := C.border_fence(m.handle, C.uint64_t(grant))
	return uint64(answer.number), problem(answer)
}

func (m *Manager) remaining(grant Grant) (uint64, error) {
	raceDisable()
	defer raceEnable()
	answer := C.border_remaining(m.handle, C.uint64_t(grant))
	return uint64(answer.number), problem(answer)
}

func (m *Manager) isValid(grant Grant) bool {
	raceDisable()
	defer raceEnable()
	answer := C.border_is_valid(m.handle, C.uint64_t(grant))
	return problem(answer) == nil && answer.number != 0
}

func (m *Manager) modeOf(grant Grant) (Mode, error) {
	raceDisable()
	defer raceEnable()
	answer := C.border_grant_mode(m.handle, C.uint64_t(grant))
	return Mode(answer.number), problem(answer)
}

func (m *Manager) keyOf(grant Grant) (Key, error) {
	raceDisable()
	defer raceEnable()
	var few [256]byte
	buffer := few[:]
	for {
		var lengths [3]C.uint32_t
		answer := C.border_grant_key(m.handle, C.uint64_t(grant), (*C.char)(unsafe.Pointer(&buffer[0])),
			C.size_t(len(buffer)), &lengths[0])
		if answer.status == C.KEYLATCH_EBUFFER && len(buffer) < m.maxKeyBytes {
			C.border_free(answer.failure)
			buffer = make([]byte, m.maxKeyBytes)
			continue
		}
		if err := problem(answer); err != nil {
			return Key{}, err
		}
		text := string(buffer[:])
		key := Key{Bucket: text[:lengths[0]]}
		text = text[lengths[0]:]
		key.Object, text = text[:lengths[1]], text[lengths[1]:]
		if uint32(lengths[2]) != noVersion {
			key.Version = text[:lengths[2]]
			key.EmptyVersion = lengths[2] == 0
		}
		return key, nil
	}
}

func (m *Manager) isCurrent(key *Key, fence uint64) (bool, error) {
	raceDisable()
	defer raceEnable()
	var one packed
	one.fill([]Item{{*key, Exclusive}})
	bytes, lengths, _, _ := one.pointers()
	answer := C.border_is_current(m.handle, bytes, lengths, C.uint64_t(fence))
	return answer.number != 0, problem(answer)
}

func newManager(o *Options) (handle, error) {
	raceDisable()
	defer raceEnable()
	options := C.keylatch_manager_options{
		shards:             C.uint32_t(o.Shards),
		fairness:           C.uint32_t(o.Fairness),
		fairness_after_ns:  nanoseconds(o.FairnessAfter),
		default_timeout_ns: nanoseconds(o.DefaultTimeout),
		max_locks:          C.uint32_t(o.MaxLocks),
		max_waiters:        C.uint32_t(o.MaxWaiters),
		max_key_bytes:      C.uint64_t(o.MaxKeyBytes),
		overtake_limit:     C.uint32_t(o.OvertakeLimit),
		reentrancy:         C.uint32_t(o.Reentrancy),
		deadlock_delay_ns:  orNever(o.DeadlockDelay),
		victim:             C.uint32_t(o.Victim),
		lock_delay_ns:      nanoseconds(o.LockDelay),
	}
	if a := o.Adaptive; a != nil {
		options.flags |= C.KEYLATCH_MANAGER_ADAPTIVE
		options.adaptive_quantile_per_mille = C.uint32_t(a.QuantilePerMille)
		options.adaptive_factor_per_mille = C.uint32_t(a.FactorPerMille)
		options.adaptive_floor_ns, options.adaptive_ceiling_ns = nanoseconds(a.Floor), nanoseconds(a.Ceiling)
	}
	if o.LockOrder {
		options.flags |= C.KEYLATCH_MANAGER_LOCK_ORDER
	}
	answer := C.border_manager_new(options)
	return handle(answer.number), problem(answer)
}

// orNever is a delay for the library: a negative one never ends.
func orNever(d time.Duration) C.uint64_t {
	if d < 0 {
		return C.uint64_t(never)
	}
	return C.uint64_t(d)
}

func newOwner(m *Manager, name, source string, flags uint32) (handle, error) {
	raceDisable()
	defer raceEnable()
	nameBytes, nameLen := bytesOf(name)
	sourceBytes, sourceLen := bytesOf(source)
	answer := C.border_owner_new(m.handle, nameBytes, nameLen, sourceBytes, sourceLen, C.uint32_t(flags))
	return handle(answer.number), problem(answer)
}

func newQueue(manager handle) (queue handle, descriptor int, err error) {
	raceDisable()
	defer raceEnable()
	answer := C.border_queue_new(manager)
	if err := problem(answer); err != nil {
		return 0, -1, err
	}
	queue = handle(answer.number)
	answer = C.border_queue_fd(queue)
	return queue, int(answer.number), problem(answer)
}

func closeManager(manager handle) {
	raceDisable()
	defer raceEnable()
	C.border_manager_close(manager)
}
func freeManager(manager handle) {
	raceDisable()
	defer raceEnable()
	C.border_manager_free(manager)
}
func freeQueue(queue handle) {
	raceDisable()
	defer raceEnable()
	C.border_queue_free(queue)
}
func freeOwner(owner handle) {
	raceDisable()
	defer raceEnable()
	C.border_owner_free(owner)
}

func (m *Manager) figures(shard uint32) (Metrics, error) {
	raceDisable()
	defer raceEnable()
	var from C.keylatch_metrics
	if err := problem(C.border_metrics(m.handle, C.uint32_t(shard), &from)); err != nil {
		return Metrics{}, err
	}
	return Metrics{
		Acquisitions: uint64(from.acquisitions), Fast: uint64(from.fast), Inserted: uint64(from.inserted),
		Slow: uint64(from.slow), Releases: uint64(from.releases), Waits: uint64(from.waits),
		Timeouts: uint64(from.timeouts), Cancelled: uint64(from.cancelled), Refused: uint64(from.refused),
		Waited: duration(uint64(from.wait_ns)), LongestWait: duration(uint64(from.max_wait_ns)),
		WaitP50: duration(uint64(from.wait_p50_ns)), WaitP90: duration(uint64(from.wait_p90_ns)),
		WaitP99: duration(uint64(from.wait_p99_ns)),
		Holders: uint64(from.holders), Waiters: uint64(from.waiters), Entries: uint64(from.entries),
		Bytes: uint64(from.bytes), Uptime: duration(uint64(from.uptime_ns)),
	}, nil
}

func (m *Manager) verdict() (Health, error) {
	raceDisable()
	defer raceEnable()
	var from C.keylatch_health
	answer := C.border_health(m.handle, &from)
	if err := problem(answer); err != nil {
		return Health{}, err
	}
	health := Health{
		Healthy: from.healthy != 0, FastPathRate: float64(from.fast_path_rate),
		TimeoutRate: float64(from.timeout_rate), AverageWait: duration(uint64(from.avg_wait_ns)),
	}
	if text := takeText(answer); text != "" {
		health.Problems = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	return health, nil
}

func (m *Manager) adaptive() (Adaptive, bool, error) {
	raceDisable()
	defer raceEnable()
	var from C.keylatch_adaptive
	answer := C.border_adaptive(m.handle, &from)
	if answer.status == C.KEYLATCH_EEND {
		C.border_free(answer.failure)
		return Adaptive{}, false, nil
	}
	if err := problem(answer); err != nil {
		return Adaptive{}, false, err
	}
	return Adaptive{
		Timeout: duration(uint64(from.timeout_ns)), Quantile: duration(uint64(from.quantile_ns)),
		Samples: uint64(from.samples), Timeouts: uint64(from.timeouts),
		Floor: duration(uint64(from.floor_ns)), Ceiling: duration(uint64(from.ceiling_ns)),
		TimesAtFloor: uint64(from.times_at_floor), TimesAtCeiling: uint64(from.times_at_ceiling),
	}, true, nil
}

func (m *Manager) openMetrics() (string, error) {
	raceDisable()
	defer raceEnable()
	answer := C.border_openmetrics(m.handle)
	return takeText(answer), problem(answer)
}

func (m *Manager) report() (string, error) {
	raceDisable()
	defer raceEnable()
	answer := C.border_report(m.handle)
	return takeText(answer), problem(answer)
}

// takeText copies a text of the library's and gives it back.
func takeText(answer C.border_answer) string {
	raceDisable()
	defer raceEnable()
	if answer.status != C.KEYLATCH_OK || answer.number == 0 {
		return ""
	}
	text := C.uintptr_t(answer.number)
	defer C.border_text_free(text)
	return C.GoString((*C.char)(pointer(text)))
}

func (m *Manager) list(what int, f *Filter) ([]Party, error) {
	raceDisable()
	defer raceEnable()
	var bytes []byte
	absent := C.uint32_t(C.BORDER_ABSENT)
	lengths := [7]C.uint32_t{absent, absent, absent, absent, absent, absent, absent}
	say := func(place int, text string) {
		lengths[place] = C.uint32_t(len(text))
		bytes = append(bytes, text...)
	}
	for place, text := range []*string{f.Bucket, f.Prefix, f.Owner, f.Source} {
		if text != nil {
			say(place, *text)
		}
	}
	if f.Key != nil {
		say(4, f.Key.Bucket)
		say(5, f.Key.Object)
		if f.Key.versioned() {
			say(6, f.Key.Version)
		}
	}
	var flags C.uint32_t
	if f.Sessions {
		flags = C.KEYLATCH_FILTER_SESSIONS
	}
	return partiesOf(C.border_list(m.handle, C.int32_t(what), (*C.char)(unsafe.Pointer(unsafe.SliceData(bytes))), &lengths[0],
		nanoseconds(f.OlderThan), C.int32_t(f.Mode), flags))
}

const (
	listHolders  = C.BORDER_HOLDERS
	listWaiters  = C.BORDER_WAITERS
	forceRelease = C.BORDER_FORCE_RELEASE
	expire       = C.BORDER_EXPIRE
)

func (m *Manager) top(by TopBy, count int) ([]Party, error) {
	raceDisable()
	defer raceEnable()
	return partiesOf(C.border_top(m.handle, C.int32_t(by), C.size_t(max(count, 0))))
}

func (m *Manager) chain(key *Key, owner handle) (parties []Party, circle bool, err error) {
	raceDisable()
	defer raceEnable()
	var one packed
	if key != nil {
		one.fill([]Item{{*key, Exclusive}})
	}
	bytes, lengths, _, _ := one.pointers()
	answer := C.border_chain(m.handle, bytes, lengths, owner)
	parties, err = partiesOf(answer)
	return parties, answer.ticket != 0, err
}

func (m *Manager) deadlocks() ([]Party, error) {
	raceDisable()
	defer raceEnable()
	return partiesOf(C.border_recent_deadlocks(m.handle))
}

func (m *Manager) lockOrders() ([]Party, uint64, error) {
	raceDisable()
	defer raceEnable()
	answer := C.border_lock_orders(m.handle)
	orders, err := partiesOf(answer)
	return orders, uint64(answer.ticket), err
}

func releaseAll(owner handle) (int, error) {
	raceDisable()
	defer raceEnable()
	answer := C.border_owner_release_all(owner)
	return int(answer.number), problem(answer)
}

func newEvents(m *Manager, o *EventOptions) (events handle, descriptor int, err error) {
	raceDisable()
	defer raceEnable()
	answer := C.border_events_new(m.handle, nanoseconds(o.WaitAbove), nanoseconds(o.HoldAbove), C.uint32_t(o.Capacity))
	if err := problem(answer); err != nil {
		return 0, -1, err
	}
	events = handle(answer.number)
	answer = C.border_events_fd(events)
	if err := problem(answer); err != nil {
		C.border_events_free(events)
		return 0, -1, err
	}
	return events, int(answer.number), nil
}

// nextEvent fetches an event that is there. closed says that none will come.
func nextEvent(events handle) (event Event, here, closed bool) {
	raceDisable()
	defer raceEnable()
	answer := C.border_events_next(events)
	if answer.status != C.KEYLATCH_OK {
		return Event{}, false, answer.status != C.KEYLATCH_EWOULDBLOCK
	}
	about, err := partiesOf(answer)
	if err != nil {
		return Event{}, false, false
	}
	return Event{Kind: EventKind(answer.ticket), About: about}, true, false
}

func droppedEvents(events handle) uint64 {
	raceDisable()
	defer raceEnable()
	return uint64(C.border_events_dropped(events))
}
func freeEvents(events handle) {
	raceDisable()
	defer raceEnable()
	C.border_events_free(events)
}

// checkLibrary fails if the library that the program runs with is not the one that the package was compiled for.
var checkLibrary = sync.OnceValue(func() error {
	var completion, party, options C.size_t
	abi := C.border_library(&completion, &party, &options)
	if abi != C.KEYLATCH_ABI_VERSION || completion != C.sizeof_keylatch_completion ||
		party < C.sizeof_keylatch_party || options < C.sizeof_keylatch_manager_options {
		return &Error{Code: ErrSystem, Message: fmt.Sprintf("this program was compiled for keylatch %s (ABI %d) and "+
			"runs with a library of another version, %s (ABI %d): install the two from one release",
			C.KEYLATCH_VERSION, C.KEYLATCH_ABI_VERSION, C.GoString(C.keylatch_version()), uint32(abi))}
	}
	return nil
})
