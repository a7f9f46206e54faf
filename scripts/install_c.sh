#!/usr/bin/env bash
# Installs libkeylatch, its headers for C and C++, keylatch.pc, the CMake package, manual pages and licences; or removes them.
#
#     install_c.sh PREFIX [DESTDIR] [LIBDIR]             called by `make install`, after building
#     install_c.sh --uninstall PREFIX [DESTDIR] [LIBDIR]
#
# With ETCD set it installs libkeylatch_etcd and keylatch_etcd.pc, too, which have locks between machines.
#
# LIBDIR is where libraries go: a folder below the prefix, such as lib/x86_64-linux-gnu, relative to it or absolute. Default: lib.
set -euo pipefail
cd "$(dirname "$0")/.."
verb=install
[ "$1" != --uninstall ] || { verb=uninstall; shift; }
prefix="$1"
root="${2:-}$prefix"
libdir="${3:-lib}"
libdir="${libdir#"$prefix"/}"
case "$libdir" in
/* | *..*) echo "LIBDIR is $3, which does not lie below the prefix $prefix" >&2; exit 2 ;;
esac
libraries="$root/$libdir"
built=target/lib
of_header() { sed -n "s/^#define $1 \"\{0,1\}\([0-9.]*\)\"\{0,1\}\$/\1/p" include/keylatch.h; }
version="$(of_header KEYLATCH_VERSION)"
abi="$(of_header KEYLATCH_ABI_VERSION)"

if [ "$verb" = uninstall ]; then
    for name in keylatch keylatch_etcd; do
        rm -f "$libraries/lib$name.so" "$libraries/lib$name.so.$abi" "$libraries/lib$name.so.$abi".* "$libraries/lib$name.a"
        rm -f "$libraries/pkgconfig/$name.pc"
    done
    rm -f "$root/include/keylatch.h" "$root/include/keylatch.hpp"
    rm -rf "$libraries/cmake/keylatch" "$root/include/keylatch" "$root/share/doc/keylatch" "$root/share/licenses/keylatch"
    for page in "$root"/share/man/man3/keylatch*.3; do
        # Other packages may have pages of such names.
        if grep -qs '^\.so man3/keylatch\.3$\|^\.TH KEYLATCH 3 ' "$page"; then rm -f "$page"; fi
    done
    # Folders that are empty now, but for those that every system has.
    for folder in "$libraries/pkgconfig" "$libraries/cmake" "$root/share/doc" "$root/share/licenses" "$root/share/man/man3"; do
        rmdir "$folder" 2>/dev/null || true
    done
    exit
fi

package=rust/keylatch-capi/install
grep -q "^set(_keylatch_first_of_abi_$abi " $package/keylatch-config-version.cmake.in ||
    { echo "keylatch-config-version.cmake.in does not say which version was the first with KEYLATCH_ABI_VERSION $abi" >&2; exit 1; }
# From the CMake package's folder up to the prefix.
up="$(printf '%s/cmake/keylatch' "$libdir" | sed 's|[^/][^/]*|..|g')"
fill() {
    sed -e "s|@PREFIX@|$prefix|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@UP@|$up|g" -e "s|@VERSION@|$version|g" -e "s|@ABI@|$abi|g" \
        -e "s|@NAME@|${3:-}|g" "$1" >"$2"
}

install -d "$libraries/pkgconfig" "$libraries/cmake/keylatch" "$root/include/keylatch" "$root/share/man/man3" \
    "$root/share/licenses/keylatch"
# Programs look for the name with the interface's number alone; libraries of several interfaces lie beside each other.
for name in keylatch ${ETCD:+keylatch_etcd}; do
    install -m 644 "$built/lib$name.so.$abi" "$libraries/lib$name.so.$abi.$version"
    ln -sfn "lib$name.so.$abi.$version" "$libraries/lib$name.so.$abi"
    ln -sfn "lib$name.so.$abi" "$libraries/lib$name.so"
    install -m 644 "$built/lib$name.a" "$libraries/lib$name.a"
    fill $package/keylatch.pc.in "$libraries/pkgconfig/$name.pc" "$name"
done
install -m 644 include/keylatch.h include/keylatch.hpp "$root/include"
install -m 644 include/keylatch/*.hpp "$root/include/keylatch"
install -m 644 LICENSE-APACHE LICENSE-MIT "$root/share/licenses/keylatch"
fill $package/keylatch-config.cmake.in "$libraries/cmake/keylatch/keylatch-config.cmake"
fill $package/keylatch-config-version.cmake.in "$libraries/cmake/keylatch/keylatch-config-version.cmake"
scripts/man_pages.sh include/keylatch.h "$root/share/man/man3"
