#!/usr/bin/env python3
"""Breaks the service and the claim board in one way after the other and shows which test notices each.

Faults are patches in `mutants/service` and `mutants/claims`. The first line of a patch is a comment: what it breaks, and
after each `;` a check that has to notice it: `it NAME` and `unit NAME` are tests of keylatch-service, `claims NAME` of the
claims in keylatch. The script copies the tree to target-mutants-service and applies, checks and takes back one patch
after the other there.

It ends with 0 if every check noticed its fault, with 1 otherwise. `--only WORD` chooses patches by name.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target-mutants-service"
ROOMS = ["service", "claims"]
PATIENCE = 240
CHECKS = {
    "it": ["-p", "keylatch-service", "--test", "it"],
    "unit": ["-p", "keylatch-service", "--lib"],
    "claims": ["-p", "keylatch", "--test", "it"],
}


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def copy_tree():
    """Makes the copy equal to the tree as it is, and keeps what was built in it."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, COPY / name
        if source.is_file() and not (target.is_file() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def apply(path, *words):
    done = subprocess.run(["patch", "-p1", "--silent", "--no-backup-if-mismatch", *words, "-i", str(path)], cwd=COPY)
    if done.returncode != 0:
        fail(f"{path.relative_to(ROOT)} does not apply: write it anew against the source as it is")


def run(check, *more):
    kind, _, name = check.partition(" ")
    if kind not in CHECKS or not name:
        fail(f'"{check}" is no check; write one of {", ".join(CHECKS)} and a test')
    # Dependencies are the same in both trees, so they are built once.
    environment = dict(os.environ, CARGO_TARGET_DIR=str(ROOT / "target"), RUST_BACKTRACE="0")
    name = f"claims::{name}" if kind == "claims" else name
    command = [os.environ.get("CARGO", "cargo"), "test", "--quiet", *CHECKS[kind], *more, "--", name, "--exact"]
    return subprocess.run(command, cwd=COPY, env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=PATIENCE)


def why(text):
    lines = [line.strip() for line in text.splitlines()]
    at = next((number for number, line in enumerate(lines) if "panicked at" in line), None)
    return next((line[:90] for line in lines[at + 1:] if line), "") if at is not None else "it crashed"


def verdict(check):
    """Runs a check on the patched copy. Returns whether it noticed, and what it said."""
    built = run(check, "--no-run")
    if built.returncode != 0:
        return False, "does not build\n" + built.stdout
    try:
        done = run(check)
    except subprocess.TimeoutExpired:
        return False, f"not over after {PATIENCE} s"
    if "running 1 test" not in done.stdout:
        fail(f"there is no check {check}\n{done.stdout}")
    return done.returncode != 0, why(done.stdout) if done.returncode else "it passed"


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    words.add_argument("--only", default="", help="patches with this in their name")
    chosen = words.parse_args().only
    copy_tree()
    missed = total = 0
    for path in (path for room in ROOMS for path in sorted((ROOT / "mutants" / room).glob("*.patch"))):
        name = f"{path.parent.name}/{path.stem}"
        if chosen not in name:
            continue
        first = path.read_text().split("\n", 1)[0]
        what, *checks = [part.strip() for part in first.removeprefix("# ").split(";")]
        if not checks:
            fail(f"{path}: the first line has to be \"# what it breaks; check; check\"")
        print(f"{name}: {what}", flush=True)
        apply(path)
        try:
            for check in checks:
                began = time.monotonic()
                noticed, said = verdict(check)
                total, missed = total + 1, missed + (not noticed)
                word = "caught" if noticed else "MISSED"
                print(f"    {word} by {check} in {time.monotonic() - began:.0f} s: {said}", flush=True)
        finally:
            apply(path, "-R")
    print(f"{total - missed} of {total} noticed")
    return 1 if missed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
