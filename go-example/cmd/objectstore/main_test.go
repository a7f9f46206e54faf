package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Builds the program, runs it, drives it with many clients on this machine, kills it, and checks every byte.

// folder is where the program is built; made and removed around all tests.
var folder string

var built = sync.OnceValues(func() (string, error) {
	program := filepath.Join(folder, "objectstore")
	arguments := []string{"build", "-o", program}
	if raceEnabled {
		arguments = append(arguments, "-race")
	}
	output, err := exec.Command("go", append(arguments, ".")...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, output)
	}
	return program, err
})

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "objectstore"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

type process struct {
	*testing.T
	command *exec.Cmd
	at      string
	client  *http.Client
}

// start runs the program and waits until it listens.
func start(t *testing.T, directory string, arguments ...string) *process {
	t.Helper()
	if testing.Short() {
		t.Skip("a short run builds no programs")
	}
	program, err := built()
	ok(t, err)
	return run(t, exec.Command(program, append([]string{"-listen", "127.0.0.1:0", "-directory", directory}, arguments...)...))
}

func run(t *testing.T, command *exec.Cmd) *process {
	t.Helper()
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	ok(t, err)
	ok(t, command.Start())
	p := &process{T: t, command: command, client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: time.Minute,
	}}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	ok(t, err)
	p.at = "http://" + strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	return p
}

// kill ends it as a crash would.
func (p *process) kill() {
	if p.command.ProcessState == nil {
		_ = p.command.Process.Kill()
		_ = p.command.Wait()
	}
	p.client.CloseIdleConnections()
}

// stop ends it as it should be ended, and expects that all is well.
func (p *process) stop() {
	p.Helper()
	p.client.CloseIdleConnections()
	ok(p, p.command.Process.Signal(syscall.SIGTERM))
	ok(p, p.command.Wait())
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

func (p *process) try(method, path string, body []byte) (reply, error) {
	request, err := http.NewRequest(method, p.at+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	answer, err := p.client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, text}, err
}

func (p *process) do(method, path string, body []byte, status int) reply {
	p.Helper()
	got, err := p.try(method, path, body)
	ok(p, err)
	if got.status != status {
		p.Fatalf("%s %s: %d %s", method, path, got.status, got.body)
	}
	return got
}

// content is bytes that say of themselves whether they are whole, and who wrote them.
func content(writer, number int) []byte {
	body := fmt.Appendf(nil, "%d %d ", writer, number)
	random := rand.NewPCG(uint64(writer), uint64(number))
	for size := int(random.Uint64() % 40_000); len(body) < size; {
		body = fmt.Appendf(body, "%x", random.Uint64())
	}
	sum := sha256.Sum256(body)
	return append(sum[:], body...)
}

func whole(body []byte) bool {
	if len(body) < sha256.Size {
		return false
	}
	sum := sha256.Sum256(body[sha256.Size:])
	return bytes.Equal(sum[:], body[:sha256.Size])
}

func numberOf(r reply) uint64 {
	var made record
	_ = json.Unmarshal(r.body, &made)
	return made.Number
}

// ledger is what clients know of an object.
type ledger struct {
	sync.Mutex
	// put are the bytes of each version that was answered with success.
	put map[uint64][]byte
	// latest is the greatest of them.
	latest uint64
	// sent are all bytes that were ever sent, by their own sum.
	sent map[[sha256.Size]byte]bool
}

func newLedgers(count int) []*ledger {
	all := make([]*ledger, count)
	for i := range all {
		all[i] = &ledger{put: make(map[uint64][]byte), sent: make(map[[sha256.Size]byte]bool)}
	}
	return all
}

func (l *ledger) sends(body []byte) {
	l.Lock()
	defer l.Unlock()
	l.sent[[sha256.Size]byte(body)] = true
}

func (l *ledger) has(version uint64, body []byte) error {
	l.Lock()
	defer l.Unlock()
	if _, known := l.put[version]; known {
		return fmt.Errorf("version %d was made twice", version)
	}
	l.put[version] = body
	l.latest = max(l.latest, version)
	return nil
}

// read compares what was read of a version, asked for when known was the latest that was answered.
func (l *ledger) read(r reply, known uint64) error {
	version, err := strconv.ParseUint(r.header.Get("X-Version"), 10, 64)
	if err != nil {
		return err
	}
	if !whole(r.body) {
		return fmt.Errorf("version %d is torn: %d bytes", version, len(r.body))
	}
	l.Lock()
	defer l.Unlock()
	if version < known {
		return fmt.Errorf("version %d was read after %d was answered", version, known)
	}
	if body, answered := l.put[version]; answered && !bytes.Equal(body, r.body) {
		return fmt.Errorf("version %d has other bytes", version)
	}
	if !l.sent[[sha256.Size]byte(r.body)] {
		return fmt.Errorf("version %d was never sent", version)
	}
	return nil
}

func (l *ledger) known() uint64 {
	l.Lock()
	defer l.Unlock()
	return l.latest
}

func path(object int) string { return fmt.Sprintf("/o/bucket/object%d", object) }

func TestManyClients(t *testing.T) {
	p := start(t, t.TempDir(), "-sync=false", "-keep", "1000000")
	const clients, rounds, objects = 12, 40, 4
	ledgers := newLedgers(objects)
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			for round := range rounds {
				object := rand.IntN(objects)
				l := ledgers[object]
				known := l.known()
				if rand.IntN(2) == 0 {
					body := content(client, round)
					l.sends(body)
					made, err := p.try(http.MethodPut, path(object), body)
					if err != nil || made.status != http.StatusCreated {
						t.Errorf("PUT: %d %s %v", made.status, made.body, err)
						continue
					}
					if number := numberOf(made); number <= known {
						t.Errorf("version %d came after %d", number, known)
					} else if err := l.has(number, body); err != nil {
						t.Error(err)
					}
					continue
				}
				got, err := p.try(http.MethodGet, path(object), nil)
				if err != nil || got.status != http.StatusOK && (got.status != http.StatusNotFound || known > 0) {
					t.Errorf("GET: %d %s %v", got.status, got.body, err)
				} else if got.status == http.StatusOK {
					if err := l.read(got, known); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	for object, l := range ledgers {
		// Numbers have no gaps, and every version has its bytes.
		if l.latest != uint64(len(l.put)) {
			t.Errorf("%d versions, the latest is %d", len(l.put), l.latest)
		}
		for version, body := range l.put {
			got := p.do(http.MethodGet, path(object)+fmt.Sprint("?version=", version), nil, http.StatusOK)
			if !bytes.Equal(got.body, body) {
				t.Errorf("version %d has other bytes", version)
			}
		}
	}
	metrics := p.do(http.MethodGet, "/metrics", nil, http.StatusOK)
	if text := string(metrics.body); !strings.HasSuffix(text, "\n# EOF\n") || !strings.Contains(text, "\nkeylatch_holders 0\n") ||
		!strings.HasPrefix(metrics.header.Get("Content-Type"), "application/openmetrics-text") {
		t.Errorf("the figures are %v %s", metrics.header, text)
	}
	// This many requests for this few objects may be more than is healthy.
	healthy, err := p.try(http.MethodGet, "/healthz", nil)
	if err != nil || (healthy.status == http.StatusOK) != bytes.Contains(healthy.body, []byte(`"healthy":true`)) {
		t.Errorf("%d %s %v", healthy.status, healthy.body, err)
	}
	p.stop()
}

// The program is killed while clients write and remove, and started again.
func TestKilledAtAnyMoment(t *testing.T) {
	const objects, clients = 3, 6
	directory := t.TempDir()
	ledgers := newLedgers(objects)
	var writer atomic.Int64
	rounds := 6
	for round := range rounds {
		p := start(t, directory, "-keep", "1000000")
		check(p, ledgers)
		var group sync.WaitGroup
		var answered atomic.Int64
		enough := make(chan struct{})
		// The moment differs each time, and depends on nothing but how far the clients are.
		after := int64(3 + rand.IntN(25))
		for client := range clients {
			group.Go(func() {
				for {
					number := int(writer.Add(1))
					object := number % objects
					body := content(client, number)
					ledgers[object].sends(body)
					made, err := p.try(http.MethodPut, path(object), body)
					if err != nil {
						return
					}
					if made.status != http.StatusCreated {
						t.Errorf("PUT: %d %s", made.status, made.body)
						return
					}
					if err := ledgers[object].has(numberOf(made), body); err != nil {
						t.Error(err)
					}
					if answered.Add(1) == after {
						close(enough)
					}
				}
			})
		}
		<-enough
		p.kill()
		group.Wait()
		if round == rounds-1 {
			p = start(t, directory, "-keep", "1000000")
			check(p, ledgers)
			p.stop()
		}
	}
	for _, place := range []string{"incoming", "removals"} {
		left, err := os.ReadDir(filepath.Join(directory, place))
		ok(t, err)
		if len(left) > 0 {
			t.Errorf("%v are left in %s", left, place)
		}
	}
}

// check compares all that was ever answered with what is there.
func check(p *process, ledgers []*ledger) {
	p.Helper()
	for object, l := range ledgers {
		if l.latest == 0 {
			continue
		}
		got := p.do(http.MethodGet, path(object), nil, http.StatusOK)
		if err := l.read(got, l.latest); err != nil {
			p.Error(err)
		}
		var versions []record
		ok(p, json.Unmarshal(p.do(http.MethodGet, strings.Replace(path(object), "/o/", "/versions/", 1), nil, http.StatusOK).body, &versions))
		known := make(map[uint64]bool)
		for _, version := range versions {
			known[version.Number] = true
			got := p.do(http.MethodGet, path(object)+fmt.Sprint("?version=", version.Number), nil, http.StatusOK)
			if err := l.read(got, 0); err != nil {
				p.Error(err)
			}
		}
		for version := range l.put {
			if !known[version] {
				p.Errorf("version %d of %d is lost", version, object)
			}
		}
	}
}

// Objects that are removed together are gone together, or not at all, whenever the program dies.
func TestKilledWhileRemoving(t *testing.T) {
	directory := t.TempDir()
	const pairs, each = 12, 5
	var names [pairs][]name
	for pair := range names {
		for number := range each {
			names[pair] = append(names[pair], name{fmt.Sprint("pair", pair), fmt.Sprint("o", number)})
		}
	}
	p := start(t, directory)
	for _, pair := range names {
		for _, one := range pair {
			p.do(http.MethodPut, "/o/"+one.Bucket+"/"+one.Object, content(1, 1), http.StatusCreated)
		}
	}
	answered := make(map[int]bool)
	for first := 0; first < pairs; first += 4 {
		var group sync.WaitGroup
		var mutex sync.Mutex
		some := make(chan struct{}, pairs)
		for pair := first; pair < first+4; pair++ {
			group.Go(func() {
				body, err := json.Marshal(map[string]any{"objects": names[pair]})
				ok(t, err)
				got, err := p.try(http.MethodPost, "/delete", body)
				some <- struct{}{}
				if err == nil && got.status == http.StatusOK {
					mutex.Lock()
					defer mutex.Unlock()
					answered[pair] = true
				}
			})
		}
		<-some
		p.kill()
		group.Wait()
		p = start(t, directory)
		for pair, all := range names {
			var there int
			for _, one := range all {
				got, err := p.try(http.MethodHead, "/o/"+one.Bucket+"/"+one.Object, nil)
				ok(t, err)
				if got.status == http.StatusOK {
					there++
				}
			}
			if there != 0 && there != each || answered[pair] && there != 0 {
				t.Fatalf("%d of %d are there; answered: %v", there, each, answered[pair])
			}
		}
	}
	if len(answered) == 0 {
		t.Fatal("none was answered")
	}
}

func TestHostileRequests(t *testing.T) {
	directory := t.TempDir()
	inside := filepath.Join(directory, "inside")
	p := start(t, inside, "-max-object", "1000", "-max-batch", "3", "-idle", "2s")
	long := strings.Repeat("x", maxObject+1)
	for _, one := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/", "", 404},
		{"GET", "/o/", "", 400},
		{"GET", "/o/b", "", 400},
		{"GET", "/o/b/", "", 400},
		{"GET", "/o//o", "", 400},
		{"GET", "/o/b/nothing", "", 404},
		{"GET", "/o/b/o?version=-1", "", 400},
		{"GET", "/o/b/o?version=x", "", 400},
		{"GET", "/o/b/o?version=0", "", 400},
		{"GET", "/o/b/o?version=99999999999999999999", "", 400},
		{"PUT", "/o/b/o?version=3", "x", 400},
		{"PUT", "/o/b/stays", "x", 201},
		{"DELETE", "/o/b/stays?version=", "", 400},
		{"DELETE", "/o/b/stays?version=%zz", "", 400},
		{"DELETE", "/o/b/stays?version=7;", "", 400},
		{"DELETE", "/o/b/stays?Version=7", "", 400},
		{"DELETE", "/o/b/stays?verison=7", "", 400},
		{"DELETE", "/o/b/stays?version=7&version=8", "", 400},
		{"DELETE", "/o/b/stays?version=7", "", 404},
		{"GET", "/o/b/stays?verison=7", "", 400},
		{"GET", "/versions/b/stays?version=7", "", 400},
		{"POST", "/delete?dry=1", `{"objects": [{"bucket": "b", "object": "stays"}]}`, 400},
		{"GET", "/o/b/stays?version=1", "", 200},
		{"PUT", "/o/b/" + long, "x", 400},
		{"PUT", "/o/" + long[:maxBucket+1] + "/o", "x", 400},
		{"PUT", "/o/b/large", strings.Repeat("x", 1001), 413},
		{"PUT", "/o/b/fits", strings.Repeat("x", 1000), 201},
		{"PATCH", "/o/b/o", "x", 405},
		{"DELETE", "/o/b/nothing", "", 404},
		{"GET", "/delete", "", 405},
		{"POST", "/delete", "", 400},
		{"POST", "/delete", `{"objects": 7}`, 400},
		{"POST", "/delete", `{"objects": [{"bucket": "b", "object": ""}]}`, 400},
		{"POST", "/delete", `{"objects": [], "else": 1}`, 400},
		{"POST", "/delete", `{"objects": [{"bucket": "b", "object": "1"}, {"bucket": "b", "object": "2"}, {"bucket": "b", "object": "3"}, {"bucket": "b", "object": "4"}]}`, 413},
		{"POST", "/delete", `{"objects": [{"bucket": "b", "object": "fits"}, {"bucket": "b", "object": "fits"}]}`, 200},
		{"POST", "/delete", `{"objects": []} {"objects": [{"bucket": "b", "object": "o"}]}`, 400},
		{"POST", "/delete", "{\"objects\": [{\"bucket\": \"b\", \"object\": \"\xff\"}]}", 400},
		{"POST", "/delete/b/o", `{"objects": []}`, 404},
		{"GET", "/locks/b/o", "", 404},
		{"GET", "/locks", "", 200},
		{"HEAD", "/locks", "", 200},
		{"HEAD", "/versions/b/nothing", "", 404},
	} {
		p.do(one.method, one.path, []byte(one.body), one.status)
	}
	for path, allowed := range map[string]string{
		"/o/b/o": "GET, HEAD, PUT, DELETE", "/versions/b/o": "GET, HEAD", "/delete": "POST",
		"/locks": "GET, HEAD", "/metrics": "GET, HEAD", "/healthz": "GET, HEAD",
	} {
		if allows := p.do("PATCH", path, nil, 405).header.Get("Allow"); allows != allowed {
			t.Errorf("at %s it allows %q", path, allows)
		}
	}
	// Names that would be ways out are names like others.
	names := []string{"..", "../../../outside", "/etc/passwd", ".", "a//b", "a/../b", "\x00", "\xff\xfe", "%2e%2e", "C:\\x", "nul\n", strings.Repeat("/", 100)}
	for _, object := range names {
		p.do("PUT", "/o/"+url.PathEscape("..")+"/"+url.PathEscape(object), []byte("of "+object), 201)
	}
	for _, object := range names {
		if got := p.do("GET", "/o/"+url.PathEscape("..")+"/"+url.PathEscape(object), nil, 200); string(got.body) != "of "+object {
			t.Errorf("%q has %q", object, got.body)
		}
	}
	outside, err := os.ReadDir(directory)
	ok(t, err)
	if len(outside) != 1 {
		t.Fatalf("there are %v", outside)
	}

	// Clients that promise more than they send, or send nothing.
	host := strings.TrimPrefix(p.at, "http://")
	for _, request := range []string{
		"PUT /o/b/cut HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nonly this",
		"PUT /o/b/cut HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"PUT /o/b/cut HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
	} {
		connection, err := net.Dial("tcp", host)
		ok(t, err)
		_, err = io.WriteString(connection, request)
		ok(t, err)
		ok(t, connection.(*net.TCPConn).CloseWrite())
		answer, _ := io.ReadAll(connection)
		connection.Close()
		if !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
			t.Fatalf("it answers what was cut: %s", answer)
		}
	}
	slow, err := net.Dial("tcp", host)
	ok(t, err)
	_, err = io.WriteString(slow, "PUT /o/b/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\na")
	ok(t, err)
	ok(t, slow.SetReadDeadline(time.Now().Add(30*time.Second)))
	// The program gives up first.
	if _, err := io.ReadAll(slow); err != nil {
		t.Fatalf("a client that sends nothing keeps its connection: %v", err)
	}
	slow.Close()
	for _, object := range []string{"cut", "slow", "large"} {
		p.do("GET", "/o/b/"+object, nil, 404)
	}
	incoming, err := os.ReadDir(filepath.Join(inside, "incoming"))
	ok(t, err)
	if len(incoming) != 0 {
		t.Fatalf("there are %v", incoming)
	}
	p.stop()
}

// The system takes the first bytes of a file and no more, as when a disk gets full.
func TestNoRoom(t *testing.T) {
	if testing.Short() {
		t.Skip("a short run builds no programs")
	}
	program, err := built()
	ok(t, err)
	directory := t.TempDir()
	// In blocks of 512 or 1024 bytes.
	p := run(t, exec.Command("sh", "-c", `ulimit -f 32 && exec "$0" "$@"`, program, "-listen", "127.0.0.1:0", "-directory", directory))
	small, large := bytes.Repeat([]byte("x"), 10_000), bytes.Repeat([]byte("x"), 100_000)
	p.do(http.MethodPut, "/o/b/o", small, http.StatusCreated)
	files := func() (names []string) {
		ok(t, filepath.WalkDir(directory, func(path string, entry os.DirEntry, err error) error {
			names = append(names, path)
			return err
		}))
		return names
	}
	before := files()
	for _, object := range []string{"/o/b/o", "/o/b/other"} {
		p.do(http.MethodPut, object, large, http.StatusInsufficientStorage)
	}
	if left := files(); !slices.Equal(left, before) {
		t.Errorf("there are %v, and were %v", left, before)
	}
	if got := p.do(http.MethodGet, "/o/b/o", nil, http.StatusOK); !bytes.Equal(got.body, small) {
		t.Errorf("it has %d bytes", len(got.body))
	}
	if made := p.do(http.MethodPut, "/o/b/o", small, http.StatusCreated); numberOf(made) != 2 {
		t.Errorf("it made %s", made.body)
	}
	p.do(http.MethodPut, "/o/b/other", small, http.StatusCreated)
	p.stop()
}

func TestFlags(t *testing.T) {
	for _, arguments := range [][]string{{"-keep", "0"}, {"-wait", "0s"}, {"what"}, {"-nothing"}, {"-max-object", "-1"}, {"-max-connections", "0"}} {
		if _, err := flags(arguments, io.Discard); err == nil {
			t.Errorf("%v is accepted", arguments)
		}
	}
	var help bytes.Buffer
	if _, err := flags([]string{"-help"}, &help); err == nil || !strings.Contains(help.String(), "-lease") {
		t.Errorf("the help is %q", help.String())
	}
}
