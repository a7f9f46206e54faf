package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"example.org/keylatch"
)

const (
	maxBucket = 255
	maxObject = 4096
)

// handler answers requests. Paths are taken apart by hand: names may have anything in them, dots and escaped slashes too.
type handler struct {
	objects *store
	locks   *keylatch.Manager
	settings
}

func newHandler(objects *store, locks *keylatch.Manager, s settings) http.Handler {
	return &handler{objects, locks, s}
}

// refusal is an answer that is no success.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func (h *handler) ServeHTTP(to http.ResponseWriter, r *http.Request) {
	w := newPaced(to, r, h.idle)
	path := r.URL.EscapedPath()
	kind, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if rest != "" && kind != "o" && kind != "versions" {
		kind = ""
	}
	var err error
	switch kind {
	case "o":
		err = h.object(w, r, rest)
	case "versions":
		err = h.versions(w, r, rest)
	case "delete":
		err = h.deleteMany(w, r)
	case "locks":
		err = h.listLocks(w, r)
	case "metrics":
		err = h.metrics(w, r)
	case "healthz":
		err = h.health(w, r)
	default:
		err = &refusal{http.StatusNotFound, "there is nothing here; objects are at /o/BUCKET/OBJECT"}
	}
	if err != nil {
		refuse(w, r, err)
	}
}

func refuse(w http.ResponseWriter, r *http.Request, err error) {
	var known *refusal
	var tooLarge *http.MaxBytesError
	var body *unread
	status, why := http.StatusInternalServerError, "the store has failed"
	switch {
	case errors.As(err, &known):
		status, why = known.status, known.why
	case errors.As(err, &tooLarge):
		status, why = http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d bytes", tooLarge.Limit)
	case errors.Is(err, errNotFound):
		status, why = http.StatusNotFound, errNotFound.Error()
	case errors.Is(err, errBusy), errors.Is(err, keylatch.ErrClosed):
		w.Header().Set("Retry-After", "1")
		status, why = http.StatusServiceUnavailable, errBusy.Error()
	case errors.Is(err, errPrecondition):
		status, why = http.StatusPreconditionFailed, errPrecondition.Error()
	case errors.Is(err, errFenced):
		status, why = http.StatusConflict, errFenced.Error()
	case errors.Is(err, keylatch.ErrInvalidKey):
		status, why = http.StatusBadRequest, "the names are too long"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		log.Printf("%s %q: %v", r.Method, r.URL.EscapedPath(), err)
		status, why = http.StatusInsufficientStorage, "there is no room for it"
	case errors.Is(err, os.ErrDeadlineExceeded):
		status, why = http.StatusRequestTimeout, "the request took too long to arrive"
	case r.Context().Err() != nil, errors.As(err, &body), errors.Is(err, io.ErrUnexpectedEOF):
		// Often the client is gone, and gets no answer.
		status, why = http.StatusBadRequest, "the request was not complete"
	default:
		log.Printf("%s %q: %v", r.Method, r.URL.EscapedPath(), err)
	}
	http.Error(w, why, status)
}

func allow(w http.ResponseWriter, r *http.Request, methods ...string) error {
	for _, method := range methods {
		if r.Method == method {
			return nil
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return &refusal{http.StatusMethodNotAllowed, "not with this method"}
}

// named reads BUCKET/OBJECT, each escaped as in an address.
func named(path string) (keylatch.Key, error) {
	bucket, object, both := strings.Cut(path, "/")
	bucket, err := url.PathUnescape(bucket)
	if err == nil {
		object, err = url.PathUnescape(object)
	}
	if err != nil || !both {
		return keylatch.Key{}, &refusal{http.StatusBadRequest, "the path has to be /o/BUCKET/OBJECT"}
	}
	return checked(name{bucket, object})
}

func checked(n name) (keylatch.Key, error) {
	if n.Bucket == "" || n.Object == "" || len(n.Bucket) > maxBucket || len(n.Object) > maxObject {
		why := fmt.Sprintf("a bucket's name has 1 to %d bytes, an object's 1 to %d", maxBucket, maxObject)
		return keylatch.Key{}, &refusal{http.StatusBadRequest, why}
	}
	return n.key(), nil
}

// versionOf is the version that a request is for; 0 if it names none. What is not understood is refused: without it a
// request to remove a version would be one to remove the object.
func versionOf(r *http.Request) (uint64, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	given := query["version"]
	if err != nil || len(given) != len(query) || len(given) > 1 {
		return 0, &refusal{http.StatusBadRequest, "after the ? there may be version=N, once, and nothing else"}
	}
	if len(given) == 0 {
		return 0, nil
	}
	number, err := strconv.ParseUint(given[0], 10, 64)
	if err != nil || number == 0 {
		return 0, &refusal{http.StatusBadRequest, "a version is a number from 1 on"}
	}
	return number, nil
}

// unasked fails if there is anything after a ?.
func unasked(r *http.Request) error {
	if r.URL.RawQuery != "" {
		return &refusal{http.StatusBadRequest, "there is nothing to be said after a ? here"}
	}
	return nil
}

func owner(r *http.Request) string { return r.Method + " from " + r.RemoteAddr }

func (h *handler) object(w *paced, r *http.Request, path string) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete); err != nil {
		return err
	}
	key, err := named(path)
	if err != nil {
		return err
	}
	version, err := versionOf(r)
	if err != nil {
		return err
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return h.get(w, r, key, version)
	}
	conditions, err := conditionsOf(r)
	if err != nil {
		return err
	}
	if r.Method == http.MethodPut {
		if version != 0 {
			return &refusal{http.StatusBadRequest, "a new version gets its number from the store"}
		}
		return h.put(w, r, key, &conditions)
	}
	if err := h.objects.remove(r.Context(), key, version, owner(r), &conditions); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) put(w *paced, r *http.Request, key keylatch.Key, conditions *conditions) error {
	if r.Header.Get("Content-Range") != "" {
		// As a whole object it would take the place of what it is a part of.
		return &refusal{http.StatusBadRequest, "a version is stored as a whole"}
	}
	if r.ContentLength > h.maxObject {
		return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d bytes", h.maxObject)}
	}
	received, err := h.objects.receive(w.body(r, h.maxObject))
	if err != nil {
		return err
	}
	defer h.objects.discard(received)
	if r.ContentLength >= 0 && received.size != r.ContentLength {
		return io.ErrUnexpectedEOF
	}
	// The client may be gone, but what it sent is complete.
	made, err := h.objects.put(context.WithoutCancel(r.Context()), key, received, owner(r), conditions)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", strconv.Quote(etag(made)))
	return answer(w, http.StatusCreated, made)
}

func (h *handler) get(w http.ResponseWriter, r *http.Request, key keylatch.Key, version uint64) error {
	file, found, err := h.objects.open(r.Context(), key, version, owner(r))
	if err != nil {
		return err
	}
	defer file.Close()
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("ETag", strconv.Quote(etag(found)))
	header.Set("X-Version", strconv.FormatUint(found.Number, 10))
	http.ServeContent(w, r, "", found.Time, file)
	return nil
}

func (h *handler) versions(w http.ResponseWriter, r *http.Request, path string) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	if err := unasked(r); err != nil {
		return err
	}
	key, err := named(path)
	if err != nil {
		return err
	}
	found, err := h.objects.versions(r.Context(), key, owner(r))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, found)
}

func (h *handler) deleteMany(w *paced, r *http.Request) error {
	if err := allow(w, r, http.MethodPost); err != nil {
		return err
	}
	if err := unasked(r); err != nil {
		return err
	}
	if err := unconditional(r); err != nil {
		return err
	}
	var asked struct {
		Objects []name `json:"objects"`
	}
	limit := int64(h.maxBatch) * 6 * (maxBucket + maxObject)
	text, err := io.ReadAll(w.body(r, limit))
	if err != nil {
		return err
	}
	from := json.NewDecoder(bytes.NewReader(text))
	from.DisallowUnknownFields()
	err = from.Decode(&asked)
	// What is no text would be read as the name of another object, and what follows would be overlooked.
	if _, more := from.Token(); err != nil || more != io.EOF || !utf8.Valid(text) {
		return &refusal{http.StatusBadRequest, `the body has to be {"objects": [{"bucket": "b", "object": "o"}, ...]}`}
	}
	if len(asked.Objects) > h.maxBatch {
		return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("more than %d objects", h.maxBatch)}
	}
	for _, one := range asked.Objects {
		if _, err := checked(one); err != nil {
			return err
		}
	}
	removed, err := h.objects.removeMany(context.WithoutCancel(r.Context()), asked.Objects, owner(r))
	status := http.StatusOK
	if errors.Is(err, errUnfinished) {
		log.Printf("%s %q: %v", r.Method, r.URL.EscapedPath(), err)
		status, err = http.StatusAccepted, nil
	}
	if err != nil {
		return err
	}
	return answer(w, status, map[string]int{"removed": removed})
}

func (h *handler) listLocks(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	type lock struct {
		Bucket, Object, Mode, Owner string
		For                         string
	}
	holders, err := h.locks.Holders(keylatch.Filter{})
	if err != nil {
		return err
	}
	waiters, err := h.locks.Waiters(keylatch.Filter{})
	if err != nil {
		return err
	}
	listed := map[string][]lock{"holders": {}, "waiters": {}}
	for _, l := range holders {
		listed["holders"] = append(listed["holders"], lock{l.Key.Bucket, l.Key.Object, l.Mode.String(), l.Owner, l.For.String()})
	}
	for _, l := range waiters {
		listed["waiters"] = append(listed["waiters"], lock{l.Key.Bucket, l.Key.Object, l.Mode.String(), l.Owner, l.For.String()})
	}
	return answer(w, http.StatusOK, listed)
}

func (h *handler) metrics(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	text, err := h.locks.OpenMetrics()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", keylatch.OpenMetricsType)
	// A client that is gone needs no answer, here and below.
	_, _ = io.WriteString(w, text)
	return nil
}

func (h *handler) health(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	health, err := h.locks.Health()
	if err != nil {
		return err
	}
	status := http.StatusOK
	if !health.Healthy {
		status = http.StatusServiceUnavailable
	}
	return answer(w, status, map[string]any{"healthy": health.Healthy, "problems": health.Problems})
}

func answer(w http.ResponseWriter, status int, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
	return nil
}
