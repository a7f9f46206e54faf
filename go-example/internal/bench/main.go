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
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.org/keylatch"
)

var background = context.Background()

func try(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// row is one thing that is measured: do repeats it, and each repetition counts as a number of operations.
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
	// long says that a short slice would measure something else.
	long bool
	// before is how many times come before each slice: over enough keys that no cache has them.
	before int
	took   []float64
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
	if l.before > 0 {
		l.run(l.before)
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
		l := lane{row: r, perSlice: 1}
		switch {
		case r.section == inTurn:
			l.long, l.before = true, manyKeys
		case strings.HasPrefix(r.section, hot):
			// In a short one some goroutines are through before the others have begun.
			l.long = true
		}
		rows = append(rows, l)
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
	output, err := program.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := program.Start(); err != nil {
		return nil, err
	}
	answers := bufio.NewReader(output)
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
	rows := []lane{{perSlice: 1, row: row{"keylatch from Rust, a guard", "one lock and unlock, no contention", nil, 1}, timed: asked("pair", 1)}}
	for _, size := range sizes {
		rows = append(rows,
			lane{perSlice: 1, row: row{rustBatch(size), "a key of a batch", nil, size}, timed: asked("batch", size)},
			lane{perSlice: 1, row: row{fmt.Sprintf("keylatch from Rust, %d one by one", size), "a key of a batch", nil, size}, timed: asked("pair", size)})
	}
	return rows, nil
}
