#!/usr/bin/env bash
# Measures locks between processes in Rust, C, C++ and Python, and draws them. Called by `make bench-processes`, after
# `make install` into the folder that is given. Without Boost's headers (Debian: libboost-dev) its row is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
tree="$1"
shift
work="$(dirname "$tree")/bench"
mkdir -p "$work"
"${CXX:-c++}" -std=c++17 -O2 -Wall -Wextra -Werror -fPIC -shared -pthread -I "$tree/include" tests/c/bench/processes.cpp \
    -o "$work/libprocesses.so" -L "$tree/lib" -lkeylatch -Wl,-rpath,"$tree/lib"
"${CARGO:-cargo}" run --release -p keylatch-shm --example bench_processes -- --library "$work/libprocesses.so" \
    --json "$work/processes.json" "$@"
