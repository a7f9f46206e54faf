package keylatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// What the tests of the package have in common.

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

func newTest(t testing.TB, options Options) *Manager {
	t.Helper()
	m, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, err error, code Code) *Error {
	t.Helper()
	if !errors.Is(err, code) {
		t.Fatalf("%v came, not %v", err, code)
	}
	var failure *Error
	if !errors.As(err, &failure) {
		failure = &Error{Code: code}
	}
	return failure
}

// until waits for something that cannot be waited for.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for began := time.Now(); !done(); time.Sleep(100 * time.Microsecond) {
		if time.Since(began) > patience {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

func waits(t testing.TB, m *Manager, count uint64) {
	t.Helper()
	until(t, fmt.Sprintf("%d wait", count), func() bool { return must(m.Metrics())(t).Waiters == count })
}

// empty fails if anything is held, or waited for.
func empty(t testing.TB, m *Manager) {
	t.Helper()
	figures := must(m.Metrics())(t)
	if figures.Holders != 0 || figures.Waiters != 0 {
		t.Fatalf("%d holders and %d waiters are left", figures.Holders, figures.Waiters)
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if len(m.waiting) != 0 || len(m.early) != 0 || len(m.asking) != 0 || m.parked.Load() != 0 {
		t.Fatalf("%d goroutines, %d results and %d numbers are left", len(m.waiting), len(m.early), len(m.asking))
	}
}

var background = context.Background()
