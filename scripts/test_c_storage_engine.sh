#!/usr/bin/env bash
# Builds tests/c/storage_engine against an installed library and runs it in a new folder. More arguments go to it.
set -euo pipefail
cd "$(dirname "$0")/.."
tree="$1"
shift
work="$(dirname "$tree")/test-c"
mkdir -p "$work"
export PKG_CONFIG_PATH="$tree/lib/pkgconfig"
# shellcheck disable=SC2046
"${CC:-cc}" -std=c11 -Wall -Wextra -Wconversion -Werror -O1 -g -pthread \
    tests/c/storage_engine/*.c -o "$work/storage-engine" $(pkg-config --cflags --libs keylatch) -Wl,-rpath,"$tree/lib"
store="$(mktemp -d "$work/store.XXXXXX")"
trap 'rm -rf "$store"' EXIT
"$work/storage-engine" "$store" "$@"
