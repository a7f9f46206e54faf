package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.org/keylatch"
)

var (
	errNotFound = errors.New("there is no such object or version")
	errBusy     = errors.New("another request is using it; try again")
	errFenced   = errors.New("the lock was lost before the change was made; nothing was changed, try again")
	// errPrecondition says that what a request wants to be so is not.
	errPrecondition = errors.New("what the request says has to be so is not so; nothing was changed")
	// errUnfinished says that some of what is to be removed is not yet.
	errUnfinished = errors.New("what is left is removed as soon as that can be done")
)

type storeOptions struct {
	wait, lease time.Duration
	keep        int
	sync        bool
}

// store keeps objects in a directory:
//
//	objects/ab/cdef...   the folder of an object (record.go), named by the hash of its names: they come from outside
//	incoming/            bytes that are being received
//	removals/            removals of several objects that are being made, to be finished after a crash
//	epoch                how often the store was started
//	lock                 held by the one process that uses the directory
type store struct {
	storeOptions
	root  string
	locks *keylatch.Manager
	epoch uint64
	held  *os.File
	under changes
	// finishing are those who go on with removals, until stop.
	finishing sync.WaitGroup
	stopped   context.Context
	stop      context.CancelFunc
	// beforeCommit is for tests: it is called with the lock held, when everything is ready. So is beforeLink, when the lock
	// was found to be held and nothing but the link is left to do.
	beforeCommit, beforeLink func(keylatch.Key)
}

// changes counts the changes that are being made in each folder. It is one at a time, and two if a writer lost its
// lock.
type changes struct {
	mutex sync.Mutex
	in    map[string]int
}

func (c *changes) begin(folder string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.in == nil {
		c.in = make(map[string]int)
	}
	c.in[folder]++
}

func (c *changes) end(folder string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.in[folder]--; c.in[folder] == 0 {
		delete(c.in, folder)
	}
}

// alone is whether the one who asks makes the only change of a folder.
func (c *changes) alone(folder string) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.in[folder] == 1
}

func openStore(root string, locks *keylatch.Manager, options storeOptions) (*store, error) {
	s := &store{storeOptions: options, root: root, locks: locks}
	s.stopped, s.stop = context.WithCancel(context.Background())
	for _, folder := range []string{"objects", "incoming", "removals"} {
		if err := os.MkdirAll(s.path(folder), 0o750); err != nil {
			return nil, err
		}
	}
	held, err := os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		held.Close()
		return nil, fmt.Errorf("%s is in use by another process: %w", root, err)
	}
	s.held = held
	if err := s.recover(); err != nil {
		held.Close()
		return nil, err
	}
	return s, nil
}

// close leaves the directory to the next program that opens it.
func (s *store) close() {
	s.stop()
	s.finishing.Wait()
	s.held.Close()
}

func (s *store) path(parts ...string) string {
	return filepath.Join(append([]string{s.root}, parts...)...)
}

// folder is where an object is. Nothing of its names gets into the path.
func (s *store) folder(key keylatch.Key) string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%d:", len(key.Bucket))
	io.WriteString(hash, key.Bucket)
	io.WriteString(hash, key.Object)
	name := hex.EncodeToString(hash.Sum(nil))
	return s.path("objects", name[:2], name[2:])
}

// recover puts the directory in order after a crash.
func (s *store) recover() error {
	text, err := os.ReadFile(s.path("epoch"))
	if err == nil {
		s.epoch, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the store's epoch cannot be read: %w", err)
	}
	// Fences begin anew with every start; together with the epoch they only grow.
	s.epoch++
	if err := s.replace(s.path("epoch"), []byte(strconv.FormatUint(s.epoch, 10))); err != nil {
		return err
	}
	removals, err := os.ReadDir(s.path("removals"))
	if err != nil {
		return err
	}
	for _, removal := range removals {
		if err := s.finish(s.path("removals", removal.Name())); err != nil {
			return err
		}
	}
	incoming, err := os.ReadDir(s.path("incoming"))
	if err != nil {
		return err
	}
	for _, left := range incoming {
		if err := os.Remove(s.path("incoming", left.Name())); err != nil {
			return err
		}
	}
	return filepath.WalkDir(s.path("objects"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, dataSuffix) {
			return err
		}
		// No change is being made now, so data without one is rubbish whatever its number.
		folder := filepath.Dir(path)
		h, err := readHistory(folder, s.keep)
		if err != nil {
			return err
		}
		for _, version := range h.versions {
			if version.Data == entry.Name() {
				return nil
			}
		}
		return os.Remove(path)
	})
}

// lock takes an object for a change or for a look.
func (s *store) lock(ctx context.Context, key keylatch.Key, mode keylatch.Mode, owner string) (*keylatch.Guard, error) {
	options := []keylatch.Option{keylatch.WithTimeout(s.wait), keylatch.WithOwner(owner)}
	if mode == keylatch.Shared {
		return asBusy(s.locks.RLock(ctx, key, options...))
	}
	return asBusy(s.locks.Lock(ctx, key, append(options, keylatch.WithTTL(s.lease))...))
}

func asBusy[T any](value T, err error) (T, error) {
	if errors.Is(err, keylatch.ErrTimeout) || errors.Is(err, keylatch.ErrTooManyWaiters) || errors.Is(err, keylatch.ErrTableFull) {
		err = fmt.Errorf("%w: %w", errBusy, err)
	}
	return value, err
}

// unlock ends a hold after a change. That the lease was lost on the way is no harm: the change is on disk or was refused.
func unlock(guard interface{ Unlock() error }) { _ = guard.Unlock() }

// received is bytes that are on disk and belong to no object yet.
type received struct {
	path   string
	size   int64
	sha256 string
}

// receive takes bytes in, without any lock: clients may be slow. The caller discards what it does not put.
func (s *store) receive(from io.Reader) (r received, err error) {
	file, err := os.CreateTemp(s.path("incoming"), "put-")
	if err != nil {
		return r, err
	}
	defer func() {
		if closed := file.Close(); err == nil {
			err = closed
		}
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	hash := sha256.New()
	if r.size, err = io.Copy(io.MultiWriter(file, hash), from); err != nil {
		return r, err
	}
	if err := s.flush(file); err != nil {
		return r, err
	}
	r.path, r.sha256 = file.Name(), hex.EncodeToString(hash.Sum(nil))
	return r, nil
}

func (s *store) discard(r received) { os.Remove(r.path) }

// put makes what was received the next version of an object.
func (s *store) put(ctx context.Context, key keylatch.Key, r received, owner string, only *conditions) (record, error) {
	guard, err := s.lock(ctx, key, keylatch.Exclusive, owner)
	if err != nil {
		return record{}, err
	}
	defer unlock(guard)
	return s.change(key, guard.Grant(), func(h *history, change *record, folder string) error {
		var now *record
		if latest, err := h.latest(); err == nil {
			now = &latest
		}
		if err := only.hold(now); err != nil {
			return err
		}
		if err := s.makeFolder(folder); err != nil {
			return err
		}
		change.Size, change.SHA256 = r.size, r.sha256
		// A name of its own: a writer that lost its lock may be about to put the same number.
		change.Data = fmt.Sprintf("%012d-%s%s", change.Number, strings.TrimPrefix(filepath.Base(r.path), "put-"), dataSuffix)
		return os.Rename(r.path, filepath.Join(folder, change.Data))
	})
}

// remove removes a version of an object, or all if it is 0.
func (s *store) remove(ctx context.Context, key keylatch.Key, version uint64, owner string, only *conditions) error {
	guard, err := s.lock(ctx, key, keylatch.Exclusive, owner)
	if err != nil {
		return err
	}
	defer unlock(guard)
	_, err = s.change(key, guard.Grant(), func(h *history, change *record, _ string) error {
		now, err := h.latest()
		if version != 0 {
			now, err = h.version(version)
		}
		if err != nil {
			return err
		}
		change.Removes = version
		return only.hold(&now)
	})
	return err
}

// change makes one change under an exclusive lock. What fill does has no effect until the change is on record.
func (s *store) change(key keylatch.Key, grant keylatch.Grant, fill func(h *history, change *record, folder string) error) (record, error) {
	folder := s.folder(key)
	// Before the history says which number is the next one: from here on that number is not forgotten.
	s.under.begin(folder)
	defer s.under.end(folder)
	h, err := readHistory(folder, s.keep)
	if err != nil {
		return record{}, err
	}
	fence, err := s.locks.Fence(grant)
	if err != nil {
		return record{}, fmt.Errorf("%w: %w", errFenced, err)
	}
	change := record{
		Bucket: key.Bucket, Object: key.Object, Number: h.last + 1, Time: time.Now().UTC(), Epoch: s.epoch, Fence: fence,
	}
	if h.epoch > change.Epoch || h.epoch == change.Epoch && h.fence > change.Fence {
		return record{}, errFenced
	}
	if err := fill(&h, &change, folder); err != nil {
		return record{}, err
	}
	undo := func() {
		if change.Data != "" {
			os.Remove(filepath.Join(folder, change.Data))
		}
	}
	text, err := json.Marshal(change)
	if err != nil {
		undo()
		return record{}, err
	}
	ready, err := s.write(text)
	if err != nil {
		undo()
		return record{}, err
	}
	defer os.Remove(ready)
	if s.beforeCommit != nil {
		s.beforeCommit(key)
	}
	// Spares work where the lock was lost, and is not what makes it safe: it may be lost in the next moment. That is the
	// link, which only one change of that number can have: tidy forgets no number that a writer may be about to link.
	if current, err := s.locks.IsCurrent(key, fence); err != nil || !current {
		undo()
		return record{}, errFenced
	}
	if s.beforeLink != nil {
		s.beforeLink(key)
	}
	if err := os.Link(ready, filepath.Join(folder, commitName(change.Number))); err != nil {
		undo()
		if errors.Is(err, fs.ErrExist) {
			err = errFenced
		}
		return record{}, err
	}
	if err := s.flushFolder(folder); err != nil {
		return record{}, err
	}
	s.tidy(folder)
	return change, nil
}

// tidy removes what a change made superfluous. It is tried again with the next one.
func (s *store) tidy(folder string) {
	h, err := readHistory(folder, s.keep)
	if err != nil {
		return
	}
	data, changes, err := h.superfluous(folder)
	if err != nil {
		return
	}
	// Another writer of this object lost its lock, and may be about to link a number that was given to another change
	// since. The record of that one is what refuses them, also after its version is too old to be kept. Who begins
	// after this line takes a later number than any that is removed.
	if !s.under.alone(folder) {
		changes = nil
	}
	// Records after what they name.
	for _, name := range append(data, changes...) {
		if os.Remove(filepath.Join(folder, name)) != nil {
			return
		}
	}
}

// open opens a version, or the latest if it is 0. The lock is held while it is looked up, not while it is read: a file
// never changes, and one that is removed can be read to its end by a reader that has it open.
func (s *store) open(ctx context.Context, key keylatch.Key, version uint64, owner string) (*os.File, record, error) {
	guard, err := s.lock(ctx, key, keylatch.Shared, owner)
	if err != nil {
		return nil, record{}, err
	}
	defer unlock(guard)
	return s.openVersion(s.folder(key), version)
}

func (s *store) openVersion(folder string, version uint64) (*os.File, record, error) {
	for before := uint64(0); ; {
		h, err := readHistory(folder, s.keep)
		if err != nil {
			return nil, record{}, err
		}
		found, err := h.latest()
		if version != 0 {
			found, err = h.version(version)
		}
		if err != nil {
			return nil, record{}, err
		}
		file, err := os.Open(filepath.Join(folder, found.Data))
		if !errors.Is(err, fs.ErrNotExist) {
			return file, found, err
		}
		if h.last == before {
			// Too old a version, of which a crash left the record.
			return nil, record{}, errNotFound
		}
		// Or a writer that lost its lock made a change meanwhile, and tidied.
		before = h.last
	}
}

// versions lists the versions of an object, the oldest first.
func (s *store) versions(ctx context.Context, key keylatch.Key, owner string) ([]record, error) {
	guard, err := s.lock(ctx, key, keylatch.Shared, owner)
	if err != nil {
		return nil, err
	}
	defer unlock(guard)
	h, err := readHistory(s.folder(key), s.keep)
	if err == nil && len(h.versions) == 0 {
		err = errNotFound
	}
	return h.versions, err
}

// name is an object's, in requests and files.
type name struct {
	Bucket string `json:"bucket"`
	Object string `json:"object"`
}

func (n name) key() keylatch.Key { return keylatch.Key{Bucket: n.Bucket, Object: n.Object} }

// planned is an object that is to be removed, unless there was another change after the last one that is named.
type planned struct {
	name
	Last uint64 `json:"last"`
}

// removeMany removes objects, all of them or none. Those that are not there are removed already.
func (s *store) removeMany(ctx context.Context, names []name, owner string) (removed int, err error) {
	items := make([]keylatch.Item, len(names))
	for i, name := range names {
		items[i] = keylatch.Item{Key: name.key(), Mode: keylatch.Exclusive}
	}
	batch, err := asBusy(s.locks.LockMany(ctx, items,
		keylatch.WithTimeout(s.wait), keylatch.WithTTL(s.lease), keylatch.WithOwner(owner)))
	if err != nil {
		return 0, err
	}
	defer unlock(batch)
	type item struct {
		planned
		item int
	}
	var plan []item
	for i, name := range names {
		h, err := readHistory(s.folder(name.key()), s.keep)
		if err != nil {
			return 0, err
		}
		// One that was named before has no grant.
		if batch.Grant(i) != 0 && len(h.versions) > 0 {
			plan = append(plan, item{planned{name, h.last}, i})
		}
	}
	if len(plan) == 0 {
		return 0, nil
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return 0, err
	}
	ready, err := s.write(text)
	if err != nil {
		return 0, err
	}
	defer os.Remove(ready)
	for i, name := range names {
		if s.beforeCommit != nil {
			s.beforeCommit(name.key())
		}
		if batch.Grant(i) != 0 && !s.locks.Valid(batch.Grant(i)) {
			return 0, errFenced
		}
	}
	// From here on it will be done, by the next start if not now.
	path := s.path("removals", filepath.Base(ready))
	if err := os.Rename(ready, path); err != nil {
		return 0, err
	}
	err = s.flushFolder(s.path("removals"))
	for err == nil && removed < len(plan) {
		if err = s.removePlanned(plan[removed].planned, batch.Grant(plan[removed].item)); err == nil {
			removed++
		}
	}
	if err == nil {
		// One that stays has nothing left to say.
		_ = os.Remove(path)
		return removed, nil
	}
	if removed == 0 && s.untouched(plan[0].planned) && os.Remove(path) == nil {
		// Nothing has begun, and nothing will.
		return 0, errors.Join(err, s.flushFolder(s.path("removals")))
	}
	s.finishing.Go(func() { s.finishLater(path) })
	return removed, fmt.Errorf("%w: %w", errUnfinished, err)
}

// untouched is whether an object is as it was when its removal was planned.
func (s *store) untouched(one planned) bool {
	h, err := readHistory(s.folder(one.key()), s.keep)
	return err == nil && h.last == one.Last
}

// finishLater goes on with a removal that could not be finished, such as for want of room, until it is or the store is
// closed; then it is finished with the next start.
func (s *store) finishLater(path string) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, time.Minute) {
		select {
		case <-time.After(pause):
		case <-s.stopped.Done():
			return
		}
		if s.finish(path) == nil {
			return
		}
	}
}

// removePlanned removes an object unless it has changed since the plan was made.
func (s *store) removePlanned(one planned, grant keylatch.Grant) error {
	h, err := readHistory(s.folder(one.key()), s.keep)
	if err != nil || h.last != one.Last {
		return err
	}
	_, err = s.change(one.key(), grant, func(*history, *record, string) error { return nil })
	if errors.Is(err, errFenced) {
		// The lock was lost at the last moment: once more, with another one.
		guard, err := s.lock(s.stopped, one.key(), keylatch.Exclusive, "removal")
		if err != nil {
			return err
		}
		defer unlock(guard)
		return s.removePlanned(one, guard.Grant())
	}
	return err
}

// finish removes what a removal that a crash cut short left over.
func (s *store) finish(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var plan []planned
	if err := json.Unmarshal(text, &plan); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	for _, one := range plan {
		guard, err := s.lock(s.stopped, one.key(), keylatch.Exclusive, "recovery")
		if err != nil {
			return err
		}
		err = s.removePlanned(one, guard.Grant())
		unlock(guard)
		if err != nil {
			return err
		}
	}
	return os.Remove(path)
}

// write puts bytes into a file of their own, complete and on disk.
func (s *store) write(text []byte) (path string, err error) {
	file, err := os.CreateTemp(s.path("incoming"), "write-")
	if err != nil {
		return "", err
	}
	_, err = file.Write(text)
	if err == nil {
		err = s.flush(file)
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(file.Name())
		return "", err
	}
	return file.Name(), nil
}

// replace puts bytes in the place of a file.
func (s *store) replace(path string, text []byte) error {
	ready, err := s.write(text)
	if err != nil {
		return err
	}
	if err := os.Rename(ready, path); err != nil {
		return err
	}
	return s.flushFolder(filepath.Dir(path))
}

func (s *store) flush(file *os.File) error {
	if !s.sync {
		return nil
	}
	return file.Sync()
}

// flushFolder has names that were made in a folder survive a crash of the machine.
func (s *store) flushFolder(folder string) error {
	if !s.sync {
		return nil
	}
	open, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer open.Close()
	return open.Sync()
}

func (s *store) makeFolder(folder string) error {
	if _, err := os.Stat(folder); err == nil {
		return nil
	}
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	if err := s.flushFolder(filepath.Dir(folder)); err != nil {
		return err
	}
	return s.flushFolder(s.path("objects"))
}
