#!/usr/bin/env python3
"""Breaks keylatch-typed in one way after the other and shows which check notices: what `make mutants-typed` runs.

Faults are patches in `mutants/typed/<room>/<name>.patch`. The first line of a patch is a comment: what it breaks, and
after each `;` a check that has to notice it, as `typed-model locks::fast_writers_exclude` or `typed-test monitor::name`.
The script copies the tree to target-mutants-typed, and applies, checks and takes back one patch after the other there.

It ends with 0 if every check noticed its fault, with 1 otherwise. `--only WORD` chooses patches by name.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target-mutants-typed"
PATIENCE = 240
COMMANDS = {
    "typed-model": ("--cfg loom", "loom", ["--lib"], "models::"),
    "typed-test": ("", "plain", ["--test", "it"], ""),
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


def verdict(check):
    """Runs a check on the patched copy. Returns whether it noticed, and what it said."""
    kind, _, name = check.partition(" ")
    if kind not in COMMANDS or not name:
        fail(f'"{check}" is no check; write "typed-model NAME" or "typed-test NAME"')
    flags, folder, words, prefix = COMMANDS[kind]
    environment = dict(os.environ, RUSTFLAGS=flags, CARGO_TARGET_DIR=str(COPY / "target" / folder))
    cargo = [os.environ.get("CARGO", "cargo"), "test", "--quiet", "-p", "keylatch-typed", *words]
    built = subprocess.run([*cargo, "--no-run"], cwd=COPY, env=environment, text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
    if built.returncode != 0:
        return False, "does not build\n" + built.stdout
    # In a session of its own: a check that hangs ends with cargo, and does not go on without it.
    run = subprocess.Popen([*cargo, "--", "--exact", prefix + name], cwd=COPY, env=environment, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = run.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        return False, f"did not end in {PATIENCE} s, which is not noticing"
    lines = output.splitlines()
    said = next((after for line, after in zip(lines, lines[1:]) if "panicked at" in line), "nothing")
    # A model that ends in a deadlock may abort while it unwinds, without a result.
    return run.returncode != 0 and "panicked at" in output, said[:120]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="", help="patches whose name contains this word")
    options = parser.parse_args()
    found = [path for path in sorted((ROOT / "mutants" / "typed").glob("*/*.patch")) if options.only in path.stem]
    if not found:
        fail("there is no such patch")
    copy_tree()
    noticed = total = 0
    for path in found:
        what, *checks = [part.strip() for part in path.read_text().split("\n", 1)[0].lstrip("# ").split(";")]
        print(f"{path.parent.name}/{path.stem}: {what}")
        apply(path)
        try:
            for check in checks:
                caught, said = verdict(check)
                total, noticed = total + 1, noticed + caught
                print(f"    {'caught' if caught else 'MISSED'} by {check}: {said.strip()}", flush=True)
        finally:
            apply(path, "-R")
    print(f"\n{len(found)} faults; {noticed} of {total} checks noticed theirs")
    sys.exit(0 if noticed == total else 1)


main()
