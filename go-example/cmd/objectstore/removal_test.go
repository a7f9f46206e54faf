package main

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"example.org/keylatch"
)

// failing has every change of a key fail at the last moment, as a full or broken disk would, for as long as it says so.
func (s *store) failing(key keylatch.Key, fails *bool) {
	s.beforeLink = func(now keylatch.Key) {
		if now == key && *fails {
			incoming, _ := os.ReadDir(s.path("incoming"))
			for _, file := range incoming {
				os.Remove(s.path("incoming", file.Name()))
			}
		}
	}
}

var pets = []name{{"photos", "cat.jpg"}, {"photos", "dog.jpg"}, {"photos", "fish.jpg"}}

func (s *store) withPets(t *testing.T) {
	t.Helper()
	for _, one := range pets {
		s.mustPut(t, one.key(), one.Object)
	}
}

func TestARemovalThatCannotBeginIsUndone(t *testing.T) {
	root := t.TempDir()
	s := newTestStore(t, root, storeOptions{})
	s.withPets(t)
	fails := true
	s.failing(pets[0].key(), &fails)
	removed, err := s.removeMany(background, pets, "test")
	if removed != 0 || err == nil || errors.Is(err, errUnfinished) {
		t.Fatalf("%d, %v", removed, err)
	}
	if left := s.files(t, "removals"); len(left) != 0 {
		t.Fatalf("there are %v", left)
	}
	s.close()
	s = newTestStore(t, root, storeOptions{})
	for _, one := range pets {
		s.has(t, one.key(), 0, one.Object)
	}
	if removed, err := s.removeMany(background, slices.Concat(pets, pets), "test"); removed != 3 || err != nil {
		t.Fatalf("%d, %v", removed, err)
	}
	if removed, err := s.removeMany(background, pets, "test"); removed != 0 || err != nil {
		t.Fatalf("%d, %v", removed, err)
	}
}

func TestARemovalIsFinishedAsSoonAsItCanBe(t *testing.T) {
	s := newTestStore(t, t.TempDir(), storeOptions{})
	s.withPets(t)
	// The second object cannot be removed, once by the request and twice by those who go on with it.
	tries := 0
	fails := true
	s.failing(pets[1].key(), &fails)
	failing := s.beforeLink
	s.beforeLink = func(key keylatch.Key) {
		if key == pets[1].key() {
			if tries++; tries > 3 {
				fails = false
			}
		}
		failing(key)
	}
	removed, err := s.removeMany(background, pets, "test")
	if removed != 1 || !errors.Is(err, errUnfinished) {
		t.Fatalf("%d, %v", removed, err)
	}
	s.has(t, pets[0].key(), 0, "")
	for began := time.Now(); len(s.files(t, "removals")) != 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("it is not finished")
		}
	}
	for _, one := range pets {
		s.has(t, one.key(), 0, "")
	}
}

// What cannot be finished does not keep the store from being closed, and is finished with the next start.
func TestARemovalThatCannotBeFinished(t *testing.T) {
	root := t.TempDir()
	s := newTestStore(t, root, storeOptions{})
	s.withPets(t)
	fails := true
	s.failing(pets[2].key(), &fails)
	if removed, err := s.removeMany(background, pets, "test"); removed != 2 || !errors.Is(err, errUnfinished) {
		t.Fatalf("%d, %v", removed, err)
	}
	s.close()
	s.has(t, pets[2].key(), 0, pets[2].Object)
	s = newTestStore(t, root, storeOptions{})
	s.has(t, pets[2].key(), 0, "")
	if left := s.files(t, "removals"); len(left) != 0 {
		t.Fatalf("there are %v", left)
	}
}
