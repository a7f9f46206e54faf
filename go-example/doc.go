// Package keylatch answers one question fast and exactly: who may touch this object now?
//
// A [Key] is a bucket, an object and, optionally, a version of it. A key can be held shared by many or exclusively by one.
// No program creates a lock before using it, or removes it afterwards.
//
//	locks, err := keylatch.New(keylatch.Options{})
//	...
//	guard, err := locks.Lock(ctx, keylatch.Key{Bucket: "photos", Object: "cat.jpg"})
//	if err != nil {
//		return err // ctx.Err() as it is, or an *Error that says who is in the way
//	}
//	defer guard.Unlock()
//
// # Waiting
//
// A goroutine that waits is parked by Go: it has no thread, and 100,000 that wait for one key need no more threads than
// one. Waits end with the context, whose error is returned as it is; with [WithTimeout], whose [ErrTimeout] names the
// holders; when the manager is closed; and, among sessions, when they wait for each other in a circle. A caller that
// gives up is out of the line and holds nothing. A lock that is granted in that very moment goes to the next in line.
//
// # Holding
//
// A [Guard] is held until it is unlocked, by any goroutine. Unlocking twice is an error and changes nothing. A guard
// that the program loses while it is held is reported once those made beside it are gone too ([Options.OnLeak],
// [Manager.Leaked]), and not released: the library cannot know whether what it protected is in order.
// [Manager.ForceRelease] is for those who do.
//
// The memory model is that of package sync: what was done before Unlock has happened for the next holder of the lock.
// The race detector knows: it reports data that is used without its lock, and does not report data that is used with
// it.
//
// # Errors
//
// Failures are [*Error] or a [Code]; ask for codes:
//
//	if errors.Is(err, keylatch.ErrTimeout) { ... }
//	var failure *keylatch.Error
//	if errors.As(err, &failure) { log.Print(failure.Holders) }
//
// # Speed, and when not to use it
//
// The locks are made in C, and each call crosses into it, which costs more than the lock itself. So where a map of locks
// made of Go alone does what you need, it is faster for a key that no other goroutine wants; it is not once it has to
// forget keys that are no longer used. And it does not time out, is not cancelled, hands over in no order, takes no ten
// locks together, and cannot say who holds what.
//
// As multiples of one compare-and-swap and store without contention, in the same run (`make bench-go`), for a lock and
// unlock, or for each key of a batch:
//
//	map of sync.RWMutex in 1024 parts, never cleaned             12
//	map of sync.Mutex in 1024 parts, cleaned on unlock           28
//	Lock and Unlock of a Guard                                   36
//	Acquire and Release of a Grant                               29
//	RWMutex of a key kept at hand                                32
//	LockMany of 16 or of 128, a key                              11
//	the map that is never cleaned, 16 locks in order, a key      14
//	the map that is never cleaned, 128 locks in order, a key     17
//	TryLock of what is held, with its holders                   185
//	one hot key, 2 goroutines, map of sync.RWMutex               16
//	one hot key, 2 goroutines, Lock and Unlock                  131
//	one hot key, 16 goroutines, map of sync.RWMutex              23
//	one hot key, 16 goroutines, Lock and Unlock                 863
//
// A hot key is where Go's own locks are far ahead: a waiting goroutine spins a little and is handed the lock by the
// scheduler, while here it has to be put in line, and woken through a queue. For a counter that all goroutines want,
// use a sync.Mutex. For objects, most of which are uncontended most of the time, the difference is a fraction of
// what opening a file costs.
//
// The fastest idiom for single locks is to keep the number, if you can do without reports of leaks:
//
//	grant, err := locks.Acquire(ctx, key, keylatch.Exclusive)
//	...
//	locks.Release(grant)
//
// For more than one lock use [Manager.LockMany]: it crosses once for all of them, costs a key a third of a lock alone, less
// than a map of Go's own locks, and waits for none while it holds another that comes later in order. Say who asks with an [Owner] that was made once ([By]), not with a name
// ([WithOwner]), where that is asked for often. Give requests that may have to wait long a context; those that wait for
// some milliseconds [WithTimeout], which needs no timer of Go's.
//
// # Work that is done once
//
// [Claims] have one goroutine do a piece of work while the others wait for its outcome:
//
//	note, err := claims.Once(ctx, layer, "node-7", func(work *keylatch.Claim) (string, error) { return fetch(layer) })
//
// Package remote has the locks and claims of a server, for programs that share no process; it needs no cgo.
//
// # Linking
//
// The package needs libkeylatch, which `make install` puts in place and pkg-config knows as keylatch:
//
//	go get example.org/keylatch
//	go build -tags keylatch_pkgconfig                    # the installed shared library
//	go build -tags keylatch_pkgconfig,keylatch_static    # the installed static library, as a part of the program
//	go build -tags keylatch_pkgconfig,keylatch_etcd      # the one with locks between machines, which [Options] has as Etcd
//
// It can be vendored: everything but the library lies in the folder of the package. For a program that needs no shared
// library at all, add the tags netgo and osusergo, and -ldflags "-linkmode external -extldflags -static".
//
// In keylatch's own source tree no tag is needed: the package takes what `make capi` has left there, and with
// keylatch_static the static one of it. A header of another version is refused by the compiler, a library of another
// one by the linker, and a shared library that was exchanged since by [New]. Go does not notice that an installed header
// changed, and goes on with what it compiled before: `go build -a` after installing another version.
//
// A program that is to use a source tree of keylatch says where that is:
//
//	go mod edit -require example.org/keylatch@v0.1.0 -replace example.org/keylatch=/path/to/keylatch/go-example
package keylatch
