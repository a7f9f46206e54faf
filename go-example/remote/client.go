package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unicode/utf8"
)

// Key says what is locked or claimed. Bucket and Object are not empty, and all parts are UTF-8.
type Key struct {
	Bucket, Object string
	// Version is empty for the object itself.
	Version string
}

// String is for people.
func (k Key) String() string {
	if k.Version != "" {
		return fmt.Sprintf("%q/%q@%q", k.Bucket, k.Object, k.Version)
	}
	return fmt.Sprintf("%q/%q", k.Bucket, k.Object)
}

func (k Key) check() error {
	if k.Bucket == "" || k.Object == "" {
		return fmt.Errorf("%w: a key has a bucket and an object, and this is %v", ErrInvalid, k)
	}
	for _, part := range []string{k.Bucket, k.Object, k.Version} {
		if !utf8.ValidString(part) {
			return fmt.Errorf("%w: the parts of a key are UTF-8: encode %v, as with package hex", ErrInvalid, k)
		}
	}
	return nil
}

func (k Key) fields() map[string]any {
	fields := map[string]any{"bucket": k.Bucket, "object": k.Object}
	if k.Version != "" {
		fields["version"] = k.Version
	}
	return fields
}

// Options say which server is meant, and who asks.
type Options struct {
	// Server is its URL. Default http://127.0.0.1:7373.
	Server string
	// Owner is a name for listings and errors.
	Owner string
	// Token is a bearer token.
	Token string
	// TLS has the roots of the server's certificate, and the client's own. Default: the system's roots.
	TLS *tls.Config
	// TTL is for how long the server keeps what a client holds that it hears nothing of. Default 30 s.
	TTL time.Duration
}

// Client has the locks and claims of a server. Any number of goroutines may use it. Its session is opened with the first
// call; should it end, guards are lost, and the next call opens another one.
type Client struct {
	wire  *wire
	owner string
	ttl   time.Duration

	// opening has room for the one that opens a session.
	opening chan struct{}
	mutex   sync.Mutex
	session *session
	closed  chan struct{}
	closing sync.Once
}

// New makes a client. It asks the server nothing yet.
func New(options Options) (*Client, error) {
	w, err := newWire(&options)
	if err != nil {
		return nil, err
	}
	if options.TTL < 0 {
		return nil, fmt.Errorf("%w: the TTL is %v; 0 is its default", ErrInvalid, options.TTL)
	}
	if options.TTL == 0 {
		options.TTL = 30 * time.Second
	}
	return &Client{
		wire: w, owner: options.Owner, ttl: max(options.TTL, time.Millisecond),
		opening: make(chan struct{}, 1), closed: make(chan struct{}),
	}, nil
}

// Close ends the session, and with it what it holds. Closing again does nothing.
func (c *Client) Close() error {
	c.closing.Do(func() {
		c.mutex.Lock()
		close(c.closed)
		session := c.session
		c.mutex.Unlock()
		if session != nil {
			session.end()
		}
		c.wire.client.CloseIdleConnections()
	})
	return nil
}

// current is the session, after opening one if there is none that lives.
func (c *Client) current(ctx context.Context) (*session, error) {
	select {
	case c.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.closed:
		return nil, ErrClosed
	}
	defer func() { <-c.opening }()
	c.mutex.Lock()
	session := c.session
	c.mutex.Unlock()
	select {
	case <-c.closed:
		return nil, ErrClosed
	default:
	}
	if session != nil && !session.belief.isOver() {
		return session, nil
	}
	if session != nil {
		session.end()
	}
	_, hasDeadline := ctx.Deadline()
	for {
		opened, err := openSession(ctx, c.wire, c.owner, c.ttl)
		if err == nil {
			c.mutex.Lock()
			defer c.mutex.Unlock()
			select {
			case <-c.closed:
				go opened.end()
				return nil, ErrClosed
			default:
			}
			c.session = opened
			return opened, nil
		}
		// The first error is worth more than silence to those who did not say how long to wait.
		if !hasDeadline || ctx.Err() != nil || !(passing(err) || errors.Is(err, ErrSession)) {
			return nil, err
		}
		pause(ctx, firstPause)
	}
}

// Lock takes a lock exclusively, and waits for it until ctx ends; the error tells who holds it then.
func (c *Client) Lock(ctx context.Context, key Key) (*Guard, error) {
	return c.lock(ctx, waits, []Key{key}, nil)
}

// RLock takes a lock that is shared with others who take it so.
func (c *Client) RLock(ctx context.Context, key Key) (*Guard, error) {
	return c.lock(ctx, waits, nil, []Key{key})
}

// TryLock takes a lock that is free. It fails with [ErrLocked], and the holders, if it is not.
func (c *Client) TryLock(ctx context.Context, key Key) (*Guard, error) {
	return c.lock(ctx, tries, []Key{key}, nil)
}

// TryRLock is the same for a shared lock.
func (c *Client) TryRLock(ctx context.Context, key Key) (*Guard, error) {
	return c.lock(ctx, tries, nil, []Key{key})
}

// LockMany takes many locks in one step, all or none. One guard holds them.
func (c *Client) LockMany(ctx context.Context, exclusive, shared []Key) (*Guard, error) {
	return c.lock(ctx, waits, exclusive, shared)
}

func (c *Client) lock(ctx context.Context, how wait, exclusive, shared []Key) (*Guard, error) {
	var items []map[string]any
	var keys []Key
	for mode, asked := range map[string][]Key{"exclusive": exclusive, "shared": shared} {
		for _, key := range asked {
			if err := key.check(); err != nil {
				return nil, err
			}
			item := key.fields()
			item["mode"] = mode
			items, keys = append(items, item), append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: there is no key to lock", ErrInvalid)
	}
	held, answer, err := c.request(ctx, "/v1/lock", how, map[string]any{"items": items})
	if err != nil {
		return nil, err
	}
	guard := &Guard{held: held, keys: keys, grant: answer.Grant, fence: answer.Fence}
	// One that is forgotten is given up with the next renewal.
	runtime.AddCleanup(guard, held.forget, struct{}{})
	return guard, nil
}

// held is a number that got what it asked for.
type held struct {
	session *session
	number  uint64
	fate    *fate
}

// forget lets the next renewal give the number up.
func (h held) forget(struct{}) { h.session.belief.settle(h.number) }

// request asks for something in the current session, and again in another one if that ends before there is an answer. A
// fate comes with what is to be held.
func (c *Client) request(ctx context.Context, path string, how wait, fields map[string]any) (held, *answerBody, error) {
	for {
		session, err := c.current(ctx)
		if err != nil {
			return held{}, nil, err
		}
		number := session.belief.takeNumber()
		answer, err := session.ask(ctx, path, number, how, fields)
		var fate *fate
		if err == nil && (answer.State == "granted" || answer.State == "yours") {
			fate, err = session.untilSafe(ctx, number)
		} else if err == nil {
			session.belief.settle(number)
		}
		// Nothing was granted, so asking again in another session is the same request.
		if errors.Is(err, ErrSession) && ctx.Err() == nil {
			continue
		}
		return held{session, number, fate}, answer, err
	}
}

// Guard is locks that are held. They are renewed in the background; should that not succeed in time they are lost, which
// every call on the guard notices by the client's own clock, before the server frees anything.
type Guard struct {
	held
	keys  []Key
	grant string
	fence uint64

	mutex    sync.Mutex
	unlocked bool
}

// Keys are what is held.
func (g *Guard) Keys() []Key { return g.keys }

// Fence is greater than that of every grant before: a store that remembers the highest refuses late writers.
func (g *Guard) Fence() uint64 { return g.fence }

// Remaining is for how long the locks are safe without another renewal: 0 once they are lost or unlocked.
func (g *Guard) Remaining() time.Duration {
	g.mutex.Lock()
	unlocked := g.unlocked
	g.mutex.Unlock()
	left := g.session.belief.safeFor()
	if unlocked || g.session.belief.isLost(g.fate) {
		return 0
	}
	return left
}

// Valid says whether the locks are safe at this moment.
func (g *Guard) Valid() bool { return g.Remaining() > 0 }

// Lost is closed when the locks are lost.
func (g *Guard) Lost() <-chan struct{} { return g.fate.lost }

// Unlock releases the locks. It fails with [ErrLost] if they were lost before, and with [ErrNotHeld] if they were
// unlocked, so it is fine to defer it, and to look at the error where that matters.
func (g *Guard) Unlock() error {
	wasLost := !g.Valid()
	g.mutex.Lock()
	if g.unlocked {
		g.mutex.Unlock()
		return ErrNotHeld
	}
	g.unlocked = true
	g.mutex.Unlock()
	defer g.session.belief.settle(g.number)
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	_, err := g.session.finish(ctx, "/v1/unlock", g.number, map[string]any{"grant": g.grant})
	switch {
	case wasLost, errors.Is(err, ErrSession), errors.Is(err, ErrLost), errors.Is(err, ErrNotHeld):
		return fmt.Errorf("keylatch: %w: what %v protects may be in other hands", ErrLost, g.keys)
	case errors.Is(err, ErrUnreachable):
		// The next renewal releases them, and so does the end of the session; meanwhile no other client has them.
		return nil
	}
	return err
}
