package keylatch

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

var inode = Key{Bucket: "inodes", Object: "4711"}

func TestPinAndKeyAreOneLock(t *testing.T) {
	m := newTest(t, Options{})
	pinned := must(m.Pin(inode))(t)
	for range 3 {
		guard := must(pinned.Lock(t.Context()))(t)
		_, err := m.TryRLock(inode)
		wants(t, err, ErrWouldBlock)
		_, err = pinned.TryLock()
		wants(t, err, ErrWouldBlock)
		_, err = pinned.RLock(t.Context(), WithTimeout(time.Nanosecond))
		wants(t, err, ErrTimeout)
		ok(t, guard.Unlock())
		first, second, third := must(pinned.RLock(t.Context()))(t), must(pinned.TryRLock())(t), must(m.TryRLock(inode))(t)
		ok(t, first.Unlock())
		ok(t, second.Unlock())
		ok(t, third.Unlock())
		grant := must(pinned.Acquire(t.Context(), Exclusive))(t)
		ok(t, m.Release(grant))
		grant = must(pinned.TryAcquire(Shared))(t)
		ok(t, m.Release(grant))
	}
	if pinned.Key() != inode || pinned.String() != `"inodes"/"4711" (pinned)` {
		t.Fatal(pinned)
	}
	for _, mode := range []Mode{0, 7} {
		_, err := pinned.TryAcquire(mode)
		wants(t, err, ErrInvalidArgument)
	}
}

func TestPinnedRequestsSayMore(t *testing.T) {
	m := newTest(t, Options{})
	pinned := must(m.Pin(Key{Bucket: "b", Object: "o", EmptyVersion: true}))(t)
	guard := must(pinned.Lock(t.Context(), WithOwner("indexer"), WithTTL(time.Hour)))(t)
	holders := must(m.Holders(Filter{}))(t)
	if len(holders) != 1 || holders[0].Owner != "indexer" || holders[0].Key != pinned.Key() {
		t.Fatal(holders)
	}
	_, err := pinned.TryLock()
	if failure := wants(t, err, ErrWouldBlock); !strings.Contains(failure.Error(), "indexer") {
		t.Fatal(failure)
	}
	// The object without a version is another key.
	must(m.TryLock(Key{Bucket: "b", Object: "o"}))(t).Unlock()
	ok(t, guard.Unlock())
}

func TestPinnedWaitEnds(t *testing.T) {
	m := newTest(t, Options{})
	pinned := must(m.Pin(inode))(t)
	guard := must(m.Lock(t.Context(), inode))(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := pinned.Lock(ctx)
		ended <- err
	}()
	granted := make(chan error)
	until(t, "one waits", func() bool { return must(m.Metrics())(t).Waiters == 1 })
	go func() {
		next, err := pinned.Lock(t.Context())
		if err == nil {
			err = next.Unlock()
		}
		granted <- err
	}()
	until(t, "two wait", func() bool { return must(m.Metrics())(t).Waiters == 2 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	ok(t, guard.Unlock())
	ok(t, <-granted)
}

func TestPinsTakePlaces(t *testing.T) {
	m := newTest(t, Options{MaxLocks: 2})
	first, second := must(m.Pin(inode))(t), must(m.Pin(Key{Object: "b"}))(t)
	_, err := m.Pin(Key{Object: "c"})
	wants(t, err, ErrTableFull)
	_, err = m.TryLock(Key{Object: "c"})
	wants(t, err, ErrTableFull)
	second.Unpin()
	second.Unpin()
	_, err = second.TryLock()
	if failure := wants(t, err, ErrInvalidArgument); !strings.Contains(failure.Message, "pin it again") {
		t.Fatal(failure)
	}
	ok(t, must(m.TryLock(Key{Object: "c"}))(t).Unlock())
	_, err = m.Pin(Key{Object: strings.Repeat("x", 100_000)})
	wants(t, err, ErrInvalidKey)
	ok(t, must(first.TryLock())(t).Unlock())
}

func TestPinsEndWithTheirManager(t *testing.T) {
	m := newTest(t, Options{})
	pinned := must(m.Pin(inode))(t)
	guard := must(pinned.Lock(t.Context()))(t)
	ok(t, m.Close())
	_, err := pinned.TryLock()
	wants(t, err, ErrClosed)
	_, err = m.Pin(inode)
	wants(t, err, ErrClosed)
	ok(t, guard.Unlock())
	if pinned.handle.Load() != 0 {
		t.Fatal("the pin is still there though the manager's memory is gone")
	}
	_, err = pinned.RLock(t.Context())
	wants(t, err, ErrClosed)
	pinned.Unpin()
}

func TestReaderSlotsAreASetting(t *testing.T) {
	for _, slots := range []ReaderSlots{0, SlotsOn, SlotsOff} {
		m := newTest(t, Options{ReaderSlots: slots})
		pinned := must(m.Pin(inode))(t)
		count := 0
		var all sync.WaitGroup
		for range 4 {
			all.Add(1)
			go func() {
				defer all.Done()
				mutex, byKey := pinned.RWMutex(), m.RWMutex(inode)
				for turn := range 4000 {
					switch {
					case turn%50 == 0:
						mutex.Lock()
						count++
						mutex.Unlock()
					case turn%2 == 0:
						byKey.RLock()
						_ = count
						byKey.RUnlock()
					default:
						mutex.RLock()
						_ = count
						mutex.RUnlock()
					}
				}
			}()
		}
		all.Wait()
		if holders := must(m.Metrics())(t).Holders; count != 4*4000/50 || holders != 0 {
			t.Fatalf("%v: %d writes, %d holders", slots, count, holders)
		}
	}
	_, err := New(Options{ReaderSlots: 3})
	if failure := wants(t, err, ErrInvalidConfig); !strings.Contains(failure.Message, "ReaderSlots") {
		t.Fatal(failure)
	}
}

func TestPinnedMutexExcludes(t *testing.T) {
	m := newTest(t, Options{})
	count := 0
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			pinned, err := m.Pin(inode)
			if err != nil {
				t.Error(err)
				return
			}
			defer pinned.Unpin()
			mutex := pinned.RWMutex()
			for range 2000 {
				mutex.Lock()
				count++
				mutex.Unlock()
				mutex.RLock()
				_ = count
				mutex.RUnlock()
			}
		}()
	}
	all.Wait()
	if count != 8000 {
		t.Fatal(count)
	}
	mutex := must(m.Pin(inode))(t).RWMutex()
	mutex.Lock()
	if m.RWMutex(inode).TryRLock() || mutex.TryRLock() || mutex.TryLock() {
		t.Fatal("it is held")
	}
	mutex.Unlock()
}
