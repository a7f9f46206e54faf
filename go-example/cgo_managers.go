package keylatch

// Managers, queues and owners: settings on the way in, figures on the way out.

/*
#include "cgo_glue.h"
#include <stdlib.h>

#cgo nocallback glue_free
#cgo nocallback glue_manager_new
#cgo nocallback glue_manager_close
#cgo nocallback glue_manager_free
#cgo noescape glue_owner_new
#cgo nocallback glue_owner_new
#cgo nocallback glue_owner_free
#cgo nocallback glue_queue_new
#cgo nocallback glue_queue_fd
#cgo nocallback glue_queue_free
#cgo noescape glue_metrics
#cgo nocallback glue_metrics
#cgo noescape glue_wait_times
#cgo nocallback glue_wait_times
#cgo noescape glue_health
#cgo nocallback glue_health
#cgo nocallback glue_openmetrics
#cgo nocallback glue_report
#cgo nocallback glue_text_free
#cgo noescape glue_adaptive
#cgo nocallback glue_adaptive
#cgo nocallback glue_owner_release_all
*/
import "C"

import (
	"strings"
	"time"
	"unsafe"
)

func newManager(o *Options) (handle, error) {
	if err := o.check(); err != nil {
		return 0, err
	}
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
		health_window_ns:   nanoseconds(o.HealthWindow),
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
	if o.SharedMemory != "" {
		path := C.CString(o.SharedMemory)
		defer C.free(unsafe.Pointer(path))
		options.shared_memory = path
	}
	if o.Etcd != "" {
		options.etcd = C.CString(o.Etcd)
		defer C.free(unsafe.Pointer(options.etcd))
		options.etcd_options = etcdOptions(&o.EtcdOptions)
		defer freeEtcdOptions(options.etcd_options)
	}
	answer := C.glue_manager_new(options)
	return handle(answer.number), problem(answer)
}

// etcdOptions is a copy in C's memory, for freeEtcdOptions.
func etcdOptions(o *EtcdOptions) *C.keylatch_etcd_options {
	native := (*C.keylatch_etcd_options)(C.malloc(C.sizeof_keylatch_etcd_options))
	*native = C.keylatch_etcd_options{
		struct_size:        C.sizeof_keylatch_etcd_options,
		ttl_ns:             nanoseconds(o.TTL),
		connect_timeout_ns: nanoseconds(o.ConnectTimeout),
	}
	texts := []string{o.Namespace, o.CAFile, o.CertificateFile, o.KeyFile, o.ServerName, o.User, o.Password, o.Label}
	for i, place := range etcdTexts(native) {
		if texts[i] != "" {
			*place = C.CString(texts[i])
		}
	}
	return native
}

func etcdTexts(o *C.keylatch_etcd_options) []**C.char {
	return []**C.char{
		&o.namespace_name, &o.ca_file, &o.certificate_file, &o.key_file, &o.server_name, &o.user, &o.password, &o.label,
	}
}

func freeEtcdOptions(o *C.keylatch_etcd_options) {
	for _, place := range etcdTexts(o) {
		C.free(unsafe.Pointer(*place))
	}
	C.free(unsafe.Pointer(o))
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
	answer := C.glue_owner_new(m.handle, nameBytes, nameLen, sourceBytes, sourceLen, C.uint32_t(flags))
	return handle(answer.number), problem(answer)
}

func newPin(m *Manager, key *Key) (handle, error) {
	raceDisable()
	defer raceEnable()
	bucket, bucketLen := bytesOf(key.Bucket)
	object, objectLen := bytesOf(key.Object)
	version, versionLen := bytesOf(key.Version)
	answer := C.glue_pin(m.handle, bucket, bucketLen, object, objectLen, version, versionLen, modeBits(key, Exclusive))
	return handle(answer.number), problem(answer)
}

func unpin(pin handle) {
	raceDisable()
	defer raceEnable()
	C.glue_unpin(pin)
}

func newQueue(manager handle) (queue handle, descriptor int, err error) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_queue_new(manager)
	if err := problem(answer); err != nil {
		return 0, -1, err
	}
	queue = handle(answer.number)
	answer = C.glue_queue_fd(queue)
	return queue, int(answer.number), problem(answer)
}

func closeManager(manager handle) {
	raceDisable()
	defer raceEnable()
	C.glue_manager_close(manager)
}

func freeManager(manager handle) {
	raceDisable()
	defer raceEnable()
	C.glue_manager_free(manager)
}

func freeQueue(queue handle) {
	raceDisable()
	defer raceEnable()
	C.glue_queue_free(queue)
}

func freeOwner(owner handle) {
	raceDisable()
	defer raceEnable()
	C.glue_owner_free(owner)
}

func releaseAll(owner handle) (int, error) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_owner_release_all(owner)
	return int(answer.number), problem(answer)
}

func (m *Manager) figures(shard uint32) (Metrics, error) {
	raceDisable()
	defer raceEnable()
	var from C.keylatch_metrics
	if err := problem(C.glue_metrics(m.handle, C.uint32_t(shard), &from)); err != nil {
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
		Deadlocks: uint64(from.deadlocks), Bytes: uint64(from.bytes), Uptime: duration(uint64(from.uptime_ns)),
	}, nil
}

func (m *Manager) waitTimes(shard uint32) ([]WaitBucket, error) {
	raceDisable()
	defer raceEnable()
	var from [C.GLUE_BUCKETS]C.keylatch_wait_bucket
	answer := C.glue_wait_times(m.handle, C.uint32_t(shard), &from[0])
	if err := problem(answer); err != nil {
		return nil, err
	}
	buckets := make([]WaitBucket, answer.number)
	for i := range buckets {
		buckets[i] = WaitBucket{Below: duration(uint64(from[i].below_ns)), Waits: uint64(from[i].waits)}
	}
	return buckets, nil
}

func (m *Manager) verdict() (Health, error) {
	raceDisable()
	defer raceEnable()
	var from C.keylatch_health
	answer := C.glue_health(m.handle, &from)
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
	answer := C.glue_adaptive(m.handle, &from)
	if answer.status == C.KEYLATCH_EEND {
		C.glue_free(answer.failure)
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

func (m *Manager) openMetrics(withKeys bool) (string, error) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_openmetrics(m.handle, C.bool(withKeys))
	return takeText(answer), problem(answer)
}

func (m *Manager) report() (string, error) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_report(m.handle)
	return takeText(answer), problem(answer)
}

// takeText copies a text of the library's and gives it back.
func takeText(answer C.glue_answer) string {
	raceDisable()
	defer raceEnable()
	if answer.status != C.KEYLATCH_OK || answer.number == 0 {
		return ""
	}
	text := C.uintptr_t(answer.number)
	defer C.glue_text_free(text)
	return C.GoString((*C.char)(pointer(text)))
}
