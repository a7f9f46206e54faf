package keylatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Claims have one do the work of a resource while the others wait for its outcome. They may be used by any number of
// goroutines. [NewClaims] makes them; the zero Claims are closed ones.
type Claims struct {
	handle claimsHandle
	queue  claimQueue
	bell   *bell
	closed atomic.Bool
	tokens atomic.Uint64

	mutex sync.Mutex
	// parked are the goroutines that wait for an answer, by token. nil once the claims are closed.
	parked map[uint64]chan claimed
}

// claimed is what a claim came to.
type claimed struct {
	answer ClaimAnswer
	err    error
}

// ClaimsOptions are the limits of claims. Everything that is zero is the default.
type ClaimsOptions struct {
	// RetainFor is how long an outcome is kept for new requests. Default 10 minutes.
	RetainFor time.Duration
	// RetainCount is how many resources without owner and line are remembered. Default 10,000.
	RetainCount int
	// Ring is how many events of each resource are kept. Default 256.
	Ring int
	// MaxClaimants is how many claimants there may be. Default 100,000.
	MaxClaimants int
	// MaxOpen is how many requests of a claimant have not ended. Default 1,024.
	MaxOpen int
	// MaxWaiters is how many requests may wait. Default 100,000.
	MaxWaiters int
}

// NewClaims makes claims. They have a goroutine of their own until [Claims.Close].
func NewClaims(options ClaimsOptions) (*Claims, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	if err := options.check(); err != nil {
		return nil, err
	}
	made, err := newClaims(&options)
	if err != nil {
		return nil, err
	}
	c := &Claims{handle: made, parked: make(map[uint64]chan claimed)}
	var descriptor int
	if c.queue, descriptor, err = newClaimQueue(made); err == nil {
		c.bell, err = newBell(descriptor)
	}
	if err != nil {
		if c.queue != nil {
			freeClaimQueue(c.queue)
		}
		freeClaims(made)
		return nil, err
	}
	go c.bell.listen(c.deliver)
	return c, nil
}

func (o *ClaimsOptions) check() error {
	if err := negative(setting{"RetainFor", o.RetainFor}); err != nil {
		return err
	}
	for name, count := range map[string]int{
		"RetainCount": o.RetainCount, "Ring": o.Ring, "MaxClaimants": o.MaxClaimants, "MaxOpen": o.MaxOpen,
		"MaxWaiters": o.MaxWaiters,
	} {
		if count < 0 {
			return &Error{Code: ErrInvalidConfig, Message: fmt.Sprintf("%s is %d; 0 is its default", name, count)}
		}
	}
	return nil
}

// Close ends everything: requests that wait and those to come fail with [ErrClosed]. Closing again does nothing.
func (c *Claims) Close() error {
	if c.closed.Swap(true) || c.handle == nil {
		return nil
	}
	// Waits for the calls that are inside, and ends the waits: their answers lie in the queue.
	freeClaims(c.handle)
	c.deliver()
	c.bell.close()
	freeClaimQueue(c.queue)
	c.mutex.Lock()
	parked := c.parked
	c.parked = nil
	c.mutex.Unlock()
	for _, came := range parked {
		came <- claimed{err: ErrClosed}
	}
	return nil
}

// Claimant makes one who claims, for many requests. Unless ttl is 0 it has to be renewed within that time.
func (c *Claims) Claimant(name string, ttl time.Duration) (*Claimant, error) {
	if c.closed.Load() || c.handle == nil {
		return nil, ErrClosed
	}
	if ttl < 0 {
		return nil, &Error{Code: ErrInvalidConfig, Message: fmt.Sprintf("the ttl is %v; 0 is for none", ttl)}
	}
	made, err := newClaimant(c.handle, name, ttl)
	if err != nil {
		return nil, err
	}
	return &Claimant{claims: c, handle: made, name: name, numbers: numbers{next: 1, open: make(map[uint64]struct{})}}, nil
}

// Once does the work of a resource, if it is this caller's to do, and returns the note of its success. work returns that
// note, or an error, which makes the first in line the owner and is returned. [ErrClaimFailed] says that no attempt is left.
func (c *Claims) Once(ctx context.Context, key Key, name string, work func(*Claim) (string, error)) (string, error) {
	claimant, err := c.Claimant(name, 0)
	if err != nil {
		return "", err
	}
	defer claimant.Close()
	claim, err := claimant.Claim(ctx, key, ClaimRequest{})
	if err != nil || !claim.Yours() {
		return claim.result(err)
	}
	finished := false
	defer func() {
		if !finished {
			// A panic, which goes on.
			_ = claim.Fail("the work panicked")
		}
	}()
	note, err := work(claim)
	finished = true
	if err != nil {
		return "", errors.Join(err, claim.Fail(reasonOf(err)))
	}
	return note, claim.Complete(note)
}

// reasonOf is an error as the reason of a failure, which has a limit.
func reasonOf(err error) string {
	const most = 1024
	text := err.Error()
	return text[:min(len(text), most)]
}

// ForceRelease ends the owner's grant as a failure. It is false if the resource has no owner.
func (c *Claims) ForceRelease(key Key) (bool, error) {
	if err := c.none(); err != nil {
		return false, err
	}
	return forceReleaseClaim(c.handle, &key)
}

// Forget drops a retained outcome, so that the next request does the work again. It is false if none was retained.
func (c *Claims) Forget(key Key) (bool, error) {
	if err := c.none(); err != nil {
		return false, err
	}
	return forgetClaim(c.handle, &key)
}

// none is the error of claims that were not made by NewClaims.
func (c *Claims) none() error {
	if c.handle == nil {
		return ErrClosed
	}
	return nil
}

// park makes a token for an answer, and the channel on which it comes.
func (c *Claims) park() (token uint64, came chan claimed, err error) {
	// Room for the answer, so that delivering never waits.
	token, came = c.tokens.Add(1), make(chan claimed, 1)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.parked == nil {
		return 0, nil, ErrClosed
	}
	c.parked[token] = came
	return token, came, nil
}

func (c *Claims) unpark(token uint64) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	delete(c.parked, token)
}

// deliver hands over the answers that lie in the queue. It never has enough.
func (c *Claims) deliver() (enough bool) {
	for {
		token, answer, here, err := fetchClaim(c.queue)
		if !here {
			return false
		}
		c.mutex.Lock()
		came := c.parked[token]
		delete(c.parked, token)
		c.mutex.Unlock()
		if came != nil {
			came <- claimed{answer, err}
		}
	}
}
