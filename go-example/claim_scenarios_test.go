package keylatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Carries out ../tests/scenarios/claims/*.json through the Go package. The page beside that folder says what they mean.

func TestClaimScenarios(t *testing.T) {
	files, err := filepath.Glob("../tests/scenarios/claims/*.json")
	ok(t, err)
	if len(files) < 18 {
		t.Fatalf("there are only %d scenarios", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			ok(t, err)
			var story map[string]any
			ok(t, json.Unmarshal(text, &story))
			if err := runClaims(t, story); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestClaimRunnerNotices(t *testing.T) {
	const claim = `{"do": "claim", "by": "a", "number": 1, "expect": {"answer": "yours"}}`
	for _, steps := range []string{
		`{"do": "dance"}`,
		`{"do": "claim", "by": "a", "number": 1, "expect": {"answer": "waiting"}}`,
		`{"do": "claim", "by": "a", "number": 1, "colour": "red", "expect": {"answer": "yours"}}`,
		claim + `, {"do": "claim", "by": "a", "number": 1, "expect": {"error": "line_full"}}`,
		claim + `, {"do": "events", "expect": []}`,
		`{"do": "forget", "expect": true}`,
	} {
		var story map[string]any
		ok(t, json.Unmarshal([]byte(`{"steps": [`+steps+`]}`), &story))
		if err := runClaims(t, story); err == nil {
			t.Errorf("%s came to nothing", steps)
		}
	}
	var story map[string]any
	ok(t, json.Unmarshal([]byte(`{"steps": [`+claim+`]}`), &story))
	ok(t, runClaims(t, story))
}

// claimStory is one set of claims, and what the steps left.
type claimStory struct {
	t         *testing.T
	claims    *Claims
	watch     *ClaimWatch
	claimants map[string]*Claimant
	fences    map[string]uint64
	events    []any
}

func runClaims(t *testing.T, story map[string]any) error {
	settings, _ := story["claims"].(map[string]any)
	count := func(name string) int { number, _ := settings[name].(float64); return int(number) }
	claims := must(NewClaims(ClaimsOptions{
		RetainCount: count("retain_count"), Ring: count("ring"), MaxOpen: count("max_open"),
		MaxClaimants: count("max_claimants"), MaxWaiters: count("max_waiters"),
	}))(t)
	defer claims.Close()
	watch := must(claims.Watch(Key{Bucket: "layers", Object: "x"}, ClaimEventID{}))(t)
	defer watch.Close()
	if event, here, err := watch.TryNext(); err != nil || !here || event.Kind != ClaimReset {
		return fmt.Errorf("a watch begins with a reset, not %v (%v)", event, err)
	}
	s := &claimStory{t, claims, watch, map[string]*Claimant{}, map[string]uint64{}, []any{}}
	defer func() {
		for _, claimant := range s.claimants {
			claimant.Close()
		}
	}()
	for at, step := range list(story["steps"]) {
		f := fields(step.(map[string]any))
		text, _ := json.Marshal(step)
		expected := f.take("expect")
		came, err := s.step(f)
		if err != nil {
			var code Code
			if !errors.As(err, &code) {
				return fmt.Errorf("step %d %s: %w", at+1, text, err)
			}
			came = map[string]any{"error": claimWord(code)}
		}
		if err := f.done(); err != nil {
			return fmt.Errorf("step %d %s: %w", at+1, text, err)
		}
		if !claimFits(expected, came) {
			return fmt.Errorf("step %d %s came to %v", at+1, text, came)
		}
	}
	return nil
}

func claimWord(code Code) string {
	words := map[Code]string{
		ErrNotYours: "not_yours", ErrLineFull: "line_full", ErrSessionGone: "session_gone",
		ErrEpochChanged: "epoch_changed", ErrStaleRequest: "stale_request", ErrNumberInUse: "number_in_use",
		ErrTooManyOpen: "too_many_open", ErrTooManyClaimants: "too_many_sessions",
	}
	if word, known := words[code]; known {
		return word
	}
	return code.Error()
}

// claimFits says whether all that is expected came.
func claimFits(expected, came any) bool {
	wanted, isObject := expected.(map[string]any)
	got, isAnswer := came.(map[string]any)
	if !isObject || !isAnswer {
		return fmt.Sprint(expected) == fmt.Sprint(came)
	}
	for name, value := range wanted {
		if fmt.Sprint(got[name]) != fmt.Sprint(value) {
			return false
		}
	}
	return true
}

func (s *claimStory) step(f fields) (any, error) {
	verb, by := f.text("do"), f.text("by")
	number := claimNumber(f, "number")
	key := Key{Bucket: "layers", Object: "x"}
	if object := f.text("resource"); object != "" {
		key.Object = object
	}
	if by != "" && s.claimants[by] == nil {
		s.claimants[by] = must(s.claims.Claimant(by, 0))(s.t)
	}
	claimant, of := s.claimants[by], fmt.Sprint(by, number)
	switch verb {
	case "claim", "wait":
		request := claimRequest(f, number)
		var claim *Claim
		var err error
		if verb == "claim" {
			claim, err = claimant.TryClaim(key, request)
		} else {
			ctx, cancel := context.WithTimeout(background, patience)
			defer cancel()
			claim, err = claimant.Claim(ctx, key, request)
		}
		if err != nil {
			return nil, err
		}
		if before, known := s.fences[of]; claim.Yours() && known && before != claim.Fence {
			return nil, fmt.Errorf("the request had the fence %d and has %d", before, claim.Fence)
		}
		if claim.Yours() {
			s.fences[of] = claim.Fence
		}
		return claimAnswered(claim.ClaimAnswer), nil
	case "complete":
		shown := of
		if other := list(f.take("fence_of")); other != nil {
			shown = fmt.Sprint(other[0].(string), uint64(other[1].(float64)))
		}
		success, isSuccess := f["success"]
		failure := f.text("failure")
		f.take("success")
		text, _ := success.(string)
		if !isSuccess {
			text = failure
		}
		answer, err := claimant.Adopt(key, number, s.fences[shown]).End(isSuccess, text)
		return claimAnswered(answer), err
	case "progress":
		fence, known := s.fences[of]
		if !known {
			fence = 1
		}
		progress := ClaimProgress{claimNumber(f, "done"), claimNumber(f, "total"), f.text("address")}
		return nil, claimant.Adopt(key, number, fence).Progress(progress)
	case "renew":
		ttl := time.Duration(claimNumber(f, "lease_ms")) * time.Millisecond
		return nil, claimant.Adopt(key, number, s.fences[of]).Renew(ttl)
	case "cancel":
		answer, err := claimant.Cancel(number)
		return claimAnswered(answer), err
	case "settle_below":
		return nil, claimant.SettleBelow(claimNumber(f, "below"))
	case "end":
		delete(s.claimants, by)
		return nil, claimant.Close()
	case "force_release":
		return s.claims.ForceRelease(key)
	case "forget":
		return s.claims.Forget(key)
	case "events":
		for {
			event, here, err := s.watch.TryNext()
			if err != nil {
				return nil, err
			}
			if !here {
				return s.events, nil
			}
			s.events = append(s.events, event.Kind.String())
		}
	}
	return nil, fmt.Errorf("%s is no step", verb)
}

func claimNumber(f fields, name string) uint64 {
	number, _ := f.take(name).(float64)
	return uint64(number)
}

func claimRequest(f fields, number uint64) ClaimRequest {
	milliseconds := func(name string) time.Duration {
		return time.Duration(claimNumber(f, name)) * time.Millisecond
	}
	flag := func(name string) bool { set, _ := f.take(name).(bool); return set }
	return ClaimRequest{
		Number: number, TTL: milliseconds("lease_ms"), RetryAfter: milliseconds("retry_after_ms"),
		MaxAttempts: uint32(claimNumber(f, "max_attempts")), MaxWaiting: claimNumber(f, "max_waiting"),
		SkipIfClaimed: flag("skip_if_claimed"), LatestOnly: flag("latest_only"),
	}
}

func claimAnswered(answer ClaimAnswer) map[string]any {
	answered := map[string]any{"answer": answer.Kind.String()}
	switch answer.Kind {
	case ClaimWaiting:
		answered["ahead"] = answer.Ahead
	case ClaimYours:
		answered["attempt"] = answer.Attempt
	case ClaimDone, ClaimEnded:
		answered["succeeded"], answered["text"] = answer.Succeeded, answer.Text
	case ClaimLost, ClaimSkipped:
		answered["text"] = answer.Text
	}
	return answered
}
