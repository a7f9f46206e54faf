// Racing does what its argument says to data that keylatch protects, or should. It is built with the race detector, which
// has to report what is wrong and nothing else.
package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"example.org/keylatch"
)

var (
	background = context.Background()
	key        = keylatch.Key{Bucket: "b", Object: "o"}
	other      = keylatch.Key{Bucket: "b", Object: "another"}
	data       int
)

func try(err error) {
	if err != nil {
		panic(err)
	}
}

func guarded(guard *keylatch.Guard, err error) *keylatch.Guard {
	try(err)
	return guard
}

// both runs two goroutines, and the second only once the first is past its point, in a way that the detector does not
// see: what puts them in order has to be the lock, or nothing.
func both(first, second func()) {
	var group sync.WaitGroup
	group.Go(first)
	group.Go(func() {
		time.Sleep(50 * time.Millisecond)
		second()
	})
	group.Wait()
}

func main() {
	locks, err := keylatch.New(keylatch.Options{})
	try(err)
	write := func() {
		guard := guarded(locks.Lock(background, key))
		data++
		try(guard.Unlock())
	}
	read := func() {
		guard := guarded(locks.RLock(background, key))
		_ = data
		try(guard.Unlock())
	}
	many := func(what func()) {
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 200 {
					what()
				}
			})
		}
		group.Wait()
	}
	batch := []keylatch.Item{{Key: other, Mode: keylatch.Exclusive}, {Key: key, Mode: keylatch.Exclusive}}
	programs := map[string]func(){
		// In order.
		"writers":            func() { both(write, write) },
		"writers in a crowd": func() { many(write) },
		"a writer and a reader": func() {
			both(write, read)
			both(read, write)
		},
		"all in a crowd": func() {
			many(func() {
				write()
				read()
			})
		},
		"batches": func() {
			many(func() {
				held, err := locks.LockMany(background, batch)
				try(err)
				data++
				try(held.Unlock())
			})
		},
		"a downgrade": func() {
			both(func() {
				guard := guarded(locks.Lock(background, key))
				data++
				try(guard.Downgrade())
				_ = data
				try(guard.Unlock())
			}, read)
		},
		"an upgrade": func() {
			both(read, func() {
				guard := guarded(locks.RLock(background, key))
				try(guard.Upgrade(background))
				data++
				try(guard.Unlock())
			})
		},
		"mutexes": func() {
			one, two := locks.RWMutex(key), locks.RWMutex(key)
			both(func() {
				one.Lock()
				data++
				one.Unlock()
			}, func() {
				two.RLock()
				_ = data
				two.RUnlock()
			})
		},
		"grants": func() {
			many(func() {
				grant, err := locks.Acquire(background, key, keylatch.Exclusive)
				try(err)
				data++
				try(locks.Release(grant))
			})
		},
		"one key said in two ways": func() {
			version := func(key keylatch.Key) func() {
				return func() {
					guard := guarded(locks.Lock(background, key))
					data++
					try(guard.Unlock())
				}
			}
			both(version(keylatch.Key{Version: "v", EmptyVersion: true}), version(keylatch.Key{Version: "v"}))
			both(version(keylatch.Key{Version: "v"}), version(keylatch.Key{Version: "v", EmptyVersion: true}))
		},

		// Not in order.
		"no lock":         func() { both(write, func() { data++ }) },
		"no lock to read": func() { both(write, func() { _ = data }) },
		"too early":       func() { both(func() { write(); data++ }, write) },
		"a writer that shares": func() {
			both(read, func() {
				guard := guarded(locks.RLock(background, key))
				data++
				try(guard.Unlock())
			})
		},
		"the wrong key": func() {
			both(write, func() {
				guard := guarded(locks.Lock(background, other))
				data++
				try(guard.Unlock())
			})
		},
		"taken by force": func() {
			both(func() {
				guarded(locks.Lock(background, key))
				data++
			}, func() {
				_, err := locks.ForceRelease(keylatch.Filter{Key: &key})
				try(err)
				write()
			})
		},
	}
	program := programs[os.Args[1]]
	if program == nil {
		fmt.Fprintln(os.Stderr, "there is no program of that name")
		os.Exit(2)
	}
	program()
}
