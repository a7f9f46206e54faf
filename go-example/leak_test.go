package keylatch

import (
	"runtime"
	"testing"
)

// forget takes locks and loses their guards.
//
//go:noinline
func forget(t *testing.T, m *Manager) {
	for number := range 2 * nestSize {
		guard := must(m.Lock(background, Key{Bucket: "kept", Object: string(rune('a' + number))}))(t)
		ok(t, guard.Unlock())
	}
	must(m.Lock(background, Key{Bucket: "leak", Object: "one"}))(t)
	must(m.LockMany(background, []Item{{Key{Bucket: "leak", Object: "two"}, Shared}, {Key{Bucket: "kept"}, Exclusive}}))(t)
	// By number, so it is no leak of the guard's.
	guard := must(m.Lock(background, Key{Bucket: "kept", Object: "by number"}))(t)
	ok(t, m.Release(guard.Grant()))
}

func TestAForgottenGuardIsReportedAndNotReleased(t *testing.T) {
	leaks := make(chan Leak, 100)
	m := newTest(t, Options{OnLeak: func(leak Leak) { leaks <- leak }})
	forget(t, m)
	found := map[Key]Leak{}
	until(t, "three leaks are reported", func() bool {
		runtime.GC()
		select {
		case leak := <-leaks:
			found[leak.Key] = leak
		default:
		}
		return len(found) == 3
	})
	if leak := found[Key{Bucket: "leak", Object: "two"}]; leak.Mode != Shared || leak.String() == "" {
		t.Fatalf("it says %v", leak)
	}
	if m.Leaked() != 3 || len(leaks) != 0 {
		t.Fatalf("%d leaked", m.Leaked())
	}
	_, err := m.TryLock(Key{Bucket: "leak", Object: "one"})
	wants(t, err, ErrWouldBlock)
	for _, leak := range found {
		ok(t, m.Release(leak.Grant))
	}
	empty(t, m)
}
