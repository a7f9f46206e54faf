#!/usr/bin/env bash
# The C tests with something that watches them: address, thread (sanitizers) or valgrind. Called by `make test-c-asan` and its
# like. First each is shown a deliberate fault, which it has to report.
set -euo pipefail
cd "$(dirname "$0")/.."
watcher="$1"
rounds="${ROUNDS:-4000}"
machine="$(uname -m)-unknown-linux-gnu"
cargo="${CARGO:-cargo}"
cc="${CC:-gcc}"
work="target/test-c-$watcher"
mkdir -p "$work"
warn="-std=c11 -Wall -Wextra -Werror -g -pthread -I include"
system="-lgcc_s -lpthread -ldl -lm -lrt"

# The library, instrumented like the programs. The flags are hidden on stable compilers.
instrumented() {
    RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="target-c-$1" \
        RUSTFLAGS="-Zsanitizer=$1 -Cunsafe-allow-abi-mismatch=sanitizer -Zexternal-clangrt ${2:-}" \
        "$cargo" build --quiet --profile watched --target "$machine" -p keylatch-capi --features forced-panic
    library="target-c-$1/$machine/watched"
}

# The shared library under the name that programs look for.
named() {
    ln -sfn libkeylatch_capi.so "$library/$(readelf -d "$library/libkeylatch_capi.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')"
}

case "$watcher" in
address)
    instrumented address
    named
    export ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=9:handle_abort=0"
    program() {
        local name="$1"
        shift
        # shellcheck disable=SC2086
        "$cc" $warn -O1 -fsanitize=address -fno-omit-frame-pointer "$@" -o "$work/$name" \
            "$library/libkeylatch_capi.so" -Wl,-rpath,"$PWD/$library"
    }
    watched() { "$@"; }
    notices="use-after-free overflow leak"
    ;;
thread)
    instrumented thread "--cfg tsan"
    export TSAN_OPTIONS="suppressions=$PWD/scripts/tsan.supp:exitcode=9:halt_on_error=0:die_after_fork=0"
    runtime="$("$(command -v rustc)" --print sysroot)/lib/rustlib/$machine/lib/librustc-stable_rt.tsan.a"
    [ -e "$runtime" ] || runtime="$(ls "${runtime%/*}"/librustc-*_rt.tsan.a)"
    program() {
        local name="$1"
        shift
        # The programs' own runtime would be a second one beside the library's.
        local objects=()
        for source in "$@"; do
            local object
            object="$work/$name-$(basename "$source" .c).o"
            # shellcheck disable=SC2086
            "$cc" $warn -O1 -fsanitize=thread -c "$source" -o "$object"
            objects+=("$object")
        done
        # shellcheck disable=SC2086
        "$cc" -pthread "${objects[@]}" -o "$work/$name" "$library/libkeylatch_capi.a" \
            -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive -Wl,--export-dynamic $system -lresolv
    }
    watched() { "$@"; }
    notices="race"
    ;;
valgrind)
    command -v valgrind >/dev/null || { echo "valgrind is missing: install your system's package of that name" >&2; exit 1; }
    # As it is installed: valgrind needs no other library.
    "$cargo" build --quiet --release -p keylatch-capi
    library="${CARGO_TARGET_DIR:-target}/release"
    named
    # It keeps the masks of signals to itself.
    export KEYLATCH_TEST_UNDER_VALGRIND=1
    program() {
        local name="$1"
        shift
        # shellcheck disable=SC2086
        "$cc" $warn -O1 "$@" -o "$work/$name" "$library/libkeylatch_capi.so" -Wl,-rpath,"$(realpath "$library")"
    }
    watched() {
        valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
            --error-exitcode=9 --fair-sched=yes "$@"
    }
    notices="use-after-free overflow leak"
    ;;
*)
    echo "usage: test_c_watched.sh address|thread|valgrind" >&2
    exit 2
    ;;
esac

program sabotage tests/c/sabotage.c
for fault in $notices; do
    status=0
    watched "$work/sabotage" "$fault" >"$work/sabotage.log" 2>&1 || status=$?
    if [ "$status" -ne 9 ]; then
        cat "$work/sabotage.log"
        echo "$watcher did not notice the deliberate $fault: status $status" >&2
        exit 1
    fi
    echo "noticed: a deliberate $fault"
done

program behaviour tests/c/behaviour.c
watched "$work/behaviour"
program background tests/c/background.c
watched "$work/background"
program batches tests/c/batches.c
watched "$work/batches"
program bad-input tests/c/bad_input/*.c
# Forked children have what their lost threads held, which valgrind calls leaks, and ThreadSanitizer cannot follow them at all.
forks=(--no-fork)
[ "$watcher" != address ] || forks=()
watched "$work/bad-input" tests/abi/symbols.txt include/keylatch.h "${forks[@]}"
program errors tests/c/errors.c
watched "$work/errors" "${forks[@]}"
program pins tests/c/pins.c
watched "$work/pins" "${forks[@]}"
program scenarios tests/c/scenarios/*.c
watched "$work/scenarios" tests/scenarios/*.json | grep -v '^ok'
if [ "$watcher" != valgrind ]; then
    program panics tests/c/panics.c
    RUST_BACKTRACE=0 watched "$work/panics" 2>"$work/panics.log" || { grep -v 'as was asked for' "$work/panics.log" >&2; exit 1; }
fi
program stress tests/c/stress.c
watched "$work/stress" "$rounds"
echo "clean under $watcher"
