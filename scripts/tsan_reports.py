#!/usr/bin/env python3
"""Reads what ThreadSanitizer said of a test run, and says which of its reports are about the library.

    tsan_reports.py LOG [CRATE]

The standard library is not instrumented, so ThreadSanitizer does not see that a scope of threads has ended, that an Arc
was the last one, or what a channel, a mutex or tokio handed over: whatever a test passes from thread to thread like that
is reported. A report is about the library unless the innermost frame that is ours, of one of its two accesses,

* is missing: both the memory and the access are the standard library's, tokio's or the test harness's;
* only calls tokio, whose own code makes the access: its timers are behind mutexes of the standard library;
* is a test's: the test's own data. Not so in it/data_race.rs, which hands over nothing unseen, so that whatever is
  reported of it is a lock that did not protect;
* is in one of OWNED: values that belong to the caller, who hands them on, wakers, which run the caller's code, and tests;

or one of the two only frees memory: the thread that drops the last handle.

Ends with 0 if no report is about the library, with 1 otherwise, and with 2 if the log has no test run.
"""

import re
import sys
from collections import Counter

CRATE = sys.argv[2] if len(sys.argv) > 2 else "keylatch"
LIBRARY = f"rust/{CRATE}/src/"
# What the caller has in its hands: futures, guards, batches, managers; its wakers; and tests beside the code.
OWNED = {
    "keylatch": (
        "src/pending.rs", "src/guard.rs", "src/manager.rs", "src/subscription.rs", "src/wait/user_code.rs", "::tests::",
        "/tests.rs:",
    ),
    "keylatch-typed": ("src/guard.rs", "::tests::", "/tests.rs:"),
}[CRATE]
ACCESS = re.compile(r"  (?:Previous )?(?:[Aa]tomic )?(?:[Ww]rite|[Rr]ead) of size")
FRAME = re.compile(r"    #\d+ (.*)")
FREES = re.compile(r"^(free|__rust_dealloc|alloc::alloc::dealloc|realloc|operator delete)\b")


def accesses(report):
    """The frames of each access of a report."""
    stacks, current = [], None
    for line in report.splitlines():
        if ACCESS.match(line):
            current = []
            stacks.append(current)
        elif line.startswith("  ") and not line.startswith("    "):
            current = None
        elif current is not None and (frame := FRAME.match(line)):
            current.append(frame.group(1))
    return stacks


def ours(stack):
    """The innermost frame in this repository; empty if there is none."""
    return next((frame for frame in stack if f"rust/{CRATE}/" in frame or re.search(r" \.?/?(src|tests)/", frame)), "")


def is_tokios(stack):
    """Whether the innermost frame outside the standard library is tokio's."""
    return "/tokio-" in next((frame for frame in stack if "/rustc/" not in frame), "")


def is_explained(stack):
    frame = ours(stack)
    counts = LIBRARY in frame or re.search(r" \.?/?src/", frame) or "it/data_race.rs" in frame
    return not counts or is_tokios(stack) or any(owned in frame for owned in OWNED) or any(FREES.match(name) for name in stack[:2])


def main():
    text = open(sys.argv[1], encoding="utf-8", errors="replace").read()
    if "test result:" not in text:
        print("there is no test run in the log", file=sys.stderr)
        sys.exit(2)
    reports = [part for part in text.split("=" * 18 + "\n") if "WARNING: ThreadSanitizer" in part]
    about_library, explained = [], Counter()
    for report in reports:
        stacks = accesses(report)
        if stacks and any(map(is_explained, stacks)):
            # Sorted by what it is about, for a reader.
            frame = next((ours(stack) for stack in stacks if ours(stack)), "")
            place = re.search(r"(\w+/[\w/]*\w+\.rs)", frame)
            explained[place.group(1) if place else "no frame of ours"] += 1
        else:
            about_library.append(report)
    for report in about_library:
        print(report)
    for place, count in explained.most_common():
        print(f"{count:5} handed over unseen: {place}")
    print(f"{len(reports)} reports, {len(about_library)} of them about the library")
    sys.exit(1 if about_library else 0)


if __name__ == "__main__":
    main()
