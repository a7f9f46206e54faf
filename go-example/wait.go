package keylatch

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// How a goroutine waits. A request that has to wait is left in line inside the library under a ticket,
// and its goroutine parks on a channel. Its result is put into a queue whose descriptor Go's network poller watches.
//
// A goroutine that releases a lock while another is parked looks into the queue as well, and delivers what lies there:
// that spares the way through the poller in most cases, and the poller is there for all others (a timeout, or a lock
// that ran out).
//
// A result may be fetched before the goroutine that it is for has noted its ticket: it is kept until then.

// When a crowd waits for one key, every call about that key takes a mutex inside the library for a moment. If the
// system takes the processor from the owner of that mutex, every other thread inside sleeps there, and Go starts a
// thread for each. So once a crowd waits, few goroutines are let in at a time: the others wait where that costs no
// thread.
const (
	crowd     = 32
	gateWidth = 8
)

func (m *Manager) enter() (gated bool) {
	if m.parked.Load() < crowd {
		return false
	}
	m.gate <- struct{}{}
	return true
}

func (m *Manager) leave(gated bool) {
	if gated {
		<-m.gate
	}
}

// releaseAndDeliver releases a lock while goroutines wait.
func (m *Manager) releaseAndDeliver(grant Grant) error {
	gated := m.enter()
	defer m.leave(gated)
	if err := m.release(grant); err != nil {
		return err
	}
	m.deliver()
	return nil
}

// waiter is a goroutine that waits for a result.
type waiter struct {
	// came has room for the result, so that delivering never waits.
	came chan outcome
}

var waiters = sync.Pool{New: func() any { return &waiter{came: make(chan outcome, 1)} }}

// ended tells why a request may not begin: its context is over, or there is none.
func ended(ctx context.Context) error {
	if ctx == nil {
		return &Error{Code: ErrInvalidArgument, Message: "the context is nil; pass context.Background() to wait without an end"}
	}
	return ctx.Err()
}

// await waits for the result of a request. If ctx ends in the same moment in which the request is granted, giveBack undoes
// that.
func (m *Manager) await(ctx context.Context, ticket uint64, giveBack func(Grant) error) outcome {
	m.mutex.Lock()
	if came, here := m.early[ticket]; here {
		delete(m.early, ticket)
		m.mutex.Unlock()
		return came
	}
	if m.waiting == nil {
		// Its result went with the queue, which released the lock if it was one.
		m.mutex.Unlock()
		return outcome{err: ErrClosed}
	}
	w := waiters.Get().(*waiter)
	m.waiting[ticket] = w
	m.mutex.Unlock()
	m.parked.Add(1)
	came := m.outcome(ctx, ticket, w, giveBack)
	m.parked.Add(-1)
	waiters.Put(w)
	return came
}

func (m *Manager) outcome(ctx context.Context, ticket uint64, w *waiter, giveBack func(Grant) error) outcome {
	done := ctx.Done()
	if done == nil {
		return <-w.came
	}
	select {
	case came := <-w.came:
		return came
	case <-done:
	}
	m.cancel(ticket)
	// What is cancelled has a result like everything else, so nothing of this request is left behind in any case.
	m.deliver()
	if came := <-w.came; came.err == nil && giveBack(came.grant) == nil {
		// The next in line has it now.
		m.deliver()
	}
	return outcome{err: ctx.Err()}
}

// deliver hands over the results that lie in the queue. It never has enough.
func (m *Manager) deliver() (enough bool) {
	m.deliverBy(m.handOver)
	return false
}

func (m *Manager) deliverBy(handOver func(ticket uint64, came outcome)) {
	m.fetching.RLock()
	defer m.fetching.RUnlock()
	for m.fetch(handOver) {
	}
}

func (m *Manager) handOver(ticket uint64, came outcome) {
	m.mutex.Lock()
	w, here := m.waiting[ticket]
	if here {
		delete(m.waiting, ticket)
	} else {
		m.early[ticket] = came
	}
	m.mutex.Unlock()
	if here {
		w.came <- came
	}
}

// bell is a descriptor of the library's that is readable when there is something to fetch, in Go's poller.
type bell struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{}
}

// newBell watches a descriptor, which stays the library's.
func newBell(descriptor int) (*bell, error) {
	// A number of its own, so that closing this end leaves the library's open.
	own, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(descriptor), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return nil, &Error{Code: ErrSystem, Message: fmt.Sprintf("no descriptor for a completion queue: %v", errno)}
	}
	file := os.NewFile(own, "keylatch completions")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, &Error{Code: ErrSystem, Message: fmt.Sprintf("no descriptor for a completion queue: %v", err)}
	}
	return &bell{file: file, raw: raw, done: make(chan struct{})}, nil
}

// listen calls ready whenever the descriptor may have become readable, until that has had enough or the bell is closed.
func (b *bell) listen(ready func() (enough bool)) {
	defer close(b.done)
	_ = b.raw.Read(func(uintptr) bool { return ready() })
}

// close stops listening, and waits until that has stopped. Any number may call it.
func (b *bell) close() {
	b.file.Close()
	<-b.done
}
