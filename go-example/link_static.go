//go:build keylatch_static && !keylatch_pkgconfig

package keylatch

// With the tag keylatch_static: what `make capi` built, as a part of the program.

/*
#cgo CFLAGS: -I${SRCDIR}/../include
#cgo LDFLAGS: ${SRCDIR}/../target/lib/libkeylatch.a -lpthread -ldl -lm

#if defined(__linux__) && defined(__has_include)
#if !__has_include(<../target/lib/libkeylatch.a>)
#error "the library is not built: `make capi`, in the folder above go-example, does it (or take the tag keylatch_pkgconfig)"
#endif
#endif
*/
import "C"
