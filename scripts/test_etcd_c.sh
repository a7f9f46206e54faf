#!/usr/bin/env bash
# Tests libkeylatch_etcd of target/lib from C and C++, against real servers, and installs it. Called by `make test-etcd-c`.
set -euo pipefail
cd "$(dirname "$0")/.."
work="$PWD/target/test-etcd"
python="${PYTHON:-python3}"
cc="${CC:-cc}"
mkdir -p "$work"
flags="-Wall -Wextra -Werror -O1 -g -pthread -I include"
linked="-L target/lib -lkeylatch_etcd -Wl,-rpath,$PWD/target/lib"

echo "It exports what libkeylatch exports, and its archive defines nothing else"
nm -D --defined-only target/lib/libkeylatch_etcd.so | awk '$2 == "T" { print $3 }' | sort | diff tests/abi/symbols.txt -
readelf --symbols --wide target/lib/libkeylatch_etcd.a | awk '$5 ~ /GLOBAL|WEAK/ && $7 != "UND" { print $8 }' | sort -u |
    diff tests/abi/symbols.txt -

PYTHON="$python" scripts/test_etcd_install.sh

# shellcheck disable=SC2086
"$cc" -std=c11 $flags tests/c/etcd.c -o "$work/etcd" $linked
# shellcheck disable=SC2086
"$cc" -std=c11 $flags tests/c/etcd.c -o "$work/etcd-static" target/lib/libkeylatch_etcd.a -ldl -lm
# shellcheck disable=SC2086
"${CXX:-c++}" -std=c++17 $flags -Wconversion -Wshadow tests/cpp/etcd.cpp -o "$work/etcd-cpp" $linked
# shellcheck disable=SC2086
"$cc" -std=c11 $flags -fPIC -shared tests/c/unload/plugin.c target/lib/libkeylatch_etcd.a -o "$work/plugin.so" -ldl -lm
# shellcheck disable=SC2086
"$cc" -std=c11 $flags tests/c/unload/main.c -o "$work/unload" -ldl

# The static program has the namespaces of the first one, so it follows. The others run meanwhile.
cat >"$work/all.sh" <<'END'
set -euo pipefail
{
    echo "From C++, and a plug-in with the static library inside that is unloaded, the network's threads ended"
    "$1/etcd-cpp" && "$1/unload" "$1/plugin.so"
} &
echo "Settings, servers that do not answer, two managers and processes, certificates and logins, from C"
"$1/etcd"
echo "From C with the static library"
"$1/etcd-static"
wait $!
END
"$python" scripts/with_etcd.py bash "$work/all.sh" "$work"
