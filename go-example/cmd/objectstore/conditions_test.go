package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// ask sends a request with headers, one after the other: name, value.
func (s *served) ask(t *testing.T, method, path, body string, headers ...string) reply {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+s.at+path, bytes.NewReader([]byte(body)))
	ok(t, err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	ok(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	ok(t, err)
	return reply{answer.StatusCode, answer.Header, text}
}

func TestConditions(t *testing.T) {
	s := newServed(t, storeOptions{}, patience, patience)
	const path = "/o/photos/cat.jpg"
	wants := func(status int, method, path string, headers ...string) reply {
		t.Helper()
		got := s.ask(t, method, path, "cat", headers...)
		if got.status != status {
			t.Fatalf("%s %s %q: %d %s", method, path, headers, got.status, got.body)
		}
		return got
	}
	// Nothing is there.
	wants(412, "PUT", path, "If-Match", "*")
	wants(412, "PUT", path, "If-Match", `"1-ab"`)
	wants(404, "DELETE", path, "If-Match", "*")
	if left := s.files(t, "objects"); len(left) != 0 {
		t.Fatalf("there are %v", left)
	}
	first := wants(201, "PUT", path, "If-None-Match", "*").header.Get("ETag")
	wants(412, "PUT", path, "If-None-Match", "*")
	if got := wants(200, "GET", path).header.Get("ETag"); got != first {
		t.Fatalf("%s is read as %s", first, got)
	}
	// The same bytes once more are another version.
	second := wants(201, "PUT", path, "If-Match", `"x", `+first+` , ,W/"y"`).header.Get("ETag")
	if first == second {
		t.Fatalf("both are %s", first)
	}
	for _, headers := range [][]string{
		{"If-Match", first},
		{"If-Match", "W/" + second}, // A weak one is equal to none.
		{"If-Match", first, "If-Match", `"x"`},
		{"If-None-Match", second},
		{"If-None-Match", "W/" + second},
		{"If-None-Match", `"x"`, "If-None-Match", second},
		{"If-Match", second, "If-None-Match", "*"},
		{"If-Unmodified-Since", "Mon, 02 Jan 2006 15:04:05 GMT"},
	} {
		wants(412, "PUT", path, headers...)
		wants(412, "DELETE", path, headers...)
		wants(412, "DELETE", path+"?version=2", headers...)
	}
	for _, headers := range [][]string{
		{"If-Match", "7"}, {"If-Match", ""}, {"If-Match", `"x`}, {"If-Match", `"x" "y"`}, {"If-Match", `*, "x"`},
		{"If-Match", `w/"x"`}, {"If-None-Match", "x"}, {"If-None-Match", `"a b"`}, {"If-None-Match", ","}, {"If-Unmodified-Since", "yesterday"},
	} {
		wants(400, "PUT", path, headers...)
		wants(400, "DELETE", path, headers...)
	}
	for _, name := range []string{"If-Match", "If-None-Match", "If-Unmodified-Since"} {
		if got := s.ask(t, "POST", "/delete", `{"objects": [{"bucket": "photos", "object": "cat.jpg"}]}`, name, "*"); got.status != 400 {
			t.Fatalf("%s: %d %s", name, got.status, got.body)
		}
	}
	s.has(t, cat, 0, "cat")
	// With If-Match the other one is not looked at; If-Modified-Since is for reading.
	third := wants(201, "PUT", path, "If-Match", second, "If-Unmodified-Since", "Mon, 02 Jan 2006 15:04:05 GMT").header.Get("ETag")
	later := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	wants(201, "PUT", path, "If-Unmodified-Since", later, "If-None-Match", `"3-", `+second, "If-Modified-Since", later)
	wants(412, "DELETE", path+"?version=3", "If-Match", second)
	wants(204, "DELETE", path+"?version=3", "If-Match", third)
	wants(404, "DELETE", path+"?version=3", "If-Match", "*")
	wants(304, "GET", path+"?version=2", "If-None-Match", second)
	wants(204, "DELETE", path, "If-Match", "*")
	wants(404, "GET", path, "If-Match", "*")
	wants(412, "PUT", path, "If-Match", second)
}

// Clients that each add one to a number, and try again when another was faster: none is lost.
func TestNoUpdateIsLost(t *testing.T) {
	s := newServed(t, storeOptions{}, patience, patience)
	const path, clients, each = "/o/b/counter", 4, 15
	if got := s.ask(t, "PUT", path, "0"); got.status != 201 {
		t.Fatal(got.status)
	}
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for done := 0; done < each; {
				was := s.ask(t, "GET", path, "")
				number, err := strconv.Atoi(string(was.body))
				ok(t, err)
				switch got := s.ask(t, "PUT", path, fmt.Sprint(number+1), "If-Match", was.header.Get("ETag")); got.status {
				case 201:
					done++
				case 412:
				default:
					t.Errorf("%d %s", got.status, got.body)
					return
				}
			}
		})
	}
	group.Wait()
	if got := s.ask(t, "GET", path, ""); string(got.body) != fmt.Sprint(clients*each) {
		t.Fatalf("it is %s after %d", got.body, clients*each)
	}
}
