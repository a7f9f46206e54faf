#!/usr/bin/env bash
# Tests libkeylatch_etcd of target/lib from C and C++, against real servers. Called by `make test-etcd-c`.
set -euo pipefail
cd "$(dirname "$0")/.."
work=target/test-etcd
python="${PYTHON:-python3}"
mkdir -p "$work"
flags="-Wall -Wextra -Werror -O1 -g -pthread -I include"
linked="-L target/lib -lkeylatch_etcd -Wl,-rpath,$PWD/target/lib"

echo "It exports what libkeylatch exports, and its archive defines nothing else"
nm -D --defined-only target/lib/libkeylatch_etcd.so | awk '$2 == "T" { print $3 }' | sort | diff tests/abi/symbols.txt -
readelf --symbols --wide target/lib/libkeylatch_etcd.a | awk '$5 ~ /GLOBAL|WEAK/ && $7 != "UND" { print $8 }' | sort -u |
    diff tests/abi/symbols.txt -

echo "Settings, servers that do not answer, two managers and processes, certificates and logins"
# shellcheck disable=SC2086
"${CC:-cc}" -std=c11 $flags tests/c/etcd.c -o "$work/etcd" $linked
"$python" scripts/with_etcd.py "$work/etcd"

echo "The same from C++"
# shellcheck disable=SC2086
"${CXX:-c++}" -std=c++17 $flags -Wconversion -Wshadow tests/cpp/etcd.cpp -o "$work/etcd-cpp" $linked
"$python" scripts/with_etcd.py "$work/etcd-cpp"

echo "From C with the static library"
# shellcheck disable=SC2086
"${CC:-cc}" -std=c11 $flags tests/c/etcd.c -o "$work/etcd-static" target/lib/libkeylatch_etcd.a -ldl -lm
"$python" scripts/with_etcd.py "$work/etcd-static"

echo "A plug-in with the static library inside is unloaded once everything was freed, the network's threads among it"
# shellcheck disable=SC2086
"${CC:-cc}" -std=c11 $flags -fPIC -shared tests/c/unload/plugin.c target/lib/libkeylatch_etcd.a -o "$work/plugin.so" -ldl -lm
# shellcheck disable=SC2086
"${CC:-cc}" -std=c11 $flags tests/c/unload/main.c -o "$work/unload" -ldl
"$python" scripts/with_etcd.py "$work/unload" "$work/plugin.so"
