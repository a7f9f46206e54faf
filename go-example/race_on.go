//go:build race

package keylatch

import (
	"hash/maphash"
	"runtime"
	"unsafe"
)

// What Go's race detector learns. It does not see that a lock of the library's is taken after it was released: that
// happens in C. So it learns it here, as it does from sync.RWMutex: a writer comes after all who had the key before, a
// reader after the writers alone.
//
// Keys share cells by their hash. Where two keys share one, races on what they protect may be missed; none is ever
// reported that is not there.

const (
	raceEnabled = true
	// One guard at a time: a pool that goroutines share would put them in an order that the program does not.
	nestSize = 1
)

type raceCell struct{ writers, readers byte }

var (
	raceCells [1 << 16]raceCell
	raceSeed  = maphash.MakeSeed()
)

func (m *Manager) raceCell(key *Key) *raceCell { return raceCellOf(unsafe.Pointer(m), key) }

func raceCellOf(table unsafe.Pointer, key *Key) *raceCell {
	same := struct {
		table unsafe.Pointer
		key   Key
	}{table, *key}
	// Says nothing of a version that has bytes.
	same.key.EmptyVersion = key.EmptyVersion && key.Version == ""
	number := maphash.Comparable(raceSeed, same)
	return &raceCells[number%uint64(len(raceCells))]
}

func (m *Manager) raceAfterAcquire(key *Key, mode Mode) { m.raceCell(key).acquired(mode) }

func (t *SharedTable) raceAfterAcquire(key *Key, mode Mode) {
	raceCellOf(unsafe.Pointer(t), key).acquired(mode)
}

func (t *SharedTable) raceBeforeRelease(key *Key, mode Mode) {
	raceCellOf(unsafe.Pointer(t), key).releases(mode)
}

func (cell *raceCell) acquired(mode Mode) {
	runtime.RaceAcquire(unsafe.Pointer(&cell.writers))
	if mode == Exclusive {
		runtime.RaceAcquire(unsafe.Pointer(&cell.readers))
	}
}

func (m *Manager) raceAfterBatch(items []Item, grants []uint64) {
	for i := range items {
		// A key that was named before was taken in its strongest mode there.
		mode := items[i].Mode
		if grants[i] != 0 {
			if held, err := m.modeOf(Grant(grants[i])); err == nil {
				mode = held
			}
			m.raceAfterAcquire(&items[i].Key, mode)
		}
	}
}

func (m *Manager) raceAfterUpgrade(grant Grant) {
	if key, err := m.keyOf(grant); err == nil {
		m.raceAfterAcquire(&key, Exclusive)
	}
}

// raceBeforeRelease comes before the release, because once the lock is free it is too late.
func (m *Manager) raceBeforeRelease(grant Grant) {
	key, err := m.keyOf(grant)
	if err != nil {
		return
	}
	mode, err := m.modeOf(grant)
	if err != nil {
		return
	}
	m.raceCell(&key).releases(mode)
}

func (cell *raceCell) releases(mode Mode) {
	if mode == Exclusive {
		runtime.RaceReleaseMerge(unsafe.Pointer(&cell.writers))
	} else {
		runtime.RaceReleaseMerge(unsafe.Pointer(&cell.readers))
	}
}

func raceDisable() { runtime.RaceDisable() }
func raceEnable()  { runtime.RaceEnable() }
