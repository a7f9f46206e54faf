package keylatch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

func items(mode Mode, objects ...string) []Item {
	var all []Item
	for _, object := range objects {
		all = append(all, Item{Key{Bucket: "b", Object: object}, mode})
	}
	return all
}

func TestABatchIsAllOrNothing(t *testing.T) {
	m := newTest(t, Options{})
	held := must(m.Lock(background, Key{Bucket: "b", Object: "y"}, WithOwner("holder")))(t)
	for _, options := range [][]Option{{WithTimeout(0)}, {WithTimeout(2 * time.Millisecond)}} {
		_, err := m.LockMany(background, items(Exclusive, "z", "y", "x"), options...)
		failure := wants(t, err, ErrTimeout)
		if failure.Key.Object != "y" || len(failure.Holders) != 1 {
			t.Fatalf("it says %+v", failure)
		}
	}
	ctx, cancel := context.WithCancel(background)
	result := make(chan error)
	go func() {
		_, err := m.LockMany(ctx, items(Exclusive, "z", "y", "x"))
		result <- err
	}()
	waits(t, m, 1)
	cancel()
	if err := <-result; err != context.Canceled {
		t.Fatalf("%v came", err)
	}
	if figures := must(m.Metrics())(t); figures.Holders != 1 {
		t.Fatalf("%d are held", figures.Holders)
	}
	go func() {
		batch, err := m.LockMany(background, items(Shared, "z", "y", "x", "y"))
		if err == nil && (batch.Grant(1) == 0 || batch.Grant(3) != 0) {
			err = fmt.Errorf("its grants are %v", batch.grants)
		}
		if err == nil {
			err = batch.Unlock()
		}
		result <- err
	}()
	waits(t, m, 1)
	ok(t, held.Unlock())
	ok(t, <-result)
	empty(t, m)
}

func TestABestEffort(t *testing.T) {
	m := newTest(t, Options{})
	held := must(m.Lock(background, Key{Bucket: "b", Object: "y"}))(t)
	for _, timeout := range []time.Duration{0, 2 * time.Millisecond} {
		batch := must(m.LockMany(background, items(Exclusive, "z", "y", "x"), WithBestEffort(), WithTimeout(timeout)))(t)
		if batch.Grant(0) == 0 || batch.Grant(1) != 0 || batch.Grant(2) == 0 {
			t.Fatalf("its grants are %v", batch.grants)
		}
		if failure := wants(t, batch.Missing(1), ErrTimeout); failure.Key.Object != "y" || len(failure.Holders) != 1 {
			t.Fatalf("it says %v", failure)
		}
		if batch.Missing(0) != nil {
			t.Fatal(batch.Missing(0))
		}
		ok(t, batch.Unlock())
		wants(t, batch.Unlock(), ErrNotHeld)
	}
	ok(t, held.Unlock())
	empty(t, m)
}

func TestEmptyAndLargeBatches(t *testing.T) {
	m := newTest(t, Options{})
	ok(t, must(m.LockMany(background, nil))(t).Unlock())
	var many []Item
	for number := range 5000 {
		many = append(many, Item{Key{Bucket: "b", Object: fmt.Sprint(number % 4000), Version: "v"}, Mode(1 + number%2)})
	}
	batch := must(m.LockMany(background, many))(t)
	if figures := must(m.Metrics())(t); figures.Holders != 4000 {
		t.Fatalf("%d are held", figures.Holders)
	}
	ok(t, batch.Unlock())
	empty(t, m)
}

// Batches in all orders never wait for each other.
func TestBatchesInOppositeOrders(t *testing.T) {
	m := newTest(t, Options{Fairness: FIFO})
	var group sync.WaitGroup
	var count int
	for range 8 {
		group.Go(func() {
			for range 300 {
				mine := items(Exclusive, "a", "b", "c", "d")
				rand.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
				batch, err := m.LockMany(background, mine)
				ok(t, err)
				count++
				ok(t, batch.Unlock())
			}
		})
	}
	group.Wait()
	if count != 2400 {
		t.Fatalf("%d batches counted", count)
	}
	empty(t, m)
}

// Keys cross with their bucket left out where it is that of the key before.
func TestBucketsOfABatch(t *testing.T) {
	m := newTest(t, Options{})
	same := "photos"
	keys := []Key{
		{}, {Object: "in no bucket"}, {Object: "in no bucket either"},
		{Bucket: same}, {Bucket: same, Object: "a"}, {Bucket: same, Object: "a", Version: "v"}, {Bucket: same, Object: "a", EmptyVersion: true},
		{Bucket: strings.Clone(same), Object: "b"}, {Bucket: same[:5], Object: "b"}, {Bucket: same[:5], Object: "c"}, {Bucket: "", Object: "d"},
		{Bucket: same, Object: "d"}, {Bucket: "a", Object: "d"}, {Bucket: "a", Object: "d", Version: strings.Repeat("v", 3000)}, {Bucket: "a", Object: "e"},
	}
	for _, inTheWay := range []bool{false, true} {
		for round := range 20 {
			rand.Shuffle(len(keys), func(a, b int) { keys[a], keys[b] = keys[b], keys[a] })
			var wanted []Item
			for i, key := range keys {
				wanted = append(wanted, Item{key, Mode(1 + (i+round)%2)})
			}
			var held *Guard
			if inTheWay {
				held = must(m.Lock(background, keys[round%len(keys)]))(t)
			}
			result := make(chan *Batch)
			go func() {
				batch, _ := m.LockMany(background, wanted)
				result <- batch
			}()
			if inTheWay {
				waits(t, m, 1)
				ok(t, held.Unlock())
			}
			batch := <-result
			for i, item := range wanted {
				if key, mode := must(m.Key(batch.Grant(i)))(t), must(m.Mode(batch.Grant(i)))(t); key != item.Key || mode != item.Mode {
					t.Fatalf("%v is held %v as %v %v", item.Key, item.Mode, key, mode)
				}
			}
			ok(t, batch.Unlock())
		}
	}
	empty(t, m)
}

// A part that is longer than a key may be is not copied whole, and is refused all the same.
func TestAKeyThatIsTooLongForABatch(t *testing.T) {
	m := newTest(t, Options{})
	long := strings.Repeat("x", tooLong+7)
	for _, bad := range []Key{{Bucket: long}, {Object: long}, {Version: long}, {Bucket: long, Object: long, Version: long}} {
		_, err := m.LockMany(background, []Item{{Key{Object: "a"}, Exclusive}, {bad, Shared}, {Key{Object: "z"}, Exclusive}})
		wants(t, err, ErrInvalidKey)
		batch := must(m.LockMany(background, []Item{{bad, Shared}, {Key{Bucket: bad.Bucket[:len(bad.Bucket)/tooLong], Object: "z"}, Exclusive}}, WithBestEffort()))(t)
		wants(t, batch.Missing(0), ErrInvalidKey)
		if batch.Grant(0) != 0 || batch.Missing(1) != nil {
			t.Fatalf("its grants are %v, and %v", batch.grants, batch.Missing(1))
		}
		ok(t, batch.Unlock())
	}
	empty(t, m)
}

// The leases of a batch begin when it is there. While it waits, none that it has already can run out.
func TestTheLeasesOfABatch(t *testing.T) {
	m := newTest(t, Options{})
	first, last := Key{Object: "a"}, Key{Object: "b"}
	for _, more := range []Option{{}, WithBestEffort()} {
		held := must(m.Lock(background, last))(t)
		got := make(chan *Batch, 1)
		go func() {
			// As long a lease as a test that is to fail would wait out.
			got <- must(m.LockMany(background, []Item{{last, Shared}, {first, Exclusive}, {first, Shared}}, WithTTL(20*time.Millisecond),
				WithTimeout(patience), more))(t)
		}()
		waits(t, m, 1)
		_, err := m.Lock(background, first, WithTimeout(60*time.Millisecond))
		wants(t, err, ErrTimeout)
		ok(t, held.Unlock())
		batch := <-got
		for item, leased := range []bool{true, true} {
			if _, is, err := m.Remaining(batch.Grant(item)); err != nil || is != leased {
				t.Fatalf("item %d: leased %v, %v", item, is, err)
			}
		}
		// No request waits for it, so it stays held although its lease may be over.
		ok(t, batch.Unlock())
	}
	empty(t, m)
}

// A batch that has to wait for every one of its keys goes on with the right one.
func TestABatchThatWaitsForEachKey(t *testing.T) {
	m := newTest(t, Options{})
	keys := []Key{{}, {Object: "o"}, {Object: "o", EmptyVersion: true}, {Object: "o", Version: "v"}, {Bucket: "a"},
		{Bucket: "a", Object: "x", Version: "1"}, {Bucket: "a", Object: "y"}, {Bucket: "bb", Object: "y"}, {Bucket: "bb", Object: "z"}}
	for _, more := range []Option{{}, WithBestEffort()} {
		var items []Item
		var held []*Guard
		for i, key := range keys {
			// The same bytes elsewhere: equal buckets need not be at one address.
			items = append(items, Item{Key{strings.Clone(key.Bucket), key.Object, key.Version, key.EmptyVersion}, Mode(1 + i%2)})
			held = append(held, must(m.Lock(background, key))(t))
		}
		got := make(chan *Batch, 1)
		go func() { got <- must(m.LockMany(background, items, more, WithTimeout(patience)))(t) }()
		for i, guard := range held {
			until(t, "it waits for the next", func() bool {
				waiters := must(m.Waiters(Filter{}))(t)
				return len(waiters) == 1 && waiters[0].Key == keys[i]
			})
			ok(t, guard.Unlock())
		}
		batch := <-got
		for i, key := range keys {
			if found := must(m.Key(batch.Grant(i)))(t); found != key || must(m.Mode(batch.Grant(i)))(t) != items[i].Mode {
				t.Fatalf("item %d is %v, not %v", i, found, key)
			}
		}
		ok(t, batch.Unlock())
	}
	empty(t, m)
}
