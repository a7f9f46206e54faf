package main

import (
	"net"
	"sync"
)

// bounded is a listener that lets in a limited number of connections at a time. Others wait outside, where they cost
// the program neither a descriptor nor memory, until one of those inside ends: each of them does, after -idle at the
// latest.
type bounded struct {
	*net.TCPListener
	places chan struct{}
	closed chan struct{}
	close  func() error
}

func newBounded(listener *net.TCPListener, most int) *bounded {
	b := &bounded{TCPListener: listener, places: make(chan struct{}, most), closed: make(chan struct{})}
	b.close = sync.OnceValue(func() error {
		close(b.closed)
		return listener.Close()
	})
	return b
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.places <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	leave := sync.OnceFunc(func() { <-b.places })
	accepted, err := b.AcceptTCP()
	if err != nil {
		leave()
		return nil, err
	}
	return &inside{accepted, leave}, nil
}

func (b *bounded) Close() error { return b.close() }

// inside is a connection that gives its place back. It has all that a TCP connection has: net/http closes only one
// direction first, so that a client that still sends can read the answer.
type inside struct {
	*net.TCPConn
	leave func()
}

func (c *inside) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}
