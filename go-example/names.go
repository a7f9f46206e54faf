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

// String is "holds", "waits" or "neither".
func (r Role) String() string { return named("Role", []string{"holds", "waits", "neither"}, r) }

// String is "age" or "waiters".
func (b TopBy) String() string { return named("TopBy", []string{"age", "waiters"}, b) }

// String is what the event is, in words.
func (k EventKind) String() string {
	return named("EventKind", []string{
		"slow wait", "slow hold", "timeout", "deadlock", "expired lease", "forced release", "lock order",
	}, k)
}

// String is for people: who, how, what, and for how long.
func (p Party) String() string {
	owner := "an unnamed owner"
	if p.Owner != "" {
		owner = fmt.Sprintf("%q", p.Owner)
	}
	var text strings.Builder
	switch p.Role {
	case Holds:
		fmt.Fprintf(&text, "%s holds %v (%v)", owner, p.Key, p.Mode)
	case Waits:
		fmt.Fprintf(&text, "%s waits for %v (%v)", owner, p.Key, p.Mode)
	default:
		return fmt.Sprintf("%v: %v", p.Key, p.Role)
	}
	if p.For > 0 {
		fmt.Fprintf(&text, " for %v", p.For.Round(time.Microsecond))
	}
	if p.HasLease {
		fmt.Fprintf(&text, ", a lease of %v more", p.Lease.Round(time.Microsecond))
	}
	return text.String()
}

// String is for people: what happened, and to whom.
func (e Event) String() string {
	about := make([]string, len(e.About))
	for i, party := range e.About {
		about[i] = party.String()
	}
	return fmt.Sprintf("%v: %s", e.Kind, strings.Join(about, "; "))
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
