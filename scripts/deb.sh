#!/usr/bin/env bash
# Builds the Debian packages of the C library in target/deb: libkeylatch<ABI> with the shared library, and libkeylatch-dev with the
# headers, the static library, keylatch.pc, the CMake package and the manual; libkeylatch-etcd<ABI> and libkeylatch-etcd-dev with
# the library that has locks between machines. Called by `make deb`, after building. lintian checks them where it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v dpkg-deb >/dev/null || { echo "dpkg-deb is missing: build the packages on Debian or one of its derivatives" >&2; exit 1; }
work="$PWD/target/deb"
of_header() { sed -n "s/^#define $1 \"\{0,1\}\([0-9.]*\)\"\{0,1\}\$/\1/p" include/keylatch.h; }
version="$(of_header KEYLATCH_VERSION)"
abi="$(of_header KEYLATCH_ABI_VERSION)"
architecture="$(dpkg --print-architecture)"
multiarch="$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || "${CC:-cc}" -print-multiarch)"
release="$version-1"
maintainer="${DEBFULLNAME:-The keylatch authors} <${DEBEMAIL:-keylatch@example.org}>"
# The same tree has the same packages, whenever they are built.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y include/keylatch.h)}"
export SOURCE_DATE_EPOCH
runtime="libkeylatch$abi"
etcd="libkeylatch-etcd$abi"

rm -rf "$work"
umask 022
for package in "$runtime" libkeylatch-dev "$etcd" libkeylatch-etcd-dev; do mkdir -p "$work/$package/DEBIAN"; done
ETCD=1 scripts/install_c.sh /usr "$work/libkeylatch-dev" "lib/$multiarch"
# Debian has licences in a file of its own, manual pages compressed, and libraries without what nothing links with.
rm -r "$work/libkeylatch-dev/usr/share/licenses"
find "$work/libkeylatch-dev/usr/share/man" -type f -exec gzip -9n {} +
find "$work/libkeylatch-dev/usr/share/man" -name 'keylatch_*.3.gz' -execdir ln -sf keylatch.3.gz {} \;
installed="$work/libkeylatch-dev/usr/lib/$multiarch"
install -d "$work/libkeylatch-etcd-dev/usr/lib/$multiarch/pkgconfig"
mv "$installed/pkgconfig/keylatch_etcd.pc" "$work/libkeylatch-etcd-dev/usr/lib/$multiarch/pkgconfig"
mv "$installed/libkeylatch_etcd.so" "$installed/libkeylatch_etcd.a" "$work/libkeylatch-etcd-dev/usr/lib/$multiarch"
split_runtime() {
    local package="$1" library="$2"
    strip --strip-unneeded --remove-section=.comment --remove-section=.note "$installed/$library.so.$abi.$version"
    install -d "$work/$package/usr/lib/$multiarch"
    mv "$installed/$library.so.$abi"* "$work/$package/usr/lib/$multiarch"
}
split_runtime "$runtime" libkeylatch
split_runtime "$etcd" libkeylatch_etcd

# What a library was linked with, by the oldest version that has its symbols.
linked_with() {
    local glibc
    glibc="$(readelf --dyn-syms --wide "$work/$1/usr/lib/$multiarch/$2.so.$abi" | grep -oE 'GLIBC_[0-9.]+' | sort -Vu | tail -1)"
    echo "libc6 (>= ${glibc#GLIBC_}), libgcc-s1 (>= 4.2)"
}

describe() {
    local package="$1" section="$2" depends="$3" summary="$4" text="$5"
    cat >"$work/$package/DEBIAN/control" <<END
Package: $package
Source: keylatch
Version: $release
Architecture: $architecture
Multi-Arch: same
Maintainer: $maintainer
Installed-Size: $(du -sk --exclude=DEBIAN "$work/$package" | cut -f1)
Depends: $depends
Section: $section
Priority: optional
Description: $summary
$text
END
    install -d "$work/$package/usr/share/doc/$package"
    cat >"$work/$package/usr/share/doc/$package/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: keylatch

Files: *
Copyright: $(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y) The keylatch authors
License: Expat or Apache-2.0

License: Expat
END
    sed -n '/^Permission is hereby/,$p' LICENSE-MIT | sed -e 's/^$/./' -e 's/^/ /' >>"$work/$package/usr/share/doc/$package/copyright"
    cat >>"$work/$package/usr/share/doc/$package/copyright" <<'END'

License: Apache-2.0
 On Debian systems, the full text of the Apache License, Version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
END
    printf 'keylatch (%s) unstable; urgency=medium\n\n  * Version %s; see CHANGELOG.md of the source.\n\n -- %s  %s\n' \
        "$release" "$version" "$maintainer" "$(LC_ALL=C date --utc --date="@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')" |
        gzip -9n >"$work/$package/usr/share/doc/$package/changelog.Debian.gz"
    (cd "$work/$package" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
}

what=" keylatch answers whether a request may use a bucket/object/version now: shared
 and exclusive locks on keys that no program creates or cleans up, with fair
 waiting, leases, fencing numbers, deadlock detection and claims.
 .
"
describe_runtime() {
    describe "$1" libs "$(linked_with "$1" "$2")" "lock manager for storage engines - $3" "$what$4"
    printf '%s %s %s (>= %s)\n' "$2" "$abi" "$1" "$version" >"$work/$1/DEBIAN/shlibs"
    printf 'activate-noawait ldconfig\n' >"$work/$1/DEBIAN/triggers"
}
describe_runtime "$runtime" libkeylatch "shared library" " This package contains the shared library."
describe libkeylatch-dev libdevel "$runtime (= $release)" "lock manager for storage engines - development files" \
    "$what This package contains the headers for C and C++, the static library, the files
 for pkg-config and CMake, and the manual page."
describe_runtime "$etcd" libkeylatch_etcd "shared library with etcd" \
    " This package contains the shared library with a client of etcd, through which
 programs on several machines share their locks."
describe libkeylatch-etcd-dev libdevel "$etcd (= $release), libkeylatch-dev (= $release)" \
    "lock manager for storage engines - development files with etcd" \
    "$what This package contains what programs are linked with that share their locks with
 other machines: the static library and the file for pkg-config. The headers and
 the CMake package are those of libkeylatch-dev."

packages=()
for package in "$runtime" libkeylatch-dev "$etcd" libkeylatch-etcd-dev; do
    find "$work/$package" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group --build "$work/$package" "$work/${package}_${release}_$architecture.deb" >/dev/null
    packages+=("$work/${package}_${release}_$architecture.deb")
done
ls -l "${packages[@]}"
if command -v lintian >/dev/null; then
    # No bug of Debian's asks for these packages, which do not come from its archive.
    lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs "${packages[@]}"
    echo "lintian accepts them"
else
    echo "lintian is missing, so the packages were not checked (Debian: lintian)" >&2
fi
