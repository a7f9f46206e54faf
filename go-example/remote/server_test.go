package remote

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what has to happen.
const patience = 60 * time.Second

// server is a `keylatch serve` of the tests' own, on loopback.
type server struct {
	t       testing.TB
	process *exec.Cmd
	url     string
}

// program is the one that `cargo build -p keylatch-service` makes.
func program(t testing.TB) string {
	t.Helper()
	path := os.Getenv("KEYLATCH_BINARY")
	if path == "" {
		folder := os.Getenv("CARGO_TARGET_DIR")
		if folder == "" {
			folder = filepath.Join("..", "..", "target")
		}
		path = filepath.Join(folder, "debug", "keylatch")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not there: build it with `cargo build -p keylatch-service`", path)
	}
	return path
}

func serve(t testing.TB, arguments ...string) *server {
	t.Helper()
	if testing.Short() {
		t.Skip("a short run has no server")
	}
	arguments = append([]string{"serve", "--state", "none"}, arguments...)
	if !slices.Contains(arguments, "--grace-ms") {
		// Long enough for renewals to be in time on a busy machine.
		arguments = append(arguments, "--grace-ms", "10000")
	}
	if !slices.Contains(arguments, "--listen") {
		arguments = append(arguments, "--listen", "127.0.0.1:0")
	}
	s := &server{t: t, process: exec.Command(program(t), arguments...)}
	output, err := s.process.StderrPipe()
	must(t, err)
	s.process.Stdout = s.process.Stderr
	must(t, s.process.Start())
	t.Cleanup(s.kill)
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if at := strings.LastIndex(lines.Text(), "listens on "); at >= 0 {
			s.url = "http://" + strings.TrimSpace(lines.Text()[at+len("listens on "):])
			break
		}
	}
	if s.url == "" {
		t.Fatal("the server did not start")
	}
	go func() {
		for lines.Scan() {
		}
	}()
	return s
}

func (s *server) kill() {
	if s.process.ProcessState == nil {
		_ = s.process.Process.Signal(syscall.SIGCONT)
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
	}
}

func (s *server) signal(what syscall.Signal) { must(s.t, s.process.Process.Signal(what)) }

// rows are those of a listing: locks, waiters or claims.
func (s *server) rows(what string) []map[string]any {
	response, err := http.Get(s.url + "/v1/" + what)
	must(s.t, err)
	defer response.Body.Close()
	var listing struct{ Rows []map[string]any }
	must(s.t, json.NewDecoder(response.Body).Decode(&listing))
	return listing.Rows
}

func (s *server) post(path string, body map[string]any) {
	text, err := json.Marshal(body)
	must(s.t, err)
	response, err := http.Post(s.url+path, "application/json", bytes.NewReader(text))
	must(s.t, err)
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		s.t.Fatalf("%s came to %s", path, response.Status)
	}
}

// empty fails unless all that was held is released.
func (s *server) empty() {
	s.t.Helper()
	until(s.t, func() bool { return len(s.rows("locks")) == 0 && len(s.rows("waiters")) == 0 })
}

func (s *server) client(owner string) *Client {
	s.t.Helper()
	client, err := New(Options{Server: s.url, Owner: owner})
	must(s.t, err)
	s.t.Cleanup(func() { client.Close() })
	return client
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for something that cannot be waited for.
func until(t testing.TB, done func() bool) {
	t.Helper()
	for began := time.Now(); !done(); time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("it did not come true")
		}
	}
}
