//go:build keylatch_etcd

package keylatch

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scripts/with_etcd.py has started what KEYLATCH_ETCD and its like name.

func etcdServer(t *testing.T, name string) string {
	t.Helper()
	address := os.Getenv(name)
	if address == "" {
		t.Skip("no server: scripts/with_etcd.py starts one")
	}
	return address
}

func etcdManager(t *testing.T, space string, ttl time.Duration) *Manager {
	t.Helper()
	options := EtcdOptions{Namespace: space, TTL: ttl, Label: "go test"}
	locks := must(New(Options{Etcd: etcdServer(t, "KEYLATCH_ETCD"), EtcdOptions: options}))(t)
	t.Cleanup(func() { locks.Close() })
	return locks
}

func TestEtcdWrongSettings(t *testing.T) {
	huge := strings.Repeat("x", 3_000_000)
	const here = "127.0.0.1:1"
	for _, wrong := range []struct {
		options Options
		word    string
	}{
		{Options{EtcdOptions: EtcdOptions{Namespace: "photos"}}, "give both"},
		{Options{Etcd: ","}, "an address is empty"},
		{Options{Etcd: "a"}, "a:2379"},
		{Options{Etcd: "a:1\x00b"}, "a byte that is 0"},
		{Options{Etcd: "\xff:1"}, "UTF-8"},
		{Options{Etcd: huge}, "bytes; at most"},
		{Options{Etcd: "ftp://a:1"}, "http://"},
		{Options{Etcd: "https://a:1"}, "ca_file"},
		{Options{Etcd: here, Shards: 3}, "shards"},
		{Options{Etcd: here, SharedMemory: "/dev/shm/keylatch-never-made"}, "shared_memory"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{Namespace: "a/b"}}, "namespace"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{Namespace: huge}}, "namespace"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{Namespace: "a\x00"}}, "a byte that is 0"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{TTL: 1500 * time.Millisecond}}, "ttl"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{TTL: -time.Second}}, "TTL"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{ConnectTimeout: -1}}, "ConnectTimeout"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{ConnectTimeout: 1<<63 - 1}}, "connect_timeout"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{CAFile: "/no/such/file"}}, "/no/such/file"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{CAFile: "/etc/hostname"}}, "PEM"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{KeyFile: "/etc/hostname"}}, "certificate_file"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{User: "locks"}}, "password"},
		{Options{Etcd: here, EtcdOptions: EtcdOptions{Label: huge}}, "label"},
	} {
		_, err := New(wrong.options)
		wants(t, err, ErrInvalidConfig)
		if !strings.Contains(err.Error(), wrong.word) {
			t.Errorf("%q is not in: %v", wrong.word, err)
		}
	}
}

func TestEtcdNoAnswer(t *testing.T) {
	silent := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	options := EtcdOptions{ConnectTimeout: 200 * time.Millisecond, TTL: 2 * time.Second}
	_, err := New(Options{Etcd: silent.Addr().String(), EtcdOptions: options})
	wants(t, err, ErrTier)
	silent.Close()
	_, err = New(Options{Etcd: silent.Addr().String(), EtcdOptions: options})
	wants(t, err, ErrTier)
	if !strings.Contains(err.Error(), "check addresses, network and servers") {
		t.Fatal(err)
	}
}

func TestEtcdManagersExclude(t *testing.T) {
	one, two := etcdManager(t, "go-two", time.Minute), etcdManager(t, "go-two", time.Minute)
	guard := must(one.Lock(background, sharedCat))(t)
	fence := must(guard.Fence())(t)
	_, err := two.TryLock(sharedCat)
	wants(t, err, ErrWouldBlock)
	_, err = two.Lock(background, sharedCat, WithTimeout(5*time.Millisecond))
	wants(t, err, ErrTimeout)
	ended, end := context.WithCancel(background)
	waits := make(chan error)
	go func() {
		_, err := two.Lock(ended, sharedCat)
		waits <- err
	}()
	end()
	if err := <-waits; err == nil {
		t.Fatal("it was held")
	}
	ok(t, guard.Unlock())
	guard = must(two.Lock(background, sharedCat))(t)
	if later := must(guard.Fence())(t); later <= fence {
		t.Fatalf("%d after %d", later, fence)
	}
	ok(t, guard.Unlock())
}

func TestEtcdBatch(t *testing.T) {
	one, two := etcdManager(t, "go-batch", time.Minute), etcdManager(t, "go-batch", time.Minute)
	wanted := []Item{{Key{Object: "a"}, Exclusive}, {Key{Object: "b"}, Shared}, {sharedCat, Exclusive}}
	batch := must(one.LockMany(background, wanted))(t)
	_, err := two.LockMany(background, wanted, WithTimeout(0))
	wants(t, err, ErrTimeout)
	ok(t, batch.Unlock())
	batch = must(two.LockMany(background, wanted))(t)
	_, err = one.TryLock(sharedCat)
	wants(t, err, ErrWouldBlock)
	ok(t, batch.Unlock())
}

func TestEtcdHoldsOfBothManagers(t *testing.T) {
	one, two := etcdManager(t, "go-listed", time.Minute), etcdManager(t, "go-listed", time.Minute)
	guard := must(one.Lock(background, sharedCat, WithOwner("indexer")))(t)
	holds := must(two.TierHolds(&sharedCat))(t)
	if len(holds) != 1 || !strings.Contains(holds[0].Process, "go test") {
		t.Fatal(holds)
	}
	wanted := TierHold{Key: sharedCat, Mode: Exclusive, Owner: "indexer", Process: holds[0].Process}
	if holds[0] != wanted {
		t.Fatalf("%+v", holds[0])
	}
	if own := must(one.TierHolds(nil))(t); len(own) != 1 || !own[0].Own {
		t.Fatal(own)
	}
	if none := must(two.TierHolds(&Key{Object: "dog.jpg"}))(t); len(none) != 0 {
		t.Fatal(none)
	}
	had := make(chan error)
	go func() {
		guard, err := two.RLock(background, sharedCat, WithTimeout(time.Minute))
		if err == nil {
			err = guard.Unlock()
		}
		had <- err
	}()
	// Until the cluster has its request.
	for len(holds) < 2 {
		holds = must(one.TierHolds(&sharedCat))(t)
	}
	waits := func(hold TierHold) bool { return hold.Waits && hold.Mode == Shared && !hold.Own }
	if !slices.ContainsFunc(holds, waits) {
		t.Fatal(holds)
	}
	ok(t, guard.Unlock())
	ok(t, <-had)
}

func TestEtcdChild(t *testing.T) {
	what := os.Getenv("KEYLATCH_ETCD_CHILD")
	if what == "" {
		t.Skip("for other tests")
	}
	locks := etcdManager(t, what, 5*time.Second)
	guard := must(locks.Lock(background, sharedCat))(t)
	os.Stdout.WriteString("holds\n")
	bufio.NewReader(os.Stdin).ReadString('\n')
	ok(t, guard.Unlock())
	os.Stdout.WriteString("released\n")
}

func startEtcdChild(t *testing.T, space string) (*child, *os.File) {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^TestEtcdChild$")
	command.Env = append(os.Environ(), "KEYLATCH_ETCD_CHILD="+space)
	in, orders, err := os.Pipe()
	ok(t, err)
	command.Stdin = in
	said := must(command.StdoutPipe())(t)
	ok(t, command.Start())
	in.Close()
	t.Cleanup(func() {
		orders.Close()
		command.Process.Kill()
		command.Wait()
	})
	c := &child{command, bufio.NewScanner(said)}
	c.hears(t, "holds")
	return c, orders
}

func TestEtcdProcessesHandOver(t *testing.T) {
	locks := etcdManager(t, "go-handed", time.Minute)
	_, orders := startEtcdChild(t, "go-handed")
	_, err := locks.TryLock(sharedCat)
	wants(t, err, ErrWouldBlock)
	had := make(chan error)
	go func() {
		guard, err := locks.Lock(background, sharedCat, WithTimeout(time.Minute))
		if err == nil {
			err = guard.Unlock()
		}
		had <- err
	}()
	orders.WriteString("release\n")
	ok(t, <-had)
}

func TestEtcdHolderKilled(t *testing.T) {
	locks := etcdManager(t, "go-killed", time.Minute)
	holds, _ := startEtcdChild(t, "go-killed")
	holds.signal(t, syscall.SIGKILL)
	guard := must(locks.Lock(background, sharedCat, WithTimeout(time.Minute)))(t)
	ok(t, guard.Unlock())
}

func TestEtcdLoginAndCertificates(t *testing.T) {
	login, tls, folder := etcdServer(t, "KEYLATCH_ETCD_LOGIN"), etcdServer(t, "KEYLATCH_ETCD_TLS"), os.Getenv("KEYLATCH_ETCD_FILES")
	file := func(name string) string { return filepath.Join(folder, name) }
	for _, one := range []struct {
		etcd    string
		options EtcdOptions
		word    string
	}{
		{login, EtcdOptions{}, "give a user and a password"},
		{login, EtcdOptions{User: "locks", Password: "wrong"}, "password of the user"},
		{login, EtcdOptions{User: "locks", Password: "secret"}, ""},
		{tls, EtcdOptions{CAFile: file("ca.pem")}, "certificates do not fit"},
		{tls, EtcdOptions{CAFile: file("other-ca.pem"), CertificateFile: file("mine.pem"), KeyFile: file("mine.key")}, "certificates do not fit"},
		{tls, EtcdOptions{CAFile: file("ca.pem"), CertificateFile: file("mine.pem"), KeyFile: file("mine.key")}, ""},
	} {
		locks, err := New(Options{Etcd: one.etcd, EtcdOptions: one.options})
		if one.word == "" {
			ok(t, err)
			ok(t, must(locks.Lock(background, sharedCat))(t).Unlock())
			ok(t, locks.Close())
			continue
		}
		wants(t, err, ErrTier)
		if !strings.Contains(err.Error(), one.word) {
			t.Errorf("%q is not in: %v", one.word, err)
		}
	}
}
