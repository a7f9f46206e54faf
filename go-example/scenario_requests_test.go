package keylatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Steps that ask for locks, wait for them and give them back.

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
		return errors.New("it was granted without waiting")
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
