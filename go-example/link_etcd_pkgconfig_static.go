//go:build keylatch_pkgconfig && keylatch_static && keylatch_etcd

package keylatch

// With all three tags: the installed library with etcd, as a part of the program.

// #cgo pkg-config: keylatch_etcd
// #cgo LDFLAGS: -Wl,--as-needed -l:libkeylatch_etcd.a -lpthread -ldl -lm
import "C"
