package keylatch

import (
	"fmt"
	"strings"
	"time"
)

// Fairness says who goes first.
type Fairness uint32

const (
	// Eventual lets a running caller take a free lock ahead of the line, until a waiter has waited for
	// [Options.FairnessAfter]: by far the fastest on a hot key. The default.
	Eventual Fairness = 1
	// FIFO is first come, first served; every release hands the lock to the next in line.
	FIFO Fairness = 2
	// WriterFirst is as FIFO, but a writer queues ahead of waiting readers, each of whom is overtaken at most
	// [Options.OvertakeLimit] times.
	WriterFirst Fairness = 3
	// ReaderFirst is as FIFO, but a reader joins readers ahead of waiting writers, likewise.
	ReaderFirst Fairness = 4
)

// Reentrancy says what a session gets that asks again for what it holds.
type Reentrancy uint32

const (
	// Deny fails a session that would wait for itself with [ErrDeadlock]. The default.
	Deny Reentrancy = 1
	// Count grants once more; the lock is free when as many guards are unlocked. A session that shares a lock and
	// asks for it exclusively has all its holds exclusively, once it shares with no other.
	Count Reentrancy = 2
)

// Victim says which session of a deadlock gives way.
type Victim uint32

const (
	// Asker is the session whose request was found to close the circle. The default.
	Asker Victim = 1
	// Youngest is the session that was begun last.
	Youngest Victim = 2
	// LowestPriority is the session that waits with the lowest priority; of several the youngest.
	LowestPriority Victim = 3
)

// ReaderSlots says where the readers of a key write that many threads read at a time.
type ReaderSlots uint32

const (
	// SlotsOn lets each reader of such a key write to memory of its own thread, which the others do not share. The first
	// request that asks for the key exclusively or lists its holders looks at the memory of all threads: some microseconds.
	// The default.
	SlotsOn ReaderSlots = 1
	// SlotsOff has all readers write to the memory of the key.
	SlotsOff ReaderSlots = 2
)

// OvertakeNever is for [Options.OvertakeLimit]: no waiter is ever overtaken.
const OvertakeNever = 1<<32 - 1

// Options are the settings of a manager. Everything that is zero is the default. [New] fails with [ErrInvalidConfig] for
// what cannot be, negative durations included but for DeadlockDelay.
type Options struct {
	// Shards are parts of the table that change independently: a power of two from 1 to 65,536. Default 1024.
	Shards uint32
	// Fairness says who goes first. Default Eventual.
	Fairness Fairness
	// FairnessAfter is for Eventual: how long a waiter may be overtaken. Default 500 µs.
	FairnessAfter time.Duration
	// DefaultTimeout is how long a request waits that does not say. Default: until its context ends.
	DefaultTimeout time.Duration
	// MaxLocks is how many locks can be in the table at a time. Default 8,388,608.
	MaxLocks uint32
	// MaxWaiters is how many requests can wait at a time. Default 1,048,576.
	MaxWaiters uint32
	// MaxKeyBytes is how long a key may be, its parts together. Default 8192.
	MaxKeyBytes int
	// OvertakeLimit is how often a waiter may be overtaken by higher priorities, or by the mode that the fairness
	// prefers. Default 64.
	OvertakeLimit uint32
	// Reentrancy says what a session gets that asks again for what it holds. Default Deny.
	Reentrancy Reentrancy
	// DeadlockDelay is how long a session's request waits before it looks for a deadlock. Default 50 ms; 1 is
	// practically without delay, a negative one switches it off.
	DeadlockDelay time.Duration
	// Victim says which session of a deadlock gives way. Default Asker.
	Victim Victim
	// LockDelay is how long a lock that an exclusive holder lost because its lease ran out stays closed, so that
	// what the old holder still has on its way arrives first. Default: not at all.
	LockDelay time.Duration
	// HealthWindow is the stretch of time that Health judges and the longest waits of late are taken from. Default one
	// minute, at least a millisecond.
	HealthWindow time.Duration

	// SharedMemory is a file, such as "/dev/shm/my-engine": the manager shares its keys with all processes whose managers
	// name it. It is made if it is missing; [New] fails with [ErrTier] if it cannot be used. Default: none.
	SharedMemory string

	// Etcd has the addresses of an etcd cluster, such as "10.0.0.1:2379,10.0.0.2:2379": the manager shares its keys with the
	// managers of all machines that use the cluster and EtcdOptions.Namespace. [New] waits until it has answered, and fails
	// with [ErrTier] if it does not. The program has to be built with the tag keylatch_etcd. Default: none.
	Etcd string
	// EtcdOptions say more of that cluster.
	EtcdOptions EtcdOptions

	// Adaptive, if not nil, has requests that name no timeout wait as long as waits have shown to take, instead of
	// DefaultTimeout.
	Adaptive *AdaptiveTimeout
	// LockOrder has sessions watched for orders of locks that go round and so can become a deadlock, which
	// [Manager.LockOrders] and an event tell of. For development: every request of a session takes a mutex then.
	LockOrder bool

	// ReaderSlots says where the readers of a key write that many threads read at a time. Default SlotsOn.
	ReaderSlots ReaderSlots

	// OnLeak is called, on a goroutine of its own, with a guard that became garbage while it was held. Default: log it.
	// Nothing is released: the library cannot know whether what the lock protects is in order. [Manager.Leaked] counts
	// them.
	//
	// It is there to find bugs, not to rely on. Guards are made 32 side by side, as are batches, and the garbage collector
	// is asked about all of them together, because asking about each costs more than the lock. So a lost one is
	// reported only when none of the others is reachable any more: one that is kept for as long as the program runs
	// hides up to 31 lost ones. (With the race detector each is made and reported alone.) What is held for too long,
	// lost or not, is in [Manager.Holders].
	OnLeak func(Leak)
}

func (o *Options) check() error {
	if err := whole(o.SharedMemory); err != nil {
		return err
	}
	settings := []setting{
		{"FairnessAfter", o.FairnessAfter}, {"DefaultTimeout", o.DefaultTimeout}, {"LockDelay", o.LockDelay}, {"HealthWindow", o.HealthWindow},
	}
	if a := o.Adaptive; a != nil {
		settings = append(settings, setting{"Adaptive.Floor", a.Floor}, setting{"Adaptive.Ceiling", a.Ceiling})
	}
	e := &o.EtcdOptions
	settings = append(settings, setting{"EtcdOptions.TTL", e.TTL}, setting{"EtcdOptions.ConnectTimeout", e.ConnectTimeout})
	if err := negative(settings...); err != nil {
		return err
	}
	if o.ReaderSlots > SlotsOff {
		return &Error{Code: ErrInvalidConfig, Message: fmt.Sprintf("%v is neither SlotsOn nor SlotsOff", o.ReaderSlots)}
	}
	return o.checkEtcd()
}

// checkEtcd says what only Go can do wrong.
func (o *Options) checkEtcd() error {
	wrong := func(problem string) error { return &Error{Code: ErrInvalidConfig, Message: problem} }
	switch {
	case o.Etcd == "" && o.EtcdOptions != (EtcdOptions{}):
		return wrong("EtcdOptions are given without Etcd; give both")
	case o.Etcd != "" && !withEtcd:
		return wrong("Etcd: this program was built without etcd; build it with -tags keylatch_etcd, which takes libkeylatch_etcd")
	}
	e := &o.EtcdOptions
	for _, text := range []string{o.Etcd, e.Namespace, e.CAFile, e.CertificateFile, e.KeyFile, e.ServerName, e.User, e.Password, e.Label} {
		if strings.ContainsRune(text, 0) {
			return wrong("a text of Etcd or EtcdOptions has a byte that is 0; leave it out")
		}
	}
	return nil
}

// EtcdOptions say how a cluster is reached, and what the locks are called there. What is zero is the default.
type EtcdOptions struct {
	// Namespace names the space of locks: 1 to 64 letters, digits, '-', '_' and '.'. Default "default".
	Namespace string
	// TTL is after how long without contact all locks of the process end: whole seconds, of at least the server's floor,
	// which is usually 2. Default 10 seconds.
	TTL time.Duration
	// ConnectTimeout is how long [New] tries to reach the cluster. Default 5 seconds.
	ConnectTimeout time.Duration
	// CAFile has the authority of the members' certificates, in PEM. With it, addresses without a scheme are https://.
	CAFile string
	// CertificateFile and KeyFile have the process's own certificate and its key, in PEM.
	CertificateFile, KeyFile string
	// ServerName is what the members' certificates are for. Default: the host of the address.
	ServerName string
	// User and Password are for clusters with authentication: both, or neither.
	User, Password string
	// Label is what listings call the process, beside its host and number.
	Label string
}

// AdaptiveTimeout says how a timeout is learned: a multiple of the time below which a share of the latest waits stays,
// between Floor and Ceiling. What is zero is the default.
type AdaptiveTimeout struct {
	// QuantilePerMille is which share of waits, 1 to 1000. Default 990.
	QuantilePerMille uint32
	// FactorPerMille is how many times as long, in thousandths, at least 1000. Default 2000.
	FactorPerMille uint32
	// Floor and Ceiling are the shortest and the longest that the timeout may be. Default 10 ms and 30 s.
	Floor, Ceiling time.Duration
}

// Option is what a request says besides its key and its mode. The zero Option says nothing. A request fails with
// [ErrInvalidArgument] if it is given an option that it could not heed: WithBestEffort for one lock, WithRequestID for
// several, either of them or WithTTL for an upgrade. What does not wait needs no timeout, and heeds none.
type Option struct {
	kind   optionKind
	number uint64
	name   string
	owner  *Owner
}

type optionKind uint8

const (
	nothing optionKind = iota
	timeoutOption
	leaseOption
	priorityOption
	ownerOption
	ownerNameOption
	requestIDOption
	bestEffortOption
)

// WithTimeout ends the wait with [ErrTimeout] when it lasts longer; 0 or less is once and no more. Unlike a context's deadline it
// costs no timer of Go's, and the error names those who held the lock.
func WithTimeout(d time.Duration) Option {
	return Option{kind: timeoutOption, number: uint64(max(d, 0))}
}

// WithoutTimeout waits until the context ends, whatever [Options.DefaultTimeout] says.
func WithoutTimeout() Option { return Option{kind: timeoutOption, number: waitForever} }

// WithTTL asks for a lease: that long after the grant a waiter may take the lock, unless
// [Guard.Renew] begins it anew. One that is 0 or negative would be over immediately: such a request fails with
// [ErrInvalidConfig], as Renew does.
func WithTTL(d time.Duration) Option { return Option{kind: leaseOption, number: uint64(max(d, 0))} }

// WithPriority has the request wait ahead of those of lower priority, which it may overtake [Options.OvertakeLimit]
// times. Requests that do not say have 0.
func WithPriority(priority uint8) Option {
	return Option{kind: priorityOption, number: uint64(priority)}
}

// WithOwner says who asks, for errors and listings: a label. An [Owner] that was made once is cheaper.
func WithOwner(name string) Option { return Option{kind: ownerNameOption, name: name} }

// By says who asks: an owner or a session.
func By(owner *Owner) Option { return Option{kind: ownerOption, owner: owner} }

// WithRequestID numbers a request of a session. While its grant is held, a request of the same session with the same
// number is answered with the same grant; one Unlock ends it. While it waits, such a request waits for the same answer, as
// long as its own context and timeout allow; if the first one ends without a lock, the next one asks for itself. 0 is no
// number.
func WithRequestID(id uint64) Option { return Option{kind: requestIDOption, number: id} }

// WithBestEffort has [Manager.LockMany] take those locks that can be had within the time, rather than all or none.
func WithBestEffort() Option { return Option{kind: bestEffortOption} }

// request is what the options of a request come to.
type request struct {
	timeout    uint64
	ttl        uint64
	id         uint64
	owner      *Owner
	ownerName  string
	priority   uint8
	bestEffort bool
	// lease says that ttl is meant, though it may be 0.
	lease bool
	// plain says that nothing is said but, maybe, the timeout.
	plain bool
	// pin is that of the key, if it is asked for through one.
	pin *PinnedKey
}

// What a request is for.
type purpose uint8

const (
	one purpose = iota
	many
	upgrade
)

// by is who makes the request, or why no owner can: it says something that cannot be meant, or that would be taken to
// be done and is not.
func (r *request) by(what purpose) (handle, error) {
	problem, code := "", ErrInvalidArgument
	switch {
	case r.lease && what == upgrade:
		problem = "WithTTL: an upgrade leaves the lease as it is; Renew changes it"
	case r.lease && r.ttl == 0:
		problem, code = "WithTTL: a lease that is 0 or negative would be lost immediately; leave it out for a hold without a lease",
			ErrInvalidConfig
	case r.bestEffort && what != many:
		problem = "WithBestEffort: this is about one lock; TryLock takes it if it is free"
	case r.id != 0 && what == many:
		problem = "WithRequestID: a batch has none; requests for one lock have"
	case r.id != 0 && what == upgrade:
		problem = "WithRequestID: an upgrade has none; requests for a lock have"
	default:
		return r.owner.use()
	}
	return 0, &Error{Code: code, Message: problem}
}

// negative fails if one of the settings is, which can only be meant otherwise than as the default that 0 is.
func negative(settings ...setting) error {
	for _, s := range settings {
		if s.is < 0 {
			return &Error{Code: ErrInvalidConfig, Message: fmt.Sprintf("%s is %v; 0 is the default", s.name, s.is)}
		}
	}
	return nil
}

// setting is a duration with its name.
type setting struct {
	name string
	is   time.Duration
}

func read(options []Option) request {
	r := request{timeout: waitDefault, plain: true}
	for i := range options {
		o := &options[i]
		r.plain = r.plain && o.kind <= timeoutOption
		switch o.kind {
		case timeoutOption:
			r.timeout = o.number
		case leaseOption:
			r.ttl, r.lease = o.number, true
		case priorityOption:
			r.priority = uint8(o.number)
		case ownerOption:
			r.owner = o.owner
		case ownerNameOption:
			r.ownerName = o.name
		case requestIDOption:
			r.id = o.number
		case bestEffortOption:
			r.bestEffort = true
		}
	}
	return r
}
