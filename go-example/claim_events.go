package keylatch

import (
	"context"
	"fmt"
	"sync"
)

// ClaimEventID is the place of an event in the sequence of its resource. The zero ClaimEventID is none.
type ClaimEventID struct {
	// Epoch tells claims that were started anew apart.
	Epoch uint64
	// Sequence counts without gaps.
	Sequence uint64
}

// String is the id as every language writes it.
func (id ClaimEventID) String() string { return fmt.Sprintf("%d-%d", id.Epoch, id.Sequence) }

// ClaimEventKind says what happened.
type ClaimEventKind int32

const (
	// ClaimReset says that the events up to this one are not kept; the event has the state after it: Owner, Number, Fence,
	// Attempt, Done and Total if the work has an owner, Waiting, and Succeeded and Text if HasOutcome.
	ClaimReset ClaimEventKind = 1
	// ClaimGranted says that a request became the owner: Owner, Number, Fence, Attempt.
	ClaimGranted ClaimEventKind = 2
	// ClaimFailure says that an attempt failed: Fence; Text is the reason; Number is that of the request that owns the
	// work now, or 0.
	ClaimFailure ClaimEventKind = 3
	// ClaimOutcome says that the work has an outcome: Owner, Fence, Attempt, Succeeded, Text.
	ClaimOutcome ClaimEventKind = 4
	// ClaimProgressed says that the owner reported how far it is: Fence, Done, Total; Text is the address.
	ClaimProgressed ClaimEventKind = 5
	// ClaimForgotten says that the outcome is no longer retained.
	ClaimForgotten ClaimEventKind = 6
)

var claimEvents = [...]string{"", "reset", "granted", "failed", "done", "progress", "forgotten"}

// String is the word for it, the same in every language.
func (k ClaimEventKind) String() string {
	if k > 0 && int(k) < len(claimEvents) {
		return claimEvents[k]
	}
	return fmt.Sprintf("ClaimEventKind(%d)", int32(k))
}

// ClaimEvent is an event of a resource.
type ClaimEvent struct {
	Kind ClaimEventKind
	// ID is one more than that of the event before.
	ID          ClaimEventID
	Owner, Text string
	Number      uint64
	Fence       uint64
	Attempt     uint32
	Done, Total uint64
	Waiting     uint64
	HasOutcome  bool
	Succeeded   bool
}

// ClaimWatch is a subscription to the events of a resource; [Claims.Watch] makes it. One goroutine at a time reads it.
// However slow it is, no event is lost unnoticed: when the next one is no longer kept it gets one ClaimReset.
type ClaimWatch struct {
	handle  claimWatch
	bell    *bell
	ready   chan struct{}
	closing sync.Once
	closed  chan struct{}
	last    ClaimEventID
}

// Watch subscribes to the events of a resource: those after one that was seen before, or a ClaimReset and all after it.
func (c *Claims) Watch(key Key, after ClaimEventID) (*ClaimWatch, error) {
	if err := c.none(); err != nil {
		return nil, err
	}
	made, descriptor, err := newClaimWatch(c.handle, &key, after)
	w := &ClaimWatch{handle: made, ready: make(chan struct{}, 1), closed: make(chan struct{}), last: after}
	if err == nil {
		w.bell, err = newBell(descriptor)
	}
	if err != nil {
		if made != nil {
			freeClaimWatch(made)
		}
		return nil, err
	}
	go w.bell.listen(w.notice)
	return w, nil
}

// notice remembers that there may be an event. It never has enough.
func (w *ClaimWatch) notice() (enough bool) {
	select {
	case w.ready <- struct{}{}:
	default:
	}
	return false
}

// TryNext is the next event, if there is one.
func (w *ClaimWatch) TryNext() (event ClaimEvent, here bool, err error) {
	select {
	case <-w.closed:
		return ClaimEvent{}, false, ErrClosed
	default:
	}
	event, here, err = fetchClaimEvent(w.handle)
	if here {
		w.last = event.ID
	}
	return event, here, err
}

// Next waits for the next event. It fails with [ErrClosed] when there will be no more.
func (w *ClaimWatch) Next(ctx context.Context) (ClaimEvent, error) {
	if ctx == nil {
		return ClaimEvent{}, ended(ctx)
	}
	for {
		if event, here, err := w.TryNext(); here || err != nil {
			return event, err
		}
		select {
		case <-w.ready:
		case <-w.closed:
		case <-ctx.Done():
			return ClaimEvent{}, ctx.Err()
		}
	}
}

// Last is the id of the event fetched last, to go on from with [Claims.Watch].
func (w *ClaimWatch) Last() ClaimEventID { return w.last }

// Close ends the subscription. Closing again does nothing.
func (w *ClaimWatch) Close() error {
	w.closing.Do(func() {
		close(w.closed)
		w.bell.close()
		freeClaimWatch(w.handle)
	})
	return nil
}
