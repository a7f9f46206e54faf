package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// Carries out the scenarios of ../../tests/scenarios that make sense with a server: verbs that the service has, and no
// settings, which are the server's. The page beside them says what they mean.

type fields map[string]any

func (f fields) text(name string) string    { text, _ := f[name].(string); return text }
func (f fields) number(name string) float64 { number, _ := f[name].(float64); return number }

func stories(t *testing.T, pattern string, makesSense func(name string, story fields) bool) map[string]fields {
	t.Helper()
	files, err := filepath.Glob("../../tests/scenarios/" + pattern)
	must(t, err)
	found := map[string]fields{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		var story fields
		must(t, json.Unmarshal(text, &story))
		if name := strings.TrimSuffix(filepath.Base(file), ".json"); makesSense(name, story) {
			found[name] = story
		}
	}
	return found
}

func steps(story fields) (list []fields) {
	for _, step := range story["steps"].([]any) {
		list = append(list, step.(map[string]any))
	}
	return list
}

// locksMakeSense says whether the service has what a story of locks needs.
func locksMakeSense(name string, story fields) bool {
	settings, _ := story["manager"].(map[string]any)
	isFIFO := len(settings) == 0 || reflect.DeepEqual(settings, map[string]any{"fairness": "fifo"})
	// Keys of more than a kilobyte; a fence that shared holds have in common; priorities, which this client does not send.
	if !isFIFO || slices.Contains([]string{"long_keys", "fences_grow", "priority_goes_first"}, name) {
		return false
	}
	verbs := []string{"try", "acquire", "start", "finish", "waits", "cancel", "release", "metrics"}
	known := []string{"do", "as", "key", "mode", "owner", "timeout_ms", "expect", "grant", "wait"}
	for _, step := range steps(story) {
		if !slices.Contains(verbs, step.text("do")) {
			return false
		}
		for field, value := range step {
			_, isText := value.(string)
			if !slices.Contains(known, field) || field == "owner" && !isText {
				return false
			}
		}
		key, _ := step["key"].([]any)
		for _, part := range key {
			if text, isText := part.(string); !isText || text == "" {
				return false
			}
		}
		figures, _ := step["expect"].(map[string]any)
		for figure := range figures {
			if step.text("do") == "metrics" && figure != "holders" && figure != "waiters" {
				return false
			}
		}
	}
	return true
}

type lockStory struct {
	*server
	clients map[string]*Client
	guards  map[string]*Guard
	waiting map[string]*pendingLock
}

type pendingLock struct {
	cancel context.CancelFunc
	ended  chan struct{}
	guard  *Guard
	err    error
}

func TestRemoteLockScenarios(t *testing.T) {
	s := serve(t)
	found := stories(t, "*.json", locksMakeSense)
	if len(found) < 10 {
		t.Errorf("only %d scenarios make sense", len(found))
	}
	for name, story := range found {
		t.Run(name, func(t *testing.T) {
			run := &lockStory{&server{t, s.process, s.url}, map[string]*Client{}, map[string]*Guard{}, map[string]*pendingLock{}}
			for number, step := range steps(story) {
				if err := run.step(step); err != nil {
					t.Fatalf("step %d %v: %v", number+1, step, err)
				}
			}
			left, _ := story["left"].(map[string]any)
			// What ended by its timeout may be granted in that moment; its client gives it back.
			holders, rows := int(fields(left).number("holders")), s.rows("locks")
			for begun := time.Now(); len(rows) != holders && time.Since(begun) < time.Minute; {
				rows = s.rows("locks")
			}
			if len(rows) != holders {
				t.Errorf("%v are left", rows)
			}
			for _, guard := range run.guards {
				_ = guard.Unlock()
			}
			for _, client := range run.clients {
				must(t, client.Close())
			}
			s.empty()
		})
	}
}

func (s *lockStory) step(step fields) error {
	owner := step.text("owner")
	if s.clients[owner] == nil {
		s.clients[owner] = s.client(owner)
	}
	client, name := s.clients[owner], step.text("as")
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	if timeout, isLimited := step["timeout_ms"].(float64); isLimited {
		late, stop := context.WithTimeout(ctx, time.Duration(timeout)*time.Millisecond)
		s.t.Cleanup(stop)
		ctx = late
	}
	lock := func() (*Guard, error) {
		key, _ := step["key"].([]any)
		asked := Key{Bucket: key[0].(string), Object: key[1].(string)}
		if len(key) > 2 {
			asked.Version = key[2].(string)
		}
		how := waits
		if step.text("do") == "try" || step["timeout_ms"] == 0.0 {
			how = tries
		}
		if step.text("mode") == "shared" {
			return client.lock(ctx, how, nil, []Key{asked})
		}
		return client.lock(ctx, how, []Key{asked}, nil)
	}
	switch step.text("do") {
	case "try", "acquire":
		guard, err := lock()
		if err == nil && name != "" {
			s.guards[name] = guard
		} else if err == nil {
			// Held until the end, without a name.
			s.guards[fmt.Sprintf("%p", guard)] = guard
		}
		return fits(step["expect"], err)
	case "start":
		before, pending := len(s.rows("waiters")), &pendingLock{cancel: cancel, ended: make(chan struct{})}
		go func() {
			defer close(pending.ended)
			pending.guard, pending.err = lock()
		}()
		s.waiting[name] = pending
		until(s.t, func() bool { return isClosed(pending.ended) || len(s.rows("waiters")) > before })
		if step["expect"] == "granted" {
			<-pending.ended
			s.guards[name] = pending.guard
			return pending.err
		}
		return nil
	case "finish":
		pending := s.waiting[step.text("wait")]
		<-pending.ended
		if pending.err == nil {
			s.guards[step.text("wait")] = pending.guard
		}
		return fits(step["expect"], pending.err)
	case "waits":
		if isClosed(s.waiting[step.text("wait")].ended) {
			return errors.New("it has ended")
		}
	case "cancel":
		pending := s.waiting[step.text("wait")]
		was := isClosed(pending.ended)
		before := len(s.rows("waiters"))
		pending.cancel()
		<-pending.ended
		until(s.t, func() bool { return was || len(s.rows("waiters")) < before })
		if expected, isSet := step["expect"].(bool); isSet && expected == was {
			return fmt.Errorf("it had ended: %v", was)
		}
	case "release":
		return fits(step["expect"], s.guards[step.text("grant")].Unlock())
	case "metrics":
		for figure, wanted := range step["expect"].(map[string]any) {
			rows := map[string]string{"holders": "locks", "waiters": "waiters"}[figure]
			until(s.t, func() bool { return len(s.rows(rows)) == int(wanted.(float64)) })
		}
	}
	return nil
}

func isClosed(ended chan struct{}) bool {
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// fits says whether what came was expected.
func fits(expected any, err error) error {
	wanted, _ := expected.(map[string]any)
	word, _ := wanted["error"].(string)
	if word == "" {
		return err
	}
	kinds := map[string]error{
		"would_block": ErrLocked, "timeout": context.DeadlineExceeded, "not_held": ErrNotHeld,
		"cancelled": context.Canceled,
	}
	isTry := word == "timeout" && errors.Is(err, ErrLocked)
	if kinds[word] == nil || !errors.Is(err, kinds[word]) && !isTry {
		return fmt.Errorf("it came to %v", err)
	}
	holders, _ := wanted["holders"].([]any)
	for _, holder := range holders {
		if !strings.Contains(err.Error(), fmt.Sprintf("%q", holder)) {
			return fmt.Errorf("%v does not name %v", err, holder)
		}
	}
	return nil
}

// claimsMakeSense says whether the service has what a story of claims needs.
func claimsMakeSense(_ string, story fields) bool {
	for _, step := range steps(story) {
		if step.text("do") == "forget" {
			return false
		}
	}
	return story["claims"] == nil
}

type claimStory struct {
	*server
	client   *Client
	bucket   string
	sessions map[string]*session
	below    map[string]float64
	fences   map[string]uint64
}

func TestRemoteClaimScenarios(t *testing.T) {
	s := serve(t)
	found := stories(t, "claims/*.json", claimsMakeSense)
	if len(found) < 13 {
		t.Errorf("only %d scenarios make sense", len(found))
	}
	for name, story := range found {
		t.Run(name, func(t *testing.T) {
			run := &claimStory{
				&server{t, s.process, s.url}, s.client("watcher"), name, map[string]*session{}, map[string]float64{},
				map[string]uint64{},
			}
			for number, step := range steps(story) {
				came, err := run.step(step)
				if err != nil {
					came = map[string]any{"error": claimWord(err)}
				}
				if !claimFits(step["expect"], came) {
					t.Fatalf("step %d %v came to %v, %v", number+1, step, came, err)
				}
			}
			for _, session := range run.sessions {
				session.end()
			}
		})
	}
}

func claimWord(err error) string {
	var refused *Error
	if !errors.As(err, &refused) {
		return err.Error()
	}
	switch refused.Problem {
	case "other_grant", "still_queued", "not_held", "not_yours":
		return "not_yours"
	case "number_reused":
		return "number_in_use"
	case "too_many_waiters":
		return "line_full"
	}
	return refused.Problem
}

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

func (s *claimStory) step(step fields) (any, error) {
	by, number := step.text("by"), step["number"]
	if by != "" && s.sessions[by] == nil {
		opened, err := openSession(context.Background(), s.client.wire, by, time.Minute)
		must(s.t, err)
		// The story counts the numbers; a renewal that says what is open would give them up, so it says nothing.
		for open := range uint64(16) {
			opened.belief.open[open] = nil
		}
		s.sessions[by] = opened
	}
	object := step.text("resource")
	if object == "" {
		object = "x"
	}
	key, of := Key{Bucket: s.bucket, Object: object}, fmt.Sprint(by, number)
	grant := func(of string) string {
		epoch, _, _ := strings.Cut(s.sessions[by].name, ".")
		return fmt.Sprintf("%s.%d", epoch, max(s.fences[of], 1))
	}
	post := func(path string, body map[string]any) (*answerBody, error) {
		body["request_id"] = number
		var answer answerBody
		if err := s.sessions[by].post(context.Background(), path, body, &answer); err != nil {
			return nil, err
		}
		return &answer, nil
	}
	switch step.text("do") {
	case "claim", "wait":
		body := map[string]any{"resource": key.fields(), "settled_below": s.below[by]}
		for _, name := range []string{
			"skip_if_claimed", "latest_only", "max_waiting", "max_attempts", "lease_ms", "retry_after_ms",
		} {
			if step[name] != nil {
				body[name] = step[name]
			}
		}
		if step.text("do") == "wait" {
			body["wait_ms"] = 25_000
		}
		answer, err := post("/v1/claim", body)
		if err != nil {
			return stored(err)
		}
		if answer.State == "yours" {
			if before, known := s.fences[of]; known && before != answer.Fence {
				return nil, fmt.Errorf("the fence was %d and is %d", before, answer.Fence)
			}
			s.fences[of] = answer.Fence
		}
		return answered(answer), nil
	case "complete":
		shown := of
		if other, _ := step["fence_of"].([]any); other != nil {
			shown = fmt.Sprint(other[0], other[1])
		}
		body := map[string]any{"grant": grant(shown)}
		if success, isSuccess := step["success"]; isSuccess {
			body["note"] = success
		} else {
			body["error"] = step["failure"]
		}
		answer, err := post("/v1/complete", body)
		if err != nil {
			return stored(err)
		}
		return answered(answer), nil
	case "progress":
		body := map[string]any{"grant": grant(of), "done": step["done"], "total": step["total"], "address": step.text("address")}
		_, err := post("/v1/progress", body)
		return nil, err
	case "renew":
		_, err := post("/v1/progress", map[string]any{"grant": grant(of), "lease_ms": step["lease_ms"]})
		return nil, err
	case "cancel":
		answer, err := post("/v1/cancel", map[string]any{})
		if err != nil {
			return nil, err
		}
		return answered(answer), nil
	case "settle_below":
		s.below[by] = step.number("below")
	case "end":
		s.sessions[by].end()
		delete(s.sessions, by)
	case "force_release":
		var answer struct{ Claims []any }
		body := map[string]any{"bucket": key.Bucket, "object": key.Object, "kind": "claims"}
		err := s.client.wire.call(context.Background(), "POST", "/v1/force-release", body, &answer)
		return len(answer.Claims) > 0, err
	case "events":
		// The ids of a resource's events say whether all have come: the first is one after that of a resource without any.
		expected := step["expect"].([]any)
		var kinds []any
		first := fmt.Sprint(strings.Split(s.sessions[slices.Sorted(maps.Keys(s.sessions))[0]].name, ".")[0], "-0")
		err := s.client.Events(limited(s.t, patience), key, first, func(event ClaimEvent) bool {
			kinds = append(kinds, event.Kind)
			return len(kinds) < len(expected)
		})
		return kinds, err
	}
	return nil, nil
}

// stored is the answer that the service tells as a problem.
func stored(err error) (any, error) {
	var refused *Error
	if errors.As(err, &refused) {
		switch refused.Problem {
		case "cancelled":
			return map[string]any{"answer": "cancelled"}, nil
		case "claim_lost":
			return map[string]any{"answer": "lost", "text": refused.Reason}, nil
		}
	}
	return nil, err
}

func answered(answer *answerBody) map[string]any {
	result := map[string]any{"answer": answer.State, "attempt": answer.Attempt, "ahead": answer.Place - 1, "text": answer.Owner}
	note, reason := answer.Note, answer.Error
	if answer.Outcome != nil {
		note, reason = answer.Outcome.Note, answer.Outcome.Error
	}
	if reason != nil {
		result["succeeded"], result["text"] = false, *reason
	} else if note != nil {
		result["succeeded"], result["text"] = true, *note
	}
	return result
}
