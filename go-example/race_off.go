//go:build !race

package keylatch

const (
	raceEnabled = false
	// nestSize is how many guards are made side by side.
	nestSize = 32
)

func (m *Manager) raceAfterAcquire(*Key, Mode)     {}
func (m *Manager) raceAfterBatch([]Item, []uint64) {}
func (m *Manager) raceAfterUpgrade(Grant)          {}
func (m *Manager) raceBeforeRelease(Grant)         {}

func (t *SharedTable) raceAfterAcquire(*Key, Mode)  {}
func (t *SharedTable) raceBeforeRelease(*Key, Mode) {}

func raceDisable() {}
func raceEnable()  {}
