package keylatch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Steps that ask who holds what and who waits, and what is known of a grant.

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

func (r *runner) subscribe(f fields, _ any) (err error) {
	above, _ := f.number("wait_above_ms")
	r.events, err = r.m.Events(r.Context(), EventOptions{WaitAbove: milliseconds(above)})
	return err
}

func (r *runner) happened(_ fields, expected any) error {
	kinds := map[string]EventKind{
		"slow_wait": SlowWait, "slow_hold": SlowHold, "timeout": TimedOut, "deadlock": Deadlocked, "expired": Expired, "forced": Forced,
	}
	for _, each := range list(expected) {
		f := fields(each.(map[string]any))
		kind, wanted, owner := f.text("kind"), f.take("key"), f.take("owner")
		if err := f.done(); err != nil {
			return err
		}
		select {
		case event := <-r.events:
			key, name := first(event)
			if event.Kind != kinds[kind] || wanted != nil && key != keyOf(wanted) || owner != nil && name != owner {
				return fmt.Errorf("%v was expected, and there is %v", each, event)
			}
		case <-time.After(time.Minute):
			return fmt.Errorf("%v has not happened", each)
		}
	}
	select {
	case event, open := <-r.events:
		if open {
			return fmt.Errorf("there is more: %v", event)
		}
	default:
	}
	return nil
}

// first names whom an event is about before all others.
func first(event Event) (Key, string) {
	switch {
	case event.Waiter != nil:
		return event.Waiter.Key, event.Waiter.Owner
	case len(event.Holders) > 0:
		return event.Holders[0].Key, event.Holders[0].Owner
	}
	return event.Links[0].Key, event.Links[0].Owner
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
	filter.All = f.take("all") != nil
	return filter, f.done()
}

// listed compares holders with those that are expected, in any order.
func (r *runner) listed(ask func(*Manager, Filter) ([]Holder, error)) func(fields, any) error {
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
		if !sameInAnyOrder(list(expected), found, r.sameHolder) {
			return fmt.Errorf("found were %+v", found)
		}
		return nil
	}
}

// waiters compares waiters with those that are expected: those of one key in their order.
func (r *runner) waiters(f fields, expected any) error {
	filter, err := r.filter(f.take("filter"))
	if err != nil {
		return err
	}
	found, err := r.m.Waiters(filter)
	if err != nil {
		_, err = compare(expected, err)
		return err
	}
	wanted := list(expected)
	same := sameInAnyOrder(wanted, found, r.sameWaiter)
	oneKey := true
	for place := 1; place < len(found); place++ {
		if found[place].Key != found[place-1].Key {
			oneKey = false
		} else if found[place].Position <= found[place-1].Position {
			same = false
		}
	}
	for place := 0; same && oneKey && place < len(wanted); place++ {
		same = r.sameWaiter(wanted[place], found[place])
	}
	if !same {
		return fmt.Errorf("found were %+v", found)
	}
	return nil
}

func (r *runner) sameHolder(wanted any, found Holder) bool {
	for name, value := range wanted.(map[string]any) {
		var same bool
		switch name {
		case "lease":
			same = value == found.HasLease
		case "fence":
			same = r.fences[value.(string)] == found.Fence
		default:
			same = r.sameField(name, value, found.Key, found.Mode, found.Owner, found.Source, found.Session, found.Priority)
		}
		if !same {
			return false
		}
	}
	return true
}

func (r *runner) sameWaiter(wanted any, found Waiter) bool {
	for name, value := range wanted.(map[string]any) {
		var same bool
		switch name {
		case "upgrade":
			same = value == found.Upgrade
		default:
			same = r.sameField(name, value, found.Key, found.Mode, found.Owner, found.Source, found.Session, found.Priority)
		}
		if !same {
			return false
		}
	}
	return true
}

// sameField compares a field that holders and waiters have in common.
func (r *runner) sameField(name string, value any, key Key, mode Mode, owner, source string, session bool, priority uint8) bool {
	switch name {
	case "key":
		return keyOf(value) == key
	case "mode":
		return modeOf(value.(string)) == mode
	case "owner":
		return value == owner
	case "source":
		return value == source
	case "session":
		return value == session
	case "priority":
		return value == float64(priority)
	}
	r.Fatalf("%s is no field of a holder or waiter", name)
	return false
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
	if err == nil && !slices.EqualFunc(list(expected), top, func(key any, top TopKey) bool { return keyOf(key) == top.Key }) {
		err = fmt.Errorf("they are %+v", top)
	}
	return err
}
