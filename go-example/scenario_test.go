package keylatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Carries out ../tests/scenarios/*.json through the Go package. The page beside those files says what they mean.

// features is what the Go package can do beyond the verbs that every language has.
var features = []string{"sessions", "leases", "listing", "lock_delay", "request_ids", "events"}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("../tests/scenarios/*.json")
	ok(t, err)
	var passed int
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			ok(t, err)
			var scenario fields
			ok(t, json.Unmarshal(text, &scenario))
			for _, needed := range list(scenario.take("needs")) {
				if !slices.Contains(features, needed.(string)) {
					t.Skipf("needs %v", needed)
				}
			}
			if err := runScenario(t, scenario); err != nil {
				t.Fatal(err)
			}
			passed++
		})
	}
	if passed < 50 {
		t.Errorf("only %d scenarios were carried out", passed)
	}
}

type waiting struct {
	cancel context.CancelFunc
	ended  chan struct{}
	waited bool
	grant  Grant
	err    error
}

type runner struct {
	*testing.T
	m        *Manager
	grants   map[string]Grant
	waiting  map[string]*waiting
	fences   map[string]uint64
	sessions map[string]*Owner
	events   <-chan Event
}

func runScenario(t *testing.T, scenario fields) (err error) {
	if scenario.text("name") == "" {
		return errors.New("there is no name")
	}
	options, expected, err := settingsOf(scenario.take("manager"))
	if err != nil {
		return err
	}
	steps := list(scenario.take("steps"))
	left, _ := scenario.take("left").(map[string]any)
	if err := scenario.done(); err != nil {
		return err
	}
	m, err := New(options)
	if made, err := compare(expected, err); !made || err != nil {
		return err
	}
	defer m.Close()
	r := &runner{t, m, map[string]Grant{}, map[string]*waiting{}, map[string]uint64{}, map[string]*Owner{}, nil}
	for number, step := range steps {
		text, _ := json.Marshal(step)
		if err := r.step(step.(map[string]any)); err != nil {
			return fmt.Errorf("step %d %s: %w", number+1, text, err)
		}
	}
	figures, err := m.Metrics()
	if errors.Is(err, ErrClosed) {
		// Nothing is left of a closed manager.
		return nil
	}
	if err != nil {
		return err
	}
	for name, figure := range map[string]uint64{"holders": figures.Holders, "waiters": figures.Waiters} {
		wanted, _ := left[name].(float64)
		if uint64(wanted) != figure {
			return fmt.Errorf("%d %s are left", figure, name)
		}
	}
	return nil
}

func settingsOf(value any) (options Options, expected any, err error) {
	given, _ := value.(map[string]any)
	f := fields(given)
	expected = f.take("expect")
	word := f.text("fairness")
	fairness, known := map[string]Fairness{
		"": 0, "eventual": Eventual, "fifo": FIFO, "writer_first": WriterFirst, "reader_first": ReaderFirst,
	}[word]
	if !known {
		return options, nil, fmt.Errorf("%s is no fairness", word)
	}
	options.Fairness = fairness
	for name, setting := range map[string]*uint32{
		"shards": &options.Shards, "max_locks": &options.MaxLocks, "max_waiters": &options.MaxWaiters, "overtake_limit": &options.OvertakeLimit,
	} {
		if number, found := f.number(name); found {
			*setting = uint32(number)
		}
	}
	if number, found := f.number("max_key_bytes"); found {
		options.MaxKeyBytes = int(number)
	}
	for name, setting := range map[string]*time.Duration{
		"default_timeout_ms": &options.DefaultTimeout, "lock_delay_ms": &options.LockDelay,
	} {
		if number, found := f.number(name); found {
			*setting = milliseconds(number)
		}
	}
	if number, found := f.number("fairness_after_us"); found {
		options.FairnessAfter = max(milliseconds(number/1000), 1)
	}
	if delay, found := f["deadlock_delay_ms"]; found {
		options.DeadlockDelay = -1
		if number, is := delay.(float64); is {
			options.DeadlockDelay = max(milliseconds(number), 1)
		}
		f.take("deadlock_delay_ms")
	}
	options.Reentrancy = map[string]Reentrancy{"deny": Deny, "count": Count}[f.text("reentrancy")]
	options.Victim = map[string]Victim{"asker": Asker, "youngest": Youngest, "lowest_priority": LowestPriority}[f.text("victim")]
	return options, expected, f.done()
}

func (r *runner) step(step fields) error {
	verb, expected := step.text("do"), step.take("expect")
	do := map[string]func(fields, any) error{
		"try": r.try, "acquire": r.acquire, "start": r.start, "finish": r.finish, "waits": r.stillWaits, "cancel": r.cancelIt,
		"upgrade": r.upgradeIt, "start_upgrade": r.startUpgrade, "fence": r.fenceOf, "holds": r.holds, "batch": r.batch, "fill": r.fill,
		"metrics": r.metrics, "openmetrics": r.openMetrics, "session": r.session, "release_all": r.releaseAll,
		"end_session": r.endSession, "same_grant": r.sameGrant, "is_current": r.isCurrent, "blocking_chain": r.chain,
		"top": r.topOf, "remaining": r.remainingOf, "subscribe": r.subscribe, "events": r.happened,
		"holders":       r.listed((*Manager).Holders),
		"waiters":       r.waiters,
		"force_release": r.listed((*Manager).ForceRelease),
		"expire":        r.listed((*Manager).Expire),
		"release":       r.byGrant((*Manager).Release),
		"downgrade":     r.byGrant((*Manager).Downgrade),
		"try_upgrade":   r.byGrant((*Manager).TryUpgrade),
		"is_valid": func(f fields, expected any) error {
			grant, err := r.grantOf(f, "grant")
			if valid := r.m.Valid(grant); err == nil && valid != expected {
				err = fmt.Errorf("it came to %v", valid)
			}
			return err
		},
		"renew": func(f fields, expected any) error {
			ttl, _ := f.number("ttl_ms")
			return r.byGrant(func(m *Manager, grant Grant) error { return m.Renew(grant, milliseconds(ttl)) })(f, expected)
		},
		"health": func(_ fields, expected any) error {
			health, err := r.m.Health()
			if err == nil && health.Healthy != expected {
				err = fmt.Errorf("%+v", health)
			}
			return err
		},
		"sleep": func(f fields, _ any) error {
			number, _ := f.number("ms")
			time.Sleep(milliseconds(number))
			return nil
		},
		"close": func(fields, any) error { return r.m.Close() },
	}[verb]
	if do == nil {
		return fmt.Errorf("%s is no step", verb)
	}
	if err := do(step, expected); err != nil {
		return err
	}
	return step.done()
}
