#!/usr/bin/env bash
# Tests the C library as it is installed. Called by `make test-c`, after `make install` into the folder that is given.
set -euo pipefail
cd "$(dirname "$0")/.."
tree="$1"
work="$(dirname "$tree")/test-c"
cc="${CC:-cc}"
mkdir -p "$work"

echo "The header compiles by itself, twice, in every language it is for"
printf '#include <keylatch.h>\n#include <keylatch.h>\n' >"$work/first.c"
cp "$work/first.c" "$work/second.cpp"
for standard in c99 c11 c2x; do
    "$cc" -std="$standard" -pedantic -Wall -Wextra -Wconversion -Wstrict-prototypes -Werror -I "$tree/include" -c "$work/first.c" -o "$work/first.o"
done
"${CXX:-c++}" -std=c++17 -pedantic -Wall -Wextra -Werror -I "$tree/include" -c "$work/second.cpp" -o "$work/second.o"

echo "Exported symbols, the header's prototypes and the committed list are the same"
nm -D --defined-only "$tree/lib/libkeylatch.so" | awk '$2 == "T" { print $3 }' | sort >"$work/exported"
"$cc" -E -P "$tree/include/keylatch.h" | grep -v 'static inline' | grep -oE '\bkeylatch_[a-z0-9_]+\(' | tr -d '(' | sort -u |
    grep -vxE 'keylatch_key_of|keylatch_key_of_version' >"$work/declared"
diff "$work/exported" "$work/declared"
diff tests/abi/symbols.txt "$work/exported"

flags="-std=c11 -Wall -Wextra -Werror -Wno-missing-field-initializers -O1 -g -pthread"
export PKG_CONFIG_PATH="$tree/lib/pkgconfig"
# A program of tests/c: its name, then its sources.
shared() {
    local name="$1"
    shift
    # shellcheck disable=SC2086,SC2046
    "$cc" $flags "$@" -o "$work/$name" $(pkg-config --cflags --libs keylatch) -Wl,-rpath,"$tree/lib"
}

echo "Behaviour, with the shared library"
shared behaviour tests/c/behaviour.c
"$work/behaviour"
readelf -d "$work/behaviour" | grep -q 'NEEDED.*libkeylatch\.so\.' || { echo "the library has no SONAME" >&2; exit 1; }
echo "Behaviour, with the static library"
# shellcheck disable=SC2086,SC2046
"$cc" $flags tests/c/behaviour.c -o "$work/behaviour-static" $(pkg-config --cflags keylatch) "$tree/lib/libkeylatch.a" -lgcc_s -ldl -lm
"$work/behaviour-static"

echo "Bad input, with every function"
shared bad-input tests/c/bad_input/*.c
"$work/bad-input" tests/abi/symbols.txt

echo "Scenarios"
shared scenarios tests/c/scenarios/*.c
"$work/scenarios" --refuses
"$work/scenarios" tests/scenarios/*.json
