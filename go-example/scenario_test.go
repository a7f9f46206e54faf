package keylatch

import (
	"context"
	"encoding/hex"
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

// Carries out ../tests/scenarios/*.json through the Go front. The page beside those files says what they mean.

// features is what the Go front can do beyond the verbs that every front has.
var features = []string{"sessions", "leases", "listing", "lock_delay", "request_ids"}

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

// fields are those of an object that have not been read yet.
type fields map[string]any

func (f fields) take(name string) any {
	value := f[name]
	delete(f, name)
	return value
}

func (f fields) text(name string) string {
	text, _ := f.take(name).(string)
	return text
}

func (f fields) number(name string) (float64, bool) {
	number, found := f.take(name).(float64)
	return number, found
}

func (f fields) done() error {
	if len(f) > 0 {
		return fmt.Errorf("not understood: %v", map[string]any(f))
	}
	return nil
}

func list(value any) []any {
	all, _ := value.([]any)
	return all
}

func milliseconds(number float64) time.Duration {
	return time.Duration(number * float64(time.Millisecond))
}

func part(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case map[string]any:
		f := fields(value)
		if digits := f.text("hex"); digits != "" {
			bytes, err := hex.DecodeString(digits)
			if err != nil {
				panic(err)
			}
			return string(bytes)
		}
		times, _ := f.number("times")
		return strings.Repeat(f.text("repeat"), int(times))
	}
	panic(fmt.Sprintf("%v is no part of a key", value))
}

func keyOf(value any) Key {
	parts := list(value)
	key := Key{Bucket: part(parts[0]), Object: part(parts[1])}
	if len(parts) == 3 {
		key.Version = part(parts[2])
		key.EmptyVersion = key.Version == ""
	}
	return key
}

func modeOf(word string) Mode {
	switch word {
	case "shared":
		return Shared
	case "exclusive":
		return Exclusive
	}
	panic(word + " is no mode")
}

var words = map[string]Code{
	"timeout": ErrTimeout, "would_block": ErrWouldBlock, "deadlock": ErrDeadlock, "cancelled": cancelled,
	"closed": ErrClosed, "not_held": ErrNotHeld, "lease_lost": ErrLeaseLost, "table_full": ErrTableFull,
	"invalid_key": ErrInvalidKey, "invalid_config": ErrInvalidConfig, "forked": ErrForked,
	"upgrade_conflict": ErrUpgradeConflict, "too_many_waiters": ErrTooManyWaiters,
}

// compare fails unless err is what was expected; succeeded says that success was.
func compare(expected any, err error) (succeeded bool, _ error) {
	if expected == nil || expected == "ok" {
		return err == nil, err
	}
	wanted, is := expected.(map[string]any)
	if !is || wanted["error"] == nil {
		return false, fmt.Errorf("%v cannot be expected here (%v came)", expected, err)
	}
	f := fields(wanted)
	code, known := words[f.text("error")]
	if !known {
		return false, fmt.Errorf("%v is no error", expected)
	}
	if code == cancelled {
		// A context's error comes as it is.
		if !errors.Is(err, context.Canceled) {
			return false, fmt.Errorf("%v came, not that it was cancelled", err)
		}
		return false, nil
	}
	if !errors.Is(err, code) {
		return false, fmt.Errorf("%v came, not %v", err, code)
	}
	var told *Error
	if !errors.As(err, &told) {
		told = &Error{Code: code}
	}
	for _, name := range list(f.take("holders")) {
		if !slices.ContainsFunc(told.Holders, func(p Party) bool { return p.Owner == name }) {
			return false, fmt.Errorf("%v is not among the holders of: %+v", name, told)
		}
	}
	if key := f.take("key"); key != nil && (!told.HasKey || told.Key != keyOf(key)) {
		return false, fmt.Errorf("%v is not the key of: %v", key, told)
	}
	if transient := f.take("transient"); transient != nil && transient != told.Transient() {
		return false, fmt.Errorf("transient is %v: %v", told.Transient(), told)
	}
	if text := f.text("text"); !strings.Contains(told.Error(), text) {
		return false, fmt.Errorf("there is no %q in: %v", text, told)
	}
	if cycle := list(f.take("cycle")); cycle != nil {
		var names []any
		for _, party := range told.Cycle {
			names = append(names, party.Owner)
		}
		if !sameInAnyOrder(cycle, names, func(a, b any) bool { return a == b }) {
			return false, fmt.Errorf("the circle is %v", names)
		}
	}
	return false, f.done()
}

// sameInAnyOrder tells whether each wanted has a found of its own.
func sameInAnyOrder[W, F any](wanted []W, found []F, same func(W, F) bool) bool {
	left := slices.Clone(found)
	for _, one := range wanted {
		place := slices.IndexFunc(left, func(f F) bool { return same(one, f) })
		if place < 0 {
			return false
		}
		left = slices.Delete(left, place, place+1)
	}
	return len(left) == 0
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
	r := &runner{t, m, map[string]Grant{}, map[string]*waiting{}, map[string]uint64{}, map[string]*Owner{}}
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
		"top": r.topOf, "remaining": r.remainingOf,
		"holders":       r.listed((*Manager).Holders),
		"waiters":       r.listed((*Manager).Waiters),
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

func (r *runner) grantOf(f fields, field string) (Grant, error) {
	name := f.text(field)
	grant, known := r.grants[name]
	if !known {
		return 0, fmt.Errorf("nothing was granted as %q", name)
	}
	return grant, nil
}

// asked is a request: its key, its mode and what it says of itself.
func (r *runner) asked(f fields) (Key, Mode, []Option, error) {
	options, err := r.options(f)
	return keyOf(f.take("key")), modeOf(f.text("mode")), options, err
}

func (r *runner) options(f fields) (options []Option, err error) {
	switch owner := f.take("owner").(type) {
	case string:
		options = append(options, WithOwner(owner))
	case map[string]any:
		named := fields(owner)
		made, err := r.m.Owner(named.text("name"), WithSource(named.text("source")))
		if err != nil {
			return nil, err
		}
		options = append(options, By(made))
	}
	if name := f.text("session"); name != "" {
		options = append(options, By(r.sessions[name]))
	}
	if number, found := f.number("priority"); found {
		options = append(options, WithPriority(uint8(number)))
	}
	if number, found := f.number("ttl_ms"); found {
		options = append(options, WithTTL(milliseconds(number)))
	}
	if number, found := f.number("request_id"); found {
		options = append(options, WithRequestID(uint64(number)))
	}
	if timeout, found := f["timeout_ms"]; found {
		if number, is := timeout.(float64); is {
			options = append(options, WithTimeout(milliseconds(number)))
		} else {
			options = append(options, WithoutTimeout())
		}
		f.take("timeout_ms")
	}
	return options, nil
}

func (r *runner) try(f fields, expected any) error {
	name := f.text("as")
	key, mode, options, err := r.asked(f)
	if err != nil {
		return err
	}
	grant, err := r.m.TryAcquire(key, mode, options...)
	return r.granted(name, grant, expected, err)
}

func (r *runner) granted(name string, grant Grant, expected any, err error) error {
	succeeded, err := compare(expected, err)
	if succeeded && name != "" {
		r.grants[name] = grant
	}
	return err
}

func (r *runner) acquire(f fields, expected any) error {
	name, took := f.text("as"), list(f.take("took_ms"))
	key, mode, options, err := r.asked(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(background, patience)
	defer cancel()
	began := time.Now()
	grant, err := r.m.Acquire(ctx, key, mode, options...)
	passed := time.Since(began)
	if took != nil && (passed < milliseconds(took[0].(float64)) || passed > milliseconds(took[1].(float64)+1)) {
		return fmt.Errorf("it took %v", passed)
	}
	return r.granted(name, grant, expected, err)
}

// begin carries something out that may wait, in the background, until it waits or has ended.
func (r *runner) begin(what func(context.Context) (Grant, error)) *waiting {
	inLine := func() uint64 {
		figures, _ := r.m.Metrics()
		return figures.Waits
	}
	before := inLine()
	ctx, cancel := context.WithCancel(background)
	w := &waiting{cancel: cancel, ended: make(chan struct{})}
	go func() {
		w.grant, w.err = what(ctx)
		close(w.ended)
	}()
	until(r, "it waits", func() bool {
		select {
		case <-w.ended:
			return true
		default:
			return inLine() > before
		}
	})
	// It may have ended since.
	w.waited = inLine() > before
	return w
}

func (r *runner) start(f fields, expected any) error {
	name := f.text("as")
	key, mode, options, err := r.asked(f)
	if err != nil {
		return err
	}
	w := r.begin(func(ctx context.Context) (Grant, error) { return r.m.Acquire(ctx, key, mode, options...) })
	if w.waited {
		if expected != nil && expected != "ok" {
			return fmt.Errorf("it waits, where %v was expected", expected)
		}
		r.waiting[name] = w
		return nil
	}
	if expected == "granted" && w.err == nil {
		r.grants[name] = w.grant
		return nil
	}
	if w.err == nil {
		return errors.New("it was granted at once")
	}
	_, err = compare(expected, w.err)
	return err
}

func (r *runner) startUpgrade(f fields, _ any) error {
	name := f.text("as")
	grant, err := r.grantOf(f, "grant")
	if err != nil {
		return err
	}
	options, err := r.options(f)
	if err != nil {
		return err
	}
	r.waiting[name] = r.begin(func(ctx context.Context) (Grant, error) { return grant, r.m.Upgrade(ctx, grant, options...) })
	return nil
}

func (r *runner) waiter(f fields) (string, *waiting, error) {
	name := f.text("wait")
	w := r.waiting[name]
	if w == nil {
		return name, nil, fmt.Errorf("nothing waits as %q", name)
	}
	return name, w, nil
}

func (r *runner) finish(f fields, expected any) error {
	name, w, err := r.waiter(f)
	if err != nil {
		return err
	}
	select {
	case <-w.ended:
	case <-time.After(patience):
		return errors.New("it has not ended")
	}
	return r.granted(name, w.grant, expected, w.err)
}

func (r *runner) stillWaits(f fields, _ any) error {
	_, w, err := r.waiter(f)
	if err != nil {
		return err
	}
	select {
	case <-w.ended:
		return fmt.Errorf("it has ended: %d %v", w.grant, w.err)
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

func (r *runner) cancelIt(f fields, expected any) error {
	_, w, err := r.waiter(f)
	if err != nil {
		return err
	}
	if expected == false {
		// It has its lock, or is about to: cancelling comes after that.
		select {
		case <-w.ended:
		case <-time.After(patience):
			return errors.New("it has not ended")
		}
	}
	var before bool
	select {
	case <-w.ended:
		before = true
	default:
	}
	w.cancel()
	<-w.ended
	if ended := !before && w.err == context.Canceled; ended != expected {
		return fmt.Errorf("it came to %v", ended)
	}
	return nil
}

func (r *runner) byGrant(act func(*Manager, Grant) error) func(fields, any) error {
	return func(f fields, expected any) error {
		grant, err := r.grantOf(f, "grant")
		if err != nil {
			return err
		}
		_, err = compare(expected, act(r.m, grant))
		return err
	}
}

func (r *runner) upgradeIt(f fields, expected any) error {
	grant, err := r.grantOf(f, "grant")
	if err != nil {
		return err
	}
	options, err := r.options(f)
	if err != nil {
		return err
	}
	_, err = compare(expected, r.m.Upgrade(background, grant, options...))
	return err
}

func (r *runner) fenceOf(f fields, expected any) error {
	grant, err := r.grantOf(f, "grant")
	if err != nil {
		return err
	}
	name, greater, equal := f.text("as"), f.text("greater_than"), f.text("equal_to")
	fence, err := r.m.Fence(grant)
	if succeeded, err := compare(expected, err); !succeeded || err != nil {
		return err
	}
	if greater != "" && fence <= r.fences[greater] || equal != "" && fence != r.fences[equal] {
		return fmt.Errorf("it is %d; known are %v", fence, r.fences)
	}
	r.fences[name] = fence
	return nil
}

func (r *runner) holds(f fields, _ any) error {
	grant, err := r.grantOf(f, "grant")
	if err != nil {
		return err
	}
	if word := f.text("mode"); word != "" {
		if mode, err := r.m.Mode(grant); err != nil || mode != modeOf(word) {
			return fmt.Errorf("it is held %v: %v", mode, err)
		}
	}
	if wanted := f.take("key"); wanted != nil {
		if key, err := r.m.Key(grant); err != nil || key != keyOf(wanted) {
			return fmt.Errorf("it holds %v: %v", key, err)
		}
	}
	return nil
}

func (r *runner) batch(f fields, expected any) error {
	names := list(f.take("as"))
	var wanted []Item
	for _, one := range list(f.take("keys")) {
		item := fields(one.(map[string]any))
		wanted = append(wanted, Item{keyOf(item.take("key")), modeOf(item.text("mode"))})
		if err := item.done(); err != nil {
			return err
		}
	}
	options, err := r.options(f)
	if err != nil {
		return err
	}
	if f.take("best_effort") == true {
		options = append(options, WithBestEffort())
	}
	var missing []any
	if object, is := expected.(map[string]any); is && object["missing"] != nil {
		missing, expected = list(object["missing"]), nil
	}
	batch, err := r.m.LockMany(background, wanted, options...)
	if succeeded, err := compare(expected, err); !succeeded || err != nil {
		return err
	}
	for i, item := range wanted {
		if batch.Grant(i) != 0 {
			r.grants[names[i].(string)] = batch.Grant(i)
			continue
		}
		named := slices.ContainsFunc(wanted[:i], func(other Item) bool { return other.Key == item.Key })
		place := slices.IndexFunc(missing, func(key any) bool { return keyOf(key) == item.Key })
		if place < 0 && !named {
			return fmt.Errorf("%v is missing", item.Key)
		}
		if place >= 0 {
			missing = slices.Delete(missing, place, place+1)
		}
	}
	// The names have the grants now.
	batch.unlocked = true
	if len(missing) > 0 {
		return fmt.Errorf("%v are not missing", missing)
	}
	return nil
}

func (r *runner) fill(f fields, expected any) error {
	bucket, count := f.text("bucket"), list(f.take("count"))
	var held []Grant
	for {
		grant, err := r.m.TryAcquire(Key{Bucket: bucket, Object: fmt.Sprint(len(held))}, Exclusive)
		if err == nil {
			held = append(held, grant)
			continue
		}
		if _, err := compare(expected, err); err != nil {
			return err
		}
		break
	}
	for _, grant := range held {
		if err := r.m.Release(grant); err != nil {
			return err
		}
	}
	if number := float64(len(held)); number < count[0].(float64) || number > count[1].(float64) {
		return fmt.Errorf("%v were locked", number)
	}
	return nil
}

func (r *runner) metrics(_ fields, expected any) error {
	figures, err := r.m.Metrics()
	if err != nil {
		return err
	}
	for name, wanted := range expected.(map[string]any) {
		figure, known := map[string]uint64{
			"holders": figures.Holders, "waiters": figures.Waiters, "acquisitions": figures.Acquisitions,
			"releases": figures.Releases, "waits": figures.Waits, "timeouts": figures.Timeouts,
			"cancelled": figures.Cancelled, "refused": figures.Refused,
		}[name]
		if !known || wanted != float64(figure) {
			return fmt.Errorf("%s is %d", name, figure)
		}
	}
	return nil
}

func (r *runner) openMetrics(f fields, _ any) error {
	text, err := r.m.OpenMetrics()
	if err != nil {
		return err
	}
	lines := strings.Split(text, "\n")
	if !strings.HasSuffix(text, "\n# EOF\n") {
		return errors.New("it does not end with # EOF")
	}
	for _, line := range list(f.take("contains")) {
		if !slices.Contains(lines, line.(string)) {
			return fmt.Errorf("there is no line %q in:\n%s", line, text)
		}
	}
	return nil
}

func (r *runner) session(f fields, _ any) error {
	name := f.text("as")
	session, err := r.m.Session(f.text("name"), WithSource(f.text("source")))
	r.sessions[name] = session
	return err
}

func (r *runner) releaseAll(f fields, expected any) error {
	count, err := r.sessions[f.text("session")].ReleaseAll()
	if err == nil && expected != nil && expected != float64(count) {
		err = fmt.Errorf("%d were released", count)
	}
	return err
}

func (r *runner) endSession(f fields, _ any) error {
	r.sessions[f.text("session")].Close()
	return nil
}

func (r *runner) sameGrant(f fields, _ any) error {
	one, err := r.grantOf(f, "grant")
	other, err2 := r.grantOf(f, "as_grant")
	if one != other {
		return fmt.Errorf("%d is not %d", one, other)
	}
	return errors.Join(err, err2)
}

func (r *runner) isCurrent(f fields, expected any) error {
	current, err := r.m.IsCurrent(keyOf(f.take("key")), r.fences[f.text("fence")])
	if err == nil && current != expected {
		err = fmt.Errorf("it came to %v", current)
	}
	return err
}

func (r *runner) remainingOf(f fields, expected any) error {
	grant, err := r.grantOf(f, "grant")
	if err != nil {
		return err
	}
	left, leased, err := r.m.Remaining(grant)
	if object, is := expected.(map[string]any); is {
		_, err = compare(object, err)
		return err
	}
	if err != nil {
		return err
	}
	bounds := list(expected)
	if leased != (bounds != nil) || leased && (left < milliseconds(bounds[0].(float64)) || left > milliseconds(bounds[1].(float64))) {
		return fmt.Errorf("%v remain, leased: %v", left, leased)
	}
	return nil
}

func (r *runner) filter(value any) (filter Filter, err error) {
	given, _ := value.(map[string]any)
	f := fields(given)
	for name, to := range map[string]**string{"bucket": &filter.Bucket, "prefix": &filter.Prefix} {
		if value := f.take(name); value != nil {
			*to = Text(part(value))
		}
	}
	if key := f.take("key"); key != nil {
		filter.Key = new(Key)
		*filter.Key = keyOf(key)
	}
	for name, to := range map[string]**string{"owner": &filter.Owner, "source": &filter.Source} {
		if text, found := f.take(name).(string); found {
			*to = Text(text)
		}
	}
	if text, found := f.take("session").(string); found {
		filter.Owner, filter.Sessions = Text(text), true
	}
	if word := f.text("mode"); word != "" {
		filter.Mode = modeOf(word)
	}
	if number, found := f.number("older_than_ms"); found {
		filter.OlderThan = milliseconds(number)
	}
	return filter, f.done()
}

func (r *runner) listed(ask func(*Manager, Filter) ([]Party, error)) func(fields, any) error {
	return func(f fields, expected any) error {
		filter, err := r.filter(f.take("filter"))
		if err != nil {
			return err
		}
		found, err := ask(r.m, filter)
		if err != nil {
			_, err = compare(expected, err)
			return err
		}
		wanted := list(expected)
		inOrder := len(found) > 0 && found[0].Role == Waits
		same := sameInAnyOrder(wanted, found, r.sameParty)
		if same && inOrder {
			// Those of one key in their order.
			for place := 1; place < len(found); place++ {
				if found[place].Key == found[place-1].Key && found[place].Position <= found[place-1].Position {
					same = false
				}
			}
			byKey := map[Key][]Party{}
			for _, party := range found {
				byKey[party.Key] = append(byKey[party.Key], party)
			}
			if len(byKey) == 1 {
				for place := range wanted {
					same = same && r.sameParty(wanted[place], found[place])
				}
			}
		}
		if !same {
			return fmt.Errorf("found were %+v", found)
		}
		return nil
	}
}

func (r *runner) sameParty(wanted any, found Party) bool {
	for name, value := range wanted.(map[string]any) {
		var same bool
		switch name {
		case "key":
			same = keyOf(value) == found.Key
		case "mode":
			same = modeOf(value.(string)) == found.Mode
		case "owner":
			same = value == found.Owner
		case "source":
			same = value == found.Source
		case "session":
			same = value == found.Session
		case "lease":
			same = value == found.HasLease
		case "upgrade":
			same = value == found.Upgrade
		case "priority":
			same = value == float64(found.Priority)
		case "fence":
			same = r.fences[value.(string)] == found.Fence
		default:
			r.Fatalf("%s is nothing to be told of a party", name)
		}
		if !same {
			return false
		}
	}
	return true
}

func (r *runner) chain(f fields, expected any) error {
	links, _, err := r.m.BlockingChain(keyOf(f.take("key")))
	var names []any
	for _, link := range links {
		if link.Role == Holds {
			names = append(names, link.Owner)
		}
	}
	if err == nil && !slices.Equal(list(expected), names) {
		err = fmt.Errorf("it is %v", names)
	}
	return err
}

func (r *runner) topOf(f fields, expected any) error {
	n, _ := f.number("n")
	top, err := r.m.Top(map[string]TopBy{"age": TopAge, "waiters": TopWaiters}[f.text("by")], int(n))
	if err == nil && !slices.EqualFunc(list(expected), top, func(key any, p Party) bool { return keyOf(key) == p.Key }) {
		err = fmt.Errorf("they are %+v", top)
	}
	return err
}
