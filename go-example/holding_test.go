package keylatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAWriterIsAlone(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "photos", Object: "cat.jpg"}
	guard := must(m.Lock(background, key, WithOwner("indexer")))(t)
	for _, try := range []func(Key, ...Option) (*Guard, error){m.TryLock, m.TryRLock} {
		_, err := try(key)
		failure := wants(t, err, ErrWouldBlock)
		if failure.Key != key || len(failure.Holders) != 1 || failure.Holders[0].Owner != "indexer" || !failure.Transient() || failure.Timeout() {
			t.Fatalf("it says %+v", failure)
		}
	}
	other := must(m.TryLock(Key{Bucket: "photos", Object: "dog.jpg"}))(t)
	version := must(m.TryLock(Key{Bucket: "photos", Object: "cat.jpg", Version: "1"}))(t)
	nameless := must(m.TryLock(Key{Bucket: "photos", Object: "cat.jpg", EmptyVersion: true}))(t)
	if found := must(nameless.Key())(t); !found.EmptyVersion {
		t.Fatalf("it holds %v", found)
	}
	if found := must(guard.Key())(t); found != key || must(guard.Mode())(t) != Exclusive || !guard.Valid() {
		t.Fatalf("it holds %v", found)
	}
	for _, held := range []*Guard{guard, other, version, nameless} {
		ok(t, held.Unlock())
	}
	if guard.Valid() {
		t.Fatal("it is valid after it was unlocked")
	}
	empty(t, m)
}

func TestReadersShare(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	one, two := must(m.RLock(background, key))(t), must(m.TryRLock(key))(t)
	_, err := m.TryLock(key)
	wants(t, err, ErrWouldBlock)
	ok(t, one.Unlock())
	ok(t, two.TryUpgrade())
	_, err = m.TryRLock(key)
	wants(t, err, ErrWouldBlock)
	ok(t, two.Unlock())
	empty(t, m)
}

func TestUnlockOnce(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	first := must(m.Lock(background, key))(t)
	ok(t, first.Unlock())
	second := must(m.Lock(background, key))(t)
	wants(t, first.Unlock(), ErrStale)
	wants(t, m.Release(first.Grant()), ErrNotHeld)
	wants(t, m.Release(12345), ErrNotHeld)
	if !second.Valid() {
		t.Fatal("a stale guard took the lock of the next holder")
	}
	// Of many who unlock the same guard one succeeds.
	var succeeded atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if second.Unlock() == nil {
				succeeded.Add(1)
			}
		})
	}
	group.Wait()
	if succeeded.Load() != 1 {
		t.Fatalf("%d of 8 unlocked it", succeeded.Load())
	}
	empty(t, m)
}

func TestUpAndDown(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	guard := must(m.Lock(background, key))(t)
	first := must(guard.Fence())(t)
	ok(t, guard.Downgrade())
	reader := must(m.TryRLock(key))(t)
	wants(t, guard.TryUpgrade(), ErrWouldBlock)
	wants(t, guard.Upgrade(background, WithTimeout(time.Millisecond)), ErrTimeout)
	ctx, cancel := context.WithCancel(background)
	result := make(chan error)
	go func() { result <- guard.Upgrade(ctx) }()
	waits(t, m, 1)
	wants(t, reader.Upgrade(background), ErrUpgradeConflict)
	cancel()
	if err := <-result; err != context.Canceled {
		t.Fatalf("%v came", err)
	}
	if mode := must(guard.Mode())(t); mode != Shared {
		t.Fatalf("after an upgrade that was cancelled it is held %v", mode)
	}
	go func() { result <- guard.Upgrade(background) }()
	waits(t, m, 1)
	ok(t, reader.Unlock())
	ok(t, <-result)
	second := must(guard.Fence())(t)
	if second <= first {
		t.Fatalf("fence %d came after %d", second, first)
	}
	if !must(m.IsCurrent(key, second))(t) || must(m.IsCurrent(key, first))(t) {
		t.Fatal("it does not know the current fence")
	}
	ok(t, guard.Unlock())
	wants(t, guard.Downgrade(), ErrNotHeld)
	wants(t, guard.TryUpgrade(), ErrNotHeld)
	wants(t, guard.Upgrade(background), ErrNotHeld)
	empty(t, m)
}

func TestMutualExclusion(t *testing.T) {
	m := newTest(t, Options{})
	const goroutines, rounds, keys = 16, 2000, 3
	var counts [keys]int
	var group sync.WaitGroup
	for range goroutines {
		group.Go(func() {
			for range rounds {
				place := rand.IntN(keys)
				key := Key{Bucket: "b", Object: fmt.Sprint(place)}
				if rand.IntN(4) == 0 {
					guard, err := m.RLock(background, key)
					ok(t, err)
					_ = counts[place]
					ok(t, guard.Unlock())
					continue
				}
				guard, err := m.Lock(background, key)
				ok(t, err)
				counts[place]++
				ok(t, guard.Unlock())
			}
		})
	}
	group.Wait()
	figures := must(m.Metrics())(t)
	if figures.Acquisitions != goroutines*rounds {
		t.Fatalf("%d locks were taken", figures.Acquisitions)
	}
	empty(t, m)
}

// A manager forgets the keys of mutexes that are free, and those that exist go on as one lock.
func TestRWMutexForgetsKeys(t *testing.T) {
	m := newTest(t, Options{})
	kept, same := m.RWMutex(Key{Bucket: "kept"}), m.RWMutex(Key{Bucket: "kept"})
	held := m.RWMutex(Key{Bucket: "held"})
	held.Lock()
	kept.Lock()
	kept.Unlock()
	for n := range 5 * idleMutexes {
		lock := m.RWMutex(Key{Bucket: "b", Object: strconv.Itoa(n)})
		lock.RLock()
		lock.RUnlock()
		if n := len(m.mutexes.keys); n > idleMutexes+2 {
			t.Fatalf("%d keys are remembered", n)
		}
	}
	if !kept.grants.Load().dropped {
		t.Fatal("the first key is remembered still")
	}
	kept.Lock()
	same.Unlock()
	m.RWMutex(Key{Bucket: "held"}).Unlock()
	if idle := m.mutexes.idle.Load(); idle != int64(len(m.mutexes.keys)) {
		t.Fatalf("%d of %d keys are idle", idle, len(m.mutexes.keys))
	}
	empty(t, m)
}

// Values of one key exclude each other while the manager forgets the key again and again.
func TestRWMutexIsAloneWhileKeysAreForgotten(t *testing.T) {
	const goroutines, rounds = 3, 3000
	m := newTest(t, Options{})
	counter := 0
	var hot sync.WaitGroup
	for range goroutines {
		kept := m.RWMutex(Key{Bucket: "hot"})
		hot.Go(func() {
			for range rounds {
				kept.Lock()
				counter++
				// A value that has never seen the key before.
				m.RWMutex(Key{Bucket: "hot"}).Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { hot.Wait(); close(done) }()
	for n := 0; ; n++ {
		cold := m.RWMutex(Key{Bucket: "cold", Object: strconv.Itoa(n)})
		cold.Lock()
		cold.Unlock()
		select {
		case <-done:
			if counter != goroutines*rounds {
				t.Fatalf("%d of %d", counter, goroutines*rounds)
			}
			empty(t, m)
			return
		default:
		}
	}
}

// Those who lost the lock do not release that of the next holder, also where all share one value.
func TestRWMutexAfterARevocation(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b"}
	revoke := func() { must(m.ForceRelease(Filter{Key: &key}))(t) }
	lost := func(unlock func()) {
		t.Helper()
		defer func() {
			t.Helper()
			if err, _ := recover().(error); !errors.Is(err, ErrNotHeld) {
				t.Errorf("unlocking what was revoked: %v", err)
			}
		}()
		unlock()
	}
	lock := m.RWMutex(key)
	for _, mode := range []struct {
		lock, unlock func()
		try          func() bool
	}{
		{lock.Lock, lock.Unlock, lock.TryRLock},
		{lock.RLock, lock.RUnlock, lock.TryLock},
	} {
		// Two lose it, one after the other, before a third has it.
		mode.lock()
		revoke()
		mode.lock()
		revoke()
		mode.lock()
		for range 2 {
			lost(mode.unlock)
			if mode.try() {
				t.Fatal("the lock of another holder was released")
			}
		}
		mode.unlock()
	}
	// Each value has its own back, in whatever order they unlock.
	other := m.RWMutex(key)
	lock.Lock()
	revoke()
	other.Lock()
	other.Unlock()
	lost(lock.Unlock)
	lock.RLock()
	revoke()
	other.RLock()
	other.RUnlock()
	lost(lock.RUnlock)
	// The one that lost it is noted only after the next holder is.
	for mode, unlock := range map[Mode]func(){Exclusive: lock.Unlock, Shared: lock.RUnlock} {
		late := must(m.Acquire(background, key, mode))(t)
		revoke()
		next := must(m.Acquire(background, key, mode))(t)
		m.mutexes.took(lock, mode, next)
		m.mutexes.took(lock, mode, late)
		lost(unlock)
		if !m.isValid(next) {
			t.Fatalf("%v: the lock of the next holder was released", mode)
		}
		unlock()
	}
	empty(t, m)
	if m.mutexes.idle.Load() != 1 {
		t.Fatal("the key is not seen to be free")
	}
	m.mutexes.dropIdle()
	if len(m.mutexes.keys) != 0 {
		t.Fatalf("%v is left", m.mutexes.keys)
	}
}

func TestRWMutex(t *testing.T) {
	m := newTest(t, Options{})
	lock, same := m.RWMutex(Key{Bucket: "b"}), m.RWMutex(Key{Bucket: "b"})
	lock.Lock()
	if same.TryLock() || same.TryRLock() {
		t.Fatal("two of the same key are not the same lock")
	}
	lock.Unlock()
	reader := lock.RLocker()
	reader.Lock()
	if !lock.TryRLock() || same.TryLock() {
		t.Fatal("readers do not share")
	}
	lock.RUnlock()
	reader.Unlock()
	// What one value has locked any other may unlock, also one that was never locked itself.
	lock.Lock()
	same.Unlock()
	same.Lock()
	lock.Unlock()
	m.RWMutex(Key{Bucket: "b"}).RLock()
	same.RUnlock()
	// A holder that lost the lock does not release that of the next one.
	lock.Lock()
	must(m.ForceRelease(Filter{Bucket: Text("b")}))(t)
	same.Lock()
	func() {
		defer func() {
			if err, _ := recover().(error); !errors.Is(err, ErrNotHeld) {
				t.Errorf("Unlock of a lock that was revoked: %v", err)
			}
		}()
		lock.Unlock()
	}()
	if lock.TryLock() {
		t.Fatal("the lock of another holder was released")
	}
	lock.Unlock()
	if m.mutexes.idle.Load() != 1 || !m.mutexes.keys[Key{Bucket: "b"}].empty() {
		t.Fatalf("%v is left", m.mutexes.keys)
	}
	for name, misuse := range map[string]func(){
		"Unlock": lock.Unlock, "RUnlock": lock.RUnlock,
	} {
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, ErrNotHeld) {
					t.Errorf("%s of what is not locked: %v", name, err)
				}
			}()
			misuse()
		}()
	}
	empty(t, m)
	m.Close()
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, ErrClosed) {
			t.Errorf("Lock of a closed manager: %v", err)
		}
	}()
	lock.Lock()
}
