package keylatch

// Holders and waiters, revoking locks, and events.

/*
#include "cgo_glue.h"
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// question is what is asked with a filter.
type question int

const (
	listHolders question = iota
	listWaiters
	forceRelease
	expire
)

func (m *Manager) list(what question, f *Filter) (entries, error) {
	if f.Mode != 0 {
		if err := f.Mode.known(); err != nil {
			return entries{}, err
		}
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	filter := C.keylatch_filter{
		struct_size:   C.sizeof_keylatch_filter,
		older_than_ns: nanoseconds(f.OlderThan),
		mode:          C.int32_t(f.Mode),
	}
	if f.Bucket != nil {
		at, length := pinned(&pins, *f.Bucket)
		filter.bucket, filter.bucket_len = unsafe.Pointer(at), length
	}
	if f.Prefix != nil {
		at, length := pinned(&pins, *f.Prefix)
		filter.prefix, filter.prefix_len = unsafe.Pointer(at), length
	}
	if f.Owner != nil {
		filter.owner, filter.owner_len = pinned(&pins, *f.Owner)
	}
	if f.Source != nil {
		filter.source, filter.source_len = pinned(&pins, *f.Source)
	}
	if f.Key != nil {
		of := pinnedKey(&pins, f.Key)
		pins.Pin(&of)
		filter.key = &of
	}
	if f.Sessions {
		filter.flags |= C.KEYLATCH_FILTER_SESSIONS
	}
	if f.All {
		filter.flags |= C.KEYLATCH_FILTER_ALL
	}
	return listed(func(listing **C.keylatch_listing) C.int32_t {
		switch what {
		case listHolders:
			return C.keylatch_holders(m.locks(), &filter, listing)
		case listWaiters:
			return C.keylatch_waiters(m.locks(), &filter, listing)
		case forceRelease:
			return C.keylatch_force_release(m.locks(), &filter, nil, listing)
		default:
			return C.keylatch_expire(m.locks(), &filter, nil, listing)
		}
	})
}

func (m *Manager) tierHolds(key *Key) ([]TierHold, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	of := optional(&pins, key)
	found, err := listed(func(listing **C.keylatch_listing) C.int32_t {
		return C.keylatch_tier_holds(m.locks(), of, listing)
	})
	return found.tier, err
}

func (m *Manager) top(by TopBy, count int) ([]TopKey, error) {
	found, err := listed(func(listing **C.keylatch_listing) C.int32_t {
		return C.keylatch_top(m.locks(), C.int32_t(by), C.size_t(max(count, 0)), listing)
	})
	return found.keys, err
}

func (m *Manager) chain(key *Key, owner handle) (links []ChainLink, circle bool, err error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	from := optional(&pins, key)
	var round C.int32_t
	found, err := listed(func(listing **C.keylatch_listing) C.int32_t {
		return C.keylatch_blocking_chain(m.locks(), from, (*C.keylatch_owner)(pointer(owner)), &round, listing)
	})
	return found.links, round != 0, err
}

func (m *Manager) deadlocks() ([]ChainLink, error) {
	found, err := listed(func(listing **C.keylatch_listing) C.int32_t {
		return C.keylatch_recent_deadlocks(m.locks(), listing)
	})
	return found.links, err
}

func (m *Manager) lockOrders() ([]ChainLink, uint64, error) {
	var reported C.uint64_t
	found, err := listed(func(listing **C.keylatch_listing) C.int32_t {
		return C.keylatch_lock_orders(m.locks(), &reported, listing)
	})
	return found.links, uint64(reported), err
}

// subscription is the library's side of a channel of events.
type subscription = *C.keylatch_events

func newEvents(m *Manager, o *EventOptions) (events subscription, descriptor int, err error) {
	options := C.keylatch_event_options{
		struct_size:   C.sizeof_keylatch_event_options,
		wait_above_ns: nanoseconds(o.WaitAbove),
		hold_above_ns: nanoseconds(o.HoldAbove),
		capacity:      C.uint32_t(o.Capacity),
	}
	if err := checked(func() C.int32_t { return C.keylatch_events_new(m.locks(), &options, &events) }); err != nil {
		return nil, -1, err
	}
	var fd C.int32_t
	if err := checked(func() C.int32_t { return C.keylatch_events_fd(events, &fd) }); err != nil {
		freeEvents(events)
		return nil, -1, err
	}
	return events, int(fd), nil
}

// nextEvent fetches an event that is there. closed says that none will come.
func nextEvent(events subscription) (event Event, here, closed bool) {
	raceDisable()
	defer raceEnable()
	var kind C.int32_t
	var about *C.keylatch_listing
	if status := C.keylatch_events_next(events, 0, &kind, &about); status != C.KEYLATCH_OK {
		return Event{}, false, status != C.KEYLATCH_EWOULDBLOCK
	}
	found := entriesOf(about)
	event = Event{Kind: EventKind(kind), Holders: found.holders, Links: found.links}
	if len(found.waiters) > 0 {
		event.Waiter = &found.waiters[0]
	}
	return event, true, false
}

func droppedEvents(events subscription) uint64 {
	raceDisable()
	defer raceEnable()
	var dropped C.uint64_t
	C.keylatch_events_dropped(events, &dropped)
	return uint64(dropped)
}

func freeEvents(events subscription) {
	raceDisable()
	defer raceEnable()
	C.keylatch_events_free(events)
}
