package main

// Locks by key that are made of Go alone.

import (
	"hash/maphash"
	"sync"

	"example.org/keylatch"
)

// kept is what one writes first: a lock for each key that was ever used.
type kept struct {
	parts [1024]struct {
		mutex sync.Mutex
		locks map[keylatch.Key]*sync.RWMutex
		_     [40]byte
	}
}

func newKept() *kept {
	k := new(kept)
	for i := range k.parts {
		k.parts[i].locks = make(map[keylatch.Key]*sync.RWMutex)
	}
	return k
}

func (k *kept) lock(key keylatch.Key) *sync.RWMutex {
	part := &k.parts[partOf(key)]
	part.mutex.Lock()
	lock := part.locks[key]
	if lock == nil {
		lock = new(sync.RWMutex)
		part.locks[key] = lock
	}
	part.mutex.Unlock()
	lock.Lock()
	return lock
}

// cleaned is what one writes when memory runs out: locks are counted, and go with their last user.
type cleaned struct {
	parts [1024]struct {
		mutex sync.Mutex
		locks map[keylatch.Key]*counted
		_     [40]byte
	}
}

type counted struct {
	sync.Mutex
	users int
}

func newCleaned() *cleaned {
	c := new(cleaned)
	for i := range c.parts {
		c.parts[i].locks = make(map[keylatch.Key]*counted)
	}
	return c
}

func (c *cleaned) lock(key keylatch.Key) *counted {
	part := &c.parts[partOf(key)]
	part.mutex.Lock()
	lock := part.locks[key]
	if lock == nil {
		lock = new(counted)
		part.locks[key] = lock
	}
	lock.users++
	part.mutex.Unlock()
	lock.Lock()
	return lock
}

func (c *cleaned) unlock(key keylatch.Key, lock *counted) {
	lock.Unlock()
	part := &c.parts[partOf(key)]
	part.mutex.Lock()
	if lock.users--; lock.users == 0 {
		delete(part.locks, key)
	}
	part.mutex.Unlock()
}

var seed = maphash.MakeSeed()

func partOf(key keylatch.Key) uint64 {
	return (maphash.String(seed, key.Bucket)*31 + maphash.String(seed, key.Object)) % 1024
}
