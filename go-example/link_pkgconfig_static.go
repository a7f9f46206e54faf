//go:build keylatch_pkgconfig && keylatch_static && !keylatch_etcd

package keylatch

// With both tags: the installed library, as a part of the program.

// #cgo pkg-config: keylatch
// #cgo LDFLAGS: -Wl,--as-needed -l:libkeylatch.a -lpthread -ldl -lm
import "C"
