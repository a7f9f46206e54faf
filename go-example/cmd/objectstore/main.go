// Objectstore is a small store of versioned objects over HTTP, on files, that shows how a storage engine uses keylatch.
//
//	PUT    /o/BUCKET/OBJECT              store the body as a new version
//	GET    /o/BUCKET/OBJECT[?version=N]  the latest version, or that one; HEAD likewise
//	DELETE /o/BUCKET/OBJECT[?version=N]  remove the object, or that version
//	POST   /delete                       {"objects": [{"bucket": "b", "object": "o"}]}: all of them, or none; 202 says
//	                                     that it is not finished yet, and goes on until it is
//	GET    /versions/BUCKET/OBJECT       which versions there are
//	GET    /locks                        who holds and who waits
//	GET    /metrics                      figures of the locks, for monitoring
//	GET    /healthz                      200 if the locks do well, 503 with the reasons if not
//
// What is answered with success is on disk, and stays after a crash; what is not is there as a whole or not at all.
//
// PUT and DELETE of an object heed If-Match, If-None-Match and If-Unmodified-Since, and answer 412 where what they say is
// not so at the moment of the change: PUT with If-None-Match: * only creates, and with the ETag from a GET, If-Match
// has a change refused if there was another one in between.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.org/keylatch"
)

type settings struct {
	listen, directory string
	store             storeOptions
	maxObject         int64
	maxBatch          int
	maxConnections    int
	idle              time.Duration
}

func flags(arguments []string, help io.Writer) (s settings, err error) {
	f := flag.NewFlagSet("objectstore", flag.ContinueOnError)
	f.SetOutput(help)
	f.StringVar(&s.listen, "listen", "127.0.0.1:8075", "`address` to listen on; port 0 is any free one")
	f.StringVar(&s.directory, "directory", "objects", "`directory` with the objects; made if it is not there")
	f.DurationVar(&s.store.wait, "wait", 5*time.Second, "how long a request waits for a lock before the answer is 503")
	f.DurationVar(&s.store.lease, "lease", 30*time.Second, "how long a commit may take before its lock can be taken by the next one")
	f.IntVar(&s.store.keep, "keep", 16, "`versions` of an object that are kept")
	f.BoolVar(&s.store.sync, "sync", true, "have the system write everything to disk before a request is answered")
	f.Int64Var(&s.maxObject, "max-object", 64<<20, "the largest object in `bytes`")
	f.IntVar(&s.maxBatch, "max-batch", 1000, "the most `objects` that one request may delete")
	f.IntVar(&s.maxConnections, "max-connections", 1000, "the most `connections` at a time; others wait until one ends, which idle ones do after -idle")
	f.DurationVar(&s.idle, "idle", 30*time.Second, "how long a client may send or take nothing, or dawdle altogether beyond what 16 KiB a second take")
	f.Usage = func() {
		fmt.Fprintln(help, "objectstore keeps versioned objects in files and serves them over HTTP.")
		fmt.Fprintln(help)
		f.PrintDefaults()
	}
	if err := f.Parse(arguments); err != nil {
		return s, err
	}
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("%q is not understood; try -help", f.Arg(0))
	case s.store.keep < 1 || s.maxObject < 0 || s.maxBatch < 1 || s.maxConnections < 1:
		err = errors.New("-keep, -max-batch and -max-connections have to be at least 1, -max-object at least 0")
	case s.store.wait <= 0 || s.store.lease <= 0 || s.idle <= 0:
		err = errors.New("-wait, -lease and -idle have to be longer than nothing")
	}
	return s, err
}

func main() {
	log.SetFlags(log.LstdFlags | log.Lmsgprefix)
	log.SetPrefix("objectstore: ")
	s, err := flags(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := serve(s); err != nil {
		log.Fatal(err)
	}
}

func serve(s settings) error {
	locks, err := keylatch.New(keylatch.Options{})
	if err != nil {
		return err
	}
	defer locks.Close()
	objects, err := openStore(s.directory, locks, s.store)
	if err != nil {
		return err
	}
	defer objects.close()
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	server := newServer(newHandler(objects, locks, s), s)
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		<-stop.Done()
		// Requests that are under way get their answers.
		grace, cancel := context.WithTimeout(context.Background(), s.store.wait+s.idle)
		defer cancel()
		stopped <- server.Shutdown(grace)
	}()
	// On standard output, for a caller that started it with port 0.
	fmt.Printf("listening on %s\n", listener.Addr())
	if err := server.Serve(newBounded(listener.(*net.TCPListener), s.maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

func newServer(handler http.Handler, s settings) *http.Server {
	return &http.Server{
		Handler: handler,
		// The handler limits what comes after the headers, by the same.
		ReadHeaderTimeout: s.idle,
		IdleTimeout:       s.idle,
		MaxHeaderBytes:    64 << 10,
	}
}
