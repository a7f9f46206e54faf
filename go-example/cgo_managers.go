package keylatch

// Managers, queues and owners: settings on the way in, figures on the way out.

/*
#include "cgo_glue.h"
*/
import "C"

import (
	"runtime"
	"strings"
	"time"
	"unsafe"
)

func newManager(o *Options) (handle, error) {
	if err := o.check(); err != nil {
		return 0, err
	}
	options := C.keylatch_manager_options{
		struct_size:        C.sizeof_keylatch_manager_options,
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
	switch o.ReaderSlots {
	case SlotsOn:
		options.flags |= C.KEYLATCH_MANAGER_READER_SLOTS
	case SlotsOff:
		options.flags |= C.KEYLATCH_MANAGER_NO_READER_SLOTS
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
	var manager *C.keylatch_manager
	err := checked(func() C.int32_t { return C.keylatch_manager_new(&options, &manager) })
	return handleOf(unsafe.Pointer(manager)), err
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
	var pins runtime.Pinner
	defer pins.Unpin()
	options := C.keylatch_owner_options{struct_size: C.sizeof_keylatch_owner_options, flags: C.uint32_t(flags)}
	options.source, options.source_len = pinned(&pins, source)
	bytes, length := bytesOf(name)
	var owner *C.keylatch_owner
	err := checked(func() C.int32_t { return C.keylatch_owner_new(m.locks(), bytes, length, &options, &owner) })
	return handleOf(unsafe.Pointer(owner)), err
}

func newPin(m *Manager, key *Key) (handle, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	native := pinnedKey(&pins, key)
	var pin *C.keylatch_pinned_key
	err := checked(func() C.int32_t { return C.keylatch_pin(m.locks(), &native, &pin) })
	return handleOf(unsafe.Pointer(pin)), err
}

func unpin(pin handle) {
	raceDisable()
	defer raceEnable()
	C.keylatch_unpin((*C.keylatch_pinned_key)(pointer(pin)))
}

func newQueue(m *Manager) (queue handle, descriptor int, err error) {
	var made *C.keylatch_queue
	if err := checked(func() C.int32_t { return C.keylatch_queue_new(m.locks(), &made) }); err != nil {
		return 0, -1, err
	}
	var fd C.int32_t
	err = checked(func() C.int32_t { return C.keylatch_queue_fd(made, &fd) })
	return handleOf(unsafe.Pointer(made)), int(fd), err
}

func (m *Manager) close() {
	raceDisable()
	defer raceEnable()
	C.keylatch_manager_close(m.locks())
}

func (m *Manager) free() {
	raceDisable()
	defer raceEnable()
	C.keylatch_manager_free(m.locks())
}

func (m *Manager) freeQueue() {
	raceDisable()
	defer raceEnable()
	C.keylatch_queue_free((*C.keylatch_queue)(pointer(m.queue)))
}

func freeOwner(owner handle) {
	raceDisable()
	defer raceEnable()
	C.keylatch_owner_free((*C.keylatch_owner)(pointer(owner)))
}

func releaseAll(owner handle) (int, error) {
	var count C.size_t
	err := checked(func() C.int32_t { return C.keylatch_owner_release_all((*C.keylatch_owner)(pointer(owner)), &count) })
	return int(count), err
}

func (m *Manager) figures(shard uint32) (Metrics, error) {
	from := C.keylatch_metrics{struct_size: C.sizeof_keylatch_metrics}
	err := checked(func() C.int32_t { return C.keylatch_manager_metrics(m.locks(), C.uint32_t(shard), &from) })
	if err != nil {
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
	// The header says that there are no more.
	var from [64]C.keylatch_wait_bucket
	var count C.size_t
	err := checked(func() C.int32_t {
		return C.keylatch_manager_wait_times(m.locks(), C.uint32_t(shard), &from[0], C.size_t(len(from)), &count)
	})
	if err != nil {
		return nil, err
	}
	buckets := make([]WaitBucket, count)
	for i := range buckets {
		buckets[i] = WaitBucket{Below: duration(uint64(from[i].below_ns)), Waits: uint64(from[i].waits)}
	}
	return buckets, nil
}

func (m *Manager) verdict() (Health, error) {
	from := C.keylatch_health{struct_size: C.sizeof_keylatch_health}
	problems, err := taken(func(text **C.char) C.int32_t { return C.keylatch_manager_health(m.locks(), &from, text) })
	if err != nil {
		return Health{}, err
	}
	health := Health{
		Healthy: from.healthy != 0, FastPathRate: float64(from.fast_path_rate),
		TimeoutRate: float64(from.timeout_rate), AverageWait: duration(uint64(from.avg_wait_ns)),
	}
	if problems != "" {
		health.Problems = strings.Split(strings.TrimSuffix(problems, "\n"), "\n")
	}
	return health, nil
}

func (m *Manager) adaptive() (Adaptive, bool, error) {
	from := C.keylatch_adaptive{struct_size: C.sizeof_keylatch_adaptive}
	err := checked(func() C.int32_t { return C.keylatch_manager_adaptive(m.locks(), &from) })
	if Is(err, atEnd) {
		return Adaptive{}, false, nil
	}
	if err != nil {
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
	return taken(func(text **C.char) C.int32_t {
		if withKeys {
			return C.keylatch_manager_openmetrics_with_keys(m.locks(), text)
		}
		return C.keylatch_manager_openmetrics(m.locks(), text)
	})
}

func (m *Manager) report() (string, error) {
	return taken(func(text **C.char) C.int32_t { return C.keylatch_manager_report(m.locks(), text) })
}

// taken asks for a text, copies it and gives it back.
func taken(ask func(text **C.char) C.int32_t) (string, error) {
	var text *C.char
	if err := checked(func() C.int32_t { return ask(&text) }); err != nil {
		return "", err
	}
	return copied(text), nil
}
