package keylatch

import (
	"context"
	"errors"
	"time"
)

// How a request of a session that is made again while it waits gets the same answer. Only one of them can be in line,
// because the library tells each result to one; the others wait here until that one has ended, and ask then: they get the
// grant that it got, or wait for one themselves if it got none.

// numbered is a request of a session that has a number.
type numbered struct {
	session *Owner
	id      uint64
}

// askOnce asks for a lock by a request that has a number.
func (m *Manager) askOnce(ctx context.Context, key *Key, mode Mode, r *request) outcome {
	number, mine, began := numbered{r.owner, r.id}, *r, time.Now()
	var limit time.Duration
	var limited bool
	var late <-chan time.Time
	for again := false; ; again = true {
		over, first := m.beginAsking(number)
		if first {
			defer m.endAsking(number, over)
			if again && limited {
				// What is left of the time is for its own wait.
				mine.timeout = uint64(max(limit-time.Since(began), 0))
			}
			return m.ask(ctx, key, mode, &mine)
		}
		if !again {
			if limit, limited = m.limit(r.timeout); limited {
				timer := time.NewTimer(limit)
				defer timer.Stop()
				late = timer.C
			}
		}
		select {
		case <-over:
		case <-late:
			return m.askLate(key, mode, r, began)
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil {
			return outcome{err: err}
		}
	}
}

// beginAsking returns nil if no other caller asks by this number, and otherwise what is closed when that call has
// ended.
func (m *Manager) beginAsking(number numbered) (over chan struct{}, first bool) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if over, others := m.asking[number]; others {
		return over, false
	}
	if m.asking == nil {
		m.asking = make(map[numbered]chan struct{})
	}
	over = make(chan struct{})
	m.asking[number] = over
	return over, true
}

func (m *Manager) endAsking(number numbered, over chan struct{}) {
	m.mutex.Lock()
	delete(m.asking, number)
	m.mutex.Unlock()
	close(over)
}

// limit is how long a request waits at most.
func (m *Manager) limit(timeout uint64) (limit time.Duration, limited bool) {
	if timeout < waitDefault {
		return duration(timeout), true
	}
	if timeout == waitForever {
		return 0, false
	}
	if learned, learning, err := m.adaptive(); err == nil && learning {
		return learned.Timeout, true
	}
	return m.defaultTimeout, m.defaultTimeout > 0
}

// askLate asks once more when the time is over: the refusal names the holders.
func (m *Manager) askLate(key *Key, mode Mode, r *request, began time.Time) outcome {
	came := m.try(key, mode, r)
	var failure *Error
	if errors.As(came.err, &failure) && failure.Code == ErrWouldBlock {
		failure.Code, failure.Waited = ErrTimeout, time.Since(began)
	}
	return came
}
