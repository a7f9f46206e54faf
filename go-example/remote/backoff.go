package remote

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second
)

// backoff has the attempts of one client, all of its calls together, take turns while none of them reaches the server. The
// pauses are doubled and a random part is added; from the seventh failure on each lasts at least the longest.
type backoff struct {
	longest time.Duration
	// turn is held by the one that pauses; it has room for one.
	turn chan struct{}

	mutex    sync.Mutex
	failures int
	next     time.Time
	// back is closed when the server is reached again, and made anew.
	back chan struct{}
}

func newBackoff(longest time.Duration) *backoff {
	return &backoff{longest: longest, turn: make(chan struct{}, 1), back: make(chan struct{})}
}

func (b *backoff) pause() time.Duration {
	doubled := firstPause << min(max(b.failures-1, 0), 16)
	pause := min(doubled, b.longest)
	return pause + rand.N(pause/4+1)
}

// wait waits for a turn. When another attempt reaches the server meanwhile, it comes now.
func (b *backoff) wait(ctx context.Context) error {
	if left, _ := b.left(); left < 0 {
		return nil
	}
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-b.turn }()
	for {
		left, back := b.left()
		if left < 0 {
			return nil
		}
		if left == 0 {
			b.mutex.Lock()
			b.next = time.Now().Add(b.pause())
			b.mutex.Unlock()
			return nil
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-back:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// left is how long to pause; negative when the server is there.
func (b *backoff) left() (time.Duration, chan struct{}) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.failures == 0 {
		return -1, b.back
	}
	return max(time.Until(b.next), 0), b.back
}

func (b *backoff) failed() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.failures++
	if next := time.Now().Add(b.pause()); next.After(b.next) {
		b.next = next
	}
}

func (b *backoff) reached() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.failures > 0 {
		b.failures = 0
		close(b.back)
		b.back = make(chan struct{})
	}
}
