#!/usr/bin/env bash
# Gives the C library that was just built the names that programs look for, in target/lib, for those who build against
# the source tree rather than what is installed. Called by `make capi`.
set -euo pipefail
cd "$(dirname "$0")/.."
built="$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)"
soname="libkeylatch.so.$(sed -n 's/^#define KEYLATCH_ABI_VERSION \([0-9]*\)$/\1/p' include/keylatch.h)"
mkdir -p target/lib
ln -sfnr "$built/libkeylatch_capi.so" "target/lib/$soname"
ln -sfn "$soname" target/lib/libkeylatch.so
ln -sfnr "$built/libkeylatch_capi.a" target/lib/libkeylatch.a
