package remote

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

func TestBeliefCountsFromWhenItWasSent(t *testing.T) {
	var clock time.Duration = 100
	b := newBelief(105, func() time.Duration { return clock })
	number := b.takeNumber()
	held := b.hold(number)
	clock = 104
	b.extend(101, 5)
	b.extend(100, 1)
	if left := b.safeFor(); left != 2 {
		t.Errorf("it is safe for %d", left)
	}
	clock = 106
	// Answered too late: what was held when the belief was over stays lost.
	b.extend(105, 5)
	if left := b.safeFor(); left != 4 || !b.isLost(held) {
		t.Errorf("it is safe for %d", left)
	}
	if other := b.hold(b.takeNumber()); b.isLost(other) {
		t.Error("what is granted later is safe")
	}
	if next, open, below := b.standing(); next != 3 || fmt.Sprint(open) != "[1 2]" || below != 1 {
		t.Errorf("%d, %v, %d", next, open, below)
	}
	b.settle(number)
	if below := b.settledBelow(); below != 2 {
		t.Errorf("all below %d are settled", below)
	}
	b.end()
	if b.safeFor() != 0 || !b.isLost(b.hold(3)) {
		t.Error("nothing is safe after the end")
	}
}

func TestBackoffTakesTurns(t *testing.T) {
	const longest = 10 * time.Millisecond
	b, began := newBackoff(longest), time.Now()
	var attempts atomic.Int64
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 10 {
				must(t, b.wait(context.Background()))
				attempts.Add(1)
				b.failed()
			}
		})
	}
	all.Wait()
	// Each but the first few, which all begin while no failure is known, after the longest pause.
	if least := time.Duration(attempts.Load()-20) * longest; time.Since(began) < least {
		t.Errorf("%d attempts took %v", attempts.Load(), time.Since(began))
	}
}

func TestBackoffEndsForAllWhenServerIsBack(t *testing.T) {
	b := newBackoff(time.Hour)
	for range 30 {
		b.failed()
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { must(t, b.wait(context.Background())) })
	}
	until(t, func() bool { return len(b.turn) == 1 })
	b.reached()
	all.Wait()
	b.failed()
	b.mutex.Lock()
	b.next = time.Now().Add(time.Hour)
	b.mutex.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if b.wait(ctx) == nil {
		t.Error("a context that has ended gets no turn")
	}
}

func TestEventsHoweverTheyAreCut(t *testing.T) {
	text := ": hello\n\nevent: granted\r\nid: 1-2\ndata: {\"a\":\ndata: 1}\n\nevent: gone\ndata: {}\n\n"
	var came []string
	err := readEvents(iotest.OneByteReader(strings.NewReader(text)), func(e event) {
		came = append(came, e.name+" "+e.id+" "+string(e.data))
	})
	if err != nil || len(came) != 2 || came[0] != "granted 1-2 {\"a\":\n1}" || came[1] != "gone  {}" {
		t.Errorf("%q came, %v", came, err)
	}
}
