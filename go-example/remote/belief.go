package remote

import (
	"slices"
	"sync"
	"time"
)

// belief is what a client believes: until when its leases are safe, and which of its requests are open.
//
// Invariant: until is the moment some renewal was sent plus the validity that its answer named, never more. So it is over
// before the server frees anything. What was held when it was over stays lost.
type belief struct {
	clock func() time.Duration

	mutex sync.Mutex
	until time.Duration
	over  bool
	next  uint64
	// open are the numbers without a last answer; those that hold something have a fate.
	open map[uint64]*fate
}

// fate is what became of one grant.
type fate struct {
	// lost is closed when it is lost.
	lost   chan struct{}
	isLost bool
}

func newBelief(until time.Duration, clock func() time.Duration) *belief {
	return &belief{clock: clock, until: until, next: 1, open: make(map[uint64]*fate)}
}

// safeFor is for how long grants are safe; 0 when they are not. A belief that has lapsed loses them.
func (b *belief) safeFor() time.Duration {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	left := b.until - b.clock()
	if b.over || left <= 0 {
		b.loseAll()
		return 0
	}
	return left
}

// extend notes that a renewal was answered.
func (b *belief) extend(sent, valid time.Duration) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.clock() >= b.until {
		b.loseAll()
	}
	b.until = max(b.until, sent+valid)
}

// end notes that the session has ended: everything that it held is lost.
func (b *belief) end() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.over = true
	b.loseAll()
}

func (b *belief) isOver() bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.over
}

func (b *belief) loseAll() {
	for _, fate := range b.open {
		fate.lose()
	}
}

func (f *fate) lose() {
	if f != nil && !f.isLost {
		f.isLost = true
		close(f.lost)
	}
}

// takeNumber is a new number, open from now on.
func (b *belief) takeNumber() uint64 {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	number := b.next
	b.next++
	b.open[number] = nil
	return number
}

// hold notes that a number got what it asked for.
func (b *belief) hold(number uint64) *fate {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	made := &fate{lost: make(chan struct{})}
	b.open[number] = made
	if b.over {
		made.lose()
	}
	return made
}

// settle notes that a number has its last answer.
func (b *belief) settle(number uint64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	delete(b.open, number)
}

// lose notes that the server says that a number holds nothing.
func (b *belief) lose(number uint64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.open[number].lose()
}

// isLost says whether a grant is lost, after a look at the clock.
func (b *belief) isLost(f *fate) bool {
	b.safeFor()
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return f.isLost
}

// holding are the numbers that hold something now.
func (b *belief) holding() (numbers []uint64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for number, fate := range b.open {
		if fate != nil && !fate.isLost {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// standing is what a renewal says of the numbers.
func (b *belief) standing() (next uint64, open []uint64, settledBelow uint64) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	open = []uint64{}
	settledBelow = b.next
	for number := range b.open {
		open = append(open, number)
		settledBelow = min(settledBelow, number)
	}
	slices.Sort(open)
	return b.next, open, settledBelow
}

func (b *belief) settledBelow() uint64 {
	_, _, below := b.standing()
	return below
}
