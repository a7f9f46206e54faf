package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An object is a folder with
//
//	000000000007.commit   a record for each change, numbered from 1 on without gaps
//	000000000007-x3j2.data  the bytes of version 7
//
// A change is made by linking its record, complete and on disk, to the next number. The system lets one link to a name
// succeed: of two who both think that theirs is change 8, one gets an error. Nothing that was linked is ever changed.
// Old
// records are removed, but none whose number a writer may still be about to link. Data without a record is rubbish that
// a crash left.

// record is one change of an object.
type record struct {
	Bucket string `json:"bucket"`
	Object string `json:"object"`
	// Number is the number of the change, and of the version that it makes.
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"`
	// Epoch and Fence are those of the lock that it was made under: how often the store had been started, and the
	// lock's fence number since.
	Epoch uint64 `json:"epoch"`
	Fence uint64 `json:"fence"`

	// Data is the file with the bytes of a new version, Size and SHA256 what is in it.
	Data   string `json:"data,omitempty"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	// Without Data it removes: the version Removes, or all that there are if it is 0.
	Removes uint64 `json:"removes,omitempty"`
}

func (r *record) isVersion() bool { return r.Data != "" }

const (
	commitSuffix = ".commit"
	dataSuffix   = ".data"
)

func commitName(number uint64) string { return fmt.Sprintf("%012d%s", number, commitSuffix) }

// history is what there is of an object.
type history struct {
	// last is the number of the latest change; 0 if there was none. epoch and fence are its lock's.
	last, epoch, fence uint64
	// versions are those that can be read, the oldest first.
	versions []record
}

func (h *history) latest() (record, error) {
	if len(h.versions) == 0 {
		return record{}, errNotFound
	}
	return h.versions[len(h.versions)-1], nil
}

func (h *history) version(number uint64) (record, error) {
	for _, version := range h.versions {
		if version.Number == number {
			return version, nil
		}
	}
	return record{}, errNotFound
}

// readHistory reads a folder; one that is not there has no history. Only the newest versions are kept.
func readHistory(folder string, keep int) (history, error) {
	return readWhatIsListed(folder, keep, func() ([]uint64, error) { return listChanges(folder) })
}

// readWhatIsListed reads the changes of a folder whose names list gives.
//
// A writer that lost its lock may be adding and tidying. A list that is made meanwhile can miss the old change, which
// is gone by then, and the new one, which was not there yet. So a list counts if the next one is the same: its last
// change was the last one at some moment between, because whatever is later came while the lists were made. One that is
// empty has no last change that shows this, so several have to be. If a record of it is gone after that, what is there
// now is read.
func readWhatIsListed(folder string, keep int, list func() ([]uint64, error)) (history, error) {
	const enough = 8
	before, err := list()
	empty := 0
	var gone error
	for err == nil {
		var numbers []uint64
		if numbers, err = list(); err != nil {
			break
		}
		if !slices.Equal(numbers, before) {
			before, gone, empty = numbers, nil, 0
			continue
		}
		if empty++; len(numbers) == 0 && empty < enough {
			continue
		}
		if gone != nil {
			return history{}, gone
		}
		h, unread := readChanges(folder, numbers, keep)
		if !errors.Is(unread, fs.ErrNotExist) {
			return h, unread
		}
		gone = unread
	}
	return history{}, err
}

// listChanges are the numbers of the changes that a folder has records of, in order.
func listChanges(folder string) (numbers []uint64, err error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		text, is := strings.CutSuffix(entry.Name(), commitSuffix)
		if !is {
			continue
		}
		number, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s is no name for a change: %w", filepath.Join(folder, entry.Name()), err)
		}
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers, nil
}

func readChanges(folder string, numbers []uint64, keep int) (h history, err error) {
	for _, number := range numbers {
		change, err := readRecord(filepath.Join(folder, commitName(number)))
		if err != nil {
			return history{}, err
		}
		switch {
		case change.isVersion():
			h.versions = append(h.versions, change)
		case change.Removes == 0:
			h.versions = nil
		default:
			h.versions = slices.DeleteFunc(h.versions, func(version record) bool { return version.Number == change.Removes })
		}
		h.last, h.epoch, h.fence = number, change.Epoch, change.Fence
	}
	if len(h.versions) > keep {
		h.versions = h.versions[len(h.versions)-keep:]
	}
	return h, nil
}

func readRecord(path string) (record, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return record{}, err
	}
	var change record
	if err := json.Unmarshal(text, &change); err != nil {
		return record{}, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if change.Data != filepath.Base(change.Data) && change.Data != "" {
		return record{}, fmt.Errorf("%s is damaged: its data is %q", path, change.Data)
	}
	return change, nil
}

// superfluous are the files of a folder that are not needed any more: data of versions that are removed or too old or
// that no change names, and changes that say nothing any more, the oldest first. The latest change stays, so that
// numbers go on from there.
//
// Files with later numbers are left alone: they may be of a change that is just being made.
func (h *history) superfluous(folder string) (data, changes []string, err error) {
	needed := make(map[string]bool)
	first := h.last
	for _, version := range h.versions {
		needed[version.Data] = true
		first = min(first, version.Number)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		digits, _, _ := strings.Cut(strings.TrimSuffix(entry.Name(), commitSuffix), "-")
		number, err := strconv.ParseUint(digits, 10, 64)
		switch {
		case err != nil || number > h.last:
		case strings.HasSuffix(entry.Name(), commitSuffix):
			// What comes after the oldest version that is kept may be about it.
			if number < first {
				changes = append(changes, entry.Name())
			}
		case !needed[entry.Name()]:
			data = append(data, entry.Name())
		}
	}
	return data, changes, nil
}
