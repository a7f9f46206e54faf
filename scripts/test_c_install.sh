#!/usr/bin/env bash
# Builds a foreign program against an installed tree: with pkg-config and with CMake, with the shared and with the
# static library; then the same with the tree under a DESTDIR and with the tree moved. Called by `make test-c`.
set -euo pipefail
cd "$(dirname "$0")/.."
tree="$1"
work="$PWD/target/test-c/install"
cc="${CC:-cc}"
python="${PYTHON:-python3}"
rm -rf "$work"
mkdir -p "$work"
version="$(sed -n 's/^#define KEYLATCH_VERSION "\(.*\)"$/\1/p' include/keylatch.h)"
abi="$(sed -n 's/^#define KEYLATCH_ABI_VERSION \(.*\)$/\1/p' include/keylatch.h)"

echo 'int main(void) { return 0; }' >"$work/none.c"

says_its_version() {
    [ "$(LD_LIBRARY_PATH="$2" "$1")" = "keylatch $version" ] || { echo "$1 does not run" >&2; exit 1; }
}

is_shared() {
    readelf -d "$1" | grep -q 'NEEDED.*libkeylatch' || { echo "$1 has the library inside" >&2; exit 1; }
}

is_static() {
    readelf -d "$1" | { ! grep -q 'NEEDED.*libkeylatch'; } || { echo "$1 needs the shared library" >&2; exit 1; }
}

# Where the tree is, and more options of pkg-config's.
with_pkg_config() {
    local at="$1" name="$2"
    shift 2
    local flags
    flags="$(PKG_CONFIG_PATH="$at/lib/pkgconfig" pkg-config "$@" --cflags --libs keylatch)"
    # shellcheck disable=SC2086
    "$cc" -Wall -Werror tests/c/project/main.c -o "$work/$name-shared" $flags
    says_its_version "$work/$name-shared" "$at/lib"
    is_shared "$work/$name-shared"
    # As pkg-config --static says, with the archive in the place of -lkeylatch.
    flags="$(PKG_CONFIG_PATH="$at/lib/pkgconfig" pkg-config "$@" --static --cflags --libs keylatch)"
    # shellcheck disable=SC2086
    "$cc" -Wall -Werror tests/c/project/main.c -o "$work/$name-static" ${flags/-lkeylatch/-l:libkeylatch.a}
    says_its_version "$work/$name-static" ""
    is_static "$work/$name-static"
    if ! "$cc" -static "$work/none.c" -o "$work/none" 2>/dev/null; then
        echo "with pkg-config, $name: shared and static; the system's own static libraries are not installed"
        return
    fi
    # Nothing shared at all. The linker warns of what the C library could still load then.
    # shellcheck disable=SC2086
    "$cc" -static -Wall -Werror tests/c/project/main.c -o "$work/$name-alone" $flags 2>"$work/$name-alone.log" ||
        { cat "$work/$name-alone.log" >&2; exit 1; }
    says_its_version "$work/$name-alone" ""
    ! readelf -d "$work/$name-alone" | grep -q NEEDED || { echo "$work/$name-alone needs shared libraries" >&2; exit 1; }
    echo "with pkg-config, $name: shared, static, and all of it static"
}

with_cmake() {
    local at="$1" name="$2"
    "$cmake" -S tests/c/project -B "$work/$name" -DCMAKE_PREFIX_PATH="$at" -DWANTED="${version%.*}" >"$work/$name.log" 2>&1 &&
        "$cmake" --build "$work/$name" >>"$work/$name.log" 2>&1 || { cat "$work/$name.log" >&2; exit 1; }
    says_its_version "$work/$name/with-shared" ""
    is_shared "$work/$name/with-shared"
    says_its_version "$work/$name/with-static" ""
    is_static "$work/$name/with-static"
    echo "with CMake, $name: shared and static"
}

cmake="$(command -v cmake || true)"
if [ -z "$cmake" ]; then
    echo "cmake is missing: taking it from PyPI into target/cmake"
    [ -x target/cmake/bin/cmake ] || { "$python" -m venv target/cmake && target/cmake/bin/pip install --quiet cmake; }
    cmake="$PWD/target/cmake/bin/cmake"
fi

# Everything that says which programs a library is for says the same: the name that they look for, the names on disk, the
# packages, a symbol, and the library itself.
is() { [ "$2" = "$3" ] || { echo "$1 is $2, not $3" >&2; exit 1; }; }
is "the SONAME" "$(readelf -d "$tree/lib/libkeylatch.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')" "libkeylatch.so.$abi"
is "libkeylatch.so" "$(readlink "$tree/lib/libkeylatch.so")" "libkeylatch.so.$abi"
is "libkeylatch.so.$abi" "$(readlink "$tree/lib/libkeylatch.so.$abi")" "libkeylatch.so.$abi.$version"
[ -f "$tree/lib/libkeylatch.so.$abi.$version" ] || { echo "libkeylatch.so.$abi.$version is no file" >&2; exit 1; }
is "pkg-config's" "$(PKG_CONFIG_PATH="$tree/lib/pkgconfig" pkg-config --variable=abi_version keylatch)" "$abi"
is "the symbol" "$(nm -D --defined-only "$tree/lib/libkeylatch.so" | grep -oE 'keylatch_abi_[0-9]+')" "keylatch_abi_$abi"
is "the program's" "$("$cc" -E -P -include keylatch.h -I "$tree/include" - <<<'program KEYLATCH_ABI_VERSION' | tail -1)" "program $abi"
printf '#include <keylatch.h>\n#include <stdio.h>\nint main(void) { printf("%%u", keylatch_abi_version()); }\n' >"$work/abi.c"
"$cc" -I "$tree/include" "$work/abi.c" -o "$work/abi" -L "$tree/lib" -lkeylatch -Wl,-rpath,"$tree/lib"
is "the library's" "$("$work/abi")" "$abi"

# CMake, with a later version of the same interface: who was content with the first one is content.
sed 's/^set(PACKAGE_VERSION ".*")$/set(PACKAGE_VERSION "7.3.1")/' "$tree/lib/cmake/keylatch/keylatch-config-version.cmake" >"$work/later.cmake"
cat >"$work/asks.cmake" <<'END'
include("${VERSIONS}")
message("${PACKAGE_VERSION_COMPATIBLE} ${PACKAGE_VERSION_EXACT} ${keylatch_ABI_VERSION}")
END
answers() { "$cmake" -DPACKAGE_FIND_VERSION="$1" -DVERSIONS="$work/later.cmake" -P "$work/asks.cmake" 2>&1; }
is "the answer to the first version" "$(answers 0.1.0)" "TRUE  $abi"
is "the answer to its short name" "$(answers 0.1)" "TRUE  $abi"
is "the answer to the very version" "$(answers 7.3.1)" "TRUE TRUE $abi"
is "the answer to none in particular" "$(answers "")" "TRUE  $abi"
is "the answer to one that is older than the interface" "$(answers 0.0.9)" "  $abi"
is "the answer to one that is later" "$(answers 7.4)" "  $abi"
echo "whom it works for is KEYLATCH_ABI_VERSION $abi everywhere"

with_pkg_config "$tree" installed
with_cmake "$tree" cmake-installed

# Packages are built so: everything says /opt/keylatch, and lies elsewhere for now.
scripts/install_c.sh /opt/keylatch "$work/stage"
[ -z "$(find "$work/stage" -type f ! -path "$work/stage/opt/keylatch/*")" ] || { echo "something was installed beside the prefix" >&2; exit 1; }
if grep -rIl -e "$work" "$work/stage/opt/keylatch/lib/pkgconfig" "$work/stage/opt/keylatch/lib/cmake"; then
    echo "these files name the place where they were staged" >&2
    exit 1
fi
PKG_CONFIG_SYSROOT_DIR="$work/stage" with_pkg_config "$work/stage/opt/keylatch" staged
with_cmake "$work/stage/opt/keylatch" cmake-staged

mv "$work/stage/opt/keylatch" "$work/moved"
with_pkg_config "$work/moved" moved --define-prefix
with_cmake "$work/moved" cmake-moved

# Not the one that was asked for.
if "$cmake" -S tests/c/project -B "$work/cmake-other" -DCMAKE_PREFIX_PATH="$tree" -DWANTED=9.0 >"$work/other.log" 2>&1; then
    echo "CMake found a version 9.0" >&2
    exit 1
fi
grep -q 'keylatch' "$work/other.log"
if PKG_CONFIG_PATH="$tree/lib/pkgconfig" pkg-config --exists 'keylatch >= 9.0'; then
    echo "pkg-config found a version 9.0" >&2
    exit 1
fi
echo "another version is not found, by either"

# A prefix with another folder for libraries, as systems of several architectures have it; and the way back.
multiarch="$work/multiarch"
machine="$("$cc" -print-multiarch 2>/dev/null || true)"
libdir="${machine:+lib/$machine}"
libdir="${libdir:-lib64}"
scripts/install_c.sh "$multiarch" "" "$libdir"
[ -f "$multiarch/$libdir/libkeylatch.so.$abi.$version" ] || { echo "LIBDIR was not heeded" >&2; exit 1; }
[ ! -e "$multiarch/lib/libkeylatch.so" ] || { echo "something was installed outside of LIBDIR" >&2; exit 1; }
flags="$(PKG_CONFIG_PATH="$multiarch/$libdir/pkgconfig" pkg-config --cflags --libs keylatch)"
# shellcheck disable=SC2086
"$cc" -Wall -Werror tests/c/project/main.c -o "$work/multiarch-shared" $flags
says_its_version "$work/multiarch-shared" "$multiarch/$libdir"
with_cmake "$multiarch" cmake-multiarch
if scripts/install_c.sh "$multiarch" "" /elsewhere/lib 2>/dev/null; then echo "LIBDIR may not lie outside of the prefix" >&2; exit 1; fi
[ -f "$multiarch/share/licenses/keylatch/LICENSE-MIT" ] || { echo "no licence was installed" >&2; exit 1; }
[ "$(cat "$multiarch/share/man/man3/keylatch_acquire.3")" = ".so man3/keylatch.3" ] || { echo "no manual page was installed" >&2; exit 1; }
diff <(find "$multiarch/share/man/man3" -name 'keylatch_*.3' -printf '%f\n' | sed 's/\.3$//' | sort) tests/abi/symbols.txt
if command -v man >/dev/null; then
    [ -z "$(LC_ALL=C MANROFFSEQ='' MANWIDTH=120 man --warnings -E UTF-8 -l -Tutf8 -Z "$multiarch/share/man/man3/keylatch.3" 2>&1 >/dev/null)" ] ||
        { echo "the manual page has errors" >&2; exit 1; }
fi
touch "$multiarch/$libdir/other.so"
scripts/install_c.sh --uninstall "$multiarch" "" "$libdir"
left="$(find "$multiarch" ! -type d)"
[ "$left" = "$multiarch/$libdir/other.so" ] || { echo "after make uninstall there is: $left" >&2; exit 1; }
echo "LIBDIR, manual, licences, and everything is gone after make uninstall"
