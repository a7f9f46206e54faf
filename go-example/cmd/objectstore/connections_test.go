package main

import (
	"errors"
	"io"
	"net"
	"testing"
)

func TestSoManyConnectionsAndNoMore(t *testing.T) {
	const most, all = 3, 12
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	b := newBounded(listener.(*net.TCPListener), most)
	defer b.Close()
	for range all {
		outside, err := net.Dial("tcp", listener.Addr().String())
		ok(t, err)
		defer outside.Close()
	}
	accepted, ended := make(chan net.Conn, all), make(chan error, 1)
	go func() {
		for {
			connection, err := b.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- connection
		}
	}()
	var inside []net.Conn
	for range all {
		inside = append(inside, <-accepted)
		if len(inside)+len(accepted) > most {
			t.Fatalf("%d are inside", len(inside)+len(accepted))
		}
		if len(inside) == most {
			// Twice is once.
			ok(t, inside[0].Close())
			_ = inside[0].Close()
			inside = inside[1:]
		}
	}
	// What else a TCP connection can do it still can.
	if _, can := inside[0].(interface {
		CloseWrite() error
		io.ReaderFrom
	}); !can {
		t.Error("it cannot close one direction")
	}
	// One more, who gets the last place and is never ended: closing the listener ends the wait for another.
	last, err := net.Dial("tcp", listener.Addr().String())
	ok(t, err)
	defer last.Close()
	<-accepted
	ok(t, b.Close())
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}
