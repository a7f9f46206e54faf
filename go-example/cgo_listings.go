package keylatch

// Holders and waiters, revoking locks, and events.

/*
#include "cgo_glue.h"

#cgo noescape glue_list
#cgo nocallback glue_list
#cgo nocallback glue_top
#cgo noescape glue_chain
#cgo nocallback glue_chain
#cgo nocallback glue_recent_deadlocks
#cgo nocallback glue_lock_orders
#cgo nocallback glue_events_new
#cgo nocallback glue_events_fd
#cgo nocallback glue_events_next
#cgo nocallback glue_events_dropped
#cgo nocallback glue_events_free
*/
import "C"

import (
	"unsafe"
)

const (
	listHolders  = C.GLUE_HOLDERS
	listWaiters  = C.GLUE_WAITERS
	forceRelease = C.GLUE_FORCE_RELEASE
	expire       = C.GLUE_EXPIRE
)

func (m *Manager) list(what int, f *Filter) (entries, error) {
	if f.Mode != 0 {
		if err := f.Mode.known(); err != nil {
			return entries{}, err
		}
	}
	raceDisable()
	defer raceEnable()
	var bytes []byte
	absent := C.uint32_t(C.GLUE_ABSENT)
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
	if f.All {
		flags |= C.KEYLATCH_FILTER_ALL
	}
	return entriesOf(C.glue_list(m.handle, C.int32_t(what), (*C.char)(unsafe.Pointer(unsafe.SliceData(bytes))), &lengths[0],
		nanoseconds(f.OlderThan), C.int32_t(f.Mode), flags))
}

func (m *Manager) top(by TopBy, count int) ([]TopKey, error) {
	raceDisable()
	defer raceEnable()
	found, err := entriesOf(C.glue_top(m.handle, C.int32_t(by), C.size_t(max(count, 0))))
	return found.keys, err
}

func (m *Manager) chain(key *Key, owner handle) (links []ChainLink, circle bool, err error) {
	raceDisable()
	defer raceEnable()
	var one packed
	if key != nil {
		one.fill([]Item{{*key, Exclusive}})
	}
	bytes, head := one.pointers()
	answer := C.glue_chain(m.handle, bytes, head, owner)
	found, err := entriesOf(answer)
	return found.links, answer.ticket != 0, err
}

func (m *Manager) deadlocks() ([]ChainLink, error) {
	raceDisable()
	defer raceEnable()
	found, err := entriesOf(C.glue_recent_deadlocks(m.handle))
	return found.links, err
}

func (m *Manager) lockOrders() ([]ChainLink, uint64, error) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_lock_orders(m.handle)
	found, err := entriesOf(answer)
	return found.links, uint64(answer.ticket), err
}

func newEvents(m *Manager, o *EventOptions) (events handle, descriptor int, err error) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_events_new(m.handle, nanoseconds(o.WaitAbove), nanoseconds(o.HoldAbove), C.uint32_t(o.Capacity))
	if err := problem(answer); err != nil {
		return 0, -1, err
	}
	events = handle(answer.number)
	answer = C.glue_events_fd(events)
	if err := problem(answer); err != nil {
		C.glue_events_free(events)
		return 0, -1, err
	}
	return events, int(answer.number), nil
}

// nextEvent fetches an event that is there. closed says that none will come.
func nextEvent(events handle) (event Event, here, closed bool) {
	raceDisable()
	defer raceEnable()
	answer := C.glue_events_next(events)
	if answer.status != C.KEYLATCH_OK {
		return Event{}, false, answer.status != C.KEYLATCH_EWOULDBLOCK
	}
	about, err := entriesOf(answer)
	if err != nil {
		return Event{}, false, false
	}
	event = Event{Kind: EventKind(answer.ticket), Holders: about.holders, Links: about.links}
	if len(about.waiters) > 0 {
		event.Waiter = &about.waiters[0]
	}
	return event, true, false
}

func droppedEvents(events handle) uint64 {
	raceDisable()
	defer raceEnable()
	return uint64(C.glue_events_dropped(events))
}

func freeEvents(events handle) {
	raceDisable()
	defer raceEnable()
	C.glue_events_free(events)
}
