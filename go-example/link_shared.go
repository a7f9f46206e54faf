//go:build !keylatch_static && !keylatch_pkgconfig

package keylatch

// The library that `make capi` built in the folder above, and its header. The program finds it there when it runs.

// #cgo CFLAGS: -I${SRCDIR}/../include
// #cgo LDFLAGS: -L${SRCDIR}/../target/lib -lkeylatch -Wl,-rpath,${SRCDIR}/../target/lib
import "C"
