//go:build keylatch_static && !keylatch_pkgconfig && keylatch_etcd

package keylatch

// With the tags keylatch_etcd and keylatch_static: what `make capi ETCD=1` built, as a part of the program.

/*
#cgo CFLAGS: -I${SRCDIR}
#cgo LDFLAGS: ${SRCDIR}/../target/lib/libkeylatch_etcd.a -lpthread -ldl -lm

#if defined(__linux__) && defined(__has_include)
#if !__has_include(<../target/lib/libkeylatch_etcd.a>)
#error "the library is not in the folder above this one: install it and take the tag keylatch_pkgconfig, or, in keylatch's source tree, `make capi ETCD=1`"
#endif
#endif
*/
import "C"
