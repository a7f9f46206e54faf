package keylatch

import (
	"runtime"
	"testing"
	"unsafe"
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

// besides takes a lock whose guard is lost, and one whose guard is made beside it.
//
//go:noinline
func besides(t *testing.T, m *Manager) *Guard {
	for {
		lost := must(m.Lock(background, Key{Bucket: "leak"}))(t)
		kept := must(m.Lock(background, Key{Bucket: "kept"}))(t)
		apart := uintptr(unsafe.Pointer(kept)) - uintptr(unsafe.Pointer(lost))
		if nestSize == 1 || apart == unsafe.Sizeof(*kept) {
			return kept
		}
		// The one was the last of its nest, or another processor made the other.
		ok(t, lost.Unlock())
		ok(t, kept.Unlock())
	}
}

// As Options.OnLeak says: a lost guard is reported when none of those made beside it is reachable any more.
func TestAForgottenGuardBesideOneThatIsKept(t *testing.T) {
	leaks := make(chan Leak, 100)
	m := newTest(t, Options{OnLeak: func(leak Leak) { leaks <- leak }})
	kept := besides(t, m)
	if nestSize > 1 {
		for range 3 {
			runtime.GC()
		}
		if m.Leaked() != 0 {
			t.Fatal("it is reported while the guard beside it is reachable: the documentation says otherwise")
		}
	}
	ok(t, kept.Unlock())
	kept = nil
	// Until the nest has no more places it is reachable too.
	for range nestSize {
		ok(t, must(m.Lock(background, Key{Bucket: "kept"}))(t).Unlock())
	}
	var leak Leak
	until(t, "the leak is reported", func() bool {
		runtime.GC()
		select {
		case leak = <-leaks:
			return true
		default:
			return false
		}
	})
	if leak.Key != (Key{Bucket: "leak"}) || m.Leaked() != 1 {
		t.Fatalf("it says %v, one of %d", leak, m.Leaked())
	}
	ok(t, m.Release(leak.Grant))
	empty(t, m)
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
