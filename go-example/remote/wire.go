package remote

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// callTime is when a call is given up.
	callTime = 30 * time.Second
	// pollTime is for how long a call that waits says that it waits.
	pollTime = 20 * time.Second
	// spareTime is what a call may take on top of its deadline when the server does not answer.
	spareTime = 2 * time.Second
	mostBody  = 64 << 20
)

// wire makes calls to one server.
type wire struct {
	base    string
	token   string
	client  *http.Client
	backoff *backoff
}

func newWire(options *Options) (*wire, error) {
	server := options.Server
	if server == "" {
		server = "http://127.0.0.1:7373"
	}
	parsed, err := url.Parse(server)
	if err != nil || parsed.Hostname() == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") ||
		strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" {
		return nil, fmt.Errorf("%w: %q is no server: write http://host:port or https://host:port", ErrInvalid, server)
	}
	if parsed.User != nil {
		return nil, fmt.Errorf("%w: a server's URL carries no user or password: give a token or a certificate", ErrInvalid)
	}
	for _, letter := range options.Token {
		if letter <= ' ' || letter > '~' {
			return nil, fmt.Errorf("%w: a token is printable ASCII without blanks; this one is not, and is not shown", ErrInvalid)
		}
	}
	host := parsed.Hostname()
	isLoopback := host == "localhost" || host == "127.0.0.1" || host == "::1"
	if options.Token != "" && parsed.Scheme == "http" && !isLoopback {
		return nil, fmt.Errorf("%w: a token is not sent to %s in plain text: use https", ErrInvalid, host)
	}
	settings := options.TLS
	if settings == nil {
		settings = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	transport := &http.Transport{
		TLSClientConfig: settings, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, DisableCompression: true,
		Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: 64 << 10,
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &wire{parsed.Scheme + "://" + parsed.Host, options.Token, client, newBackoff(longestPause)}, nil
}

// call makes a call; answer is filled in from its JSON unless it is nil.
func (w *wire) call(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	response, err := w.send(ctx, method, path, body, "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, mostBody))
	if err != nil {
		w.backoff.failed()
		return w.unreachable(err)
	}
	w.backoff.reached()
	if response.StatusCode >= 300 {
		return refusal(response.StatusCode, data)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return w.unreachable(fmt.Errorf("its answer is none of a lock service: %w", err))
	}
	return nil
}

func (w *wire) send(ctx context.Context, method, path string, body any, last string) (*http.Response, error) {
	if err := w.backoff.wait(ctx); err != nil {
		return nil, w.unreachable(err)
	}
	var data io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		data = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, w.base+path, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	request.Header.Set("user-agent", "keylatch-go")
	if body != nil {
		request.Header.Set("content-type", "application/json")
	}
	if w.token != "" {
		request.Header.Set("authorization", "Bearer "+w.token)
	}
	if last != "" {
		request.Header.Set("last-event-id", last)
	}
	// Calls are made such that a doubled one changes nothing: http may repeat this one on a connection that was idle.
	request.Header["Idempotency-Key"] = []string{}
	response, err := w.client.Do(request)
	if err != nil {
		if ctx.Err() == nil {
			w.backoff.failed()
		}
		return nil, w.unreachable(err)
	}
	return response, nil
}

func (w *wire) unreachable(err error) error {
	return fmt.Errorf("keylatch: no answer from %s: %w: %w", w.base, ErrUnreachable, err)
}

// event is a server-sent event.
type event struct {
	name, id string
	data     []byte
}

// stream calls hear with each event until the stream ends.
func (w *wire) stream(ctx context.Context, path, last string, hear func(event)) error {
	// Its end is a failure, too, so that one that ends again and again is not asked for without a pause.
	defer w.backoff.failed()
	response, err := w.send(ctx, http.MethodGet, path, nil, last)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	w.backoff.reached()
	if response.StatusCode >= 300 {
		data, _ := io.ReadAll(io.LimitReader(response.Body, mostBody))
		return refusal(response.StatusCode, data)
	}
	if err := readEvents(response.Body, hear); err != nil {
		return w.unreachable(err)
	}
	return w.unreachable(io.EOF)
}

func readEvents(from io.Reader, hear func(event)) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 4096), mostBody)
	var came event
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if came.data != nil {
				hear(came)
			}
			came = event{}
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			came.name = value
		case "id":
			came.id = value
		case "data":
			if came.data != nil {
				came.data = append(came.data, '\n')
			}
			came.data = append(came.data, value...)
		}
	}
	return lines.Err()
}
