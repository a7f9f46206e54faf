package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.org/keylatch"
)

var background = context.Background()

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newTestStore(t *testing.T, root string, options storeOptions) *store {
	t.Helper()
	locks, err := keylatch.New(keylatch.Options{})
	ok(t, err)
	if options.keep == 0 {
		options.keep = 3
	}
	if options.wait == 0 {
		options.wait = 10 * time.Second
	}
	if options.lease == 0 {
		options.lease = time.Minute
	}
	s, err := openStore(root, locks, options)
	ok(t, err)
	t.Cleanup(func() {
		s.close()
		locks.Close()
	})
	return s
}

func (s *store) mustPut(t *testing.T, key keylatch.Key, text string) record {
	t.Helper()
	made, err := s.tryPut(key, text)
	ok(t, err)
	return made
}

func (s *store) tryPut(key keylatch.Key, text string) (record, error) {
	bytes, err := s.receive(strings.NewReader(text))
	if err != nil {
		return record{}, err
	}
	defer s.discard(bytes)
	return s.put(background, key, bytes, "test", nil)
}

func (s *store) has(t *testing.T, key keylatch.Key, version uint64, wanted string) {
	t.Helper()
	file, _, err := s.open(background, key, version, "test")
	if err != nil {
		if wanted != "" || !errors.Is(err, errNotFound) {
			t.Fatal(err)
		}
		return
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	ok(t, err)
	if string(text) != wanted {
		t.Fatalf("it has %q, not %q", text, wanted)
	}
}

// files are the names below a directory of the store.
func (s *store) files(t *testing.T, directory string) (names []string) {
	t.Helper()
	ok(t, filepath.WalkDir(s.path(directory), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, entry.Name())
		}
		return err
	}))
	return names
}

var cat = keylatch.Key{Bucket: "photos", Object: "cat.jpg"}

func TestVersions(t *testing.T) {
	root := t.TempDir()
	s := newTestStore(t, root, storeOptions{})
	for number := range 5 {
		if made := s.mustPut(t, cat, fmt.Sprint("cat ", number+1)); made.Number != uint64(number+1) {
			t.Fatalf("it made %+v", made)
		}
	}
	s.has(t, cat, 0, "cat 5")
	s.has(t, cat, 3, "cat 3")
	s.has(t, cat, 2, "") // Three are kept.
	if found := s.files(t, "objects"); len(found) != 6 {
		t.Fatalf("there are %v", found)
	}
	ok(t, s.remove(background, cat, 5, "test", nil))
	s.has(t, cat, 0, "cat 4")
	if err := s.remove(background, cat, 5, "test", nil); !errors.Is(err, errNotFound) {
		t.Fatal(err)
	}
	ok(t, s.remove(background, cat, 0, "test", nil))
	s.has(t, cat, 0, "")
	if _, err := s.versions(background, cat, "test"); !errors.Is(err, errNotFound) {
		t.Fatal(err)
	}
	// Numbers go on where they were.
	if made := s.mustPut(t, cat, "another"); made.Number != 8 {
		t.Fatalf("it made %+v", made)
	}
	if found := s.files(t, "incoming"); len(found) != 0 {
		t.Fatalf("there are %v", found)
	}
	// Like "a/b" + "c" and "a" + "b/c", names that look alike are not.
	s.mustPut(t, keylatch.Key{Bucket: "a", Object: "b/c"}, "one")
	s.has(t, keylatch.Key{Bucket: "a/b", Object: "c"}, 0, "")

	second, err := keylatch.New(keylatch.Options{})
	ok(t, err)
	defer second.Close()
	if _, err := openStore(root, second, s.storeOptions); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("two use one directory: %v", err)
	}
}

// A writer loses its lock just before it commits, and another one commits meanwhile.
func TestAWriterWithoutItsLockChangesNothing(t *testing.T) {
	for how, lose := range map[string]func(*store, keylatch.Key){
		"by force": func(s *store, key keylatch.Key) {
			_, err := s.locks.ForceRelease(keylatch.Filter{Key: &key})
			ok(t, err)
		},
		"because its lease ran out": func(s *store, key keylatch.Key) {
			holders, err := s.locks.Holders(keylatch.Filter{Key: &key})
			ok(t, err)
			ok(t, s.locks.Renew(holders[0].Grant, 1))
		},
	} {
		t.Run(how, func(t *testing.T) {
			s := newTestStore(t, t.TempDir(), storeOptions{})
			s.mustPut(t, cat, "first")
			attempts := map[string]func() error{
				"put":    func() error { _, err := s.tryPut(cat, "late"); return err },
				"remove": func() error { return s.remove(background, cat, 0, "test", nil) },
				"remove many": func() error {
					_, err := s.removeMany(background, []name{{"photos", "cat.jpg"}, {"photos", "dog.jpg"}}, "test")
					return err
				},
			}
			for what, attempt := range attempts {
				between := "between " + what
				s.beforeCommit = func(key keylatch.Key) {
					s.beforeCommit = nil
					lose(s, key)
					s.mustPut(t, cat, between)
				}
				if err := attempt(); !errors.Is(err, errFenced) {
					t.Fatalf("%s: %v", what, err)
				}
				s.has(t, cat, 0, between)
			}
			if found := s.files(t, "incoming"); len(found) != 0 {
				t.Fatalf("there are %v", found)
			}
		})
	}
}

// The link is what refuses, even if the lock's number were believed.
func TestOneChangeHasANumber(t *testing.T) {
	s := newTestStore(t, t.TempDir(), storeOptions{})
	s.mustPut(t, cat, "first")
	s.beforeCommit = func(keylatch.Key) {
		s.beforeCommit = nil
		folder := s.folder(cat)
		text, err := os.ReadFile(filepath.Join(folder, commitName(1)))
		ok(t, err)
		ok(t, os.WriteFile(filepath.Join(folder, commitName(2)), text, 0o600))
	}
	if _, err := s.tryPut(cat, "late"); !errors.Is(err, errFenced) {
		t.Fatal(err)
	}
	s.has(t, cat, 0, "first")
}

// Its lock is lost at the very last moment, and others write so often meanwhile that the change that took its number is
// too old to be kept.
func TestOvertakenWriterChangesNothing(t *testing.T) {
	for what, attempt := range map[string]func(*store) error{
		"put":    func(s *store) error { _, err := s.tryPut(cat, "late"); return err },
		"remove": func(s *store) error { return s.remove(background, cat, 0, "test", nil) },
	} {
		t.Run(what, func(t *testing.T) {
			root := t.TempDir()
			s := newTestStore(t, root, storeOptions{keep: 2})
			s.mustPut(t, cat, "1")
			s.beforeLink = func(key keylatch.Key) {
				s.beforeLink = nil
				_, err := s.locks.ForceRelease(keylatch.Filter{Key: &key})
				ok(t, err)
				for number := 2; number <= 5; number++ {
					s.mustPut(t, cat, fmt.Sprint(number))
				}
				// What takes room is gone all the same: two versions, and the one that is late.
				data, err := filepath.Glob(filepath.Join(s.folder(cat), "*"+dataSuffix))
				ok(t, err)
				if len(data) > 3 {
					t.Errorf("there are %v", data)
				}
			}
			if err := attempt(s); !errors.Is(err, errFenced) {
				t.Fatalf("the late one got %v", err)
			}
			intact := func() {
				t.Helper()
				found, err := s.versions(background, cat, "test")
				ok(t, err)
				if len(found) != 2 || found[0].Number != 4 || found[1].Number != 5 {
					t.Fatalf("there are %+v", found)
				}
				s.has(t, cat, 4, "4")
				s.has(t, cat, 0, "5")
			}
			intact()
			s.close()
			s = newTestStore(t, root, storeOptions{keep: 2})
			intact()
			// The next one forgets what the late one needed.
			if made := s.mustPut(t, cat, "6"); made.Number != 6 {
				t.Fatalf("it made %+v", made)
			}
			if found := s.files(t, "objects"); len(found) != 4 {
				t.Fatalf("there are %v", found)
			}
			if len(s.under.in) != 0 {
				t.Fatalf("changes are counted that are not being made: %v", s.under.in)
			}
		})
	}
}

// A reader sees a history, an older or a newer one, while a writer that lost its lock writes and tidies.
func TestAHistoryIsReadWhileItIsTidied(t *testing.T) {
	s := newTestStore(t, t.TempDir(), storeOptions{keep: 1})
	whileTidied(t, s, func(latest uint64) (uint64, error) {
		h, err := readHistory(s.folder(cat), s.keep)
		if err == nil && len(h.versions) != 1 {
			err = fmt.Errorf("after %d it is %+v", latest, h)
		}
		return h.last, err
	})
}

// A list that is made while a change is added and an older one removed may have neither.
func TestAListThatMissedChangesIsMadeAgain(t *testing.T) {
	s := newTestStore(t, t.TempDir(), storeOptions{keep: 1})
	s.mustPut(t, cat, "0")
	last := s.mustPut(t, cat, "1").Number
	for _, missed := range [][][]uint64{{nil}, {nil, nil}, {{last - 1}}} {
		lists := 0
		h, err := readWhatIsListed(s.folder(cat), s.keep, func() ([]uint64, error) {
			if lists++; lists <= len(missed) {
				return missed[lists-1], nil
			}
			return listChanges(s.folder(cat))
		})
		if ok(t, err); h.last != last || len(h.versions) != 1 || lists != len(missed)+2 {
			t.Fatalf("after %v it is %+v after %d lists", missed, h, lists)
		}
	}
	// A record that stays on the list and cannot be read is an error, not a reason to go on for ever.
	_, err := readWhatIsListed(s.folder(cat), s.keep, func() ([]uint64, error) { return []uint64{last, last + 1}, nil })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a record that is missing: %v", err)
	}
}

func TestTheLatestIsThereWhileOthersAreTidied(t *testing.T) {
	s := newTestStore(t, t.TempDir(), storeOptions{keep: 1})
	whileTidied(t, s, func(uint64) (uint64, error) {
		file, found, err := s.openVersion(s.folder(cat), 0)
		if err == nil {
			err = file.Close()
		}
		return found.Number, err
	})
}

// whileTidied reads the latest number without a lock, again and again, while others write. It must not get less.
func whileTidied(t *testing.T, s *store, look func(latest uint64) (uint64, error)) {
	first := s.mustPut(t, cat, "0").Number
	var stop atomic.Bool
	read := make(chan error, 1)
	go func() {
		for latest := first; !stop.Load(); {
			found, err := look(latest)
			if err == nil && found < latest {
				err = fmt.Errorf("%d came after %d", found, latest)
			}
			if err != nil {
				read <- err
				return
			}
			latest = found
		}
		read <- nil
	}()
	for number := range 500 {
		s.mustPut(t, cat, fmt.Sprint(number))
	}
	stop.Store(true)
	ok(t, <-read)
}

func TestRecovery(t *testing.T) {
	root := t.TempDir()
	s := newTestStore(t, root, storeOptions{})
	dog := keylatch.Key{Bucket: "photos", Object: "dog.jpg"}
	s.mustPut(t, cat, "cat")
	last := s.mustPut(t, dog, "dog")
	// What crashes leave: bytes that were being received, data without a record, a removal half done.
	ok(t, os.WriteFile(s.path("incoming", "put-1"), []byte("half"), 0o600))
	ok(t, os.WriteFile(filepath.Join(s.folder(cat), "000000000002-x.data"), []byte("half"), 0o600))
	plan := `[{"bucket": "photos", "object": "cat.jpg", "last": 1}, {"bucket": "photos", "object": "dog.jpg", "last": 0}]`
	ok(t, os.WriteFile(s.path("removals", "write-1"), []byte(plan), 0o600))
	s.close()

	s = newTestStore(t, root, storeOptions{})
	s.has(t, cat, 0, "")
	s.has(t, dog, 0, "dog") // It changed after the plan was made.
	if left := append(s.files(t, "incoming"), s.files(t, "removals")...); len(left) != 0 {
		t.Fatalf("there are %v", left)
	}
	if found := s.files(t, "objects"); len(found) != 3 {
		t.Fatalf("there are %v", found)
	}
	next := s.mustPut(t, dog, "dog again")
	if next.Epoch <= last.Epoch {
		t.Fatalf("%+v came after %+v", next, last)
	}
	// A write of an earlier start comes too late.
	s.epoch--
	if _, err := s.tryPut(dog, "late"); !errors.Is(err, errFenced) {
		t.Fatal(err)
	}
}

func TestABusyObject(t *testing.T) {
	s := newTestStore(t, t.TempDir(), storeOptions{wait: time.Millisecond})
	s.mustPut(t, cat, "cat")
	guard, err := s.locks.Lock(background, cat)
	ok(t, err)
	if _, err := s.tryPut(cat, "late"); !errors.Is(err, errBusy) {
		t.Fatal(err)
	}
	if _, _, err := s.open(background, cat, 0, "test"); !errors.Is(err, errBusy) {
		t.Fatal(err)
	}
	if _, err := s.removeMany(background, []name{{"photos", "cat.jpg"}}, "test"); !errors.Is(err, errBusy) {
		t.Fatal(err)
	}
	ok(t, guard.Unlock())
	s.has(t, cat, 0, "cat")
}
