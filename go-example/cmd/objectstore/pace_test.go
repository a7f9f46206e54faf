package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.org/keylatch"
)

// patience is a limit that no client in these tests reaches, however busy the machine is.
const patience = time.Minute

// served is the server inside the test, which tells of connections that it ended.
type served struct {
	*store
	at    string
	ended chan net.Conn
}

func newServed(t *testing.T, options storeOptions, headers, idle time.Duration) *served {
	t.Helper()
	s := &served{store: newTestStore(t, t.TempDir(), options), ended: make(chan net.Conn, 100)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	s.at = listener.Addr().String()
	settings := settings{store: s.storeOptions, maxObject: 64 << 20, maxBatch: 10, idle: idle}
	handler := newHandler(s.store, s.locks, settings)
	settings.idle = headers
	server := newServer(handler, settings)
	server.ConnState = func(connection net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			s.ended <- connection
		}
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		<-stopped
	})
	return s
}

func (s *served) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	connection, err := net.Dial("tcp", s.at)
	ok(t, err)
	t.Cleanup(func() { connection.Close() })
	ok(t, connection.SetDeadline(time.Now().Add(patience)))
	return connection.(*net.TCPConn)
}

// repeat sends something again and again until the connection is ended.
func repeat(to net.Conn, what string, pause time.Duration) {
	for {
		if _, err := io.WriteString(to, what); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

// ends waits until the server has ended a connection.
func (s *served) ends(t *testing.T, connection net.Conn) {
	t.Helper()
	for late := time.After(patience / 2); ; {
		select {
		case ended := <-s.ended:
			if ended.RemoteAddr().String() == connection.LocalAddr().String() {
				return
			}
		case <-late:
			t.Fatal("it keeps its connection")
		}
	}
}

func TestHeadersEnd(t *testing.T) {
	s := newServed(t, storeOptions{}, 200*time.Millisecond, patience)
	for what, then := range map[string]string{"nothing comes": "", "it trickles": "x"} {
		t.Run(what, func(t *testing.T) {
			connection := s.dial(t)
			if then != "" {
				_, err := io.WriteString(connection, "GET /o/photos/cat.jpg HTTP/1.1\r\nX: ")
				ok(t, err)
				go repeat(connection, then, 10*time.Millisecond)
			}
			s.ends(t, connection)
		})
	}
	t.Run("it has no end", func(t *testing.T) {
		connection := s.dial(t)
		go repeat(connection, "GET /o/photos/cat.jpg HTTP/1.1\r\nX: "+strings.Repeat("x", 1<<17), 0)
		answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
		ok(t, err)
		if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("the answer is %v", answer)
		}
		s.ends(t, connection)
	})
}

// Clients that do what keeps a connection for ever, without a time limit.
func TestNoClientKeepsItsConnection(t *testing.T) {
	s := newServed(t, storeOptions{}, patience, 300*time.Millisecond)
	s.mustPut(t, cat, strings.Repeat("x", 32<<20))
	// What /locks answers is more than a connection takes while the client does not read.
	for number := range 500 {
		_, err := s.locks.Acquire(background, keylatch.Key{Bucket: "b", Object: fmt.Sprint(strings.Repeat("x", 4000), number)}, keylatch.Exclusive)
		ok(t, err)
	}
	const promise = " HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
	const chunks = " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	const plain = " HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, one := range []struct {
		what, first, then string
		// status is what has to be answered; 0 if the client does not read.
		status int
	}{
		{"GET with a body that does not come", "GET /versions/photos/cat.jpg" + promise, "", 200},
		{"GET with a body that trickles", "GET /versions/photos/cat.jpg" + promise, "x", 200},
		{"GET with chunks that do not come", "GET /versions/photos/cat.jpg" + chunks, "", 200},
		{"DELETE with a body that does not come", "DELETE /o/photos/dog.jpg" + promise, "", 404},
		{"PUT without a name", "PUT /o/photos/" + promise, "", 400},
		{"PUT to nowhere", "PUT /nowhere" + promise, "", 404},
		{"PUT where it is not allowed", "PUT /metrics" + promise, "", 405},
		{"PUT with a body that does not come", "PUT /o/photos/slow" + promise, "", 408},
		{"PUT with a body that trickles", "PUT /o/photos/slow" + promise, "x", 408},
		{"PUT with chunks that trickle", "PUT /o/photos/slow" + chunks, "1\r\nx\r\n", 408},
		{"POST with a body that trickles", "POST /delete" + promise, " ", 408},
		{"POST that is whole before its body is", "POST /delete" + promise + `{"objects": []}`, "", 408},
		{"does not read an object", "GET /o/photos/cat.jpg" + plain, "", 0},
		{"does not read locks", "", "GET /locks" + plain, 0},
		{"does not read figures", "", "GET /metrics" + plain, 0},
	} {
		t.Run(one.what, func(t *testing.T) {
			connection := s.dial(t)
			_, err := io.WriteString(connection, one.first)
			ok(t, err)
			pause := 10 * time.Millisecond
			if one.status == 0 {
				pause = 0
			}
			if one.then != "" {
				go repeat(connection, one.then, pause)
			}
			if one.status != 0 {
				answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
				if err != nil {
					t.Errorf("there is no answer: %v", err)
				} else if answer.StatusCode != one.status || !answer.Close {
					t.Errorf("the answer is %v", answer)
				}
			}
			s.ends(t, connection)
		})
	}
	if found := s.files(t, "incoming"); len(found) != 0 {
		t.Fatalf("there are %v", found)
	}
}

// A client that is not slow is not cut short: not by a lock that it waits for, nor by what an earlier request left.
func TestAClientIsNotBlamedForWaiting(t *testing.T) {
	const idle = 300 * time.Millisecond
	s := newServed(t, storeOptions{wait: 3 * idle}, patience, idle)
	s.mustPut(t, cat, "cat")
	guard, err := s.locks.Lock(background, cat)
	ok(t, err)
	const get = "GET /o/photos/cat.jpg HTTP/1.1\r\nHost: x\r\n\r\n"
	const put = "PUT /o/photos/cat.jpg HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\ncat"
	const chunked = "PUT /o/photos/cat.jpg HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncat\r\n0\r\n\r\n"
	type client struct {
		net.Conn
		answers *bufio.Reader
	}
	expect := func(c client, status int) {
		t.Helper()
		answer, err := http.ReadResponse(c.answers, nil)
		ok(t, err)
		text, err := io.ReadAll(answer.Body)
		ok(t, err)
		if answer.StatusCode != status || answer.Close {
			t.Fatalf("the answer is %v %s", answer, text)
		}
	}
	var clients []client
	for _, request := range []string{get, put, chunked} {
		connection := s.dial(t)
		clients = append(clients, client{connection, bufio.NewReader(connection)})
		_, err := io.WriteString(connection, request)
		ok(t, err)
	}
	for _, c := range clients {
		expect(c, http.StatusServiceUnavailable)
	}
	ok(t, guard.Unlock())
	for _, c := range clients {
		_, err := io.WriteString(c, put+get)
		ok(t, err)
		expect(c, http.StatusCreated)
		expect(c, http.StatusOK)
	}
}

func TestAPartIsNoVersion(t *testing.T) {
	s := newServed(t, storeOptions{}, patience, patience)
	s.mustPut(t, cat, "cat")
	connection := s.dial(t)
	const part = "PUT /o/photos/cat.jpg HTTP/1.1\r\nHost: x\r\nContent-Range: bytes 1-1/3\r\nContent-Length: 1\r\n\r\nu"
	_, err := io.WriteString(connection, part)
	ok(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
	ok(t, err)
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("the answer is %v", answer)
	}
	s.has(t, cat, 0, "cat")
}

func TestPace(t *testing.T) {
	for _, one := range []struct {
		pace
		more bool
	}{
		{pace{idle: time.Hour}, true},
		{pace{idle: time.Hour, spent: 2 * time.Hour}, false},
		{pace{idle: time.Hour, spent: 2 * time.Hour, moved: 3600 * slowLine / 2}, false},
		{pace{idle: time.Hour, spent: 2 * time.Hour, moved: 2 * 3600 * slowLine}, true},
		{pace{idle: time.Hour, spent: 2 * time.Hour, moved: 1 << 45}, true},
	} {
		var until time.Time
		before, moved := time.Now(), one.moved
		_, err := one.step(func(to time.Time) error { until = to; return nil }, func() (int, error) { return 7, nil })
		ok(t, err)
		if until.After(before) != one.more || until.After(time.Now().Add(time.Hour)) || one.moved != moved+7 {
			t.Errorf("%+v: until %v", one, until)
		}
	}
}
