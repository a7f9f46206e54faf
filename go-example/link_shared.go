//go:build !keylatch_static && !keylatch_pkgconfig && !keylatch_etcd

package keylatch

// The library that `make capi` built in the folder above, as `make capi` leaves it. The program finds it there when it runs.

/*
#cgo CFLAGS: -I${SRCDIR}
#cgo LDFLAGS: -L${SRCDIR}/../target/lib -lkeylatch -Wl,-rpath,${SRCDIR}/../target/lib

// Otherwise it is the linker who says so, beneath a page of its own arguments.
#if defined(__linux__) && defined(__has_include)
#if !__has_include(<../target/lib/libkeylatch.so>)
#error "the library is not in the folder above this one: install it and take the tag keylatch_pkgconfig, or, in keylatch's source tree, `make capi`"
#endif
#endif
*/
import "C"
