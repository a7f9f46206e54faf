package keylatch

import (
	"fmt"
	"strings"
	"time"
)

// What is a number in the library has a name for people here.

func named[T ~int32 | ~uint32](kind string, names []string, value T) string {
	if value > 0 && uint64(value) <= uint64(len(names)) {
		return names[value-1]
	}
	return fmt.Sprintf("%s(%d)", kind, value)
}

// String is "eventual", "FIFO", "writer first" or "reader first".
func (f Fairness) String() string {
	return named("Fairness", []string{"eventual", "FIFO", "writer first", "reader first"}, f)
}

// String is "deny" or "count".
func (r Reentrancy) String() string { return named("Reentrancy", []string{"deny", "count"}, r) }

// String is "asker", "youngest" or "lowest priority".
func (v Victim) String() string {
	return named("Victim", []string{"asker", "youngest", "lowest priority"}, v)
}

// String is "slots on" or "slots off".
func (s ReaderSlots) String() string {
	return named("ReaderSlots", []string{"slots on", "slots off"}, s)
}

// String is "holds" or "waits".
func (r Role) String() string { return named("Role", []string{"holds", "waits"}, r) }

// String is "age" or "waiters".
func (b TopBy) String() string { return named("TopBy", []string{"age", "waiters"}, b) }

// String is what the event is, in words.
func (k EventKind) String() string {
	return named("EventKind", []string{
		"slow wait", "slow hold", "timeout", "deadlock", "expired lease", "forced release", "lock order",
	}, k)
}

// described is a line for people: the owner, what it does, and the details that are known.
func described(owner, does string, key Key, mode Mode, took time.Duration, lease *time.Duration) string {
	name := "an unnamed owner"
	if owner != "" {
		name = fmt.Sprintf("%q", owner)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s %v (%v)", name, does, key, mode)
	if took > 0 {
		fmt.Fprintf(&text, " for %v", took.Round(time.Microsecond))
	}
	if lease != nil {
		fmt.Fprintf(&text, ", a lease of %v more", lease.Round(time.Microsecond))
	}
	return text.String()
}

// String is a line for people: owner, key, mode, and for how long.
func (h Holder) String() string {
	var lease *time.Duration
	if h.HasLease {
		lease = &h.Lease
	}
	return described(h.Owner, "holds", h.Key, h.Mode, h.For, lease)
}

// String is a line for people: owner, key, mode, and for how long.
func (w Waiter) String() string { return described(w.Owner, "waits for", w.Key, w.Mode, w.For, nil) }

// String is a line for people: owner, key, mode, and for how long.
func (l ChainLink) String() string {
	if l.Role == Waits {
		return described(l.Owner, "waits for", l.Key, l.Mode, l.For, nil)
	}
	return Holder{Key: l.Key, Mode: l.Mode, Owner: l.Owner, For: l.For, Lease: l.Lease, HasLease: l.HasLease}.String()
}

// String is a line for people: the key, its oldest holder, and the waiters.
func (k TopKey) String() string {
	text := fmt.Sprintf("%v: %d wait, the first for %v", k.Key, k.Waiters, k.LongestWait.Round(time.Microsecond))
	if k.Holder != nil {
		text += "; " + k.Holder.String()
	}
	return text
}

// about lists what the event is about, the most important first.
func (e Event) about() (about []fmt.Stringer) {
	if e.Waiter != nil {
		about = append(about, *e.Waiter)
	}
	for _, holder := range e.Holders {
		about = append(about, holder)
	}
	for _, link := range e.Links {
		about = append(about, link)
	}
	return about
}

// String is a line for people: what happened, and to which holders and waiters.
func (e Event) String() string {
	about := e.about()
	texts := make([]string, len(about))
	for i, one := range about {
		texts[i] = one.String()
	}
	return fmt.Sprintf("%v: %s", e.Kind, strings.Join(texts, "; "))
}

// String names the guard's key and how it is held.
func (g *Guard) String() string {
	key, err := g.Key()
	if err != nil {
		return "a lock that is not held"
	}
	mode, err := g.Mode()
	if err != nil {
		return "a lock that is not held"
	}
	return fmt.Sprintf("%v (%v)", key, mode)
}

// String is the owner's name.
func (o *Owner) String() string { return o.Name() }

// String names what matters most.
func (m Metrics) String() string {
	return fmt.Sprintf("%d held, %d waiting, %d taken (%d fast), %d waits, %d timeouts, %d deadlocks, 99 %% of waits below %v",
		m.Holders, m.Waiters, m.Acquisitions, m.Fast, m.Waits, m.Timeouts, m.Deadlocks, m.WaitP99)
}

// String is "healthy", or what is wrong.
func (h Health) String() string {
	if h.Healthy {
		return "healthy"
	}
	return "not healthy: " + strings.Join(h.Problems, "; ")
}
