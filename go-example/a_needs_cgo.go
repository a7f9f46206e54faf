//go:build !cgo

package keylatch

// The locks are made in C. Where cgo is switched off, or Go found no C compiler, this is the first error that Go
// prints.
type needs this_package_needs_cgo_and_a_C_compiler
