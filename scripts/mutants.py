#!/usr/bin/env python3
"""Breaks the code in one way after the other and shows which check notices: what `make mutants` and its sisters run.

    scripts/mutants.py engine table           the patches of these rooms of mutants/; of all without one
    scripts/mutants.py --only WORD            only patches with this in their name
    scripts/mutants.py --copy-with ROOM/NAME  only makes a copy of the tree with this patch, and prints where it is

The first line of a patch is a comment: what it breaks, and after each `;` a check that must notice. A check is a kind, one
of KINDS, and the name of a test, as in `model warm_key::two_writers` or `test forcing session_end_releases_its_holds`.

The script copies the tree to target-mutants. First all checks run there without a fault and have to pass. Then it applies
one patch after the other, builds and runs its checks, and takes the patch back. It ends with 0 if every check noticed its
fault, with 1 otherwise. A check that hangs has not noticed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATCHES = ROOT / "mutants"
COPY = ROOT / "target-mutants"
# Seconds after which a check that has not ended is stopped.
PATIENCE = 240
# What cargo gets for a kind of check, and what stands before the names of its tests. Kinds that end with "model" run under
# the model checker.
KINDS = {
    "model": (["-p", "keylatch", "--lib"], "engine::models::"),
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

Check = namedtuple("Check", "text kind cargo name")
Patch = namedtuple("Patch", "name path what checks")


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def check_named(text, path):
    """A check as the first line of a patch names it."""
    kind, *words = text.split()
    if kind == "test" and len(words) == 2:
        # The library, a program of tests/, or a file of the program `it`.
        program, name = words
        if program == "keylatch":
            return Check(text, kind, ["-p", "keylatch", "--lib"], name)
        if (ROOT / f"rust/keylatch/tests/{program}.rs").is_file():
            return Check(text, kind, ["-p", "keylatch", "--test", program], name)
        return Check(text, kind, ["-p", "keylatch", "--test", "it"], f"{program}::{name}")
    if kind not in KINDS or len(words) != 1:
        fail(f'{path}: "{text}" is no check; write "test PROGRAM NAME", or one of {", ".join(KINDS)} and a name')
    cargo, prefix = KINDS[kind]
    return Check(text, kind, cargo, words[0] if "::models::" in words[0] else prefix + words[0])


def patches(rooms):
    """All patches of these rooms."""
    found = []
    for path in sorted(path for room in rooms for path in (PATCHES / room).rglob("*.patch")):
        first = path.read_text().split("\n", 1)[0]
        if not first.startswith("# ") or ";" not in first:
            fail(f'{path}: the first line has to be "# what it breaks; check; check"')
        what, *checks = [part.strip() for part in first[2:].split(";")]
        name = path.relative_to(PATCHES).with_suffix("").as_posix()
        found.append(Patch(name, path, what, [check_named(check, path) for check in checks]))
    return found


def copy_tree():
    """Makes the copy equal to the tree, touching only what differs, so that builds can go on from the last."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
    wanted = {name for name in names if name and (ROOT / name).is_file()}
    COPY.mkdir(parents=True, exist_ok=True)
    for top in [top for top in COPY.iterdir() if top.is_dir() and not top.name.startswith("target")]:
        for path in [path for path in top.rglob("*") if path.is_file()]:
            if path.relative_to(COPY).as_posix() not in wanted:
                path.unlink()
    for name in wanted:
        source, target = ROOT / name, COPY / name
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def apply(path, *words):
    """Applies a patch to the copy; `-R` takes it back."""
    done = subprocess.run(["patch", "-p1", "--silent", "--no-backup-if-mismatch", *words, "-i", str(path)], cwd=COPY)
    if done.returncode != 0:
        fail(f"{path.relative_to(ROOT)} does not apply: write it anew against the source as it is")


def cargo(check, *more):
    """Runs `cargo test` for a check in the copy; returns its status and output, or None for the status if it hangs."""
    model = check.kind.endswith("model")
    # In the tree's own folders, cargo would take a program with a fault for the one without. A patch changes a few
    # functions, so builds are incremental, whatever the caller has chosen.
    environment = dict(os.environ, CARGO_INCREMENTAL="1", CARGO_TARGET_DIR=str(COPY / ("target-loom" if model else "target")),
                       RUSTFLAGS="-A warnings" + (" --cfg loom" if model else ""), RUST_BACKTRACE="0",
                       LOOM_MAX_PREEMPTIONS="2", KEYLATCH_MUTANTS="1")
    command = [os.environ.get("CARGO", "cargo"), "test", "--quiet", *check.cargo, *more]
    # In a session of its own, so that a test that hangs ends with cargo.
    run = subprocess.Popen(command, cwd=COPY, env=environment, text=True, errors="replace", stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = run.communicate(timeout=None if "--no-run" in more else PATIENCE)
    except BaseException as error:
        os.killpg(run.pid, signal.SIGKILL)
        output, _ = run.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return None, output
    return run.returncode, output


def why(output):
    """The line of a failed check that says most."""
    lines = [line.strip() for line in output.splitlines()]
    for number, line in enumerate(lines):
        if "panicked at" in line:
            return next((said for said in lines[number + 1:] if said), "")[:100]
    return next((line[:100] for line in lines if "fatal" in line or "SUMMARY" in line), "it crashed")


def run(check):
    """Builds and runs a check in the copy. Returns whether it passed, or None, and what it said."""
    began = time.monotonic()
    status, output = cargo(check, "--no-run")
    if status != 0:
        return None, "does not build\n" + output
    built = time.monotonic()
    status, output = cargo(check, "--", "--exact", check.name, "--test-threads=1")
    if status is None:
        return None, f"did not end in {PATIENCE} s"
    if "running 1 test\n" not in output:
        fail(f"there is no check {check.text}\n{output}")
    spent = f"built in {built - began:.0f} s, ran {time.monotonic() - built:.1f} s"
    return status == 0, f"{spent}: " + ("it passed" if status == 0 else why(output))


def see_all_pass(checks):
    """Runs the checks without a fault; ends the program if one does not pass."""
    began = time.monotonic()
    wrong = [(check, said) for check, (passed, said) in ((check, run(check)) for check in checks) if not passed]
    for check, said in wrong:
        print(f"without a fault: {check.text}: {said}")
    if wrong:
        sys.exit(1)
    print(f"without a fault all {len(checks)} checks pass ({time.monotonic() - began:.0f} s)\n", flush=True)


def of_today(chosen, most):
    """As many of the patches as are wanted, others each day."""
    if most is None or len(chosen) <= most:
        return chosen
    first = int(time.time() // 86400) * most % len(chosen)
    return (chosen + chosen)[first:first + most]


def main():
    rooms = sorted(path.name for path in PATCHES.iterdir())
    words = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    words.add_argument("rooms", nargs="*", help=f"of {', '.join(rooms)}; all without one")
    words.add_argument("--only", metavar="WORD", default="", help="patches with this in their name")
    words.add_argument("--kind", choices=["test", *KINDS], help="only the checks of this kind")
    words.add_argument("--first", action="store_true", help="only the first check of each patch")
    words.add_argument("--patches", type=int, metavar="N", help="only N of the patches, others each day")
    words.add_argument("--times", type=int, default=1, help="how many times each check runs with its fault")
    words.add_argument("--trust", action="store_true", help="do not run the checks without a fault: something else did")
    words.add_argument("--copy-with", metavar="ROOM/NAME", help="only make a copy of the tree with this patch")
    options = words.parse_args()
    if options.copy_with:
        global COPY
        # Another one, which takes nothing from a run that goes on.
        COPY = ROOT / "target-sabotaged"
        copy_tree()
        apply(PATCHES / f"{options.copy_with}.patch")
        print(COPY)
        return
    if unknown := set(options.rooms) - set(rooms):
        fail(f"there is no room {', '.join(unknown)} in mutants/")

    chosen = []
    for patch in patches(options.rooms or rooms):
        checks = [check for check in patch.checks if options.kind in (None, check.kind)]
        if checks and options.only in patch.name:
            chosen.append(patch._replace(checks=checks[:1] if options.first else checks))
    chosen = of_today(chosen, options.patches)
    if not chosen:
        fail("there is no such patch")
    copy_tree()
    if not options.trust:
        see_all_pass(list({check.text: check for patch in chosen for check in patch.checks}.values()))

    began, total, noticed = time.monotonic(), 0, 0
    for patch in chosen:
        print(f"{patch.name}: {patch.what}", flush=True)
        apply(patch.path)
        try:
            for check in [check for check in patch.checks for _ in range(options.times)]:
                passed, said = run(check)
                total, noticed = total + 1, noticed + (passed is False)
                print(f"    {'caught' if passed is False else 'MISSED'} by {check.text}, {said}", flush=True)
        finally:
            apply(patch.path, "-R")
    print(f"\n{len(chosen)} faults; {noticed} of {total} checks noticed theirs ({time.monotonic() - began:.0f} s)")
    sys.exit(0 if noticed == total else 1)


if __name__ == "__main__":
    main()
