#!/usr/bin/env bash
# Writes the manual page of a header, keylatch.3, and for each of its functions a page that refers to it. Called by install_c.sh.
#
#     man_pages.sh HEADER FOLDER
#
# The header is the specification, so the page is the header: each chapter with its text, then each declaration with its comment.
set -euo pipefail
header="$1"
folder="$2"
version="$(sed -n 's/^#define KEYLATCH_VERSION "\(.*\)"$/\1/p' "$header")"
{
    printf '.TH KEYLATCH 3 "" "keylatch %s" "Library Functions Manual"\n' "$version"
    printf '.SH NAME\nkeylatch \\- shared and exclusive locks on keys that need not be created, for storage engines\n'
    printf '.SH SYNOPSIS\n.B #include <keylatch.h>\n.PP\nLink with \\fB\\-lkeylatch\\fR, or as \\fBpkg\\-config keylatch\\fR says.\n'
    printf '.SH DESCRIPTION\nThis is the text of the header, whose comments say what each function does, which errors it has, and what belongs to whom.\n'
    printf '.PP\n.nf\n'
    sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^\\([.']\\)/\\\\\&\\1/" "$header"
    printf '.fi\n.SH LICENSE\nMIT OR Apache\\-2.0\n'
} >"$folder/keylatch.3"
chmod 644 "$folder/keylatch.3"
grep -oE '^[a-z0-9_]+ \**keylatch_[a-z0-9_]+\(|^const char \*keylatch_[a-z0-9_]+\(' "$header" | grep -oE 'keylatch_[a-z0-9_]+' | sort -u |
    while read -r name; do
        printf '.so man3/keylatch.3\n' >"$folder/$name.3"
        chmod 644 "$folder/$name.3"
    done
