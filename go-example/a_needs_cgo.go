//go:build !cgo

package keylatch

// The locks are made in C. Where Go is set to do without, or found no C compiler, this is the first that it says.
type needs this_package_needs_cgo_and_a_C_compiler
