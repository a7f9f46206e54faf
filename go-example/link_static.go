//go:build keylatch_static && !keylatch_pkgconfig

package keylatch

// With the tag keylatch_static: what `make capi` built, as a part of the program.

// #cgo CFLAGS: -I${SRCDIR}/../include
// #cgo LDFLAGS: ${SRCDIR}/../target/lib/libkeylatch.a -lgcc_s -lpthread -ldl -lm
import "C"
