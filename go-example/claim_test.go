package keylatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var layer = Key{Bucket: "layers", Object: "sha256:4711"}

func testClaims(t testing.TB, options ClaimsOptions) *Claims {
	t.Helper()
	claims := must(NewClaims(options))(t)
	t.Cleanup(func() {
		claims.mutex.Lock()
		left := len(claims.parked)
		claims.mutex.Unlock()
		if left != 0 {
			t.Errorf("%d goroutines are left", left)
		}
		claims.Close()
	})
	return claims
}

func claimant(t testing.TB, claims *Claims, name string) *Claimant {
	t.Helper()
	made := must(claims.Claimant(name, 0))(t)
	t.Cleanup(func() { made.Close() })
	return made
}

func yours(t testing.TB, c *Claimant, key Key) *Claim {
	t.Helper()
	ctx, cancel := context.WithTimeout(background, patience)
	defer cancel()
	claim := must(c.Claim(ctx, key, ClaimRequest{}))(t)
	if !claim.Yours() {
		t.Fatalf("the claim is %v", claim.ClaimAnswer)
	}
	return claim
}

// inLine waits until this many requests wait for the layer.
func inLine(t testing.TB, claims *Claims, count uint64) {
	t.Helper()
	until(t, fmt.Sprintf("%d wait", count), func() bool {
		watch := must(claims.Watch(layer, ClaimEventID{}))(t)
		defer watch.Close()
		event, here, err := watch.TryNext()
		return err == nil && here && event.Waiting == count
	})
}

func TestClaimGoroutinesDoTheWorkOnce(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{})
	var done atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			note, err := claims.Once(background, layer, "node", func(work *Claim) (string, error) {
				done.Add(1)
				return "12 MiB", work.Progress(ClaimProgress{Done: 12, Total: 12})
			})
			if note != "12 MiB" || err != nil {
				t.Errorf("it came to %q, %v", note, err)
			}
		})
	}
	all.Wait()
	if done.Load() != 1 {
		t.Errorf("the work was done %d times", done.Load())
	}
}

func TestClaimFailurePassesTheWorkOnInOrder(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{})
	first := yours(t, claimant(t, claims, "first"), layer)
	var attempts []uint32
	var all sync.WaitGroup
	for number := range uint64(5) {
		all.Go(func() {
			broken := errors.New("disk full")
			note, err := claims.Once(background, layer, "node", func(work *Claim) (string, error) {
				// One after the other: what the race detector looks at here is ordered by the claims alone.
				attempts = append(attempts, work.Attempt)
				if work.Attempt < 4 {
					return "", broken
				}
				return "here", nil
			})
			if number < 2 && !errors.Is(err, broken) || number >= 2 && (note != "here" || err != nil) {
				t.Errorf("goroutine %d came to %q, %v", number, note, err)
			}
		})
		inLine(t, claims, number+1)
	}
	ok(t, first.Fail("no"))
	all.Wait()
	if fmt.Sprint(attempts) != "[2 3 4]" {
		t.Errorf("the attempts were %v", attempts)
	}
}

func TestClaimContextEndLeavesTheLine(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{})
	first := yours(t, claimant(t, claims, "a"), layer)
	ctx, cancel := context.WithCancel(background)
	gave := make(chan error)
	second := claimant(t, claims, "b")
	go func() {
		_, err := second.Claim(ctx, layer, ClaimRequest{})
		gave <- err
	}()
	inLine(t, claims, 1)
	cancel()
	if err := <-gave; !errors.Is(err, context.Canceled) {
		t.Fatalf("%v came", err)
	}
	inLine(t, claims, 0)
	if _, err := second.Claim(ctx, layer, ClaimRequest{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v came", err)
	}
	ok(t, first.Fail("no"))
	third := yours(t, second, layer)
	if third.Attempt != 2 {
		t.Errorf("the attempt is %d", third.Attempt)
	}
	ok(t, third.Complete(""))
}

func TestClaimCancelAgainstGrantLosesNoWork(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{})
	a, b := claimant(t, claims, "a"), claimant(t, claims, "b")
	for round := range 500 {
		key := Key{Bucket: "race", Object: fmt.Sprint(round)}
		first := yours(t, a, key)
		ctx, cancel := context.WithCancel(background)
		var all sync.WaitGroup
		var second *Claim
		all.Go(func() { second, _ = b.Claim(ctx, key, ClaimRequest{}) })
		all.Go(func() { ok(t, first.Fail("no")) })
		all.Go(cancel)
		all.Wait()
		if second != nil && second.Yours() {
			ok(t, second.Complete("second"))
		} else {
			ok(t, yours(t, a, key).Complete("again"))
		}
	}
}

func TestClaimCompletionIsStored(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{})
	work := yours(t, claimant(t, claims, "a"), layer)
	ok(t, work.Fail("broken"))
	ok(t, work.Fail("again"))
	if err := work.Complete("late"); !errors.Is(err, ErrClaimFailed) || !strings.Contains(err.Error(), "broken") {
		t.Errorf("%v came", err)
	}
	wants(t, work.Progress(ClaimProgress{Done: 1}), ErrNotYours)
	wants(t, work.Renew(time.Second), ErrNotYours)
	if _, err := work.Result(); err == nil {
		t.Error("work that is to be done has no result")
	}
}

func TestClaimLostWorkIsAnError(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{})
	a := claimant(t, claims, "a")
	work := yours(t, a, layer)
	if released := must(claims.ForceRelease(layer))(t); !released {
		t.Error("the resource had an owner")
	}
	wants(t, work.Complete("late"), ErrLeaseLost)
	wants(t, work.Fail("late"), ErrLeaseLost)
	late := must(a.TryClaim(layer, ClaimRequest{TTL: 20 * time.Millisecond}))(t)
	next := yours(t, claimant(t, claims, "b"), layer)
	if next.Attempt != 3 {
		t.Errorf("the attempt is %d", next.Attempt)
	}
	wants(t, late.Complete("late"), ErrLeaseLost)
	ok(t, next.Complete("here"))
	done := must(a.TryClaim(layer, ClaimRequest{}))(t)
	if note, err := done.Result(); note != "here" || err != nil {
		t.Errorf("the result is %q, %v", note, err)
	}
}

func TestClaimUsedUpAttemptsFailForAll(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{})
	a := claimant(t, claims, "a")
	work := must(a.TryClaim(layer, ClaimRequest{MaxAttempts: 1}))(t)
	ok(t, work.Fail("broken"))
	_, err := claims.Once(background, layer, "b", func(*Claim) (string, error) { return "", nil })
	if !errors.Is(err, ErrClaimFailed) {
		t.Errorf("%v came", err)
	}
	if forgotten := must(claims.Forget(layer))(t); !forgotten {
		t.Error("there was an outcome")
	}
}

func TestClaimPanicIsAFailure(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{})
	func() {
		defer func() { _ = recover() }()
		_, _ = claims.Once(background, layer, "a", func(*Claim) (string, error) { panic("no") })
		t.Error("the panic did not go on")
	}()
	if again := yours(t, claimant(t, claims, "b"), layer); again.Attempt != 2 {
		t.Errorf("the attempt is %d", again.Attempt)
	}
}

func TestClaimNumbersSettleThemselves(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{MaxOpen: 2})
	a := claimant(t, claims, "a")
	for number := range 20 {
		ok(t, yours(t, a, Key{Object: fmt.Sprint(number)}).Complete(""))
	}
	_, err := a.TryClaim(layer, ClaimRequest{Number: 40})
	wants(t, err, ErrInvalidConfig)
	b := claimant(t, claims, "b")
	work := must(b.TryClaim(layer, ClaimRequest{Number: 40}))(t)
	again := must(b.TryClaim(layer, ClaimRequest{Number: 40}))(t)
	if !work.Yours() || again.Fence != work.Fence || again.Number() != 40 || again.Key() != layer {
		t.Errorf("%v, then %v", work.ClaimAnswer, again.ClaimAnswer)
	}
	_, err = b.TryClaim(layer, ClaimRequest{})
	wants(t, err, ErrInvalidConfig)
}

func TestClaimEventsWithoutGaps(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{Ring: 3})
	watch := must(claims.Watch(layer, ClaimEventID{}))(t)
	defer watch.Close()
	came := make(chan ClaimEvent)
	go func() {
		defer close(came)
		for {
			event, err := watch.Next(background)
			if err != nil {
				return
			}
			came <- event
		}
	}()
	reset := <-came
	work := yours(t, claimant(t, claims, "node-1"), layer)
	granted := <-came
	ok(t, work.Progress(ClaimProgress{5, 9, "http://node-1/x"}))
	progress := <-came
	ok(t, work.Complete("here"))
	done := <-came
	if reset.Kind != ClaimReset || granted.Kind != ClaimGranted || granted.Owner != "node-1" ||
		granted.Fence != work.Fence || progress.Kind != ClaimProgressed || progress.Done != 5 ||
		progress.Text != "http://node-1/x" || done.Kind != ClaimOutcome || !done.Succeeded || done.Text != "here" {
		t.Errorf("%v, %v, %v, %v", reset, granted, progress, done)
	}
	for number, event := range []ClaimEvent{reset, granted, progress, done} {
		if event.ID != (ClaimEventID{reset.ID.Epoch, reset.ID.Sequence + uint64(number)}) {
			t.Errorf("event %d is %v", number, event.ID)
		}
	}
	later := must(claims.Watch(layer, progress.ID))(t)
	defer later.Close()
	if event := must(later.Next(background))(t); event != done || later.Last() != done.ID {
		t.Errorf("%v came after %v", event, progress.ID)
	}
	late := must(claims.Watch(layer, ClaimEventID{done.ID.Epoch, 0}))(t)
	defer late.Close()
	if event := must(late.Next(background))(t); event.Kind != ClaimReset && reset.ID.Sequence > 0 {
		t.Errorf("%v came", event)
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	for {
		if _, err := later.Next(ctx); err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v came", err)
			}
			break
		}
	}
	ok(t, watch.Close())
	if _, more := <-came; more {
		t.Error("a closed watch had one more event")
	}
	_, _, err := watch.TryNext()
	wants(t, err, ErrClosed)
}

func TestClaimCloseEndsEveryWait(t *testing.T) {
	claims := must(NewClaims(ClaimsOptions{}))(t)
	first, second := must(claims.Claimant("a", 0))(t), must(claims.Claimant("b", 0))(t)
	work := yours(t, first, layer)
	watch := must(claims.Watch(layer, ClaimEventID{}))(t)
	defer watch.Close()
	gave := make(chan error)
	go func() {
		_, err := second.Claim(background, layer, ClaimRequest{})
		gave <- err
	}()
	inLine(t, claims, 1)
	ok(t, claims.Close())
	ok(t, claims.Close())
	wants(t, <-gave, ErrClosed)
	wants(t, work.Complete(""), ErrClosed)
	_, err := second.Claim(background, layer, ClaimRequest{})
	wants(t, err, ErrClosed)
	_, err = claims.Claimant("c", 0)
	wants(t, err, ErrClosed)
	_, err = claims.ForceRelease(layer)
	wants(t, err, ErrClosed)
	for err = nil; err == nil; {
		_, err = watch.Next(background)
	}
	wants(t, err, ErrClosed)
	ok(t, first.Close())
	ok(t, first.Close())
}

func TestClaimClosedClaimantEndsItsWaits(t *testing.T) {
	claims := testClaims(t, ClaimsOptions{})
	first, second := claimant(t, claims, "a"), claimant(t, claims, "b")
	work := yours(t, first, layer)
	gave := make(chan error)
	go func() {
		_, err := second.Claim(background, layer, ClaimRequest{})
		gave <- err
	}()
	inLine(t, claims, 1)
	ok(t, second.Close())
	wants(t, <-gave, ErrSessionGone)
	ok(t, first.Close())
	wants(t, work.Complete(""), ErrSessionGone)
	wants(t, first.Renew(), ErrSessionGone)
	_, err := first.TryClaim(layer, ClaimRequest{})
	wants(t, err, ErrSessionGone)
	if yours(t, claimant(t, claims, "c"), layer).Attempt != 2 {
		t.Error("the end of a claimant is a failure")
	}
}

func TestClaimWrongArgumentsAreErrors(t *testing.T) {
	for _, options := range []ClaimsOptions{{RetainFor: -1}, {Ring: -1}} {
		_, err := NewClaims(options)
		wants(t, err, ErrInvalidConfig)
	}
	claims := testClaims(t, ClaimsOptions{MaxClaimants: 1})
	_, err := claims.Claimant(strings.Repeat("x", 10_000), 0)
	wants(t, err, ErrInvalidArgument)
	_, err = claims.Claimant("a", -1)
	wants(t, err, ErrInvalidConfig)
	a := claimant(t, claims, "a")
	ok(t, a.Renew())
	_, err = claims.Claimant("b", 0)
	wants(t, err, ErrTooManyClaimants)
	_, err = a.TryClaim(Key{Object: strings.Repeat("x", 10_000)}, ClaimRequest{})
	wants(t, err, ErrInvalidKey)
	_, err = a.TryClaim(layer, ClaimRequest{TTL: -1})
	wants(t, err, ErrInvalidConfig)
	_, err = a.TryClaim(layer, ClaimRequest{TTL: 100 * time.Hour})
	wants(t, err, ErrInvalidConfig)
	work := yours(t, a, layer)
	wants(t, work.Complete(strings.Repeat("x", 10_000)), ErrInvalidArgument)
	ok(t, work.Complete("short"))
	var zero Claims
	if _, err := zero.Claimant("a", 0); !errors.Is(err, ErrClosed) {
		t.Errorf("%v came of no claims", err)
	}
	if _, err := zero.Forget(layer); !errors.Is(err, ErrClosed) {
		t.Errorf("%v came of no claims", err)
	}
	ok(t, zero.Close())
	for _, word := range []string{ClaimKind(99).String(), ClaimEventKind(99).String()} {
		if !strings.Contains(word, "99") {
			t.Errorf("%q does not say what it is", word)
		}
	}
}

func ExampleClaims_Once() {
	claims, err := NewClaims(ClaimsOptions{})
	if err != nil {
		panic(err)
	}
	defer claims.Close()
	key := Key{Bucket: "layers", Object: "sha256:4711"}
	for _, node := range []string{"node-1", "node-2"} {
		note, err := claims.Once(context.Background(), key, node, func(work *Claim) (string, error) {
			fmt.Println(node, "fetches")
			return "12 MiB", nil
		})
		fmt.Println(node, note, err)
	}
	// Output:
	// node-1 fetches
	// node-1 12 MiB <nil>
	// node-2 12 MiB <nil>
}
