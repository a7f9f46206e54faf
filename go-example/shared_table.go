package keylatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// SharedOptions are the settings of a shared table. The zero SharedOptions are fine.
type SharedOptions struct {
	// Label is what listings call this process, beside its name; the first 31 bytes are kept.
	Label string
	// DefaultTimeout is how long requests wait that say nothing about it. Zero is for as long as it takes.
	DefaultTimeout time.Duration
	// Keys is how many may be held at the same time, 65,536 in a new table; Members is how many processes may use it, 256
	// in a new one; Holds limits the holds and waiting requests of all processes together. A table that is there and has
	// less than is asked for here is refused.
	Keys, Members, Holds uint32
	// Mode is the permissions of a new file, 0600 if it is zero.
	Mode fs.FileMode
}

// SharedTable is a table of locks that the processes of one Linux machine share, in a file that they map. A process may be
// killed at any moment: what it held is free as soon as another notices, at most about 20 milliseconds later, and the next
// that holds it exclusively can ask whether that happened. Nothing has to be removed by hand.
//
// It may be used by any number of goroutines at a time. The zero SharedTable is a closed one.
type SharedTable struct {
	handle         handle
	path           string
	defaultTimeout time.Duration
	closed         atomic.Bool
	// waits has a place for each goroutine that waits in the library, because each takes a thread.
	waits  chan struct{}
	places sharedPlaces
}

const (
	// sharedWaits is how many goroutines of a table wait in the library at a time.
	sharedWaits = 64
	// sharedSlice is how long one does before it lets another wait that has no place.
	sharedSlice = 20 * time.Millisecond
)

// sharedPlaces are those that wait in the library, the one that came first at the front. Each has the word that ends its wait.
type sharedPlaces struct {
	mutex sync.Mutex
	words []*atomic.Uint32
}

func (p *sharedPlaces) add(word *atomic.Uint32) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.words = append(p.words, word)
}

func (p *sharedPlaces) remove(word *atomic.Uint32) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if i := slices.Index(p.words, word); i >= 0 {
		p.words = slices.Delete(p.words, i, i+1)
	}
}

// endFirst has the one leave that came first.
func (p *sharedPlaces) endFirst() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if len(p.words) > 0 {
		p.words[0].Store(1)
		p.words = slices.Delete(p.words, 0, 1)
	}
}

// OpenShared makes the table's file, or attaches to it if it is there. Any number of processes may do so at the same time.
//
//	table, err := keylatch.OpenShared("/dev/shm/my-engine", keylatch.SharedOptions{Label: "indexer"})
func OpenShared(path string, options SharedOptions) (*SharedTable, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	if err := negative(setting{"DefaultTimeout", options.DefaultTimeout}); err != nil {
		return nil, err
	}
	if err := whole(path); err != nil {
		return nil, err
	}
	made, err := openShared(path, &options)
	if err != nil {
		return nil, err
	}
	return &SharedTable{
		handle: made, path: path, defaultTimeout: options.DefaultTimeout, waits: make(chan struct{}, sharedWaits),
	}, nil
}

// whole refuses a path that would end early in C.
func whole(path string) error {
	if strings.IndexByte(path, 0) >= 0 {
		return &Error{Code: ErrInvalidArgument, Message: "the path has a zero byte; choose another name"}
	}
	return nil
}

// Close releases what the table still holds in this process. Requests that wait fail with [ErrClosed], as all do that come
// later. The file stays. Closing again does nothing.
func (t *SharedTable) Close() error {
	if t.closed.Swap(true) || t.handle == 0 {
		return nil
	}
	return t.free()
}

// Path is the file's, as it was given.
func (t *SharedTable) Path() string { return t.path }

// Lock waits for the key exclusively until ctx ends. A context's error is returned as it is, at most about 20 milliseconds
// late, and then nothing is held. Of the options it takes [WithOwner], which names the request, and [WithTimeout].
func (t *SharedTable) Lock(ctx context.Context, key Key, options ...Option) (*SharedGuard, error) {
	return t.acquire(ctx, &key, Exclusive, options)
}

// RLock waits for the key together with other readers, as [SharedTable.Lock] does.
func (t *SharedTable) RLock(ctx context.Context, key Key, options ...Option) (*SharedGuard, error) {
	return t.acquire(ctx, &key, Shared, options)
}

// TryLock takes the key exclusively if it is free, and fails with [ErrWouldBlock] if it is not.
func (t *SharedTable) TryLock(key Key, options ...Option) (*SharedGuard, error) {
	return t.try(&key, Exclusive, options)
}

// TryRLock takes the key together with other readers if there is no writer, as [SharedTable.TryLock] does.
func (t *SharedTable) TryRLock(key Key, options ...Option) (*SharedGuard, error) {
	return t.try(&key, Shared, options)
}

func (t *SharedTable) try(key *Key, mode Mode, options []Option) (*SharedGuard, error) {
	owner, _, err := t.asked(options)
	if err != nil {
		return nil, err
	}
	return t.attempt(key, mode, nil, owner, time.Time{})
}

func (t *SharedTable) acquire(ctx context.Context, key *Key, mode Mode, options []Option) (*SharedGuard, error) {
	owner, timeout, err := t.asked(options)
	if err != nil {
		return nil, err
	}
	if err := ended(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	guard, err := t.attempt(key, mode, nil, owner, began)
	if !errors.Is(err, ErrWouldBlock) {
		return guard, err
	}
	// Ends with ctx, or when the time is over.
	waits, cancel := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		waits, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	for {
		if t.takePlace(waits) {
			guard, err = t.waitInPlace(waits, key, mode, owner, began)
			<-t.waits
			if !errors.Is(err, cancelled) {
				return guard, err
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case waits.Err() != nil:
			return nil, t.refused(ErrTimeout, key, began)
		}
	}
}

// takePlace waits until this goroutine may wait in the library, and says whether it may. While there is no place, those that
// have one leave it in turn.
func (t *SharedTable) takePlace(waits context.Context) bool {
	select {
	case t.waits <- struct{}{}:
		return true
	default:
	}
	slice := time.NewTicker(sharedSlice)
	defer slice.Stop()
	for {
		select {
		case t.waits <- struct{}{}:
			return true
		case <-waits.Done():
			return false
		case <-slice.C:
			t.places.endFirst()
		}
	}
}

// waitInPlace waits in one call, so that the request keeps its place in line. It is cancelled when waits ends
// or another goroutine needs the place.
func (t *SharedTable) waitInPlace(waits context.Context, key *Key, mode Mode, owner string, began time.Time) (*SharedGuard, error) {
	word := new(atomic.Uint32)
	t.places.add(word)
	defer t.places.remove(word)
	defer context.AfterFunc(waits, func() { word.Store(1) })()
	return t.attempt(key, mode, word, owner, began)
}

// asked is what the options say that a shared table can do.
func (t *SharedTable) asked(options []Option) (owner string, timeout time.Duration, err error) {
	if t.handle == 0 || t.closed.Load() {
		return "", 0, ErrClosed
	}
	r := read(options)
	if r.owner != nil || r.lease || r.id != 0 || r.priority != 0 || r.bestEffort {
		return "", 0, &Error{Code: ErrInvalidArgument, Message: "a shared table takes WithOwner with a name, and WithTimeout"}
	}
	switch r.timeout {
	case waitDefault:
		timeout = t.defaultTimeout
	case waitForever:
	default:
		// None at all is for as long as it takes.
		timeout = max(duration(r.timeout), 1)
	}
	return r.ownerName, timeout, nil
}

func (t *SharedTable) attempt(key *Key, mode Mode, cancelled *atomic.Uint32, owner string, began time.Time) (*SharedGuard, error) {
	grant, err := t.ask(key, mode, cancelled, owner)
	switch {
	case err == nil:
		t.raceAfterAcquire(key, mode)
		return &SharedGuard{table: t, grant: grant, key: *key, mode: mode}, nil
	case errors.Is(err, ErrWouldBlock) && began.IsZero():
		return nil, t.refused(ErrWouldBlock, key, time.Now())
	case errors.Is(err, ErrInvalidKey) || errors.Is(err, ErrClosed) || !t.closed.Load():
		return nil, err
	}
	return nil, ErrClosed
}

// refused says who has the key.
func (t *SharedTable) refused(code Code, key *Key, began time.Time) error {
	refusal := &Error{Code: code, Key: *key, HasKey: true}
	if code == ErrTimeout {
		refusal.Waited = time.Since(began)
	}
	// The key may be free by now, or the table closed: then there is none to name.
	holders, _ := t.list(key)
	for _, holder := range holders {
		named := Holder{Key: holder.Key, Owner: holder.Owner, Mode: holder.Mode, For: holder.For}
		named.Source = fmt.Sprintf("process %d (%s)", holder.PID, holder.Program)
		if named.Owner == "" {
			named.Owner = named.Source
		}
		refusal.Holders = append(refusal.Holders, named)
	}
	return refusal
}

// SharedHolder is a hold of a process, as it was when it was listed.
type SharedHolder struct {
	Key  Key
	Mode Mode
	// PID is the process, Program its name, and Label what it calls itself.
	PID            int
	Program, Label string
	// Owner is the name of the request.
	Owner string
	// For is how long it has held the key, to about 20 milliseconds.
	For time.Duration

	hold   uint64
	member uint32
}

// Holders are all holds of all processes, or those of one key. Listing stops nothing, so those that come and go may be
// missing.
func (t *SharedTable) Holders(key *Key) ([]SharedHolder, error) {
	if t.handle == 0 || t.closed.Load() {
		return nil, ErrClosed
	}
	return t.list(key)
}

// Waiting is how many processes wait for the key at this moment.
func (t *SharedTable) Waiting(key Key) (int, error) {
	if t.handle == 0 || t.closed.Load() {
		return 0, ErrClosed
	}
	return t.waiting(&key)
}

// Revoke takes a hold away from its process, which may run or be stopped, and finds out when it asks. It fails with
// [ErrNotHeld] if the hold ended before. What its holder still writes has a lower fence than its successor.
func (t *SharedTable) Revoke(holder SharedHolder) error {
	if t.handle == 0 || t.closed.Load() {
		return ErrClosed
	}
	return t.revoke(holder.hold, holder.member)
}

// SharedGuard is a lock of a [SharedTable] that is held. Any goroutine may unlock it. One that is forgotten is held until
// the table is closed or the process ends. The zero SharedGuard and a nil one hold nothing.
type SharedGuard struct {
	_     noCopy
	table *SharedTable
	grant Grant
	key   Key
	mode  Mode
}

func (g *SharedGuard) none() bool { return g == nil || g.table == nil }

// Unlock ends the hold. It fails with [ErrNotHeld] if it ended before or was revoked, and touches no other hold then.
func (g *SharedGuard) Unlock() error { return g.change(sharedRelease, g.Mode()) }

// Downgrade shares the key from now on, with no moment in between in which another could have it exclusively.
func (g *SharedGuard) Downgrade() error {
	err := g.change(sharedDowngrade, Exclusive)
	if err == nil {
		g.mode = Shared
	}
	return err
}

// TryUpgrade holds the key exclusively that was shared, if no other holds it or waits for it. Otherwise it fails with
// [ErrUpgradeConflict], and the key is still shared.
func (g *SharedGuard) TryUpgrade() error {
	if g.none() {
		return ErrNotHeld
	}
	err := g.table.change(g.grant, sharedUpgrade)
	if err == nil {
		g.mode = Exclusive
		g.table.raceAfterAcquire(&g.key, Exclusive)
	}
	return err
}

func (g *SharedGuard) change(what int, mode Mode) error {
	if g.none() {
		return ErrNotHeld
	}
	g.table.raceBeforeRelease(&g.key, mode)
	return g.table.change(g.grant, what)
}

// Key is what is held.
func (g *SharedGuard) Key() Key {
	if g.none() {
		return Key{}
	}
	return g.key
}

// Mode is how the key is held, or 0 if it is not.
func (g *SharedGuard) Mode() Mode {
	if g.none() {
		return 0
	}
	return g.mode
}

// Fence is a number greater than that of every exclusive hold of the key before, in any process. For a shared hold it is
// that of the latest exclusive one.
func (g *SharedGuard) Fence() (uint64, error) {
	if g.none() {
		return 0, ErrNotHeld
	}
	fence, _, _, err := g.table.hold(g.grant)
	return fence, err
}

// PreviousHolderDied says whether a process died while it held the key exclusively, and none has held it exclusively
// since: what the lock protects may be half-written.
func (g *SharedGuard) PreviousHolderDied() bool {
	if g.none() {
		return false
	}
	_, died, _, err := g.table.hold(g.grant)
	return err == nil && died
}

// Valid says whether the lock is held: not revoked, and the table is sound.
func (g *SharedGuard) Valid() bool {
	if g.none() {
		return false
	}
	_, _, valid, err := g.table.hold(g.grant)
	return err == nil && valid
}
