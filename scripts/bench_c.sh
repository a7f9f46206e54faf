#!/usr/bin/env bash
# Builds what the bench measures of C and C++ and runs it. Called by `make bench-c`, after `make install` into the folder
# that is given.
set -euo pipefail
cd "$(dirname "$0")/.."
tree="$1"
shift
work="$(dirname "$tree")/bench"
mkdir -p "$work"
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -fPIC -I "$tree/include" -c tests/c/bench/keylatch.c -o "$work/keylatch.o"
"${CXX:-c++}" -std=c++17 -O2 -Wall -Wextra -Werror -fPIC -pthread -c tests/c/bench/peers.cpp -o "$work/peers.o"
"${CXX:-c++}" -shared -pthread "$work/keylatch.o" "$work/peers.o" -o "$work/libpairs.so" \
    -L "$tree/lib" -lkeylatch -Wl,-rpath,"$tree/lib"
exec "${CARGO:-cargo}" run --release -p keylatch-bench -- c --library "$work/libpairs.so" "$@"
