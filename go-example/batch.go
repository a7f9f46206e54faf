package keylatch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Item is one lock of a batch.
type Item struct {
	// Key is what to lock, Mode how.
	Key  Key
	Mode Mode
}

// Batch is many locks that are held together. The zero Batch and a nil one hold none.
type Batch struct {
	_       noCopy
	manager *Manager
	// grants has a grant for each item, or 0.
	grants   []uint64
	missing  []error
	unlocked bool
}

// Unlock ends all the holds. It fails with the error of the first that had ended before, and ends the others all the
// same.
func (b *Batch) Unlock() error {
	if b == nil {
		return ErrNotHeld
	}
	m := orNone(b.manager)
	if m.freed.Load() {
		return ErrNotHeld
	}
	for _, grant := range b.grants {
		if raceEnabled && grant != 0 {
			m.raceBeforeRelease(Grant(grant))
		}
	}
	err := m.releaseMany(b.grants)
	if err == nil {
		b.unlocked = true
	}
	m.afterRevoking()
	return err
}

// Grant is that of an item, by its place in what [Manager.LockMany] was given; 0 if an item before it has the same key,
// or if a best effort did not get it.
func (b *Batch) Grant(i int) Grant { return Grant(b.grants[i]) }

// Missing tells why a best effort did not get an item, or nil.
func (b *Batch) Missing(i int) error {
	if b.missing == nil {
		return nil
	}
	return b.missing[i]
}

// packs has the memory of batches that are over.
var packs = sync.Pool{New: func() any { return new(packed) }}

// LockMany waits for many keys, all of them or none; [WithBestEffort] takes those that can be had within the time. They
// are waited for in the order of [Key.Compare], so that two batches never wait for each other, whatever order they were
// written in. A key that is named twice is taken once, exclusively if either asks for that.
//
// [WithTimeout] is for all of them together, and leases ([WithTTL]) begin when all of them are there. On an error nothing is held, and the [Error] names the key that failed. It
// keeps nothing of items.
func (m *Manager) LockMany(ctx context.Context, items []Item, options ...Option) (*Batch, error) {
	if m.closed.Load() {
		return nil, ErrClosed
	}
	if err := ended(ctx); err != nil {
		return nil, err
	}
	for i := range items {
		if err := items[i].Mode.known(); err != nil {
			return nil, err
		}
	}
	r := read(options)
	p := packs.Get().(*packed)
	defer packs.Put(p)
	p.fill(items)
	p.grants = make([]uint64, len(items))
	batch := newBatch(m)
	batch.grants = p.grants
	err := m.lockAll(p, &r)
	switch {
	case err == nil && !(r.bestEffort && slices.Contains(p.grants, 0)):
		m.raceAfterBatch(items, p.grants)
	case err == nil:
		// Some may be missing. They get their time, in which all requests wait, and a new reason, so
		// start anew.
		err = m.releaseMany(p.grants)
		clear(p.grants)
		fallthrough
	default:
		if err == nil || (r.timeout != 0 && errors.Is(err, ErrTimeout)) {
			err = m.lockManyInOrder(ctx, p, items, &r, batch)
		}
	}
	p.grants = nil
	if err == nil {
		err = m.granted()
	}
	if err != nil {
		batch.unlocked = true
		return nil, m.failed(err)
	}
	return batch, nil
}

// lockManyInOrder waits for the items one after the other.
func (m *Manager) lockManyInOrder(ctx context.Context, p *packed, items []Item, r *request, batch *Batch) error {
	order := inOrder(items)
	ordered := make([]Item, len(order))
	for i := range order {
		ordered[i] = Item{items[order[i].first].Key, order[i].mode}
	}
	p.fill(ordered)
	p.grants = make([]uint64, len(order))
	if r.bestEffort {
		batch.missing = make([]error, len(items))
	}
	var deadline time.Time
	if r.timeout < waitDefault {
		deadline = time.Now().Add(duration(r.timeout))
	}
	next := 0
	for next < len(order) {
		timeout := r.timeout
		if !deadline.IsZero() {
			timeout = uint64(max(time.Until(deadline), 0))
		}
		came := m.lockInOrder(p, &next, timeout, r)
		if came.ticket != 0 {
			came = m.await(ctx, came.ticket, m.release)
		}
		if next == len(order) && came.err == nil {
			break
		}
		if came.err == nil {
			p.grants[next] = uint64(came.grant)
			next++
			continue
		}
		if r.bestEffort && ctx.Err() == nil && !errors.Is(came.err, ErrClosed) {
			for _, item := range order[next].places {
				batch.missing[item] = came.err
			}
			next++
			continue
		}
		// Nothing is left behind. What fails here fails because the manager is closed.
		_ = m.releaseMany(p.grants)
		return came.err
	}
	if r.lease {
		// Not before: a lease that began while others were waited for could be over before the batch is there.
		m.beginLeases(p, r.ttl)
	}
	for i := range order {
		batch.grants[order[i].first] = p.grants[i]
		if p.grants[i] != 0 {
			m.raceAfterAcquire(&items[order[i].first].Key, order[i].mode)
		}
	}
	return nil
}

// once is a key of a batch, in the strongest mode that is asked for, and where it is named.
type once struct {
	first  int
	mode   Mode
	places []int
}

// inOrder is each key once, in the order in which they are waited for.
func inOrder(items []Item) []once {
	places := make([]int, len(items))
	for i := range places {
		places[i] = i
	}
	slices.SortStableFunc(places, func(a, b int) int { return items[a].Key.Compare(items[b].Key) })
	order := make([]once, 0, len(items))
	for from := 0; from < len(places); {
		to := from + 1
		for to < len(places) && items[places[to]].Key.Compare(items[places[from]].Key) == 0 {
			to++
		}
		key := once{first: places[from], places: places[from:to]}
		for _, place := range key.places {
			key.mode = max(key.mode, items[place].Mode)
		}
		order = append(order, key)
		from = to
	}
	return order
}
