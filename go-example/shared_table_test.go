package keylatch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var sharedCat = Key{Bucket: "photos", Object: "cat.jpg"}

func sharedPath(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "keylatch-go-")
	ok(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	return filepath.Join(folder, "locks")
}

func openTest(t *testing.T, path string) *SharedTable {
	t.Helper()
	table := must(OpenShared(path, SharedOptions{Label: "test", Keys: 64, Members: 16}))(t)
	t.Cleanup(func() { table.Close() })
	return table
}

// child is this test program again, which holds or wants a key.
type child struct {
	command *exec.Cmd
	says    *bufio.Scanner
}

func startChild(t *testing.T, path, what string) *child {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^TestSharedChild$")
	command.Env = append(os.Environ(), "KEYLATCH_SHARED_CHILD="+what, "KEYLATCH_SHARED_PATH="+path)
	said := must(command.StdoutPipe())(t)
	ok(t, command.Start())
	c := &child{command, bufio.NewScanner(said)}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	return c
}

func (c *child) hears(t *testing.T, want string) {
	t.Helper()
	if !c.says.Scan() || c.says.Text() != want {
		t.Fatalf("the child said %q, not %q", c.says.Text(), want)
	}
}

func (c *child) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	ok(t, c.command.Process.Signal(signal))
}

// TestSharedChild is what children run.
func TestSharedChild(t *testing.T) {
	what := os.Getenv("KEYLATCH_SHARED_CHILD")
	if what == "" {
		t.Skip("for other tests")
	}
	if what == "manage" {
		locks := must(New(Options{SharedMemory: os.Getenv("KEYLATCH_SHARED_PATH")}))(t)
		must(locks.Lock(background, sharedCat))(t)
		fmt.Println("holds")
		select {}
	}
	table := must(OpenShared(os.Getenv("KEYLATCH_SHARED_PATH"), SharedOptions{Label: "child"}))(t)
	switch what {
	case "hold":
		must(table.Lock(background, sharedCat, WithOwner("indexer")))(t)
		fmt.Println("holds")
		select {}
	case "share":
		must(table.RLock(background, sharedCat))(t)
		fmt.Println("shares")
		select {}
	case "want":
		fmt.Println("wants")
		must(table.Lock(background, sharedCat))(t)
		fmt.Println("has it")
		select {}
	case "count":
		number := filepath.Join(filepath.Dir(table.Path()), "number")
		for range 200 {
			guard := must(table.Lock(background, sharedCat))(t)
			count := 0
			text := must(os.ReadFile(number))(t)
			must(fmt.Sscan(string(text), &count))(t)
			ok(t, os.WriteFile(number, []byte(fmt.Sprint(count+1)), 0o600))
			ok(t, guard.Unlock())
		}
		fmt.Println("counted")
	}
}

func TestSharedGuards(t *testing.T) {
	table := openTest(t, sharedPath(t))
	guard := must(table.Lock(background, sharedCat, WithOwner("indexer")))(t)
	first := must(guard.Fence())(t)
	if !guard.Valid() || guard.PreviousHolderDied() || guard.Mode() != Exclusive || guard.Key() != sharedCat {
		t.Fatalf("it is %+v", guard)
	}
	_, err := table.TryRLock(sharedCat)
	refusal := wants(t, err, ErrWouldBlock)
	if refusal.Key != sharedCat || len(refusal.Holders) != 1 || !strings.Contains(refusal.Error(), `held by "indexer" (exclusive`) {
		t.Fatalf("it says %v", refusal)
	}
	_, err = table.Lock(background, sharedCat, WithTimeout(time.Millisecond))
	if refusal = wants(t, err, ErrTimeout); refusal.Waited < time.Millisecond || len(refusal.Holders) != 1 {
		t.Fatalf("it says %v", refusal)
	}
	ok(t, guard.Downgrade())
	other := must(table.TryRLock(sharedCat))(t)
	wants(t, guard.TryUpgrade(), ErrUpgradeConflict)
	ok(t, other.Unlock())
	wants(t, other.Unlock(), ErrNotHeld)
	ok(t, guard.TryUpgrade())
	if again := must(guard.Fence())(t); again <= first || guard.Mode() != Exclusive {
		t.Fatalf("the fence went from %d to %d", first, again)
	}
	holders := must(table.Holders(&sharedCat))(t)
	all := must(table.Holders(nil))(t)
	if len(holders) != 1 || len(all) != 1 || holders[0].PID != os.Getpid() || holders[0].Owner != "indexer" ||
		holders[0].Label != "test" || holders[0].Key != sharedCat || holders[0].Mode != Exclusive {
		t.Fatalf("the holders are %+v and %+v", holders, all)
	}
	ok(t, table.Revoke(holders[0]))
	wants(t, table.Revoke(holders[0]), ErrNotHeld)
	next := must(table.TryLock(sharedCat))(t)
	if guard.Valid() || !next.Valid() {
		t.Fatal("the wrong one was revoked")
	}
	wants(t, guard.Unlock(), ErrNotHeld)
	ok(t, next.Unlock())
}

func TestSharedContextsEndWaits(t *testing.T) {
	path := sharedPath(t)
	table, other := openTest(t, path), openTest(t, path)
	guard := must(table.Lock(background, sharedCat))(t)
	waits, cancel := context.WithCancel(background)
	failed := make(chan error)
	// More than may wait in the library at a time.
	const waiters = 3 * sharedWaits
	for range waiters {
		go func() {
			_, err := other.Lock(waits, sharedCat)
			failed <- err
		}()
	}
	until(t, "as many wait as may", func() bool { return len(other.waits) == sharedWaits })
	if threads := len(must(os.ReadDir("/proc/self/task"))(t)); threads >= waiters {
		t.Fatalf("%d goroutines wait with %d threads", waiters, threads)
	}
	cancel()
	for range waiters {
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if _, err := other.Lock(waits, Key{Object: "free"}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	late, end := context.WithTimeout(background, time.Millisecond)
	defer end()
	if _, err := other.RLock(late, sharedCat); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	ok(t, guard.Unlock())
	if holders := must(table.Holders(nil))(t); len(holders) != 0 {
		t.Fatalf("%+v are held", holders)
	}
	ok(t, must(table.TryLock(sharedCat))(t).Unlock())
}

func TestSharedGoroutinesCount(t *testing.T) {
	path := sharedPath(t)
	tables := []*SharedTable{openTest(t, path), openTest(t, path)}
	var group sync.WaitGroup
	// Between the tables the race detector sees no order. Read and written apart, it is wrong if two are inside.
	var count atomic.Int64
	for i := range 60 {
		group.Go(func() {
			for range 20 {
				guard, err := tables[i%2].Lock(background, sharedCat)
				ok(t, err)
				seen := count.Load()
				runtime.Gosched()
				count.Store(seen + 1)
				if i%3 == 0 {
					ok(t, guard.Downgrade())
				}
				ok(t, guard.Unlock())
			}
		})
	}
	group.Wait()
	if count.Load() != 1200 {
		t.Fatalf("%d were counted", count.Load())
	}
}

func TestSharedWriterKeepsPlace(t *testing.T) {
	path := sharedPath(t)
	reads, writes, tries := openTest(t, path), openTest(t, path), openTest(t, path)
	guard := must(reads.RLock(background, sharedCat))(t)
	came := make(chan *SharedGuard)
	go func() { came <- must(writes.Lock(background, sharedCat))(t) }()
	until(t, "it waits", func() bool {
		other, err := tries.TryRLock(sharedCat)
		if err == nil {
			ok(t, other.Unlock())
		}
		return err != nil
	})
	// Readers that come later have to wait behind it. A request that left the line now and then would let them in.
	for range 50_000 {
		_, err := tries.TryRLock(sharedCat)
		wants(t, err, ErrWouldBlock)
	}
	ok(t, guard.Unlock())
	ok(t, (<-came).Unlock())
}

func TestSharedProcessesCount(t *testing.T) {
	path := sharedPath(t)
	number := filepath.Join(filepath.Dir(path), "number")
	ok(t, os.WriteFile(number, []byte("0"), 0o600))
	var children []*child
	for range 4 {
		children = append(children, startChild(t, path, "count"))
	}
	for _, c := range children {
		c.hears(t, "counted")
	}
	if text := must(os.ReadFile(number))(t); string(text) != "800" {
		t.Fatalf("they counted to %s", text)
	}
}

func TestSharedHolderKilled(t *testing.T) {
	path := sharedPath(t)
	table := openTest(t, path)
	holds := startChild(t, path, "hold")
	holds.hears(t, "holds")
	_, err := table.TryLock(sharedCat)
	refusal := wants(t, err, ErrWouldBlock)
	if process := fmt.Sprintf("process %d", holds.command.Process.Pid); !strings.HasPrefix(refusal.Holders[0].Source, process) {
		t.Fatalf("it says %v", refusal.Holders)
	}
	came := make(chan *SharedGuard)
	go func() { came <- must(table.Lock(background, sharedCat))(t) }()
	until(t, "one waits", func() bool { return must(table.Waiting(sharedCat))(t) == 1 })
	holds.signal(t, syscall.SIGKILL)
	guard := <-came
	if !guard.PreviousHolderDied() {
		t.Fatal("its successor does not know that it died")
	}
	ok(t, guard.Unlock())
	guard = must(table.Lock(background, sharedCat))(t)
	if guard.PreviousHolderDied() {
		t.Fatal("that is known already")
	}
	ok(t, guard.Unlock())
}

func TestManagersShareKeys(t *testing.T) {
	path := sharedPath(t)
	one, two := must(New(Options{SharedMemory: path}))(t), must(New(Options{SharedMemory: path}))(t)
	defer one.Close()
	defer two.Close()
	guard := must(one.Lock(background, sharedCat))(t)
	_, err := two.Lock(background, sharedCat, WithTimeout(5*time.Millisecond))
	wants(t, err, ErrTimeout)
	if must(guard.PreviousHolderDied())(t) {
		t.Fatal("none has died")
	}
	ok(t, guard.Unlock())
	ok(t, must(two.Lock(background, sharedCat))(t).Unlock())
	holds := startChild(t, path, "manage")
	holds.hears(t, "holds")
	holds.signal(t, syscall.SIGKILL)
	for _, informed := range []bool{true, false} {
		guard = must(one.Lock(background, sharedCat))(t)
		if must(guard.PreviousHolderDied())(t) != informed {
			t.Fatalf("a process died, and its successor should know: %v", informed)
		}
		ok(t, guard.Unlock())
	}
	_, err = New(Options{SharedMemory: filepath.Join(path, "none")})
	wants(t, err, ErrTier)
	_, err = New(Options{SharedMemory: path + "\x00else"})
	wants(t, err, ErrInvalidArgument)
}

func TestHoldsOfAllManagersListed(t *testing.T) {
	path := sharedPath(t)
	one, two := must(New(Options{SharedMemory: path}))(t), must(New(Options{SharedMemory: path}))(t)
	defer one.Close()
	defer two.Close()
	guard := must(one.Lock(background, sharedCat, WithOwner("indexer")))(t)
	holds := must(two.TierHolds(&sharedCat))(t)
	if len(holds) != 1 {
		t.Fatal(holds)
	}
	wanted := TierHold{Key: sharedCat, Mode: Exclusive, Owner: "indexer", Process: holds[0].Process, For: holds[0].For}
	if holds[0] != wanted || !strings.HasPrefix(wanted.Process, "process ") {
		t.Fatalf("%+v", holds[0])
	}
	if own := must(one.TierHolds(nil))(t); len(own) != 1 || !own[0].Own {
		t.Fatal(own)
	}
	if none := must(two.TierHolds(&Key{Object: "dog.jpg"}))(t); len(none) != 0 {
		t.Fatal(none)
	}
	ok(t, guard.Unlock())
	_, err := one.TierHolds(&Key{Object: strings.Repeat("x", 10_000)})
	wants(t, err, ErrInvalidKey)
	_, err = newTest(t, Options{}).TierHolds(nil)
	if wants(t, err, ErrTier); !strings.Contains(err.Error(), "no other process") {
		t.Fatal(err)
	}
	ok(t, two.Close())
	_, err = two.TierHolds(nil)
	wants(t, err, ErrClosed)
}

func TestSharedReaderAndWaiterKilled(t *testing.T) {
	path := sharedPath(t)
	table := openTest(t, path)
	shares := startChild(t, path, "share")
	shares.hears(t, "shares")
	guard := must(table.TryRLock(sharedCat))(t)
	wanting := startChild(t, path, "want")
	wanting.hears(t, "wants")
	until(t, "one waits", func() bool {
		return must(table.Waiting(sharedCat))(t) == 1 || len(must(table.Holders(&sharedCat))(t)) == 3
	})
	wanting.signal(t, syscall.SIGKILL)
	shares.signal(t, syscall.SIGKILL)
	ok(t, guard.Unlock())
	guard = must(table.Lock(background, sharedCat))(t)
	ok(t, guard.Unlock())
}

func TestSharedStoppedHolderRevoked(t *testing.T) {
	path := sharedPath(t)
	table := openTest(t, path)
	holds := startChild(t, path, "hold")
	holds.hears(t, "holds")
	holds.signal(t, syscall.SIGSTOP)
	holders := must(table.Holders(&sharedCat))(t)
	ok(t, table.Revoke(holders[0]))
	ok(t, must(table.Lock(background, sharedCat))(t).Unlock())
}

func TestSharedBadInput(t *testing.T) {
	path := sharedPath(t)
	for name, wanted := range map[string]Code{"none/locks": ErrFile, "a\x00b": ErrInvalidArgument, "text": ErrWrongFile} {
		name = filepath.Join(filepath.Dir(path), name)
		if wanted == ErrWrongFile {
			ok(t, os.WriteFile(name, make([]byte, 10_000), 0o600))
		}
		_, err := OpenShared(name, SharedOptions{})
		if refusal := wants(t, err, wanted); refusal.Message == "" {
			t.Fatalf("%v does not say what to do", refusal)
		}
	}
	for _, options := range []SharedOptions{{Members: 5000}, {Keys: 1 << 30}, {DefaultTimeout: -1}} {
		_, err := OpenShared(path, options)
		wants(t, err, ErrInvalidConfig)
	}
	table := must(OpenShared(path, SharedOptions{Keys: 64, Members: 2, DefaultTimeout: time.Millisecond}))(t)
	second := must(OpenShared(path, SharedOptions{}))(t)
	_, err := OpenShared(path, SharedOptions{})
	wants(t, err, ErrTooManyMembers)
	ok(t, second.Close())
	_, err = table.Lock(background, Key{Object: strings.Repeat("x", 1<<17)})
	wants(t, err, ErrInvalidKey)
	for _, option := range []Option{WithTTL(time.Second), WithPriority(3), WithRequestID(7)} {
		_, err = table.Lock(background, sharedCat, option)
		wants(t, err, ErrInvalidArgument)
	}
	guard := must(table.Lock(background, sharedCat))(t)
	_, err = table.Lock(background, sharedCat)
	wants(t, err, ErrTimeout)
	ended := make(chan error)
	go func() {
		_, err := table.Lock(background, sharedCat, WithoutTimeout())
		ended <- err
	}()
	until(t, "it waits", func() bool { return must(table.Waiting(sharedCat))(t) == 1 })
	ok(t, table.Close())
	wants(t, <-ended, ErrClosed)
	ok(t, table.Close())
	wants(t, guard.Unlock(), ErrClosed)
	for _, closed := range []*SharedTable{table, new(SharedTable)} {
		_, err = closed.Lock(background, sharedCat)
		wants(t, err, ErrClosed)
		_, err = closed.Holders(nil)
		wants(t, err, ErrClosed)
		_, err = closed.Waiting(sharedCat)
		wants(t, err, ErrClosed)
		wants(t, closed.Revoke(SharedHolder{}), ErrClosed)
		ok(t, closed.Close())
	}
	none := new(SharedGuard)
	wants(t, none.Unlock(), ErrNotHeld)
	wants(t, none.TryUpgrade(), ErrNotHeld)
	if none.Valid() || none.PreviousHolderDied() {
		t.Fatal("a guard of nothing holds something")
	}
}
