#!/usr/bin/env bash
# Makes libkeylatch.so and libkeylatch.a in target/lib of the C library that was just built: without debug information, and
# the static one as a single object that defines nothing but keylatch_*. Called by `make capi`.
#
#     link_c.sh [etcd [PROFILE]]     with etcd: libkeylatch_etcd. PROFILE is the folder that it was built in; release by default
set -euo pipefail
cd "$(dirname "$0")/.."
name="libkeylatch${1:+_$1}"
built="$(cd "${CARGO_TARGET_DIR:-target}/${2:-release}" && pwd)"
soname="$name.so.$(sed -n 's/^#define KEYLATCH_ABI_VERSION \([0-9]*\)$/\1/p' include/keylatch.h)"
mkdir -p target/lib
ln -sfn "$soname" "target/lib/$name.so"
if [ "$(uname -s)" != Linux ]; then
    ln -sfn "$built/libkeylatch_capi.so" "target/lib/$soname"
    ln -sfn "$built/libkeylatch_capi.a" "target/lib/$name.a"
    exit
fi
found="$(readelf -d "$built/libkeylatch_capi.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')"
[ "$found" = "$soname" ] || { echo "what was built last is $found, not $soname" >&2; exit 1; }

# Files appear whole: another program may be linking.
work="$(mktemp -d target/lib/making.XXXXXX)"
trap 'rm -rf "$work"' EXIT
${OBJCOPY:-objcopy} --strip-unneeded "$built/libkeylatch_capi.so" "$work/$soname"
mv -f "$work/$soname" "target/lib/$soname"

# The archive that cargo writes holds the Rust runtime with all its symbols, which would clash with those of another library in
# Rust. Only what the exported functions need is kept.
mapfile -t exported < <(readelf --dyn-syms --wide "target/lib/$soname" | awk '$7 ~ /^[0-9]+$/ && $8 ~ /^keylatch_/ { print $8 }')
[ "${#exported[@]}" -gt 0 ] || { echo "$soname exports nothing" >&2; exit 1; }
${LD:-ld} -r --gc-sections "${exported[@]/#/--undefined=}" -o "$work/whole.o" "$built/libkeylatch_capi.a"
# Some linkers' plug-ins take the bitcode, meant for rustc alone, for the object's contents.
${OBJCOPY:-objcopy} --wildcard --keep-global-symbol='keylatch_*' --strip-debug \
    --remove-section=.llvmbc --remove-section=.llvmcmd "$work/whole.o" "$work/keylatch.o"
${AR:-ar} rcsD "$work/$name.a" "$work/keylatch.o"
rm -f "target/lib/$name.a"
mv "$work/$name.a" "target/lib/$name.a"
