#!/usr/bin/env python3
"""Checks the language of the repository: what `make words` runs.

    words.py             fails where a room has more findings than scripts/words.txt allows
    words.py --list ROOM names each finding of a room, or of a file
    words.py --lower     lowers the allowances to what is there; they never rise

Each run first checks the rules themselves: every one has to find its bad samples, and nothing in the good ones.

Rules, each counted per room (a folder, at most four deep):

    words    words that this project does not use, because a plainer one says it better
    names    names that the glossary has replaced (docs/glossary.md)
    tests    names of tests with more than 45 characters
    doc      first lines of doc comments with more than 80 characters
    places   paths of a machine, and numbers of issues
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWANCES = ROOT / "scripts" / "words.txt"
RULES = ("words", "names", "tests", "doc", "places")
KINDS = {".c", ".cpp", ".go", ".h", ".hpp", ".html", ".in", ".js", ".md", ".mod", ".patch", ".py", ".pyi", ".rs", ".sh",
         ".toml", ".yml", ""}
# This file and its list name what they look for.
LEFT_OUT = {"Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT", "scripts/words.py", "scripts/words.txt"}

# A word stands alone between letters, so that it is found in `snake_case` too. A phrase may go on in the next line.
GAP = r"(?:_|\s+(?:(?://[/!]?|#|\*)\s+)?)"
WORDS = re.compile(
    r"(?<![A-Za-z])(?:whoever|nobody|somebody|told|news|be" + GAP + r"it|at" + GAP + r"once|so" + GAP + r"many(?!" + GAP
    + r"that)|of" + GAP + r"no" + GAP + r"more" + GAP + r"use)(?![A-Za-z])",
    re.IGNORECASE,
)
NAMES = re.compile(
    r"\b(?:Mailbox|Letter|Desk|Bell|Arrivals|Audience|hears_wait|Reminder|take_away|entomb|exhume|let_loose|kept_shut|STOPGAP"
    r"|make_room|settle_and_wake|table_waits|lately_lost|Losses|keylatch_party|mischief)\b"
    r"|\bmod (?:mail|looking|noticing|special|taking|bell|foreign|arrivals|mailbox|party|scarcity|protecting|circles);"
)
TESTS = {
    ".rs": re.compile(r"#\[(?:\w+::)?test[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w{46,})"),
    ".py": re.compile(r"def (test_\w{41,})"),
    ".go": re.compile(r"func ((?:Test|Example|Benchmark)\w{41,})"),
}
DOC = re.compile(r"(?:\A|\n)(?![ \t]*///)[^\n]*\n[ \t]*/// ?(\S[^\n]{80,})")
PLACES = re.compile(r"(?<![\w.])/(?:work|home|Users)/\w+|(?<!\w)(?:issue|PR) #?\d+\b")


def room(path):
    """The room of a file: its folder, at most four deep."""
    return "/".join(path.parent.parts[:4]) or "."


def findings(path, text):
    """Yields (rule, line, what) of a file."""
    if path.name == "CHANGELOG.md":
        # Its table of migration names what is gone.
        text = re.sub(r"(?m)^\|.*$", "|", text)
    rules = {"words": WORDS, "names": NAMES, "places": PLACES, "tests": TESTS.get(path.suffix)}
    if path.suffix == ".rs":
        rules["doc"] = DOC
    for rule, pattern in rules.items():
        for found in pattern.finditer(text) if pattern else ():
            group = 1 if rule in ("tests", "doc") else 0
            yield rule, text.count("\n", 0, found.start(group)) + 1, " ".join(found.group(group).split())


# What each rule has to find, as (file, text), and what none may find.
BAD = {
    "words": [("a.md", "Nobody waits."), ("a.rs", "fn wake_at_once() {}"), ("a.c", "/* It is done at\n * once. */"),
              ("a.py", "# whoever\n"), ("a.go", "// so many\n// locks"), ("a.h", "/* told */"), ("a.md", "a key, be it held,"),
              ("a.patch", "+// the news"), ("a.sh", "# somebody"), ("a.md", "of no\nmore use")],
    "names": [("a.rs", "struct Mailbox;"), ("a.rs", "mod looking;"), ("a.c", "keylatch_party *party;"), ("a.rs", "fn entomb() {}")],
    "tests": [("a.rs", f"#[test]\nfn {'a' * 46}() {{}}"), ("a.rs", f"#[tokio::test]\nasync fn {'a' * 46}() {{}}"),
              ("a.py", f"def test_{'a' * 41}():"), ("a.go", f"func Test{'a' * 42}(t *testing.T)")],
    "doc": [("a.rs", f"fn before() {{}}\n/// {'a' * 81}\nfn after() {{}}")],
    "places": [("a.md", "in /" + "home/me/keylatch"), ("a.rs", "// see issue" + " 7")],
}
GOOD = [("a.md", "The release wakes a waiter immediately. It has so many that a page is full."), ("a.md", "an untold story, renewals, letters"),
        ("a.rs", f"#[test]\nfn {'a' * 45}() {{}}\n/// {'a' * 80}\n/// {'a' * 100}\nfn after() {{}}"), ("a.py", f"def test_{'a' * 40}():"),
        ("CHANGELOG.md", "| C ABI | `keylatch_party` | `keylatch_holder` |")]


def check_itself():
    """Fails where a rule misses one of its bad samples, or finds something in a good one."""
    for rule, samples in BAD.items():
        for name, text in samples:
            if rule not in {found for found, _, _ in findings(Path(name), text)}:
                sys.exit(f"the rule `{rule}` does not find {text!r} in {name}")
    for name, text in GOOD:
        for rule, _, what in findings(Path(name), text):
            sys.exit(f"the rule `{rule}` finds {what!r} in {text!r}, which is good")
    if worse({"a": Counter(words=1)}, {"a": Counter(words=1)}) or not worse({"a": Counter(words=2)}, {"a": Counter(words=1)}):
        sys.exit("a room with more findings than it may have is not refused")


def worse(here, allowed):
    """Returns (room, rule, count, limit) where a room has more findings than it may have."""
    return [(name, rule, counts[rule], allowed.get(name, Counter())[rule]) for name, counts in sorted(here.items())
            for rule in RULES if counts[rule] > allowed.get(name, Counter())[rule]]


def tracked():
    """Every text file of the repository, as a path from its root."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True,
                            text=True)
    for name in listed.stdout.splitlines():
        path = Path(name)
        if name not in LEFT_OUT and path.suffix in KINDS and (ROOT / path).is_file():
            yield path


def allowances():
    """What the list allows: {room: Counter of rules}."""
    rooms = {}
    for line in ALLOWANCES.read_text().splitlines():
        if line and not line.startswith("#"):
            name, *counts = line.split()
            rooms[name] = Counter({rule: int(count) for rule, count in (each.split("=") for each in counts)})
    return rooms


def write(rooms):
    """Writes the list anew."""
    lines = ["# How many findings of scripts/words.py each room may still have. No number may rise; a room without a line has none."]
    for name in sorted(rooms):
        counts = " ".join(f"{rule}={rooms[name][rule]}" for rule in RULES if rooms[name][rule])
        if counts:
            lines.append(f"{name} {counts}")
    ALLOWANCES.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--list", metavar="ROOM", help="name each finding of a room or file; . is all")
    parser.add_argument("--lower", action="store_true", help="lower the allowances to what is there")
    options = parser.parse_args()

    check_itself()
    here, where = {}, {}
    for path in tracked():
        text = (ROOT / path).read_text(errors="replace")
        for rule, line, what in findings(path, text):
            if options.list and (options.list == "." or path.as_posix().startswith(options.list)):
                print(f"{path}:{line}: {rule}: {what}")
            here.setdefault(room(path), Counter())[rule] += 1
            where.setdefault((room(path), rule), []).append(f"{path}:{line}: {what}")
    if options.list:
        return
    allowed = allowances() if ALLOWANCES.exists() else here
    if options.lower or not ALLOWANCES.exists():
        write({name: Counter({rule: min(counts[rule], allowed.get(name, Counter())[rule]) for rule in RULES})
               for name, counts in here.items()})
    total, wrong = sum((counts for counts in here.values()), Counter()), worse(here, allowed)
    for name, rule, count, limit in wrong:
        print(f"{name}: {count} findings of the rule `{rule}`, {limit} are allowed:", file=sys.stderr)
        print("\n".join("    " + each for each in where[name, rule][:8]), file=sys.stderr)
    print("left: " + ", ".join(f"{rule} {total[rule]}" for rule in RULES))
    if wrong:
        sys.exit("docs/glossary.md has the words to use; CONTRIBUTING.md has the rules")


if __name__ == "__main__":
    main()
