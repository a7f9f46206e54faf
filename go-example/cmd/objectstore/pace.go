package main

import (
	"io"
	"net/http"
	"time"
)

// How long a client may take. Every read from it and every write to it has a deadline: the time without a byte is limited
// by -idle, and the time altogether by that and what a slow line needs for the bytes that went over it.
//
// A body that is not read to its end ends the connection. Otherwise a client that declares one and does not send it
// would be waited for: the bytes that come next could be of the body or of another request.

// slowLine is how many bytes a second a slow line carries.
const slowLine = 16 << 10

// pace is how long one direction of a request may still take.
type pace struct {
	idle, spent time.Duration
	moved       int64
}

// step moves bytes, and says by when that has to be done. What else happens between two steps, like waiting for a lock or
// for a disk, is not the client's fault and does not count.
func (p *pace) step(limit func(time.Time) error, move func() (int, error)) (int, error) {
	began := time.Now()
	left := p.idle + time.Duration(p.moved/slowLine)*time.Second - p.spent
	// Connections of tests may have no deadlines, which is fine.
	_ = limit(began.Add(min(p.idle, left)))
	moved, err := move()
	p.spent += time.Since(began)
	p.moved += int64(moved)
	return moved, err
}

// paced is an answer, to a request that ends in good time whatever the client does.
type paced struct {
	http.ResponseWriter
	on   *http.ResponseController
	pace pace
}

func newPaced(w http.ResponseWriter, r *http.Request, idle time.Duration) *paced {
	p := &paced{w, http.NewResponseController(w), pace{idle: idle}}
	// For what is written on the way: that the client may send its body.
	_ = p.on.SetWriteDeadline(time.Now().Add(idle))
	if r.ContentLength != 0 {
		// What is left of a body that was not read has to be there by then. Where there is none there is no deadline:
		// it would end the request while it waits for a lock.
		_ = p.on.SetReadDeadline(time.Now().Add(idle))
		w.Header().Set("Connection", "close")
	}
	return p
}

func (p *paced) WriteHeader(status int) {
	_, _ = p.pace.step(p.on.SetWriteDeadline, func() (int, error) {
		p.ResponseWriter.WriteHeader(status)
		return 0, nil
	})
}

func (p *paced) Write(from []byte) (written int, err error) {
	for written < len(from) && err == nil {
		// Pieces that take a slow line no longer than the shortest time that anybody would set.
		piece := from[written:min(len(from), written+slowLine)]
		var some int
		some, err = p.pace.step(p.on.SetWriteDeadline, func() (int, error) { return p.ResponseWriter.Write(piece) })
		written += some
	}
	return written, err
}

// body is that of the request, for a reader that takes it to its end. It gives at most limit bytes.
func (p *paced) body(r *http.Request, limit int64) io.Reader {
	return &body{http.MaxBytesReader(p.ResponseWriter, r.Body, limit), p, pace{idle: p.pace.idle}}
}

// unread says that a body could not be read, which is the client's fault and not the store's.
type unread struct{ error }

func (u *unread) Unwrap() error { return u.error }

type body struct {
	from   io.Reader
	answer *paced
	pace   pace
}

func (b *body) Read(to []byte) (int, error) {
	read, err := b.pace.step(b.answer.on.SetReadDeadline, func() (int, error) { return b.from.Read(to) })
	switch {
	case err == io.EOF:
		b.answer.Header().Del("Connection")
		_ = b.answer.on.SetReadDeadline(time.Time{})
	case err != nil:
		err = &unread{err}
	}
	return read, err
}
