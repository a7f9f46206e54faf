package main

// What is measured.

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"example.org/keylatch"
)

const (
	manyKeys = 100_000
	alone    = "one lock and unlock, no contention"
	inTurn   = "100,000 keys in turn"
	hot      = "one hot key"
)

func rowsOf(locks *keylatch.Manager) []row {
	var word atomic.Uint64
	key := keylatch.Key{Bucket: "photos", Object: "2026/11/cat-000001.jpg"}
	keys := make([]keylatch.Key, manyKeys)
	for i := range keys {
		keys[i] = keylatch.Key{Bucket: "photos", Object: "2026/11/cat-" + strconv.Itoa(1_000_000+i) + ".jpg"}
	}
	pair := func(key keylatch.Key) {
		guard, err := locks.Lock(background, key)
		try(err)
		try(guard.Unlock())
	}
	mutex := locks.RWMutex(key)
	pin, err := locks.Pin(keylatch.Key{Bucket: "photos", Object: "pinned"})
	try(err)
	pinned := pin.RWMutex()
	owner, err := locks.Owner("node-7")
	try(err)
	var bare sync.Mutex
	var bareReaders sync.RWMutex
	kept, cleaned := newKept(), newCleaned()
	rows := []row{
		{"compare-and-swap and store", "unit", func(times int) {
			for range times {
				for !word.CompareAndSwap(0, 1) {
				}
				word.Store(0)
			}
		}, 1},
		{"sync.Mutex, no key", alone, func(times int) {
			for range times {
				bare.Lock()
				bare.Unlock()
			}
		}, 1},
		{"sync.RWMutex, no key, exclusive", alone, func(times int) {
			for range times {
				bareReaders.Lock()
				bareReaders.Unlock()
			}
		}, 1},
		{"map of sync.RWMutex in 1024 parts, never cleaned", alone, func(times int) {
			for range times {
				kept.lock(key).Unlock()
			}
		}, 1},
		{"map of sync.Mutex in 1024 parts, cleaned on unlock", alone, func(times int) {
			for range times {
				cleaned.unlock(key, cleaned.lock(key))
			}
		}, 1},
		{"keylatch Lock, Unlock of a Guard", alone, func(times int) {
			for range times {
				pair(key)
			}
		}, 1},
		{"keylatch RLock, Unlock of a Guard", alone, func(times int) {
			for range times {
				guard, err := locks.RLock(background, key)
				try(err)
				try(guard.Unlock())
			}
		}, 1},
		{"keylatch Acquire, Release of a Grant", alone, func(times int) {
			for range times {
				grant, err := locks.Acquire(background, key, keylatch.Exclusive)
				try(err)
				try(locks.Release(grant))
			}
		}, 1},
		{"keylatch Lock by an Owner, Unlock", alone, func(times int) {
			for range times {
				guard, err := locks.Lock(background, key, keylatch.By(owner))
				try(err)
				try(guard.Unlock())
			}
		}, 1},
		{"keylatch RWMutex of a key kept at hand", alone, func(times int) {
			for range times {
				mutex.Lock()
				mutex.Unlock()
			}
		}, 1},
		{"keylatch RWMutex of a pinned key", alone, func(times int) {
			for range times {
				pinned.Lock()
				pinned.Unlock()
			}
		}, 1},
		{"keylatch TryLock of what is held", alone, func() func(int) {
			held := keylatch.Key{Bucket: "held"}
			_, err := locks.Acquire(background, held, keylatch.Exclusive)
			try(err)
			return func(times int) {
				for range times {
					if _, err := locks.TryLock(held); err == nil {
						panic("it was free")
					}
				}
			}
		}(), 1},
		{"map of sync.RWMutex in 1024 parts, never cleaned", inTurn, nil, 1},
		{"map of sync.Mutex in 1024 parts, cleaned on unlock", inTurn, nil, 1},
		{"keylatch Lock, Unlock of a Guard", inTurn, nil, 1},
	}
	at := 0
	next := func() keylatch.Key {
		at = (at + 1) % manyKeys
		return keys[at]
	}
	ofMany := map[string]func(){
		"map of sync.RWMutex in 1024 parts, never cleaned":   func() { kept.lock(next()).Unlock() },
		"map of sync.Mutex in 1024 parts, cleaned on unlock": func() { k := next(); cleaned.unlock(k, cleaned.lock(k)) },
		"keylatch Lock, Unlock of a Guard":                   func() { pair(next()) },
	}
	for i := range rows {
		if rows[i].do == nil {
			do := ofMany[rows[i].name]
			rows[i].do = func(times int) {
				for range times {
					do()
				}
			}
			rows[i].name += ", in turn"
		}
	}
	for _, size := range sizes {
		items := make([]keylatch.Item, size)
		for i := range items {
			items[i] = keylatch.Item{Key: keys[i*7], Mode: keylatch.Exclusive}
		}
		rows = append(rows,
			row{fmt.Sprintf("map of sync.RWMutex, never cleaned, %d locks in order", size), "a key of a batch", func(times int) {
				held := make([]*sync.RWMutex, size)
				for range times {
					for i := range items {
						held[i] = kept.lock(items[i].Key)
					}
					for _, one := range held {
						one.Unlock()
					}
				}
			}, size},
			row{lockMany(size), "a key of a batch", func(times int) {
				for range times {
					batch, err := locks.LockMany(background, items)
					try(err)
					try(batch.Unlock())
				}
			}, size},
			row{fmt.Sprintf("keylatch Lock, Unlock of %d, one by one", size), "a key of a batch", func(times int) {
				held := make([]*keylatch.Guard, size)
				for range times {
					for i := range items {
						guard, err := locks.Lock(background, items[i].Key)
						try(err)
						held[i] = guard
					}
					for _, one := range held {
						try(one.Unlock())
					}
				}
			}, size})
	}
	wanted := keylatch.Key{Bucket: "hot"}
	contended := func(goroutines int, one func()) func(int) {
		return func(times int) {
			var group sync.WaitGroup
			for range goroutines {
				group.Go(func() {
					for range times / goroutines {
						one()
					}
				})
			}
			group.Wait()
		}
	}
	// handOff has two goroutines pass one lock to and fro: each waits for it while the other has it.
	fifo, err := keylatch.New(keylatch.Options{Fairness: keylatch.FIFO})
	try(err)
	for _, goroutines := range []int{2, 16} {
		section := fmt.Sprintf("%s, %d goroutines (see the medians)", hot, goroutines)
		rows = append(rows,
			row{fmt.Sprintf("sync.Mutex, no key, %d", goroutines), section, contended(goroutines, func() {
				bare.Lock()
				bare.Unlock()
			}), 1},
			row{fmt.Sprintf("map of sync.RWMutex, never cleaned, %d", goroutines), section, contended(goroutines, func() { kept.lock(wanted).Unlock() }), 1},
			row{fmt.Sprintf("keylatch, %d", goroutines), section, contended(goroutines, func() { pair(wanted) }), 1},
			row{fmt.Sprintf("keylatch with FIFO: each lock is handed over, %d", goroutines), section, contended(goroutines, func() {
				guard, err := fifo.Lock(background, wanted)
				try(err)
				try(guard.Unlock())
			}), 1})
	}
	return rows
}
