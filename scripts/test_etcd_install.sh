#!/usr/bin/env bash
# Installs libkeylatch_etcd of target/lib as `make install ETCD=1` does, builds foreign programs with pkg-config and CMake against
# it, and removes it again. Called by `make test-etcd-c`, with the library that was built for its tests.
set -euo pipefail
cd "$(dirname "$0")/.."
work="$PWD/target/test-etcd/install"
tree="$work/tree"
cc="${CC:-cc}"
rm -rf "$work"
mkdir -p "$work"
version="$(sed -n 's/^#define KEYLATCH_VERSION "\(.*\)"$/\1/p' include/keylatch.h)"
abi="$(sed -n 's/^#define KEYLATCH_ABI_VERSION \(.*\)$/\1/p' include/keylatch.h)"
is() { [ "$2" = "$3" ] || { echo "$1 is $2, not $3" >&2; exit 1; }; }

# The command builds both libraries for release, and says so; only what it would run is looked at.
wanted="$(make --dry-run install ETCD=1 PREFIX="$tree" DESTDIR=)"
for words in "build --release -p keylatch-capi --features etcd" "scripts/link_c.sh etcd" "ETCD=\"1\" scripts/install_c.sh"; do
    grep -qF -- "$words" <<<"$wanted" || { echo "make install ETCD=1 does not do: $words" >&2; exit 1; }
done

# Without etcd nothing of it is installed, and a program that wants it hears so.
[ -e "target/lib/libkeylatch.so.$abi" ] || { "${CARGO:-cargo}" build --quiet --release -p keylatch-capi && scripts/link_c.sh; }
scripts/install_c.sh "$work/plain" "" lib
[ -z "$(find "$work/plain" -name '*etcd*' ! -path '*/man3/*')" ] || { echo "ETCD was not set, and is installed" >&2; exit 1; }

ETCD=1 scripts/install_c.sh "$tree" "" lib
is "the SONAME" "$(readelf -d "$tree/lib/libkeylatch_etcd.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')" "libkeylatch_etcd.so.$abi"
is "libkeylatch_etcd.so" "$(readlink "$tree/lib/libkeylatch_etcd.so")" "libkeylatch_etcd.so.$abi"
is "libkeylatch_etcd.so.$abi" "$(readlink "$tree/lib/libkeylatch_etcd.so.$abi")" "libkeylatch_etcd.so.$abi.$version"
[ -f "$tree/lib/libkeylatch_etcd.so.$abi.$version" ] || { echo "libkeylatch_etcd.so.$abi.$version is no file" >&2; exit 1; }
is "the header" "$(diff include/keylatch.h "$tree/include/keylatch.h" && echo same)" same

cat >"$work/main.c" <<'END'
#include <keylatch.h>
#include <stdio.h>
#include <string.h>
/* An address that is none is found before anything is sent; without a client of etcd it is another error. */
int main(void)
{
    keylatch_manager *locks;
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    options.etcd = "a:1,,b:1";
    if (keylatch_manager_new(&options, &locks) != KEYLATCH_ECONFIG || !strstr(keylatch_last_error(), "an address is empty"))
        return printf("%s\n", keylatch_last_error()), 1;
    return 0;
}
END
flags="$(PKG_CONFIG_PATH="$tree/lib/pkgconfig" pkg-config --cflags --libs keylatch_etcd)"
# shellcheck disable=SC2086
"$cc" -Wall -Werror "$work/main.c" -o "$work/shared" $flags
LD_LIBRARY_PATH="$tree/lib" "$work/shared"
readelf -d "$work/shared" | grep -q 'NEEDED.*libkeylatch_etcd' || { echo "pkg-config keylatch_etcd took another library" >&2; exit 1; }
flags="$(PKG_CONFIG_PATH="$tree/lib/pkgconfig" pkg-config --static --cflags --libs keylatch_etcd)"
# shellcheck disable=SC2086
"$cc" -Wall -Werror "$work/main.c" -o "$work/static" ${flags/-lkeylatch_etcd/-l:libkeylatch_etcd.a}
"$work/static"
is "pkg-config's" "$(PKG_CONFIG_PATH="$tree/lib/pkgconfig" pkg-config --variable=abi_version keylatch_etcd)" "$abi"
echo "installed with ETCD=1: pkg-config, shared and static"

cmake="$(command -v cmake || true)"
[ -n "$cmake" ] || cmake="$PWD/target/cmake/bin/cmake"
if [ ! -x "$cmake" ]; then
    "${PYTHON:-python3}" -m venv target/cmake
    target/cmake/bin/pip install --quiet cmake
fi
cat >"$work/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.16)
project(uses_etcd C)
find_package(keylatch REQUIRED)
add_executable(with-shared main.c)
target_link_libraries(with-shared keylatch::etcd)
add_executable(with-static main.c)
target_link_libraries(with-static keylatch::etcd_static)
END
configure() { "$cmake" -S "$work" -B "$work/$1" -DCMAKE_PREFIX_PATH="$2" >"$work/cmake.log" 2>&1; }
{ configure build "$tree" && "$cmake" --build "$work/build" >>"$work/cmake.log" 2>&1; } || { cat "$work/cmake.log" >&2; exit 1; }
"$work/build/with-shared"
"$work/build/with-static"
if configure build-plain "$work/plain"; then echo "keylatch::etcd was found where it is not" >&2; exit 1; fi
echo "installed with ETCD=1: CMake, shared and static"

scripts/install_c.sh --uninstall "$tree" "" lib
left="$(find "$tree" ! -type d)"
[ -z "$left" ] || { echo "after make uninstall there is: $left" >&2; exit 1; }
echo "nothing is left after make uninstall"
