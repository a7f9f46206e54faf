package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// session is a session on the server: one lease for any number of locks and claims, renewed and reconnected in the
// background. One that has ended stays so; its client opens another one.
type session struct {
	wire     *wire
	name     string
	belief   *belief
	interval time.Duration

	// ctx ends with the session.
	ctx     context.Context
	cancel  context.CancelFunc
	keepers sync.WaitGroup
	nudge   chan struct{}

	mutex sync.Mutex
	// attached is closed once the stream stands, renewed at each renewal and made anew.
	attached   chan struct{}
	isAttached bool
	renewed    chan struct{}
}

type openBody struct {
	Owner  string `json:"owner"`
	TTLMs  int64  `json:"ttl_ms"`
	Attach bool   `json:"attach"`
}

// openSession opens a session and attaches its stream.
func openSession(ctx context.Context, w *wire, owner string, ttl time.Duration) (*session, error) {
	sent := now()
	var opened struct {
		Session string `json:"session"`
		ValidMs int64  `json:"valid_ms"`
	}
	if err := w.call(ctx, "POST", "/v1/sessions", openBody{owner, ttl.Milliseconds(), true}, &opened); err != nil {
		return nil, err
	}
	valid := time.Duration(opened.ValidMs) * time.Millisecond
	if opened.Session == "" || valid <= 0 {
		return nil, w.unreachable(errors.New("its answer is none of a lock service"))
	}
	s := &session{
		wire: w, name: opened.Session, belief: newBelief(sent+valid, now), interval: max(valid/3, time.Millisecond),
		nudge: make(chan struct{}, 1), attached: make(chan struct{}), renewed: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.keepers.Go(s.keepAttached)
	s.keepers.Go(s.keepRenewed)
	s.keepers.Go(s.keepWatch)
	// Before the stream stands the server grants nothing to the session.
	timer := time.NewTimer(s.belief.safeFor())
	defer timer.Stop()
	select {
	case <-s.attached:
		return s, nil
	case <-timer.C:
		s.end()
		return nil, fmt.Errorf("%w: its stream could not be attached in time; does a proxy in between buffer?", ErrSession)
	case <-s.ctx.Done():
		return nil, ErrSession
	case <-ctx.Done():
		s.end()
		return nil, ctx.Err()
	}
}

// post makes a call of the session's; it notices when the server says that the session has ended.
func (s *session) post(ctx context.Context, path string, body map[string]any, answer any) error {
	body["session"] = s.name
	err := s.wire.call(ctx, "POST", path, body, answer)
	if errors.Is(err, ErrSession) {
		s.endBelief()
	}
	return err
}

// answerBody is what became of a request: a lock's or a claim's.
type answerBody struct {
	RequestID    uint64       `json:"request_id"`
	State        string       `json:"state"`
	Grant        string       `json:"grant"`
	Fence        uint64       `json:"fence"`
	Attempt      uint32       `json:"attempt"`
	FirstInEpoch bool         `json:"first_in_epoch"`
	Place        int          `json:"place"`
	Holders      []holderRow  `json:"holders"`
	Reason       string       `json:"reason"`
	Owner        string       `json:"owner"`
	Note         *string      `json:"note"`
	Error        *string      `json:"error"`
	Outcome      *outcomeBody `json:"outcome"`
}

// ask asks for something, and waits for it until ctx ends. After an error the number is given up.
func (s *session) ask(ctx context.Context, path string, number uint64, how wait, fields map[string]any) (*answerBody, error) {
	answer, err := s.askOnce(ctx, path, number, how, fields)
	if err != nil {
		s.giveUp(number)
	}
	return answer, err
}

// wait says whether a request waits.
type wait int

const (
	waits wait = iota
	tries
)

func (s *session) askOnce(ctx context.Context, path string, number uint64, how wait, fields map[string]any) (*answerBody, error) {
	var holders []holderRow
	for {
		poll := pollTime
		if deadline, has := ctx.Deadline(); has {
			// A number that waits is not to be refused because the time is nearly over.
			poll = min(max(time.Until(deadline), time.Millisecond), pollTime)
		}
		if how == tries {
			poll = 0
		}
		body := map[string]any{
			"request_id": number, "wait_ms": poll.Milliseconds(), "client_timeout_ms": callTime.Milliseconds(),
			"settled_below": s.belief.settledBelow(),
		}
		if how == waits {
			body["wait_ms"] = max(poll.Milliseconds(), 1)
		}
		for name, value := range fields {
			body[name] = value
		}
		var answer answerBody
		err := s.postUntilAnswered(ctx, path, body, &answer)
		switch {
		case err == nil && (answer.State != "waiting" || how == tries):
			return &answer, nil
		case err == nil:
			holders = answer.Holders
		case s.belief.isOver():
			return nil, fmt.Errorf("keylatch: %w: %w", ErrSession, err)
		case ctx.Err() == nil && (!passing(err) || how == tries):
			return nil, err
		}
		if ctx.Err() != nil {
			if holders == nil && errors.Is(err, ErrUnreachable) && !errors.Is(err, ctx.Err()) {
				return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
			}
			return nil, &waitError{ctx.Err(), holdersOf(holders)}
		}
		if err != nil {
			pause(ctx, firstPause)
		}
	}
}

// postUntilAnswered is a call that outlasts ctx's deadline by a little: the server answers by then, and names the holders.
func (s *session) postUntilAnswered(ctx context.Context, path string, body map[string]any, answer any) error {
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			pause(call, spareTime)
		}
		cancel()
	})
	defer stop()
	return s.post(call, path, body, answer)
}

// waitError is the end of a wait, with what is known of those it waited for.
type waitError struct {
	cause   error
	holders []Holder
}

func (e *waitError) Error() string {
	if len(e.holders) == 0 {
		return "keylatch: the wait ended: " + e.cause.Error()
	}
	return "keylatch: the wait ended: " + e.cause.Error() + "; " + heldBy(e.holders)
}

func (e *waitError) Unwrap() error { return e.cause }

func pause(ctx context.Context, length time.Duration) {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// untilSafe holds what a number got, once the belief covers it: a renewal is on its way, if it does not.
func (s *session) untilSafe(ctx context.Context, number uint64) (*fate, error) {
	for s.belief.safeFor() == 0 {
		renewed := s.renewal()
		s.wantRenewal()
		select {
		case <-renewed:
		case <-s.ctx.Done():
			return nil, ErrSession
		case <-ctx.Done():
			s.giveUp(number)
			return nil, ctx.Err()
		}
	}
	return s.belief.hold(number), nil
}

// finish ends a number: unlock, cancel or complete. It is repeated while that can make a difference. A number whose end
// the server refused, or may not have heard of, stays open: the caller may try again.
func (s *session) finish(ctx context.Context, path string, number uint64, fields map[string]any) (*answerBody, error) {
	for {
		body := map[string]any{"request_id": number, "settled_below": s.belief.settledBelow()}
		for name, value := range fields {
			body[name] = value
		}
		var answer answerBody
		err := s.post(ctx, path, body, &answer)
		switch {
		case err == nil:
			s.belief.settle(number)
			return &answer, nil
		case errors.Is(err, ErrSession) || errors.Is(err, ErrLost) || errors.Is(err, ErrNotHeld):
			s.belief.settle(number)
			return nil, err
		case !passing(err) || s.belief.safeFor() == 0 || ctx.Err() != nil:
			return nil, err
		}
		pause(ctx, firstPause)
	}
}

// giveUp cancels a number in the background. Should that not arrive, the next renewal does it.
func (s *session) giveUp(number uint64) {
	s.belief.settle(number)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.ctx.Err() == nil {
		s.keepers.Go(func() { _ = s.post(s.ctx, "/v1/cancel", map[string]any{"request_id": number}, nil) })
	}
}

// endBelief notes that the session has ended.
func (s *session) endBelief() {
	s.belief.end()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.cancel()
}

// end ends the session, and with it what it holds.
func (s *session) end() {
	tell := !s.belief.isOver()
	s.endBelief()
	s.keepers.Wait()
	if tell {
		// The end of the stream tells the server as well, after the grace.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.wire.call(ctx, "DELETE", "/v1/sessions/"+s.name, nil, nil)
	}
}

func (s *session) keepAttached() {
	for s.ctx.Err() == nil {
		err := s.wire.stream(s.ctx, "/v1/sessions/"+s.name+"/attach", "", s.hear)
		if !passing(err) {
			s.endBelief()
		}
	}
}

func (s *session) hear(came event) {
	switch came.name {
	case "attached":
		s.mutex.Lock()
		if !s.isAttached {
			s.isAttached = true
			close(s.attached)
		}
		s.mutex.Unlock()
	case "lost", "claim":
		var answer answerBody
		if json.Unmarshal(came.data, &answer) == nil && (came.name == "lost" || answer.State == "lost") {
			s.belief.lose(answer.RequestID)
		}
	case "gone":
		s.endBelief()
	case "resync":
		s.wantRenewal()
	}
}

// keepWatch has a lapse noticed when it happens, also by those who make no calls.
func (s *session) keepWatch() {
	for s.ctx.Err() == nil {
		renewed := s.renewal()
		if left := s.belief.safeFor(); left > 0 {
			pause(s.ctx, left)
			continue
		}
		select {
		case <-renewed:
		case <-s.ctx.Done():
		}
	}
}

func (s *session) keepRenewed() {
	for s.ctx.Err() == nil {
		timer := time.NewTimer(s.interval)
		select {
		case <-timer.C:
		case <-s.nudge:
		case <-s.ctx.Done():
		}
		timer.Stop()
		for s.ctx.Err() == nil && s.renew() != nil {
			pause(s.ctx, firstPause)
		}
	}
}

func (s *session) renew() error {
	holding := s.belief.holding()
	next, open, below := s.belief.standing()
	sent := now()
	// An answer that is late is worth nothing; the next attempt is.
	ctx, cancel := context.WithTimeout(s.ctx, max(s.interval, time.Second))
	defer cancel()
	var answer struct {
		ValidMs  int64        `json:"valid_ms"`
		Requests []answerBody `json:"requests"`
		Claims   []answerBody `json:"claims"`
	}
	body := map[string]any{"next": next, "open": open, "settled_below": below}
	if err := s.post(ctx, "/v1/renew", body, &answer); err != nil {
		return err
	}
	s.belief.extend(sent, time.Duration(answer.ValidMs)*time.Millisecond)
	for _, number := range holding {
		holds := func(row answerBody) bool {
			return row.RequestID == number && (row.State == "granted" || row.State == "yours")
		}
		if !slices.ContainsFunc(answer.Requests, holds) && !slices.ContainsFunc(answer.Claims, holds) {
			s.belief.lose(number)
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	close(s.renewed)
	s.renewed = make(chan struct{})
	return nil
}

// renewal is closed when a renewal succeeds from now on.
func (s *session) renewal() chan struct{} {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.renewed
}

func (s *session) wantRenewal() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}
