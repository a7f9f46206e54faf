#!/usr/bin/env bash
# Installs libkeylatch, its header, keylatch.pc and the CMake package. Called by `make install`, after building.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix="$1"
root="${2:-}$prefix"
built="${CARGO_TARGET_DIR:-target}/release"
version="$(sed -n 's/^#define KEYLATCH_VERSION "\(.*\)"$/\1/p' include/keylatch.h)"
IFS=. read -r major minor _ <<<"$version"
if [ "$major" = 0 ]; then soname="libkeylatch.so.0.$minor"; else soname="libkeylatch.so.$major"; fi
fill() { sed -e "s|@PREFIX@|$prefix|g" -e "s|@VERSION@|$version|g" -e "s|@MAJOR@|$major|g" -e "s|@MINOR@|$minor|g" "$1" >"$2"; }

install -d "$root/lib/pkgconfig" "$root/lib/cmake/keylatch" "$root/include"
install -m 755 "$built/libkeylatch_capi.so" "$root/lib/libkeylatch.so.$version"
[ "$soname" = "libkeylatch.so.$version" ] || ln -sfn "libkeylatch.so.$version" "$root/lib/$soname"
ln -sfn "$soname" "$root/lib/libkeylatch.so"
install -m 644 "$built/libkeylatch_capi.a" "$root/lib/libkeylatch.a"
install -m 644 include/keylatch.h "$root/include/keylatch.h"
fill rust/keylatch-capi/install/keylatch.pc.in "$root/lib/pkgconfig/keylatch.pc"
install -m 644 rust/keylatch-capi/install/keylatch-config.cmake "$root/lib/cmake/keylatch/keylatch-config.cmake"
fill rust/keylatch-capi/install/keylatch-config-version.cmake.in "$root/lib/cmake/keylatch/keylatch-config-version.cmake"
