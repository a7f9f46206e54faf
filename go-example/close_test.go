package keylatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

func TestCloseEndsEverything(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	held := must(m.Lock(background, key))(t)
	batch := must(m.LockMany(background, []Item{{Key{Bucket: "c"}, Shared}}))(t)
	owner := must(m.Owner("o"))(t)
	results := make(chan error)
	for range 10 {
		go func() {
			_, err := m.Lock(background, key)
			results <- err
		}()
	}
	waits(t, m, 10)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { m.Close() })
	}
	for range 10 {
		wants(t, <-results, ErrClosed)
	}
	group.Wait()
	_, err := m.Lock(background, key)
	wants(t, err, ErrClosed)
	_, err = m.TryRLock(key)
	wants(t, err, ErrClosed)
	_, err = m.LockMany(background, []Item{{key, Shared}})
	wants(t, err, ErrClosed)
	_, err = m.Session("s")
	wants(t, err, ErrClosed)
	_, err = m.Events(background, EventOptions{})
	wants(t, err, ErrClosed)
	// What is held stays held.
	if found := must(m.Holders(Filter{}))(t); len(found) != 2 || !held.Valid() {
		t.Fatalf("%+v hold", found)
	}
	ok(t, held.Downgrade())
	wants(t, held.Upgrade(background), ErrClosed)
	ok(t, held.Unlock())
	wants(t, held.Unlock(), ErrNotHeld)
	ok(t, batch.Unlock())
	// That was the last.
	_, err = m.Metrics()
	wants(t, err, ErrClosed)
	_, err = m.Holders(Filter{})
	wants(t, err, ErrClosed)
	wants(t, held.Unlock(), ErrNotHeld)
	wants(t, batch.Unlock(), ErrNotHeld)
	owner.Close()
	if !m.freed.Load() {
		t.Fatal("its memory is not given back")
	}
}

// Close comes at every moment of requests that wait, are cancelled, or are granted.
func TestCloseAtAnyMoment(t *testing.T) {
	for round := range 200 {
		m := must(New(Options{Shards: 1}))(t)
		var used [2]int
		var group sync.WaitGroup
		for number := range 8 {
			group.Go(func() {
				for i := range 1000 {
					ctx, cancel := context.WithCancel(background)
					if (number+i)%3 == 0 {
						cancel()
					}
					key := Key{Object: fmt.Sprint(i % 2)}
					var guard interface{ Unlock() error }
					var err error
					switch i % 4 {
					case 0:
						guard, err = m.TryLock(key)
					case 1:
						guard, err = m.LockMany(ctx, []Item{{key, Exclusive}, {Key{Object: "2"}, Shared}})
					default:
						guard, err = m.Lock(ctx, key)
					}
					cancel()
					if err == nil {
						used[i%2]++
						ok(t, guard.Unlock())
					}
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil && err != context.Canceled && !errors.Is(err, ErrWouldBlock) {
						t.Error(err)
					}
				}
			})
		}
		until(t, "some locks were taken", func() bool {
			figures, err := m.Metrics()
			return err != nil || figures.Acquisitions > uint64(round)
		})
		m.Close()
		group.Wait()
		if !m.freed.Load() {
			left, err := m.Holders(Filter{})
			t.Fatalf("nothing is held, yet its memory is not given back: %+v %v", left, err)
		}
	}
}

// A lock that was granted, and whose completion was fetched when Close came, is its caller's.
func TestCloseWhileNewsAreOnTheirWay(t *testing.T) {
	for _, upgrade := range []bool{false, true} {
		m := newTest(t, Options{})
		key := Key{Bucket: "b", Object: "o"}
		held := must(m.Acquire(background, key, Shared))(t)
		reader := must(m.RLock(background, key))(t)
		results := make(chan error)
		go func() {
			if upgrade {
				results <- reader.Upgrade(background)
				return
			}
			guard, err := m.Lock(background, key)
			if err == nil {
				err = guard.Unlock()
			}
			results <- err
		}()
		waits(t, m, 1)
		// No other goroutine fetches it.
		m.bell.close()
		if !upgrade {
			ok(t, m.release(reader.Grant()))
		}
		ok(t, m.release(held))
		closed := make(chan struct{})
		m.deliverBy(func(ticket uint64, came outcome) {
			go func() {
				m.Close()
				close(closed)
			}()
			until(t, "Close waits for the result to be handed over", func() bool {
				select {
				case <-closed:
					return true
				default:
				}
				if m.fetching.TryRLock() {
					m.fetching.RUnlock()
					return false
				}
				return true
			})
			m.handOver(ticket, came)
		})
		ok(t, <-results)
		<-closed
		if upgrade {
			ok(t, reader.Unlock())
		}
		if !m.freed.Load() {
			t.Fatal("nothing is held, yet its memory is not given back")
		}
	}
}
