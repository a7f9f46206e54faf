package keylatch_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.org/keylatch"
)

func Example() {
	locks, err := keylatch.New(keylatch.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer locks.Close()
	ctx := context.Background()
	cat, dog := keylatch.Key{Bucket: "photos", Object: "cat.jpg"}, keylatch.Key{Bucket: "photos", Object: "dog.jpg"}

	guard, err := locks.Lock(ctx, cat, keylatch.WithOwner("uploader"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer guard.Unlock()
	// Others may read now, and no other writer came in between.
	if err := guard.Downgrade(); err != nil {
		fmt.Println(err)
	}
	// A timeout says who is in the way.
	_, err = locks.Lock(ctx, cat, keylatch.WithTimeout(5*time.Millisecond))
	var failure *keylatch.Error
	if errors.Is(err, keylatch.ErrTimeout) && errors.As(err, &failure) {
		fmt.Println("held by", failure.Holders[0].Owner)
	}
	// Many together, all or nothing.
	batch, err := locks.LockMany(ctx, []keylatch.Item{{Key: dog, Mode: keylatch.Exclusive}, {Key: cat, Mode: keylatch.Shared}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("unlocked:", batch.Unlock())
	// Output:
	// held by uploader
	// unlocked: <nil>
}

func ExampleGuard_Fence() {
	locks, _ := keylatch.New(keylatch.Options{})
	defer locks.Close()
	ctx, key := context.Background(), keylatch.Key{Bucket: "photos", Object: "cat.jpg"}

	first, _ := locks.Lock(ctx, key)
	earlier, _ := first.Fence()
	first.Unlock()
	second, _ := locks.Lock(ctx, key)
	later, _ := second.Fence()
	fmt.Println(later > earlier)

	// What a store asks before it lets a write through that comes late.
	current, _ := locks.IsCurrent(key, earlier)
	fmt.Println(current)
	second.Unlock()
	// Output:
	// true
	// false
}

func ExampleManager_Session() {
	locks, _ := keylatch.New(keylatch.Options{DeadlockDelay: time.Millisecond})
	defer locks.Close()
	ctx := context.Background()
	x, y := keylatch.Key{Bucket: "b", Object: "x"}, keylatch.Key{Bucket: "b", Object: "y"}

	alice, _ := locks.Session("alice")
	bob, _ := locks.Session("bob")
	locks.Lock(ctx, x, keylatch.By(alice))
	locks.Lock(ctx, y, keylatch.By(bob))
	done := make(chan error)
	go func() {
		_, err := locks.Lock(ctx, y, keylatch.By(alice))
		if err != nil {
			alice.ReleaseAll() // rolled back
		}
		done <- err
	}()
	_, err := locks.Lock(ctx, x, keylatch.By(bob))
	if err != nil {
		bob.ReleaseAll()
	}
	err = errors.Join(err, <-done)
	fmt.Println("one of them gave way:", errors.Is(err, keylatch.ErrDeadlock))
	// Output: one of them gave way: true
}

func ExampleManager_RWMutex() {
	locks, _ := keylatch.New(keylatch.Options{})
	defer locks.Close()
	mutex := locks.RWMutex(keylatch.Key{Bucket: "photos", Object: "cat.jpg"})

	mutex.Lock()
	fmt.Println(mutex.TryRLock())
	mutex.Unlock()
	// Output: false
}

func ExampleManager_Holders() {
	locks, _ := keylatch.New(keylatch.Options{})
	defer locks.Close()
	ctx := context.Background()
	locks.Lock(ctx, keylatch.Key{Bucket: "photos", Object: "cat.jpg"}, keylatch.WithOwner("node-7"))

	holders, _ := locks.Holders(keylatch.Filter{Bucket: keylatch.Text("photos")})
	for _, holder := range holders {
		fmt.Println(holder.Owner, "holds", holder.Key, holder.Mode)
	}
	locks.ForceRelease(keylatch.Filter{Owner: keylatch.Text("node-7")})
	// Output: node-7 holds "photos"/"cat.jpg" exclusive
}

func ExampleManager_Events() {
	locks, _ := keylatch.New(keylatch.Options{})
	defer locks.Close()
	ctx := context.Background()
	key := keylatch.Key{Bucket: "photos", Object: "cat.jpg"}
	events, _ := locks.Events(ctx, keylatch.EventOptions{})

	locks.Lock(ctx, key, keylatch.WithOwner("compactor"))
	locks.Lock(ctx, key, keylatch.WithOwner("uploader"), keylatch.WithTimeout(time.Millisecond))
	event := <-events
	fmt.Println(event.Kind == keylatch.TimedOut, event.Waiter.Owner, "waited for", event.Holders[0].Owner)
	// Output: true uploader waited for compactor
}
