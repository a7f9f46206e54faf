package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	cat   = Key{Bucket: "photos", Object: "cat.jpg"}
	dog   = Key{Bucket: "photos", Object: "dog.jpg"}
	layer = Key{Bucket: "layers", Object: "sha256:4711"}
)

func limited(t testing.TB, length time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), length)
	t.Cleanup(cancel)
	return ctx
}

func taken(t testing.TB, client *Client, key Key) *Guard {
	t.Helper()
	guard, err := client.Lock(limited(t, patience), key)
	must(t, err)
	return guard
}

func TestLockKeepsOthersOut(t *testing.T) {
	s := serve(t)
	a, b := s.client("a"), s.client("b")
	guard := taken(t, a, cat)
	if guard.Keys()[0] != cat || !guard.Valid() || guard.Remaining() > 10*time.Second {
		t.Errorf("the guard has %v for %v", guard.Keys(), guard.Remaining())
	}
	_, err := b.TryLock(limited(t, patience), cat)
	var refused *Error
	if !errors.Is(err, ErrLocked) || !errors.As(err, &refused) || refused.Holders[0].Owner != "a" {
		t.Errorf("%v came", err)
	}
	_, err = b.Lock(limited(t, 50*time.Millisecond), cat)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("%v came", err)
	}
	until(t, func() bool { return len(s.rows("waiters")) == 0 })
	must(t, guard.Unlock())
	if err := guard.Unlock(); !errors.Is(err, ErrNotHeld) {
		t.Errorf("%v came", err)
	}
	first, err := b.RLock(limited(t, patience), cat)
	must(t, err)
	second, err := a.TryRLock(limited(t, patience), cat)
	must(t, err)
	if !(second.Fence() > first.Fence() && first.Fence() > guard.Fence()) {
		t.Errorf("the fences are %d, %d, %d", guard.Fence(), first.Fence(), second.Fence())
	}
	must(t, first.Unlock())
	must(t, second.Unlock())
	many, err := a.LockMany(limited(t, patience), []Key{cat, dog}, []Key{layer})
	must(t, err)
	if len(s.rows("locks")) != 3 {
		t.Errorf("%v are locked", s.rows("locks"))
	}
	must(t, many.Unlock())
	s.empty()
}

func TestLockHandsOverInOrder(t *testing.T) {
	s := serve(t)
	client := s.client("")
	first := taken(t, client, cat)
	var order []int
	var all sync.WaitGroup
	for number := range 5 {
		all.Go(func() {
			guard := taken(t, client, cat)
			order = append(order, number)
			must(t, guard.Unlock())
		})
		until(t, func() bool { return len(s.rows("waiters")) == number+1 })
	}
	must(t, first.Unlock())
	all.Wait()
	if fmt.Sprint(order) != "[0 1 2 3 4]" {
		t.Errorf("the order was %v", order)
	}
}

func TestLockCancelLeavesNothing(t *testing.T) {
	s := serve(t)
	a, b := s.client("a"), s.client("b")
	for round := range 50 {
		guard := taken(t, a, cat)
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() {
			if guard, err := b.Lock(ctx, cat); err == nil {
				must(t, guard.Unlock())
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("%v came", err)
			}
		})
		if round%2 == 0 {
			until(t, func() bool { return len(s.rows("waiters")) == 1 })
		}
		all.Go(cancel)
		all.Go(func() { must(t, guard.Unlock()) })
		all.Wait()
	}
	s.empty()
}

func TestLockForgottenGuardIsReleased(t *testing.T) {
	s := serve(t)
	taken(t, s.client("a"), cat)
	until(t, func() bool {
		runtime.GC()
		return len(s.rows("locks")) == 0
	})
}

func TestLossIsNoticedBeforeServerFrees(t *testing.T) {
	s := serve(t, "--grace-ms", "1000")
	client := s.client("a")
	guard := taken(t, client, cat)
	s.signal(syscall.SIGSTOP)
	<-guard.Lost()
	if guard.Valid() {
		t.Error("a lost guard is not valid")
	}
	s.signal(syscall.SIGCONT)
	must(t, taken(t, client, dog).Unlock())
	// Renewals succeed again; what was lost stays so.
	if err := guard.Unlock(); guard.Valid() || !errors.Is(err, ErrLost) {
		t.Errorf("%v came", err)
	}
	if again := taken(t, client, cat); again.Fence() <= guard.Fence() {
		t.Error("the fence did not grow")
	}
}

func TestForcedReleaseIsLoss(t *testing.T) {
	s := serve(t)
	guard := taken(t, s.client("a"), cat)
	s.post("/v1/force-release", map[string]any{"bucket": cat.Bucket, "object": cat.Object})
	<-guard.Lost()
	if err := guard.Unlock(); !errors.Is(err, ErrLost) {
		t.Errorf("%v came", err)
	}
}

func TestRestartLosesGuardsKeepsRequests(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := listener.Addr().String()
	must(t, listener.Close())
	s := serve(t, "--listen", address)
	a, b := s.client("a"), s.client("b")
	guard := taken(t, a, cat)
	came := make(chan *Guard)
	go func() { came <- taken(t, b, cat) }()
	until(t, func() bool { return len(s.rows("waiters")) == 1 })
	s.kill()
	s = serve(t, "--listen", address)
	// It asks again in another session.
	if again := <-came; !again.Valid() {
		t.Error("the request has the lock")
	} else {
		must(t, again.Unlock())
	}
	<-guard.Lost()
	if err := guard.Unlock(); !errors.Is(err, ErrLost) {
		t.Errorf("%v came", err)
	}
	must(t, taken(t, a, cat).Unlock())
	s.kill()
	_, err = s.client("c").Lock(context.Background(), cat)
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v came", err)
	}
}

func TestClaimIsDoneOnce(t *testing.T) {
	s := serve(t)
	clients := []*Client{s.client("a"), s.client("b")}
	var done atomic.Int32
	var all sync.WaitGroup
	for number := range 10 {
		all.Go(func() {
			note, err := clients[number%2].Once(limited(t, patience), layer, func(work *Work) (string, error) {
				done.Add(1)
				return "12 MiB", errors.Join(work.Progress(5, 12, "http://node-1/x"), work.Renew(time.Minute))
			})
			if note != "12 MiB" || err != nil {
				t.Errorf("it came to %q, %v", note, err)
			}
		})
	}
	all.Wait()
	if done.Load() != 1 {
		t.Errorf("the work was done %d times", done.Load())
	}
}

func TestClaimFailurePassesTheWorkOn(t *testing.T) {
	s := serve(t)
	a, b := s.client("a"), s.client("b")
	first, err := a.Claim(limited(t, patience), layer, ClaimRequest{})
	must(t, err)
	skipped, err := b.Claim(limited(t, patience), layer, ClaimRequest{SkipIfClaimed: true})
	must(t, err)
	if skipped.State != "skipped" || skipped.Owner != "a" {
		t.Errorf("the claim is %v", skipped)
	}
	came := make(chan *Claim)
	go func() {
		claim, err := b.Claim(limited(t, patience), layer, ClaimRequest{MaxAttempts: 2})
		if err != nil {
			t.Error(err)
		}
		came <- claim
	}()
	until(t, func() bool { rows := s.rows("claims"); return len(rows) == 1 && rows[0]["waiting"] == 1.0 })
	must(t, first.Work.Fail("disk full"))
	must(t, first.Work.Fail("again"))
	if err := first.Work.Complete("late"); !errors.Is(err, ErrFailed) {
		t.Errorf("%v came", err)
	}
	second := <-came
	if second.Work.Attempt() != 2 || second.Work.Fence() <= first.Work.Fence() || second.Work.Key() != layer {
		t.Errorf("attempt %d has fence %d", second.Work.Attempt(), second.Work.Fence())
	}
	if err := second.Work.Complete(strings.Repeat("x", 100_000)); err == nil || errors.Is(err, ErrLost) {
		t.Errorf("%v came of a note that is too long", err)
	}
	must(t, second.Work.Fail("broken"))
	done, err := a.Claim(limited(t, patience), layer, ClaimRequest{})
	must(t, err)
	if _, err := done.Result(); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "broken") {
		t.Errorf("%v came", err)
	}
}

func TestClaimedWorkIsLostWithItsSession(t *testing.T) {
	s := serve(t, "--grace-ms", "1000")
	claim, err := s.client("a").Claim(limited(t, patience), layer, ClaimRequest{})
	must(t, err)
	s.signal(syscall.SIGSTOP)
	<-claim.Work.Lost()
	s.signal(syscall.SIGCONT)
	for _, err := range []error{claim.Work.Progress(1, 2, ""), claim.Work.Complete("late"), claim.Work.Fail("late")} {
		if !errors.Is(err, ErrLost) {
			t.Errorf("%v came", err)
		}
	}
	note, err := s.client("b").Once(limited(t, patience), layer, func(*Work) (string, error) { return "here", nil })
	if note != "here" || err != nil {
		t.Errorf("it came to %q, %v", note, err)
	}
}

func TestClaimEventsFollowOneAnother(t *testing.T) {
	s := serve(t)
	client := s.client("a")
	var kinds []string
	ended := make(chan error)
	began := make(chan struct{})
	go func() {
		ended <- client.Events(limited(t, patience), layer, "", func(event ClaimEvent) bool {
			if len(kinds) == 0 {
				close(began)
			}
			kinds = append(kinds, event.Kind)
			return event.Kind != "done"
		})
	}()
	<-began
	_, err := client.Once(limited(t, patience), layer, func(work *Work) (string, error) {
		return "", work.Progress(1, 2, "")
	})
	must(t, err)
	must(t, <-ended)
	if fmt.Sprint(kinds) != "[reset granted progress done]" {
		t.Errorf("the events were %v", kinds)
	}
}

func TestTokensAndTheirScopes(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens.toml")
	must(t, os.WriteFile(tokens, []byte(`
		[[token]]
		name = "builders"
		token = "sesame-sesame-sesame"
		[[token.scope]]
		verbs = ["lock"]
		bucket = "layers"
	`), 0o600))
	s := serve(t, "--tokens", tokens)
	for token, key := range map[string]Key{"sesame-sesame-sesame": cat, "open-open-open-open": layer, "": layer} {
		client, err := New(Options{Server: s.url, Token: token})
		must(t, err)
		if _, err := client.Lock(limited(t, patience), key); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("%v came", err)
		}
		must(t, client.Close())
	}
	client, err := New(Options{Server: s.url, Token: "sesame-sesame-sesame"})
	must(t, err)
	defer client.Close()
	must(t, taken(t, client, layer).Unlock())
}

func TestWrongArgumentsAreErrors(t *testing.T) {
	for _, options := range []Options{
		{Server: "localhost:7373"}, {Server: "ftp://localhost"}, {Server: "http://a/b"}, {TTL: -1},
		{Server: "http://me:secret@localhost"}, {Server: "http://192.0.2.1", Token: "sesame"}, {Token: "one\r\ntwo"},
	} {
		if _, err := New(options); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%v came of %v", err, options.Server)
		}
	}
	client := serve(t).client("a")
	for _, key := range []Key{{}, {Object: "x"}, {Bucket: "x", Object: "\xff"}} {
		if _, err := client.Lock(context.Background(), key); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v came of %v", err, key)
		}
	}
	if _, err := client.LockMany(context.Background(), nil, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v came of no keys", err)
	}
	var refused *Error
	long := Key{Bucket: "photos", Object: strings.Repeat("x", 5000)}
	if _, err := client.Lock(context.Background(), long); !errors.As(err, &refused) || refused.Problem != "invalid_request" {
		t.Errorf("%v came of a long key", err)
	}
	must(t, client.Close())
	must(t, client.Close())
	if _, err := client.Lock(context.Background(), cat); !errors.Is(err, ErrClosed) {
		t.Errorf("%v came of a closed client", err)
	}
}

func TestOtherServersAreErrors(t *testing.T) {
	for _, answer := range []string{
		"", "\x00\x00", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1, 2, 3]", "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\noops!",
		"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		go func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = connection.Read(make([]byte, 65536))
				_, _ = connection.Write([]byte(answer))
				connection.Close()
			}
		}()
		client, err := New(Options{Server: "http://" + listener.Addr().String()})
		must(t, err)
		var refused *Error
		if _, err := client.Lock(context.Background(), cat); !errors.Is(err, ErrUnreachable) && !errors.As(err, &refused) {
			t.Errorf("%v came of %q", err, answer)
		}
		must(t, client.Close())
		must(t, listener.Close())
	}
}
