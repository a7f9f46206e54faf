package keylatch

import "testing"

func BenchmarkGuard(b *testing.B) {
	m := newTest(b, Options{})
	key := Key{Bucket: "photos", Object: "2026/11/cat-000001.jpg"}
	b.ReportAllocs()
	for b.Loop() {
		guard, _ := m.Lock(background, key)
		guard.Unlock()
	}
}

func BenchmarkGrant(b *testing.B) {
	m := newTest(b, Options{})
	key := Key{Bucket: "photos", Object: "2026/11/cat-000001.jpg"}
	b.ReportAllocs()
	for b.Loop() {
		grant, _ := m.Acquire(background, key, Exclusive)
		m.Release(grant)
	}
}

func BenchmarkBatch16(b *testing.B) {
	m := newTest(b, Options{})
	var items []Item
	for i := range 16 {
		items = append(items, Item{Key{Bucket: "photos", Object: "2026/11/cat-00000" + string(rune('a'+i*7%16))}, Exclusive})
	}
	b.ReportAllocs()
	for b.Loop() {
		batch, _ := m.LockMany(background, items)
		batch.Unlock()
	}
}

func BenchmarkMutex(b *testing.B) {
	mutex := newTest(b, Options{}).RWMutex(inode)
	for b.Loop() {
		mutex.Lock()
		mutex.Unlock()
	}
}

func BenchmarkPinnedMutex(b *testing.B) {
	pinned, err := newTest(b, Options{}).Pin(inode)
	ok(b, err)
	mutex := pinned.RWMutex()
	for b.Loop() {
		mutex.Lock()
		mutex.Unlock()
	}
}

func BenchmarkPinnedGrant(b *testing.B) {
	m := newTest(b, Options{})
	pinned, err := m.Pin(inode)
	ok(b, err)
	b.ReportAllocs()
	for b.Loop() {
		grant, _ := pinned.Acquire(background, Exclusive)
		m.Release(grant)
	}
}
