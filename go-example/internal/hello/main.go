// Hello takes a lock and says so: the least that shows that the library is linked.
package main

import (
	"context"
	"fmt"

	"example.org/keylatch"
)

func main() {
	locks, err := keylatch.New(keylatch.Options{})
	if err != nil {
		panic(err)
	}
	defer locks.Close()
	guard, err := locks.Lock(context.Background(), keylatch.Key{Bucket: "b", Object: "o"})
	if err != nil {
		panic(err)
	}
	fmt.Println("held:", guard.Valid())
	if err := guard.Unlock(); err != nil {
		panic(err)
	}
}
