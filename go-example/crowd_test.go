package keylatch

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// environment is a number that a make target can set.
func environment(name string, standard int) int {
	if number, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return number
	}
	return standard
}

func threads(t *testing.T) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(status)) {
		if text, found := strings.CutPrefix(line, "Threads:"); found {
			return must(strconv.Atoi(strings.TrimSpace(text)))(t)
		}
	}
	t.Fatal("/proc/self/status names no threads")
	return 0
}

// A goroutine that waits has no thread, and all of them are served.
func TestACrowdWaitsWithoutThreads(t *testing.T) {
	crowd := environment("KEYLATCH_CROWD", 100_000)
	if raceEnabled {
		crowd = 5_000 // The detector has room for 8,128 goroutines.
	}
	// Go runs goroutines on that many threads, whatever they do; a large machine alone would have more than is asked
	// for here.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(min(runtime.NumCPU(), 8)))
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "hot"}
	held := must(m.Lock(background, key))(t)
	var group sync.WaitGroup
	var served, failed int
	for range crowd {
		group.Go(func() {
			guard, err := m.Lock(background, key)
			if err != nil {
				failed++
				return
			}
			served++
			if guard.Unlock() != nil {
				failed++
			}
		})
	}
	waits(t, m, uint64(crowd))
	most := threads(t)
	ok(t, held.Unlock())
	group.Wait()
	most = max(most, threads(t))
	if served != crowd || failed != 0 {
		t.Fatalf("%d of %d were served, %d failed", served, crowd, failed)
	}
	t.Logf("%d goroutines waited, on %d threads", crowd, most)
	if !raceEnabled && most > 20 {
		t.Fatalf("%d goroutines took %d threads", crowd, most)
	}
	empty(t, m)
}

// Cancelling comes at the moment of the grant: either the caller has the lock, or it is free.
func TestCancelAgainstGrant(t *testing.T) {
	rounds := environment("KEYLATCH_CANCELS", 100_000)
	if raceEnabled {
		rounds = min(rounds, 5_000)
	}
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	type turn struct {
		ctx    context.Context
		cancel context.CancelFunc
	}
	turns, results := make(chan turn), make(chan error)
	go func() {
		defer close(results)
		for turn := range turns {
			guard, err := m.Lock(turn.ctx, key)
			if err == nil {
				err = guard.Unlock()
			}
			results <- err
		}
	}()
	cancels := make(chan context.CancelFunc)
	go func() {
		for cancel := range cancels {
			cancel()
		}
	}()
	var granted, cancelled int
	for round := range rounds {
		held := must(m.Lock(background, key))(t)
		ctx, cancel := context.WithCancel(background)
		turns <- turn{ctx, cancel}
		// Both together, sometimes before it waits, now the one and now the other a little earlier.
		if round%2 == 0 {
			cancels <- cancel
			ok(t, held.Unlock())
		} else {
			ok(t, held.Unlock())
			cancels <- cancel
		}
		switch err := <-results; {
		case err == nil:
			granted++
		case errors.Is(err, context.Canceled):
			cancelled++
		default:
			t.Fatal(err)
		}
	}
	close(turns)
	close(cancels)
	<-results
	t.Logf("%d granted, %d cancelled", granted, cancelled)
	empty(t, m)
}

// Many wait, and most of them give up while the lock goes round.
func TestACrowdThatGivesUp(t *testing.T) {
	m := newTest(t, Options{Fairness: FIFO})
	key := Key{Bucket: "b", Object: "o"}
	held := must(m.Lock(background, key))(t)
	const crowd = 2000
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(background)
	var count int
	for number := range crowd {
		group.Go(func() {
			ctx := ctx
			if number%10 == 0 {
				ctx = background
			}
			guard, err := m.Lock(ctx, key)
			if err != nil {
				if err != context.Canceled {
					t.Error(err)
				}
				return
			}
			count++
			ok(t, guard.Unlock())
		})
	}
	waits(t, m, crowd)
	group.Go(cancel)
	ok(t, held.Unlock())
	group.Wait()
	if count < crowd/10 {
		t.Fatalf("%d were served", count)
	}
	empty(t, m)
}

// The same for upgrades, after which the lock is shared as before.
func TestCancelAgainstUpgrade(t *testing.T) {
	m := newTest(t, Options{})
	key := Key{Bucket: "b", Object: "o"}
	guard := must(m.RLock(background, key))(t)
	results := make(chan error)
	var upgraded, cancelled int
	for round := range environment("KEYLATCH_CANCELS", 100_000) / 20 {
		other := must(m.RLock(background, key))(t)
		ctx, cancel := context.WithCancel(background)
		upgrade := func() { results <- guard.Upgrade(ctx) }
		// What is started last runs first, mostly.
		if round%2 == 0 {
			go upgrade()
			go cancel()
		} else {
			go cancel()
			go upgrade()
		}
		ok(t, other.Unlock())
		switch err := <-results; {
		case err == nil:
			upgraded++
			ok(t, guard.Downgrade())
		case errors.Is(err, context.Canceled):
			cancelled++
		default:
			t.Fatal(err)
		}
		if mode := must(guard.Mode())(t); mode != Shared {
			t.Fatalf("it is held %v", mode)
		}
	}
	t.Logf("%d upgraded, %d cancelled", upgraded, cancelled)
	ok(t, guard.Unlock())
	empty(t, m)
}
