//go:build keylatch_pkgconfig && !keylatch_static && keylatch_etcd

package keylatch

// With the tags keylatch_etcd and keylatch_pkgconfig: the library with etcd and the header that are installed, which PKG_CONFIG_PATH finds.

// #cgo pkg-config: keylatch_etcd
import "C"
