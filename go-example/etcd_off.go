//go:build !keylatch_etcd

package keylatch

// withEtcd says whether the library that is linked has locks between machines.
const withEtcd = false
