package keylatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrClaimFailed says that the work has failed and that no further attempt is allowed. The error's text is the reason.
var ErrClaimFailed = errors.New("keylatch: the work has failed for good")

// Claimant is one who claims; [Claims.Claimant] makes it. Any number of goroutines may use it.
type Claimant struct {
	claims  *Claims
	handle  claimantHandle
	name    string
	closing sync.Once
	numbers numbers
}

// ClaimKind says what a claim came to.
type ClaimKind int32

const (
	// ClaimWaiting says that the request is in line.
	ClaimWaiting ClaimKind = 0
	// ClaimYours says that the work is the claimant's to do.
	ClaimYours ClaimKind = 1
	// ClaimDone says that the work has an outcome; there is nothing to do.
	ClaimDone ClaimKind = 2
	// ClaimEnded says that this request owned the work and completed it.
	ClaimEnded ClaimKind = 3
	// ClaimLost says that this request owned the work and lost it.
	ClaimLost ClaimKind = 4
	// ClaimSkipped says that the work is another's, and that the request was not to wait.
	ClaimSkipped ClaimKind = 5
	// ClaimSuperseded says that a later request took the places of all that waited.
	ClaimSuperseded ClaimKind = 6
	// ClaimCancelled says that the request was cancelled.
	ClaimCancelled ClaimKind = 7
)

var claimKinds = [...]string{"waiting", "yours", "done", "ended", "lost", "skipped", "superseded", "cancelled"}

// String is the word for it, the same in every language.
func (k ClaimKind) String() string {
	if k >= 0 && int(k) < len(claimKinds) {
		return claimKinds[k]
	}
	return fmt.Sprintf("ClaimKind(%d)", int32(k))
}

// ClaimAnswer is what a claim came to.
type ClaimAnswer struct {
	Kind ClaimKind
	// Text is the note of a success or the reason of a failure (ClaimDone, ClaimEnded), why the work was lost
	// (ClaimLost), or the owner's name (ClaimSkipped).
	Text string
	// Succeeded is for ClaimDone and ClaimEnded.
	Succeeded bool
	// Fence is that of the grant: greater than every one before it.
	Fence uint64
	// Attempt is 1 for the first attempt at the work, one more after each failure.
	Attempt uint32
	// FirstInEpoch says that no earlier attempt is known: look whether the work is done already.
	FirstInEpoch bool
	// Ahead is how many are in line before a request that waits.
	Ahead uint64
}

// ClaimRequest is how a claim is asked for. What is zero is the default. The rules concern this request alone.
type ClaimRequest struct {
	// Number is the request's number, for a request that can be repeated and gets the same answer then. Default: the
	// claimant counts its requests. A claimant does one or the other.
	Number uint64
	// TTL is how long the grant lasts without [Claim.Renew]. Default: as long as the claimant.
	TTL time.Duration
	// RetryAfter is how long the next attempt is held back when this request's attempt fails.
	RetryAfter time.Duration
	// MaxAttempts: when this request's attempt has that number and fails, all that wait get the failure.
	MaxAttempts uint32
	// MaxWaiting is how many may be in line for it to join. Default: no limit.
	MaxWaiting uint64
	// SkipIfClaimed has it answered ClaimSkipped when the work is another's.
	SkipIfClaimed bool
	// LatestOnly takes the places of all that wait: they are answered ClaimSuperseded.
	LatestOnly bool
}

func (r *ClaimRequest) check() error {
	return negative(setting{"TTL", r.TTL}, setting{"RetryAfter", r.RetryAfter})
}

// Name is the claimant's name, for people.
func (c *Claimant) Name() string { return c.name }

// Close ends the claimant: what it waits for is asked for no more, and what it owns has failed. Closing again does nothing.
func (c *Claimant) Close() error {
	c.closing.Do(func() { freeClaimant(c.handle) })
	return nil
}

// Renew lets its ttl begin again.
func (c *Claimant) Renew() error { return renewClaimant(c.handle) }

// SettleBelow declares that all lower numbers are done with: the next claim ends what they still wait for or own. It is
// for numbers that the caller gives.
func (c *Claimant) SettleBelow(number uint64) error { return settleBelow(c.handle, number) }

// Cancel gives up a request. If it owns the work, that is a failure.
func (c *Claimant) Cancel(number uint64) (ClaimAnswer, error) { return cancelClaim(c.handle, number) }

// Adopt is the work that a request owns by this fence, for callers that keep numbers only.
func (c *Claimant) Adopt(key Key, number, fence uint64) *Claim {
	return &Claim{ClaimAnswer: ClaimAnswer{Kind: ClaimYours, Fence: fence}, claimant: c, key: key, number: number}
}

// Claim asks for the work of a resource, and waits until it is the caller's or has an outcome. When ctx ends first, the
// request is given up and the error is ctx's.
func (c *Claimant) Claim(ctx context.Context, key Key, request ClaimRequest) (*Claim, error) {
	return c.ask(key, &request, func(number uint64) (ClaimAnswer, error) { return c.await(ctx, &key, number, &request) })
}

// TryClaim asks without waiting. ClaimWaiting is an answer for requests with a number alone, which are in line then;
// others leave the line, and are answered ClaimSkipped.
func (c *Claimant) TryClaim(key Key, request ClaimRequest) (*Claim, error) {
	counted := request.Number == 0
	request.SkipIfClaimed = request.SkipIfClaimed || counted
	return c.ask(key, &request, func(number uint64) (ClaimAnswer, error) {
		return claimNow(c.handle, &key, number, &request)
	})
}

func (c *Claimant) ask(key Key, request *ClaimRequest, how func(uint64) (ClaimAnswer, error)) (*Claim, error) {
	if err := request.check(); err != nil {
		return nil, err
	}
	number, err := c.numbers.take(request.Number)
	if err != nil {
		return nil, err
	}
	answer, err := how(number)
	claim := &Claim{ClaimAnswer: answer, claimant: c, key: key, number: number}
	if err != nil || (answer.Kind != ClaimYours && answer.Kind != ClaimWaiting) {
		claim.settle()
	}
	if err != nil {
		return nil, err
	}
	return claim, nil
}

func (c *Claimant) await(ctx context.Context, key *Key, number uint64, request *ClaimRequest) (ClaimAnswer, error) {
	if err := ended(ctx); err != nil {
		return ClaimAnswer{}, err
	}
	token, came, err := c.claims.park()
	if err != nil {
		return ClaimAnswer{}, err
	}
	if err := submitClaim(c.handle, c.claims.queue, key, number, request, token); err != nil {
		c.claims.unpark(token)
		return ClaimAnswer{}, err
	}
	select {
	case answer := <-came:
		return answer.answer, answer.err
	case <-ctx.Done():
	}
	// The answer comes in any case. Should it be the work, cancelling has passed that on.
	_, _ = cancelClaim(c.handle, number)
	<-came
	return ClaimAnswer{}, ctx.Err()
}

// Claim is what a request came to and, if the work is the caller's, that work. A work that is forgotten stays owned until
// its claimant is closed or its ttl is over.
type Claim struct {
	ClaimAnswer
	claimant *Claimant
	key      Key
	number   uint64
}

// Yours says whether the work is the caller's to do, as the claim was answered.
func (c *Claim) Yours() bool { return c.Kind == ClaimYours }

// Key is what was claimed.
func (c *Claim) Key() Key { return c.key }

// Number is the request's number.
func (c *Claim) Number() uint64 { return c.number }

// ClaimProgress is how far an owner has come.
type ClaimProgress struct {
	// Done and Total are units such as bytes; Total is 0 if it is not known.
	Done, Total uint64
	// Address is where to look at the work; it may be empty.
	Address string
}

// Progress reports how far the work is. It fails with [ErrNotYours] when the work has ended or was lost.
func (c *Claim) Progress(progress ClaimProgress) error {
	return progressClaim(c.claimant.handle, c.number, c.Fence, &progress)
}

// Renew lets the lease of the grant begin again.
func (c *Claim) Renew(ttl time.Duration) error {
	return renewClaim(c.claimant.handle, c.number, c.Fence, ttl)
}

// Complete ends the work as a success: all that wait get the note. It fails with [ErrLeaseLost] when the grant was lost,
// so that another may do the work, and with [ErrClaimFailed] when the work was failed before.
func (c *Claim) Complete(note string) error {
	answer, err := c.End(true, note)
	_, err = (&Claim{ClaimAnswer: answer}).result(err)
	return err
}

// Fail ends the work as a failure: the first in line has it now. It fails with [ErrLeaseLost] when the grant was lost.
func (c *Claim) Fail(reason string) error {
	answer, err := c.End(false, reason)
	if _, err = (&Claim{ClaimAnswer: answer}).result(err); errors.Is(err, ErrClaimFailed) {
		return nil
	}
	return err
}

// End completes the work and returns the stored answer: ClaimEnded with what was completed first, or ClaimLost.
func (c *Claim) End(succeeded bool, text string) (ClaimAnswer, error) {
	answer, err := completeClaim(c.claimant.handle, c.number, c.Fence, succeeded, text)
	if err == nil {
		c.settle()
	}
	return answer, err
}

// Result is the note of the work's success, as the claim was answered. It is an error when there is none.
func (c *Claim) Result() (string, error) { return c.result(nil) }

func (c *Claim) result(err error) (string, error) {
	switch {
	case err != nil:
		return "", err
	case (c.Kind == ClaimDone || c.Kind == ClaimEnded) && c.Succeeded:
		return c.Text, nil
	case c.Kind == ClaimDone || c.Kind == ClaimEnded:
		return "", fmt.Errorf("%w: %s", ErrClaimFailed, c.Text)
	case c.Kind == ClaimLost:
		return "", &Error{Code: ErrLeaseLost, Message: "the work was lost: " + c.Text + "; claim the resource again"}
	}
	return "", &Error{Code: ErrNotYours, Message: "there is no outcome: the claim is " + c.Kind.String()}
}

// settle notes that the request has ended, if its number was counted.
func (c *Claim) settle() {
	if below := c.claimant.numbers.settle(c.number); below > 0 {
		_ = settleBelow(c.claimant.handle, below)
	}
}

// numbers are those of a claimant's requests: counted here, or given by the caller, never both. Counted ones are settled
// as they end, so that a claimant can make any number of requests.
type numbers struct {
	mutex sync.Mutex
	// next is the number of the next request that is counted; given says that the caller counts.
	next  uint64
	given bool
	open  map[uint64]struct{}
}

func (n *numbers) take(number uint64) (uint64, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if number == 0 && !n.given {
		number, n.next = n.next, n.next+1
		n.open[number] = struct{}{}
		return number, nil
	}
	if number == 0 || n.next > 1 {
		return 0, &Error{Code: ErrInvalidConfig,
			Message: "a claimant counts its requests or is given their numbers, not both; make a second claimant"}
	}
	n.given = true
	return number, nil
}

// settle says below which number all requests have ended; 0 if the caller counts.
func (n *numbers) settle(number uint64) uint64 {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	delete(n.open, number)
	if n.given {
		return 0
	}
	below := n.next
	for open := range n.open {
		below = min(below, open)
	}
	return below
}
