#!/usr/bin/env bash
# The binary interface that include/keylatch.h describes, beside the one in tests/abi/keylatch.abi, by libabigail.
#
#     abi.sh check       fails where programs that were compiled with the committed one would break
#     abi.sh baseline    writes the committed one anew, and the list of functions
#
# The library's own debugging information is Rust's. So every function of the header is given an empty body, and it is
# these that are compared; that the library has the same functions and layouts, scripts/test_c.sh and
# rust/keylatch-capi/tests/it/abi.rs see to.
set -euo pipefail
cd "$(dirname "$0")/.."
verb="$1"
cc="${CC:-cc}"
work="target/abi"
baseline="tests/abi/keylatch.abi"
mkdir -p "$work"
if ! command -v abidw >/dev/null || ! command -v abidiff >/dev/null; then
    echo "abidw and abidiff are missing, so types are not compared with tests/abi/keylatch.abi (Debian: abigail-tools); symbols and layouts are" >&2
    [ "$verb" = check ]
    exit
fi

# A library of empty functions, from a header, and what its interface is.
describe() {
    local header="$1" name="$2"
    {
        printf '#include "%s"\n' "$header"
        "$cc" -E -P "$header" | tr '\n' ' ' | tr ';' '\n' |
            sed -e 's/__attribute__((warn_unused_result))//' |
            grep -E '^ *(const char \*|u?int32_t |void )[^{}]*\bkeylatch_[a-z_0-9]+\(.*\) *$' |
            sed -e 's/$/ { __builtin_trap(); }/'
    } >"$work/$name.c"
    "$cc" -std=c11 -Wall -Wno-unused-parameter -Werror -g -shared -fPIC "$work/$name.c" -o "$work/$name.so"
    abidw --no-corpus-path --no-comp-dir-path --no-show-locs --out-file "$work/$name.abi" "$work/$name.so"
}

compare() {
    abidiff --no-added-syms "$baseline" "$work/$1.abi" >"$work/$1.report"
}

describe "$PWD/include/keylatch.h" now
nm -D --defined-only "$work/now.so" | awk '$2 == "T" && $3 ~ /^keylatch_/ { print $3 }' | sort >"$work/symbols"
count="$(wc -l <"$work/symbols")"
if [ "$verb" = baseline ]; then
    cp "$work/now.abi" "$baseline"
    cp "$work/symbols" tests/abi/symbols.txt
    echo "written: $baseline and tests/abi/symbols.txt, $count functions"
    exit
fi
diff tests/abi/symbols.txt "$work/symbols"
if ! compare now; then
    cat "$work/now.report"
    echo "The interface is not the committed one. Where programs go on working, such as with a field at the end of a struct that" >&2
    echo "begins with struct_size: make abi-baseline. Otherwise KEYLATCH_ABI_VERSION has to change with it." >&2
    exit 1
fi

# Deliberate breaks, each of which has to be noticed.
broken() {
    sed "$2" include/keylatch.h >"$work/$1.h"
    cmp -s include/keylatch.h "$work/$1.h" && { echo "nothing was broken: $2" >&2; exit 1; }
    describe "$PWD/$work/$1.h" "$1"
    if compare "$1"; then
        echo "abidiff did not notice: $2" >&2
        exit 1
    fi
}
broken wider 's/^  uint32_t shards;/  uint64_t shards;/'
broken moved 's/^  uint64_t ticket;/  uint32_t first; uint32_t second; uint64_t ticket;/'
broken argument 's/^int32_t keylatch_release(keylatch_manager \*manager,/int32_t keylatch_release(keylatch_manager *manager, int32_t why,/'
broken missing 's/^uint32_t keylatch_abi_version(void);//'
echo "$count functions are as tests/abi/keylatch.abi says, and 4 deliberate breaks were noticed"
