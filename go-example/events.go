package keylatch

import (
	"context"
	"time"
)

// EventKind is what happened. Later versions may know more.
type EventKind int32

const (
	// SlowWait says that a wait that took long has ended: Waiter's.
	SlowWait EventKind = 1
	// SlowHold says that a lock that was held for long has been released: by Holders[0].
	SlowHold EventKind = 2
	// TimedOut says that a request, Waiter, gave up because its time was over. Holders held the lock at that moment.
	TimedOut EventKind = 3
	// Deadlocked says that sessions waited for each other. Links has them, beginning with the victim.
	Deadlocked EventKind = 4
	// Expired says that a lease ran out and the lock was revoked. Holders[0] lost it.
	Expired EventKind = 5
	// Forced says that a lock was revoked by force. Holders[0] lost it.
	Forced EventKind = 6
	// OrdersGoRound says that sessions took locks in orders that can become a deadlock ([Options.LockOrder]). Links is as
	// in [Manager.LockOrders].
	OrdersGoRound EventKind = 7
)

// Event is something that happened to the locks of a manager.
type Event struct {
	Kind EventKind
	// Waiter is the request that waited, of SlowWait and TimedOut.
	Waiter *Waiter
	// Holders are the holders that the event is about.
	Holders []Holder
	// Links are the sessions of a deadlock, or of lock orders that contradict each other.
	Links []ChainLink
	// Dropped is how many events of this subscription were lost until now, because the program was too slow to take
	// them.
	Dropped uint64
}

// EventOptions say which events a subscriber receives. Timeouts, deadlocks and revoked locks are always among them.
type EventOptions struct {
	// WaitAbove reports waits of at least this duration. Default: none.
	WaitAbove time.Duration
	// HoldAbove reports holds of at least this duration. Default: none. This is the only setting that costs those who
	// do not wait: while it is set, every request reads the clock and takes a mutex.
	HoldAbove time.Duration
	// Capacity is how many events are kept until they are taken. Default 1024.
	Capacity uint32
}

// Events subscribes to what happens from now on, until ctx ends or the manager is closed; then the channel is closed.
// What happened before the manager was closed is still delivered, so a caller that stops reading ends ctx: otherwise a
// goroutine waits for a reader for ever.
func (m *Manager) Events(ctx context.Context, options EventOptions) (<-chan Event, error) {
	if m.closed.Load() {
		return nil, ErrClosed
	}
	if err := ended(ctx); err != nil {
		return nil, err
	}
	if err := negative(setting{"WaitAbove", options.WaitAbove}, setting{"HoldAbove", options.HoldAbove}); err != nil {
		return nil, err
	}
	events, descriptor, err := newEvents(m, &options)
	if err != nil {
		return nil, err
	}
	bell, err := newBell(descriptor)
	if err != nil {
		freeEvents(events)
		return nil, err
	}
	delivered := make(chan Event)
	go func() {
		defer close(delivered)
		defer freeEvents(events)
		bell.listen(func() (enough bool) {
			for {
				event, here, closed := nextEvent(events)
				if !here {
					return closed
				}
				event.Dropped = droppedEvents(events)
				select {
				case delivered <- event:
				case <-ctx.Done():
					return true
				}
			}
		})
	}()
	stop := context.AfterFunc(ctx, bell.close)
	go func() {
		<-bell.done
		stop()
		bell.close()
	}()
	return delivered, nil
}
