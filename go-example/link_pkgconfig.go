//go:build keylatch_pkgconfig && !keylatch_static && !keylatch_etcd

package keylatch

// With the tag keylatch_pkgconfig: the library and the header that are installed, which PKG_CONFIG_PATH finds.

// #cgo pkg-config: keylatch
import "C"
