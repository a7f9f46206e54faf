package keylatch

import (
	"fmt"
	"log"
	"runtime"
	"sync"
)

// How a forgotten guard is noticed. To have the garbage collector say when an object is gone costs more than a lock, so
// it is asked once for many: guards are made side by side in one object, and when that is gone all of them are. So a lost
// guard is noticed when those beside it are garbage too, and not before. Nothing is released then.

// Leak is a lock whose guard became garbage while it was held.
type Leak struct {
	Grant Grant
	// Key and Mode are what is still held.
	Key  Key
	Mode Mode
}

// String tells it in one line, as logs have it.
func (l Leak) String() string {
	return fmt.Sprintf("%v is held %v by grant %d, whose guard the program lost", l.Key, l.Mode, uint64(l.Grant))
}

func logLeak(leak Leak) {
	log.Printf("keylatch: a lock leaked: %v; unlock every guard", leak)
}

// Leaked is how many locks were found whose guards became garbage while they were held. They stay held. There may be more
// that are not found yet: see [Options.OnLeak].
func (m *Manager) Leaked() uint64 { return m.leaked.Load() }

// nest is guards side by side, given out one after the other. One that is held for long keeps the memory of all.
type nest[T any] struct {
	places [nestSize]T
	out    int
}

// nests are those with places left. They are pooled for each processor, which costs less than an allocation each.
type nests[T any] struct {
	pool sync.Pool
	// forgotten is called with each place when all of them are garbage.
	forgotten func(*T)
}

func (n *nests[T]) place() *T {
	current, _ := n.pool.Get().(*nest[T])
	if current == nil {
		current = new(nest[T])
		runtime.SetFinalizer(current, func(gone *nest[T]) {
			for i := range gone.places[:gone.out] {
				n.forgotten(&gone.places[i])
			}
		})
	}
	place := &current.places[current.out]
	if current.out++; current.out < nestSize {
		n.pool.Put(current)
	}
	return place
}

var (
	guards = nests[Guard]{forgotten: func(g *Guard) {
		if !g.unlocked {
			g.manager.forgotten(g.grant)
		}
	}}
	batches = nests[Batch]{forgotten: func(b *Batch) {
		if b.unlocked {
			return
		}
		for _, grant := range b.grants {
			if grant != 0 {
				b.manager.forgotten(Grant(grant))
			}
		}
	}}
)

func newGuard(m *Manager, grant Grant) *Guard {
	g := guards.place()
	g.manager, g.grant = m, grant
	return g
}

func newBatch(m *Manager) *Batch {
	b := batches.place()
	b.manager = m
	return b
}

// forgotten reports a grant whose guard is garbage, if it is still held: another goroutine may have released it by
// number.
func (m *Manager) forgotten(grant Grant) {
	if m.freed.Load() {
		return
	}
	key, err := m.keyOf(grant)
	if err != nil {
		return
	}
	mode, err := m.modeOf(grant)
	if err != nil {
		return
	}
	m.leaked.Add(1)
	go m.onLeak(Leak{Grant: grant, Key: key, Mode: mode})
}
