#!/usr/bin/env bash
# Tests keylatch.hpp against an installed tree: every standard, gcc and clang, sanitizers, no exceptions, a CMake project.
# Called by `make test-cpp`.
set -euo pipefail
cd "$(dirname "$0")/.."
tree="$1"
work="$(dirname "$tree")/test-cpp"
python="${PYTHON:-python3}"
mkdir -p "$work"

find_clang() {
    local name
    for name in clang++ clang++-{20,19,18,17,16}; do
        if command -v "$name" >/dev/null && "$name" -std=c++20 -fsyntax-only -x c++ - <<<'#include <coroutine>' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
}

clang="$(find_clang)"
if [ -z "$clang" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "clang is missing: installing the system's package clang-16"
    { apt-get update -q && apt-get install -y -q --no-install-recommends clang-16; } >"$work/clang.log" 2>&1 || tail -3 "$work/clang.log"
    clang="$(find_clang)"
fi
[ -n "$clang" ] || echo "clang is missing, so gcc alone is tested: install your system's package of that name (16 or newer)"

warnings="-pedantic -Wall -Wextra -Wconversion -Wshadow -Werror"
# Builds a program of tests/cpp and runs it: compiler, standard, program, then more options.
check() {
    local compiler="$1" standard="$2" program="$3"
    shift 3
    echo "$program: $compiler -std=$standard $*"
    # shellcheck disable=SC2086
    "$compiler" -std="$standard" $warnings -O1 -g -pthread "$@" -I "$tree/include" "tests/cpp/$program.cpp" \
        -o "$work/$program" -L "$tree/lib" -lkeylatch -Wl,-rpath,"$tree/lib"
    "$work/$program" >"$work/$program.log" || { cat "$work/$program.log" >&2; exit 1; }
    tail -1 "$work/$program.log"
}

for compiler in g++ $clang; do
    check "$compiler" c++17 behaviour
    check "$compiler" c++2b behaviour
    check "$compiler" c++17 shared
    check "$compiler" c++20 coroutines
done
# With sanitizers gcc 12 takes empty optionals for uninitialized ones.
check g++ c++20 behaviour -Wno-maybe-uninitialized -fsanitize=address,undefined -fno-sanitize-recover=all
check g++ c++20 shared -Wno-maybe-uninitialized -fsanitize=address,undefined -fno-sanitize-recover=all
check g++ c++20 coroutines -Wno-maybe-uninitialized -fsanitize=address,undefined -fno-sanitize-recover=all

echo "without exceptions, the functions with a std::error_code"
# shellcheck disable=SC2086
g++ -std=c++17 $warnings -fno-exceptions -I "$tree/include" -x c++ - -o "$work/no-exceptions" -L "$tree/lib" -lkeylatch \
    -Wl,-rpath,"$tree/lib" <<'END'
#include <keylatch.hpp>
int main()
{
    keylatch::manager locks;
    std::error_code code;
    const keylatch::guard guard = locks.lock({"photos", "cat.jpg"}, {}, code);
    return code || !guard ? 1 : 0;
}
END
"$work/no-exceptions"

echo "the program in the guide"
sed -n '/^```cpp$/,/^```$/p' docs/cpp.md | sed '/^```/d' >"$work/guide.cpp"
grep -q 'int main' "$work/guide.cpp"
g++ -std=c++17 -Wall -Wextra -Werror -I "$tree/include" "$work/guide.cpp" -o "$work/guide" -L "$tree/lib" -lkeylatch \
    -Wl,-rpath,"$tree/lib"
"$work/guide"

echo "a CMake project that links keylatch::keylatch"
cmake="$(command -v cmake || true)"
if [ -z "$cmake" ]; then
    [ -x target/cmake/bin/cmake ] || { "$python" -m venv target/cmake && target/cmake/bin/pip install --quiet cmake; }
    cmake="$PWD/target/cmake/bin/cmake"
fi
rm -rf "$work/project"
"$cmake" -S tests/cpp/project -B "$work/project" -DCMAKE_PREFIX_PATH="$tree" >"$work/project.log" 2>&1 &&
    "$cmake" --build "$work/project" >>"$work/project.log" 2>&1 || { cat "$work/project.log" >&2; exit 1; }
"$work/project/program"
