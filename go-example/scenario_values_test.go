package keylatch

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What is in the files of scenarios, and how it is compared with what comes.

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
	var failure *Error
	if !errors.As(err, &failure) {
		failure = &Error{Code: code}
	}
	for _, name := range list(f.take("holders")) {
		if !slices.ContainsFunc(failure.Holders, func(h Holder) bool { return h.Owner == name }) {
			return false, fmt.Errorf("%v is not among the holders of: %+v", name, failure)
		}
	}
	if key := f.take("key"); key != nil && (!failure.HasKey || failure.Key != keyOf(key)) {
		return false, fmt.Errorf("%v is not the key of: %v", key, failure)
	}
	if transient := f.take("transient"); transient != nil && transient != failure.Transient() {
		return false, fmt.Errorf("transient is %v: %v", failure.Transient(), failure)
	}
	if text := f.text("text"); !strings.Contains(failure.Error(), text) {
		return false, fmt.Errorf("there is no %q in: %v", text, failure)
	}
	if cycle := list(f.take("cycle")); cycle != nil {
		var names []any
		for _, link := range failure.Cycle {
			names = append(names, link.Owner)
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
