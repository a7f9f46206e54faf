package keylatch

import (
	"context"
	"time"
)

// EventKind is what happened. Later versions may know more.
type EventKind int32

const (
	// SlowWait says that a wait that took long has ended. About who waited.
	SlowWait EventKind = 1
	// SlowHold says that a lock that was held for long has been released. About who held it.
	SlowHold EventKind = 2
	// TimedOut says that a request gave up because its time was over. About who waited, then those who held the lock at
	// that moment.
	TimedOut EventKind = 3
	// Deadlocked says that sessions waited for each other in a circle. About these, beginning with the one that had to
	// give way.
	Deadlocked EventKind = 4
	// Expired says that a lease ran out and the lock was taken away. About who had held it.
	Expired EventKind = 5
	// Forced says that a lock was released by force. About who had held it.
	Forced EventKind = 6
	// OrdersGoRound says that sessions took locks in orders that can become a deadlock ([Options.LockOrder]). About these,
	// as in [Manager.LockOrders].
	OrdersGoRound EventKind = 7
)

// Event is something worth telling.
type Event struct {
	Kind EventKind
	// About has first whom it happened to.
	About []Party
	// Dropped is how many events of this subscription were lost until now, because the program was too slow to take
	// them.
	Dropped uint64
}

// EventOptions say which events a subscriber receives. Timeouts, deadlocks and locks that were taken away are always
// among them.
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
	if err := ctx.Err(); err != nil {
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
