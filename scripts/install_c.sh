#!/usr/bin/env bash
# Installs libkeylatch, its headers for C and C++, keylatch.pc and the CMake package. Called by `make install`, after building.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix="$1"
root="${2:-}$prefix"
built=target/lib
of_header() { sed -n "s/^#define $1 \"\{0,1\}\([0-9.]*\)\"\{0,1\}\$/\1/p" include/keylatch.h; }
version="$(of_header KEYLATCH_VERSION)"
abi="$(of_header KEYLATCH_ABI_VERSION)"
package=rust/keylatch-capi/install
grep -q "^set(_keylatch_first_of_abi_$abi " $package/keylatch-config-version.cmake.in ||
    { echo "keylatch-config-version.cmake.in does not say which version was the first with KEYLATCH_ABI_VERSION $abi" >&2; exit 1; }
fill() { sed -e "s|@PREFIX@|$prefix|g" -e "s|@VERSION@|$version|g" -e "s|@ABI@|$abi|g" "$1" >"$2"; }

install -d "$root/lib/pkgconfig" "$root/lib/cmake/keylatch" "$root/include/keylatch"
# Programs look for the name with the interface's number alone; libraries of several interfaces lie beside each other.
install -m 755 "$built/libkeylatch.so.$abi" "$root/lib/libkeylatch.so.$abi.$version"
ln -sfn "libkeylatch.so.$abi.$version" "$root/lib/libkeylatch.so.$abi"
ln -sfn "libkeylatch.so.$abi" "$root/lib/libkeylatch.so"
install -m 644 "$built/libkeylatch.a" "$root/lib/libkeylatch.a"
install -m 644 include/keylatch.h include/keylatch.hpp "$root/include"
install -m 644 include/keylatch/*.hpp "$root/include/keylatch"
fill $package/keylatch.pc.in "$root/lib/pkgconfig/keylatch.pc"
install -m 644 $package/keylatch-config.cmake "$root/lib/cmake/keylatch/keylatch-config.cmake"
fill $package/keylatch-config-version.cmake.in "$root/lib/cmake/keylatch/keylatch-config-version.cmake"
