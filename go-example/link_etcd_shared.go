//go:build !keylatch_static && !keylatch_pkgconfig && keylatch_etcd

package keylatch

// With the tag keylatch_etcd: the library that `make capi ETCD=1` left in the folder above, where the program finds it when it
// runs.

/*
#cgo CFLAGS: -I${SRCDIR}
#cgo LDFLAGS: -L${SRCDIR}/../target/lib -lkeylatch_etcd -Wl,-rpath,${SRCDIR}/../target/lib

// Otherwise it is the linker who says so, beneath a page of its own arguments.
#if defined(__linux__) && defined(__has_include)
#if !__has_include(<../target/lib/libkeylatch_etcd.so>)
#error "the library is not in the folder above this one: install it and take the tag keylatch_pkgconfig, or, in keylatch's source tree, `make capi ETCD=1`"
#endif
#endif
*/
import "C"
