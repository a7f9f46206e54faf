package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"
)

// ClaimRequest has the rules of one claim. What is zero is the default. They concern this request alone.
type ClaimRequest struct {
	// TTL is how long the grant lasts without [Work.Renew]. Default: as long as the session.
	TTL time.Duration
	// RetryAfter is how long the next attempt is held back when this request's attempt fails.
	RetryAfter time.Duration
	// MaxAttempts: when this request's attempt has that number and fails, all that wait get the failure.
	MaxAttempts uint32
	// MaxWaiting is how many may be in line for it to join. Default: no limit.
	MaxWaiting uint64
	// SkipIfClaimed has it answered "skipped" when the work is another's.
	SkipIfClaimed bool
	// LatestOnly takes the places of all that wait: they are answered "superseded".
	LatestOnly bool
}

func (r *ClaimRequest) fields(key Key) (map[string]any, error) {
	if err := key.check(); err != nil {
		return nil, err
	}
	if r.TTL < 0 || r.RetryAfter < 0 {
		return nil, fmt.Errorf("%w: TTL and RetryAfter are not negative; 0 is the default", ErrInvalid)
	}
	fields := map[string]any{"resource": key.fields()}
	if r.TTL > 0 {
		fields["lease_ms"] = max(r.TTL.Milliseconds(), 1)
	}
	if r.RetryAfter > 0 {
		fields["retry_after_ms"] = max(r.RetryAfter.Milliseconds(), 1)
	}
	if r.MaxAttempts > 0 {
		fields["max_attempts"] = r.MaxAttempts
	}
	if r.MaxWaiting > 0 {
		fields["max_waiting"] = r.MaxWaiting
	}
	if r.SkipIfClaimed {
		fields["skip_if_claimed"] = true
	}
	if r.LatestOnly {
		fields["latest_only"] = true
	}
	return fields, nil
}

type outcomeBody struct {
	Note    *string `json:"note"`
	Error   *string `json:"error"`
	Owner   string  `json:"owner"`
	Fence   uint64  `json:"fence"`
	Attempt uint32  `json:"attempt"`
}

// Claim is what a claim came to.
type Claim struct {
	// Work is the work, if it is the caller's to do; nil otherwise.
	Work *Work
	// State is "yours", "done", "skipped" or "superseded".
	State string
	// Note is that of the success, when done. Error is the reason of the failure, when the attempts are used up.
	Note, Error string
	// Owner is who completed the work, when done; whose it is, when skipped.
	Owner string
	// Fence and Attempt are those of the outcome, when done.
	Fence   uint64
	Attempt uint32
}

// Result is the note of the work's success. It fails with [ErrFailed] when the attempts are used up, and with [ErrNotHeld]
// when there is no outcome.
func (c *Claim) Result() (string, error) {
	switch {
	case c.State == "done" && c.Error == "":
		return c.Note, nil
	case c.State == "done":
		return "", fmt.Errorf("keylatch: %w: %s", ErrFailed, c.Error)
	}
	return "", fmt.Errorf("keylatch: %w: the claim is %q and has no outcome", ErrNotHeld, c.State)
}

// Work is work that is the caller's to do. One that is forgotten is given up, which is a failure.
type Work struct {
	held
	key     Key
	grant   string
	fence   uint64
	attempt uint32

	mutex sync.Mutex
	// result is what the end came to, once it has ended.
	ended  bool
	result error
}

// Key is what was claimed.
func (w *Work) Key() Key { return w.key }

// Fence is greater than that of every grant before.
func (w *Work) Fence() uint64 { return w.fence }

// Attempt is 1 for the first attempt, one more after each failure.
func (w *Work) Attempt() uint32 { return w.attempt }

// Remaining is for how long the work is safe without another renewal: 0 once it is lost.
func (w *Work) Remaining() time.Duration {
	left := w.session.belief.safeFor()
	if w.session.belief.isLost(w.fate) {
		return 0
	}
	return left
}

// Lost is closed when the work is lost.
func (w *Work) Lost() <-chan struct{} { return w.fate.lost }

// Claim asks for the work of a resource, and waits until it is the caller's or has an outcome, or ctx ends.
func (c *Client) Claim(ctx context.Context, key Key, request ClaimRequest) (*Claim, error) {
	fields, err := request.fields(key)
	if err != nil {
		return nil, err
	}
	held, answer, err := c.request(ctx, "/v1/claim", waits, fields)
	if err != nil {
		return nil, err
	}
	claim := &Claim{State: answer.State, Owner: answer.Owner}
	if answer.State == "yours" {
		claim.Work = &Work{held: held, key: key, grant: answer.Grant, fence: answer.Fence, attempt: answer.Attempt}
		// One that is forgotten is given up with the next renewal.
		runtime.AddCleanup(claim.Work, held.forget, struct{}{})
	}
	if outcome := answer.Outcome; outcome != nil {
		claim.Owner, claim.Fence, claim.Attempt = outcome.Owner, outcome.Fence, outcome.Attempt
		if outcome.Note != nil {
			claim.Note = *outcome.Note
		}
		if outcome.Error != nil {
			claim.Error = *outcome.Error
		}
	}
	return claim, nil
}

// Once does the work of a resource, if it is this caller's to do, and returns the note of its success. work returns that
// note, or an error, which makes the first in line the owner and is returned. [ErrFailed] says that no attempt is left.
func (c *Client) Once(ctx context.Context, key Key, work func(*Work) (string, error)) (string, error) {
	claim, err := c.Claim(ctx, key, ClaimRequest{})
	if err != nil {
		return "", err
	}
	if claim.Work == nil {
		return claim.Result()
	}
	finished := false
	defer func() {
		if !finished {
			// A panic, which goes on.
			_ = claim.Work.Fail("the work panicked")
		}
	}()
	note, err := work(claim.Work)
	finished = true
	if err != nil {
		text := err.Error()
		return "", errors.Join(err, claim.Work.Fail(strings.ToValidUTF8(text[:min(len(text), 1024)], "?")))
	}
	return note, claim.Work.Complete(note)
}

// Progress reports how far the work is: units done, units in all (0 if unknown), and where to look at it.
func (w *Work) Progress(done, total uint64, address string) error {
	return w.report(map[string]any{"done": done, "total": total, "address": address})
}

// Renew lets the lease of the grant begin again. The session is renewed without this.
func (w *Work) Renew(ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("%w: a TTL is longer than 0", ErrInvalid)
	}
	return w.report(map[string]any{"lease_ms": max(ttl.Milliseconds(), 1)})
}

func (w *Work) report(fields map[string]any) error {
	if w.Remaining() == 0 {
		return w.lost("")
	}
	fields["request_id"], fields["grant"] = w.number, w.grant
	err := w.session.post(w.session.ctx, "/v1/progress", fields, nil)
	if errors.Is(err, ErrSession) || w.session.ctx.Err() != nil {
		return w.lost("its session has ended")
	}
	return err
}

func (w *Work) lost(why string) error {
	if why == "" {
		why = "its session could not be renewed in time, or it was taken away"
	}
	return fmt.Errorf("keylatch: %w: %s; another may do %v meanwhile", ErrLost, why, w.key)
}

// Complete ends the work as a success: all that wait get the note. Completing it twice is harmless. It fails with
// [ErrLost] when the work was lost, and with [ErrFailed] when it was failed before.
func (w *Work) Complete(note string) error { return w.end(map[string]any{"note": note}) }

// Fail ends the work as a failure: the first in line has it now. It fails with [ErrLost] when the work was lost.
func (w *Work) Fail(reason string) error {
	if err := w.end(map[string]any{"error": reason}); !errors.Is(err, ErrFailed) {
		return err
	}
	return nil
}

func (w *Work) end(fields map[string]any) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.ended {
		return w.result
	}
	if w.Remaining() == 0 {
		// The server may have given the work to another by now.
		w.session.giveUp(w.number)
		w.ended, w.result = true, w.lost("")
		return w.result
	}
	fields["grant"] = w.grant
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	answer, err := w.session.finish(ctx, "/v1/complete", w.number, fields)
	switch {
	case errors.Is(err, ErrSession), errors.Is(err, ErrLost):
		w.ended, w.result = true, w.lost(err.Error())
	case errors.Is(err, ErrNotHeld):
		w.ended, w.result = true, err
	case err != nil:
		// Such as for a note that is too long: the work goes on.
		return err
	case answer.Error != nil:
		w.ended, w.result = true, fmt.Errorf("keylatch: %w: %s", ErrFailed, *answer.Error)
	default:
		w.ended = true
	}
	return w.result
}

// ClaimEvent is an event of a claimed resource.
type ClaimEvent struct {
	// Kind is "reset", "granted", "failed", "done", "progress" or "forgotten".
	Kind string
	// ID is its place among the events of the resource.
	ID string
	// Data is the event's JSON, as the service's OpenAPI document describes it.
	Data json.RawMessage
}

// Events calls hear with the events of a claimed resource: those after the event of that id, or a reset and all after it.
// It goes on over connections that break and restarts of the server, without a gap that it does not tell of, and returns
// when ctx ends or hear returns false.
func (c *Client) Events(ctx context.Context, key Key, after string, hear func(ClaimEvent) bool) error {
	if err := key.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts := []string{key.Bucket, key.Object}
	if key.Version != "" {
		parts = append(parts, key.Version)
	}
	name, err := json.Marshal(parts)
	if err != nil {
		return err
	}
	path, stopped := "/v1/events?resource="+url.QueryEscape(string(name)), false
	for {
		err := c.wire.stream(ctx, path, after, func(came event) {
			if stopped {
				return
			}
			after = came.id
			if !hear(ClaimEvent{came.name, came.id, came.data}) {
				stopped = true
				cancel()
			}
		})
		switch {
		case stopped:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !passing(err):
			return err
		}
		select {
		case <-c.closed:
			return ErrClosed
		default:
		}
	}
}
