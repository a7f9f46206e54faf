// Package remote has the locks and claims of a `keylatch serve`, over net/http and without cgo.
//
//	locks, err := remote.New(remote.Options{Server: "http://127.0.0.1:7373", Owner: "node-7"})
//	defer locks.Close()
//	guard, err := locks.Lock(ctx, remote.Key{Bucket: "photos", Object: "cat.jpg"})
//	if err != nil { ... }                    // ctx's error says who holds the lock
//	store.Write(data, guard.Fence())         // the store refuses a lower fence than it has seen
//	if err := guard.Unlock(); err != nil { ... }    // ErrLost: the lock may have been in other hands
//
//	note, err := locks.Once(ctx, layer, func(work *remote.Work) (string, error) { return fetch(layer) })
//
// A client has a session on the server, which is renewed in the background and reconnects by itself. It counts what it
// holds as safe from the moment a renewal was sent, so it knows of a loss before the server gives anything to another.
package remote
