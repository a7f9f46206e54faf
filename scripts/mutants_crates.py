#!/usr/bin/env python3
"""Breaks the crates above the library in one way after the other and shows which check notices.

    scripts/mutants_crates.py service claims     what `make mutants-service` runs; the words are rooms of mutants/
    scripts/mutants_crates.py --only WORD        only patches with this in their name
    scripts/mutants_crates.py --copy-with ROOM/NAME   only makes the copy with this patch, and prints where it is

The first line of a patch is a comment: what it breaks, and after each `;` a check that must notice. A check is a kind, one
of KINDS, and the name of a test. The script copies the tree to target-mutants. There it applies one patch after the other,
builds and runs its checks, and takes the patch back.

It ends with 0 if every check noticed its fault, with 1 otherwise. A check that hangs has not noticed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target-mutants"
ROOMS = ("claims", "etcd", "service", "shm", "typed")
PATIENCE = 240
# What cargo gets for a kind of check, and what stands before the names of its tests.
KINDS = {
    "claims": (["-p", "keylatch", "--test", "it"], "claims::"),
    "it": (["-p", "keylatch-service", "--test", "it"], ""),
    "unit": (["-p", "keylatch-service", "--lib"], ""),
    "etcd-test": (["-p", "keylatch-etcd", "--test", "it"], ""),
    "etcd-clocks": (["-p", "keylatch-etcd", "--test", "clocks"], ""),
    "etcd-unit": (["-p", "keylatch-etcd", "--lib"], ""),
    "shm-test": (["-p", "keylatch-shm", "--test", "it"], ""),
    "shm-unit": (["-p", "keylatch-shm", "--lib"], ""),
    "typed-test": (["-p", "keylatch-typed", "--test", "it"], ""),
    "typed-unit": (["-p", "keylatch-typed", "--lib"], ""),
    "typed-model": (["-p", "keylatch-typed", "--lib"], "models::"),
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


def cargo(kind, *more):
    """Runs `cargo test` for a kind of check; returns its status and output, or None for the status if it hangs."""
    model = kind.endswith("-model")
    # In the tree's own folder, cargo would take a program with a fault for the one without.
    environment = dict(os.environ, CARGO_TARGET_DIR=str(COPY / ("target-loom" if model else "target")), RUST_BACKTRACE="0")
    environment |= {"RUSTFLAGS": "--cfg loom"} if model else {}
    command = [os.environ.get("CARGO", "cargo"), "test", "--quiet", *KINDS[kind][0], *more]
    # In a session of its own, so that a test that hangs ends with cargo.
    run = subprocess.Popen(command, cwd=COPY, env=environment, text=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = run.communicate(timeout=None if "--no-run" in more else PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        return None, run.communicate()[0]
    return run.returncode, output


def verdict(check):
    """Runs a check on the patched copy. Returns whether it noticed, and what it said."""
    kind, _, name = check.partition(" ")
    if kind not in KINDS or not name:
        fail(f'"{check}" is no check; write one of {", ".join(KINDS)} and a test')
    status, output = cargo(kind, "--no-run")
    if status != 0:
        return False, "does not build\n" + output
    status, output = cargo(kind, "--", "--exact", KINDS[kind][1] + name)
    if status is None:
        return False, f"did not end in {PATIENCE} s"
    if "running 1 test" not in output:
        fail(f"there is no check {check}\n{output}")
    lines = [line.strip() for line in output.splitlines()]
    said = next((after for line, after in zip(lines, lines[1:]) if "panicked at" in line and after), "it crashed")
    return status != 0, said[:100] if status else "it passed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("rooms", nargs="*", help=f"of {', '.join(ROOMS)}; all without one")
    parser.add_argument("--only", default="", help="only patches with this in their name")
    parser.add_argument("--copy-with", metavar="ROOM/NAME", help="only make the copy of the tree with this patch applied")
    options = parser.parse_args()
    if options.copy_with:
        global COPY
        # Another one, which takes nothing from a run that goes on.
        COPY = ROOT / "target-sabotaged"
        copy_tree()
        apply(ROOT / "mutants" / f"{options.copy_with}.patch")
        print(COPY)
        return
    rooms = options.rooms or ROOMS
    paths = [path for room in rooms for path in sorted((ROOT / "mutants" / room).rglob("*.patch"))]
    paths = [path for path in paths if options.only in path.relative_to(ROOT / "mutants").with_suffix("").as_posix()]
    if not paths:
        fail("there is no such patch")
    copy_tree()
    total = noticed = 0
    for path in paths:
        what, *checks = [part.strip() for part in path.read_text().split("\n", 1)[0].lstrip("# ").split(";")]
        if not checks:
            fail(f'{path}: the first line has to be "# what it breaks; check; check"')
        print(f"{path.relative_to(ROOT / 'mutants').with_suffix('')}: {what}", flush=True)
        apply(path)
        try:
            for check in checks:
                began = time.monotonic()
                caught, said = verdict(check)
                total, noticed = total + 1, noticed + caught
                word = "caught" if caught else "MISSED"
                print(f"    {word} by {check} in {time.monotonic() - began:.0f} s: {said}", flush=True)
        finally:
            apply(path, "-R")
    print(f"\n{len(paths)} faults; {noticed} of {total} checks noticed theirs")
    sys.exit(0 if noticed == total else 1)


if __name__ == "__main__":
    main()
