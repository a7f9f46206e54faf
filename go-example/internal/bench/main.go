// Bench measures what a lock costs from Go, beside locks that are made of Go alone, and prints ratios: nanoseconds differ
// from machine to machine.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/maphash"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/keylatch"
)

var background = context.Background()

func try(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// row is one thing that is measured: do does it so many times, and each of them counts as many operations.
type row struct {
	name    string
	section string
	do      func(times int)
	each    int
}

// lane is a row while it is measured.
type lane struct {
	row
	// timed, if not nil, does it instead, and says how long it took by a clock of its own.
	timed func(times int) time.Duration
	// perSlice is how many times fill a slice.
	perSlice int
	// long says that there are so many keys that a short slice would find them in no cache: it is gone through all of
	// them before each, and slices are long.
	long bool
	took []float64
}

// Slices are short, so that others on the machine leave some of the many alone; the long ones are fewer.
const (
	slice  = 2 * time.Millisecond
	longer = 12
)

func (l *lane) slice() time.Duration {
	if l.long {
		return longer * slice
	}
	return slice
}

func (l *lane) run(times int) time.Duration {
	if l.timed != nil {
		return l.timed(times)
	}
	began := time.Now()
	l.do(times)
	return time.Since(began)
}

// measure runs one slice, or part of one while it is not known yet how many times fill it: what disturbed the machine
// once must not make all slices short.
func (l *lane) measure() {
	if l.long {
		l.run(manyKeys)
	}
	took := l.run(l.perSlice)
	each := float64(took.Nanoseconds()) / float64(l.perSlice)
	l.took = append(l.took, each/float64(l.each))
	if fill := float64(l.slice()) / each; fill > 2*float64(l.perSlice) {
		l.perSlice = int(min(fill, 4*float64(l.perSlice)))
		l.took = l.took[:0]
	}
}

func main() {
	quick := flag.Bool("quick", false, "measure for a tenth of the time")
	only := flag.String("only", "", "only rows whose names match this `expression`")
	rust := flag.String("rust", "", "have this `program`, the bench in Rust, measure its batches in turns with those from here")
	to := flag.String("json", "", "write the figures to this `file` as well")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	try(err)

	locks, err := keylatch.New(keylatch.Options{})
	try(err)
	defer locks.Close()

	span := 600 * time.Millisecond
	if *quick {
		span = 60 * time.Millisecond
	}
	var rows []lane
	for _, r := range rowsOf(locks) {
		rows = append(rows, lane{row: r, perSlice: 1, long: r.section == inTurn})
	}
	if *rust != "" {
		beside, err := besideRust(*rust)
		try(err)
		rows = append(rows, beside...)
	}
	rows = slices.DeleteFunc(rows, func(l lane) bool { return l.section != "unit" && !pattern.MatchString(l.name) })
	slices.SortStableFunc(rows, func(a, b lane) int { return cmp.Compare(firstOf(rows, a.section), firstOf(rows, b.section)) })
	// Slice after slice rather than row after row, so that what disturbs the machine disturbs all of them.
	for round := range int(span / slice) {
		for i := range rows {
			if l := &rows[i]; !l.long || round%longer == 0 {
				l.measure()
			}
		}
	}
	best, median := make(map[string]float64), make(map[string]float64)
	for _, l := range rows {
		slices.Sort(l.took)
		best[l.name], median[l.name] = l.took[0], l.took[len(l.took)/2]
	}
	print(rows, best, median)
	if *to != "" {
		text, err := json.MarshalIndent(map[string]any{"unit": "ns", "rows": best, "medians": median}, "", "  ")
		try(err)
		try(os.MkdirAll(filepath.Dir(*to), 0o755))
		try(os.WriteFile(*to, append(text, '\n'), 0o644))
	}
}

// firstOf is where a section begins.
func firstOf(rows []lane, section string) int {
	return slices.IndexFunc(rows, func(l lane) bool { return l.section == section })
}

func print(rows []lane, best, median map[string]float64) {
	unit := best[rows[0].name]
	section := ""
	for _, r := range rows {
		if r.section != section {
			section = r.section
			fmt.Printf("\n%s\n", section)
		}
		fmt.Printf("  %-64s %9.1f x   (%.1f ns, median %.1f)\n", r.name, best[r.name]/unit, best[r.name], median[r.name])
	}
	fmt.Println("\n  x is one compare-and-swap and one store on a word that no other core touches, of this run.")
	for _, size := range sizes {
		ours, measured := best[lockMany(size)]
		theirs, beside := best[rustBatch(size)]
		if measured && beside {
			fmt.Printf("  A key of a batch of %d costs %.1f ns more than from Rust (by medians %.1f); the goal is at most 20.\n", size,
				ours-theirs, median[lockMany(size)]-median[rustBatch(size)])
		}
	}
}

// sizes are those of the batches.
var sizes = []int{16, 128}

func lockMany(size int) string  { return fmt.Sprintf("keylatch LockMany, Unlock of %d", size) }
func rustBatch(size int) string { return fmt.Sprintf("keylatch from Rust, a batch of %d", size) }

// besideRust has the bench in Rust, which is the program at path, measure the same batches. It sleeps until it is asked.
func besideRust(path string) ([]lane, error) {
	program := exec.Command(path, "child", "beside")
	program.Stderr = os.Stderr
	ask, err := program.StdinPipe()
	if err != nil {
		return nil, err
	}
	told, err := program.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := program.Start(); err != nil {
		return nil, err
	}
	answers := bufio.NewReader(told)
	asked := func(what string, size int) func(int) time.Duration {
		return func(times int) time.Duration {
			fmt.Fprintln(ask, what, size, times)
			answer, err := answers.ReadString('\n')
			try(err)
			took, err := strconv.ParseInt(strings.TrimSpace(answer), 10, 64)
			try(err)
			return time.Duration(took)
		}
	}
	rows := []lane{{perSlice: 1, row: row{"keylatch from Rust, a guard", "one lock and unlock, nobody else", nil, 1}, timed: asked("pair", 1)}}
	for _, size := range sizes {
		rows = append(rows,
			lane{perSlice: 1, row: row{rustBatch(size), "a key of a batch", nil, size}, timed: asked("batch", size)},
			lane{perSlice: 1, row: row{fmt.Sprintf("keylatch from Rust, %d one by one", size), "a key of a batch", nil, size}, timed: asked("pair", size)})
	}
	return rows, nil
}

const (
	manyKeys = 100_000
	inTurn   = "100,000 keys in turn"
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
		{"sync.Mutex, no key", "one lock and unlock, nobody else", func(times int) {
			for range times {
				bare.Lock()
				bare.Unlock()
			}
		}, 1},
		{"sync.RWMutex, no key, exclusive", "one lock and unlock, nobody else", func(times int) {
			for range times {
				bareReaders.Lock()
				bareReaders.Unlock()
			}
		}, 1},
		{"map of sync.RWMutex in 1024 parts, never cleaned", "one lock and unlock, nobody else", func(times int) {
			for range times {
				kept.lock(key).Unlock()
			}
		}, 1},
		{"map of sync.Mutex in 1024 parts, cleaned on unlock", "one lock and unlock, nobody else", func(times int) {
			for range times {
				cleaned.unlock(key, cleaned.lock(key))
			}
		}, 1},
		{"keylatch Lock, Unlock of a Guard", "one lock and unlock, nobody else", func(times int) {
			for range times {
				pair(key)
			}
		}, 1},
		{"keylatch RLock, Unlock of a Guard", "one lock and unlock, nobody else", func(times int) {
			for range times {
				guard, err := locks.RLock(background, key)
				try(err)
				try(guard.Unlock())
			}
		}, 1},
		{"keylatch Acquire, Release of a Grant", "one lock and unlock, nobody else", func(times int) {
			for range times {
				grant, err := locks.Acquire(background, key, keylatch.Exclusive)
				try(err)
				try(locks.Release(grant))
			}
		}, 1},
		{"keylatch Lock by an Owner, Unlock", "one lock and unlock, nobody else", func(times int) {
			for range times {
				guard, err := locks.Lock(background, key, keylatch.By(owner))
				try(err)
				try(guard.Unlock())
			}
		}, 1},
		{"keylatch RWMutex of a key kept at hand", "one lock and unlock, nobody else", func(times int) {
			for range times {
				mutex.Lock()
				mutex.Unlock()
			}
		}, 1},
		{"keylatch TryLock of what is held", "one lock and unlock, nobody else", func() func(int) {
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
	hot := keylatch.Key{Bucket: "hot"}
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
		section := fmt.Sprintf("one hot key, %d goroutines", goroutines)
		rows = append(rows,
			row{fmt.Sprintf("sync.Mutex, no key, %d", goroutines), section, contended(goroutines, func() {
				bare.Lock()
				bare.Unlock()
			}), 1},
			row{fmt.Sprintf("map of sync.RWMutex, never cleaned, %d", goroutines), section, contended(goroutines, func() { kept.lock(hot).Unlock() }), 1},
			row{fmt.Sprintf("keylatch, %d", goroutines), section, contended(goroutines, func() { pair(hot) }), 1},
			row{fmt.Sprintf("keylatch with FIFO: each lock is handed over, %d", goroutines), section, contended(goroutines, func() {
				guard, err := fifo.Lock(background, hot)
				try(err)
				try(guard.Unlock())
			}), 1})
	}
	return rows
}

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
