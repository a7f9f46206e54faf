#!/usr/bin/env bash
# Tests the C library as it is installed. Called by `make test-c`, after `make install` into the folder that is given.
set -euo pipefail
cd "$(dirname "$0")/.."
tree="$1"
work="$(dirname "$tree")/test-c"
cc="${CC:-cc}"
mkdir -p "$work"

echo "The header compiles by itself, twice, in two files, in every language it is for"
printf '#include <keylatch.h>\n#include <keylatch.h>\nint second(void);\nint main(void) { return second(); }\n' >"$work/first.c"
printf '#include <keylatch.h>\n#include <keylatch.h>\n' >"$work/second.cpp"
printf '#include <keylatch.h>\nint second(void);\nint second(void) { return KEYLATCH_OK; }\n' >"$work/second.c"
for standard in c99 c11 c2x; do
    "$cc" -std="$standard" -pedantic -Wall -Wextra -Wconversion -Wstrict-prototypes -Werror -I "$tree/include" \
        "$work/first.c" "$work/second.c" -o "$work/first" -L "$tree/lib" -lkeylatch
done
"${CXX:-c++}" -std=c++17 -pedantic -Wall -Wextra -Werror -I "$tree/include" -c "$work/second.cpp" -o "$work/second.o"

echo "The macros that initialise structs warn of nothing, in C and in C++"
{
    printf '#include <keylatch.h>\n'
    grep -oE '^#define KEYLATCH_[A-Z_]+_INIT' "$tree/include/keylatch.h" | awk '{ name = tolower($2); sub(/_init$/, "", name)
        printf "extern %s %s_made;\n%s %s_made = %s;\n", name, name, name, name, $2 }'
} >"$work/made.c"
[ "$(wc -l <"$work/made.c")" -gt 15 ]
"$cc" -std=c99 -pedantic -Wall -Wextra -Werror -I "$tree/include" -c "$work/made.c" -o "$work/made.o"
"${CXX:-c++}" -x c++ -std=c++17 -pedantic -Wall -Wextra -Werror -I "$tree/include" -c "$work/made.c" -o "$work/made.o"

echo "A lock whose result is not looked at is warned of"
printf '#include <keylatch.h>\nvoid f(keylatch_manager *m, keylatch_key *k, uint64_t *g);\nvoid f(keylatch_manager *m, keylatch_key *k, uint64_t *g) { keylatch_try(m, k, 1, NULL, g); }\n' >"$work/unchecked.c"
if "$cc" -Werror -I "$tree/include" -c "$work/unchecked.c" -o "$work/unchecked.o" 2>"$work/unchecked.log"; then
    echo "it was not" >&2
    exit 1
fi
grep -q 'warn_unused_result\|unused-result' "$work/unchecked.log"

echo "Exported symbols, the header's prototypes and the committed list are the same"
nm -D --defined-only "$tree/lib/libkeylatch.so" | awk '$2 == "T" { print $3 }' | sort >"$work/exported"
"$cc" -E -P "$tree/include/keylatch.h" | grep -v 'static inline' | grep -oE '\bkeylatch_[a-z0-9_]+\(' | tr -d '(' | sort -u |
    grep -vxE 'keylatch_key_of|keylatch_key_of_version' >"$work/declared"
diff "$work/exported" "$work/declared"
diff tests/abi/symbols.txt "$work/exported"

echo "Layouts and numbers of the header are the committed ones (the library's: rust/keylatch-capi/tests/it/abi.rs)"
{
    printf '#include <assert.h>\n#include <stddef.h>\n#include <keylatch.h>\n'
    awk '$1 == "struct" { printf "static_assert(sizeof(%s) == %s && alignof(%s) == %s, \"%s\");\n", $2, $3, $2, $4, $2 }
        $1 == "field" { printf "static_assert(offsetof(%s, %s) == %s && sizeof(((%s *)0)->%s) == %s, \"%s.%s\");\n", $2, $3, $4, $2, $3, $5, $2, $3 }
        $1 == "value" { printf "static_assert(%s == %s%s, \"%s\");\n", $2, $3, ($3 ~ /^-/ ? "" : "ULL"), $2 }' tests/abi/layout.txt
} >"$work/layout.c"
sed 's/#include <assert.h>/&\n#include <stdalign.h>/' "$work/layout.c" >"$work/layout11.c"
"$cc" -std=c11 -Wall -Werror -I "$tree/include" -c "$work/layout11.c" -o "$work/layout.o"
cp "$work/layout.c" "$work/layout.cpp"
"${CXX:-c++}" -std=c++17 -Wall -Wno-invalid-offsetof -Werror -I "$tree/include" -c "$work/layout.cpp" -o "$work/layout.o"
[ "$(grep -c static_assert "$work/layout.c")" = "$(wc -l <tests/abi/layout.txt)" ]
scripts/abi.sh check

flags="-std=c11 -Wall -Wextra -Werror -O1 -g -pthread"
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
soname="$(readelf -d "$work/behaviour" | sed -n 's/.*NEEDED.*\[\(libkeylatch\.so\..*\)\]/\1/p')"
[ -n "$soname" ] || { echo "the library has no SONAME" >&2; exit 1; }
echo "Behaviour, with the static library"
# shellcheck disable=SC2086,SC2046
"$cc" $flags tests/c/behaviour.c -o "$work/behaviour-static" $(pkg-config --cflags keylatch) "$tree/lib/libkeylatch.a" -ldl -lm
"$work/behaviour-static"

echo "The static library defines keylatch_* alone, and neither library is as large as it once was"
readelf --symbols --wide "$tree/lib/libkeylatch.a" | awk '$5 ~ /GLOBAL|WEAK/ && $7 != "UND" { print $8 }' | sort -u >"$work/defined"
diff tests/abi/symbols.txt "$work/defined"
for library in libkeylatch.so libkeylatch.a; do
    [ "$(stat -Lc %s "$tree/lib/$library")" -lt 5000000 ] || { echo "$library is larger than 5 MB: is it stripped?" >&2; exit 1; }
done

echo "A plug-in with the static library inside is unloaded once everything was freed"
# shellcheck disable=SC2086
"$cc" $flags -fPIC -shared -I "$tree/include" tests/c/unload/plugin.c "$tree/lib/libkeylatch.a" -o "$work/plugin.so"
# shellcheck disable=SC2086
"$cc" $flags tests/c/unload/main.c -o "$work/unload" -ldl
"$work/unload" "$work/plugin.so"

echo "The programs in the guide and in the README, as they say to compile them"
example() { sed -n '/^```c$/,/^```$/p' "$1" | sed '/^```/d'; }
for page in docs/c.md README.md; do
    example "$page" >"$work/x.c"
    grep -q keylatch_acquire "$work/x.c"
    # The README leaves out the frame.
    grep -q 'int main' "$work/x.c" ||
        { printf '#include <keylatch.h>\n#include <stdio.h>\nint main(void)\n{\n' && example "$page" &&
            printf 'return keylatch_manager_free(locks) == KEYLATCH_OK ? 0 : 1;\n}\n'; } >"$work/x.c"
    says="$(grep -o '`cc x.c [^`]*`' "$page" | tr -d '`')"
    (cd "$work" && eval "$says -Wall -Wextra -Werror" && LD_LIBRARY_PATH="$tree/lib" ./a.out)
done

echo "Every status, and handles that are freed while threads wait on them"
shared errors tests/c/errors.c -DAS_INSTALLED
"$work/errors"

echo "Locks between processes, of which some are killed"
shared shared tests/c/shared.c
"$work/shared"

echo "Locks between machines, which only libkeylatch_etcd has: make test-etcd-c"
shared etcd tests/c/etcd.c
"$work/etcd" without

echo "Results that arrive later, and the threads that bring them"
shared background tests/c/background.c
"$work/background"

echo "Keys that stay in the table"
shared pins tests/c/pins.c
"$work/pins"

echo "Two copies of the library in one process"
shared two-copies tests/c/two_copies.c -ldl
cp -L "$tree/lib/libkeylatch.so" "$work/another-copy.so"
"$work/two-copies" "$work/another-copy.so"

echo "Batches, against a model"
shared batches tests/c/batches.c
"$work/batches"

echo "Batches that are answered by a callback or in a queue"
shared batches-later tests/c/batches_later.c
"$work/batches-later"

echo "Bad input, with every function"
shared bad-input tests/c/bad_input/*.c
"$work/bad-input" tests/abi/symbols.txt include/keylatch.h

echo "Eight threads, and the same with some of the locks left out: that has to be noticed"
shared stress tests/c/stress.c
"$work/stress"
status=0
"$work/stress" --sabotage 2>"$work/sabotaged" || status=$?
if [ "$status" -ne 1 ] || ! grep -q 'not so' "$work/sabotaged"; then
    echo "writes with a shared lock ended with status $status" >&2
    exit 1
fi

if "$cc" -fsanitize=thread "$work/first.c" "$work/second.c" -I "$tree/include" -o "$work/first-tsan" -L "$tree/lib" -lkeylatch 2>/dev/null; then
    echo "A program under ThreadSanitizer, with the library as it is: no race, and one where locks are left out"
    shared stress-tsan tests/c/stress.c -fsanitize=thread
    TSAN_OPTIONS="exitcode=9" "$work/stress-tsan" 400 >"$work/tsan.log" 2>&1 ||
        { grep -A12 -m1 WARNING "$work/tsan.log" >&2 || cat "$work/tsan.log" >&2; exit 1; }
    # Two threads that write while both share the lock, and nothing else that could end the program first.
    shared sabotage-tsan tests/c/sabotage.c -fsanitize=thread
    status=0
    TSAN_OPTIONS="exitcode=9" "$work/sabotage-tsan" race >"$work/tsan.log" 2>&1 || status=$?
    if [ "$status" -ne 9 ] || ! grep -q 'WARNING: ThreadSanitizer: data race' "$work/tsan.log"; then
        cat "$work/tsan.log" >&2
        echo "it did not notice writes with a shared lock: status $status" >&2
        exit 1
    fi
else
    echo "ThreadSanitizer is not installed, so no program is watched by it"
fi

echo "Panics inside, in the library that was built for the crate's own tests"
mkdir -p "$work/forced-panic"
cp "${CARGO_TARGET_DIR:-target}/debug/deps/libkeylatch_capi.so" "$work/forced-panic/$soname"
# shellcheck disable=SC2086
"$cc" $flags -I "$tree/include" tests/c/panics.c -o "$work/panics" "$work/forced-panic/$soname" -Wl,-rpath,"$work/forced-panic"
RUST_BACKTRACE=0 "$work/panics" 2>"$work/panics.log" || { grep -v 'as was asked for' "$work/panics.log" >&2; exit 1; }

echo "Scenarios"
shared scenarios tests/c/scenarios/*.c
"$work/scenarios" --refuses
"$work/scenarios" tests/scenarios/*.json

echo "Scenarios of claims, by answer, callback and queue"
shared claims tests/c/claims/main.c tests/c/scenarios/json.c -Itests/c/scenarios
"$work/claims" tests/scenarios/claims/*.json
