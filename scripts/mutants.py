#!/usr/bin/env python3
"""Switches on one deliberate fault after the other and shows which check notices it: what `make mutants` runs.

Most faults are patches in `mutants/<room>/<name>.patch`. The first line of a patch is a comment: what it breaks, and
after each `;` a check that has to notice it, as `model warm_key::two_writers` or `test forcing name`. The script copies
the tree, applies one patch after the other to the copy, and builds and runs its checks there.

The other faults are in the library's source as `fault!("name")` and `ordering!(usual, "name", weakened)`; they exist
under `--cfg faults` only, and the environment variable KEYLATCH_FAULT chooses one. Each is listed here with its checks.
First all checks run without a fault and have to pass.

It ends with 0 if every check noticed its fault, with 1 otherwise.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATE = ROOT / "rust" / "keylatch"
TARGET = ROOT / "target-faults"
PATCHES = ROOT / "mutants"
# The copy of the tree that patches are applied to.
COPY = TARGET / "tree"

# Seconds after which a check that has not ended is stopped. That is not noticing: a check says what is wrong by itself.
PATIENCE = 240

Check = namedtuple("Check", "kind binary name")
Outcome = namedtuple("Outcome", "passed seconds said")


def model(name):
    return Check("model", "keylatch", f"engine::models::{name}")


def test(subject, name):
    """A test of `tests/SUBJECT.rs`, a program of its own, or of a file of the program `it`; "keylatch" is the library."""
    if subject == "keylatch" or (CRATE / "tests" / f"{subject}.rs").is_file():
        return Check("test", subject, name)
    return Check("test", "it", f"{subject}::{name}")


# What is broken, and who has to notice.
FAULTS = {
    "waiting-not-shown": (
        "the word never shows that there is a waiter",
        [model("hand_over::release_against_enqueue"), test("waiting", "ten_thousand_in_line_are_all_served_alone")],
    ),
    "last-completion-not-signalled": (
        "a queue's last result that will not come, after the end, rings no bell",
        [Check("model", "keylatch", "wait::completion_queue::models::end_wakes_the_fetching_thread")],
    ),
    "sleeper-not-woken": (
        "a thread that sleeps is not woken by its result",
        [model("hand_over::release_against_enqueue")],
    ),
    "parked-without-swap": (
        "a thread goes to sleep although its result is there",
        [model("hand_over::release_against_enqueue")],
    ),
    "phase-relaxed": (
        "a waiter's change of phase orders nothing",
        [model("hand_over::release_against_enqueue")],
    ),
    "round-not-continued": (
        "a hand-over ends after its first round",
        [test("waiting", "all_waiting_readers_come_in_together")],
    ),
    "loser-does-not-settle": (
        "a waiter that tried and lost does not show again that it waits",
        [model("hand_over::newcomer_overtakes_a_notified_waiter")],
    ),
    "giving-up-does-not-settle": (
        "a waiter that gives up does not look at who stood behind",
        [model("ending_waits::a_writer_gives_up_in_front_of_a_reader"),
         test("cancelling", "the_first_in_line_leaving_wakes_the_new_first")],
    ),
    "old-ticket-taken": (
        "a cancel does not compare the ticket again under the mutex",
        [model("ending_waits::old_ticket_cancels_no_other_request")],
    ),
    "ticket-compared-too-early": (
        "a cancel compares the ticket before it looks whether its waiter waits",
        [model("ending_waits::old_ticket_cancels_no_other_request")],
    ),
    "ticket-used-again": (
        "a waiter that is given back keeps its ticket",
        [test("keylatch", "wait::waiter::tests::ticket_is_void_after_put"),
         test("cancelling", "old_ticket_ends_no_other_wait")],
    ),
    "downgrade-does-not-settle": (
        "a downgrade does not let waiting readers in",
        [model("conversion::downgrade_with_reader_and_writer_queued"),
         test("converting", "downgrade_lets_in_readers_only")],
    ),
    "closed-mark-not-asked-again": (
        "a request does not look for the close under the mutex",
        [model("closing::close_against_enqueue")],
    ),
    "phase-read-before-waker-set": (
        "a future looks for its result before it sets its waker",
        [model("tasks::a_task_is_polled_while_the_lock_is_released")],
    ),
    "dropped-future-stays-in-line": (
        "a dropped future does not leave the line",
        [model("tasks::a_task_is_dropped_while_the_lock_is_released"),
         test("cancelling", "future_dropped_after_grant_passes_lock_on")],
    ),
    "completion-overwrites-completion": (
        "an answer by mail takes the place of the one before it",
        [test("callbacks", "every_callback_is_called_exactly_once")],
    ),
    "delivered-under-the-mutex": (
        "wakers are called while the shard's mutex is held",
        [test("cancelling", "a_waker_may_use_the_manager")],
    ),
    "overtaking-not-counted": (
        "it is not counted how often a waiter is overtaken",
        [test("fairness", "low_priority_is_overtaken_up_to_the_bound")],
    ),
    "batch-not-in-order": (
        "a batch that waits takes its locks in the order they were named",
        [test("keylatch", "engine::batch::tests::in_order_merges_keys_by_strongest_mode")],
    ),
    "failed-batch-keeps-one": (
        "a batch that fails keeps one of its locks",
        [test("batches", "batch_conflict_is_named_and_leaves_nothing")],
    ),
    "answered-deadline-kept": (
        "the deadline of a request that was answered meanwhile stays with the timer",
        [test("keylatch", "engine::completion::tests::no_deadline_outlives_its_request")],
    ),
    "foreign-panic-let-through": (
        "a panic of a waker, or of a drop of the caller's, goes through the engine",
        [test("foreign_panics", "panicking_waker_lets_others_wake"),
         test("foreign_panics", "waker_panic_in_drop_loses_no_grant"),
         test("foreign_panics", "a_callback_whose_drop_panics_loses_nothing"),
         test("foreign_panics", "subscriber_waker_panic_stops_no_timer"),
         test("foreign_panics", "listener_panic_in_drop_loses_no_lock"),
         test("foreign_panics", "loss_waker_panic_affects_no_others"),
         test("foreign_panics", "what_a_callback_throws_may_throw_again"),
         test("keylatch", "wait::timer::tests::panic_keeps_the_timer_running")],
    ),
    "late-loss-not-reported": (
        "a lock that is taken away in the moment of its release counts as released",
        [model("losing::a_number_is_released_by_one_of_two")],
    ),
    "lease-begins-unnoticed": (
        "waiters do not learn that the lock has a lease now",
        [model("losing::lease_begins_while_a_wait_begins")],
    ),
    "sleeper-not-reminded": (
        "who sleeps is not woken to look earlier at a lease",
        [model("losing::lease_begins_while_a_wait_begins")],
    ),
    "leases-looked-for-each-time": (
        "a request for a leased lock looks at all holds there are",
        [test("keylatch", "engine::lease::tests::try_of_leased_lock_searches_no_holds")],
    ),
    "search-of-another-overlooked": (
        "a table is called full while another is about to end a lease that has run out",
        [model("losing::two_threads_reclaim")],
    ),
    "search-begun-late": (
        "a lease that begins while others are searched for is forgotten with what was known of them",
        [model("losing::a_lease_begins_while_a_full_table_is_searched")],
    ),
    "lock-delay-beyond-the-close": (
        "a lock that is kept shut stays so when the manager is closed",
        [model("closing::close_against_a_lock_delay"),
         test("leases", "lock_delay_ends_with_the_close")],
    ),
    "listener-marked-before-known": (
        "a hold is marked as watched before the one who watches is known",
        [model("losing::listener_added_during_revocation")],
    ),
    "session-not-seen-waiting": (
        "a session's wait is not noted",
        [model("deadlocks::one_of_two_gives_way")],
    ),
    "victim-not-woken": (
        "who gives way in a deadlock is not woken",
        [model("deadlocks::who_gives_way_sleeps")],
    ),
    "suspicion-not-confirmed": (
        "a suspicion of a deadlock is taken for one",
        [model("deadlocks::a_deadlock_against_a_cancel")],
    ),
    "asked-again-not-counted": (
        "a session that asks again for what it holds is not counted",
        [model("reentering::waiter_while_a_session_asks_again"),
         test("sessions", "last_counted_hold_frees_the_lock"),
         test("model", "program_of_lost_holds_matches_model")],
    ),
    "answer-not-remembered": (
        "a session's numbered request is answered anew each time",
        [test("sessions", "same_request_gets_same_grant_while_held")],
    ),
    "dropped-session-keeps-its-locks": (
        "a session that is to release its locks when dropped does not",
        [test("forcing", "session_end_releases_its_holds")],
    ),
    "look-outlives-its-request": (
        "the timer keeps the moment at which a request was to look though the request is gone",
        [test("keylatch", "engine::recheck::tests::ended_requests_leave_no_moments")],
    ),
    "dropped-future-listens-on": (
        "a future that tells of a lost lock is listened for though it was dropped",
        [test("keylatch",
              "engine::loss::tests::dropped_listeners_make_way_for_new_ones")],
    ),
    "batch-counts-a-key-twice": (
        "a session that may count has a key of a batch as often as the batch names it",
        [test("batches", "counting_session_holds_batch_key_once")],
    ),
    "looks-before-ends": (
        "whose time is over waits until all who look have looked",
        [test("keylatch", "wait::timer::tests::deadline_comes_before_rechecks")],
    ),
    "earlier-moment-not-signalled": (
        "the timer sleeps on when an earlier deadline is set",
        [test("waiting", "an_earlier_deadline_set_later_is_kept")],
    ),
}

# How the checks of a kind are built: compiler flags, target folder, cargo's words.
BUILDS = {
    "model": ("--cfg loom --cfg faults", "loom", ["--release"]),
    "test": ("--cfg faults", "plain", []),
}


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def faults_in_source():
    text = "".join(path.read_text() for path in sorted((CRATE / "src").rglob("*.rs")) if path.name != "fault.rs")
    return set(re.findall(r'\b(?:fault|ordering)!\([^()"]*"([a-z-]+)"', text))


Patch = namedtuple("Patch", "name path what checks")


def check_named(text, path):
    """A check as the first line of a patch names it."""
    words = text.split()
    if len(words) == 2 and words[0] == "model":
        return model(words[1])
    if len(words) == 3 and words[0] == "test":
        return test(words[1], words[2])
    fail(f"{path}: \"{text}\" is no check; write \"model NAME\" or \"test PROGRAM NAME\"")


def patches():
    """All faults that are patches."""
    found = []
    for path in sorted(PATCHES.glob("*/*.patch")):
        if not (ROOT / "rust/keylatch/src" / path.parent.name).is_dir():
            continue  # of another crate, whose own checks notice it
        first = path.read_text().split("\n", 1)[0]
        if not first.startswith("# ") or ";" not in first:
            fail(f"{path}: the first line has to be \"# what it breaks; check; check\"")
        what, *checks = [part.strip() for part in first[2:].split(";")]
        name = f"{path.parent.name}/{path.stem}"
        found.append(Patch(name, path, what, [check_named(check, path) for check in checks]))
    return found


def copy_tree():
    """Makes the copy equal to the tree as it is, touching only what differs, so that builds can go on from the last."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                            stdout=subprocess.PIPE, text=True).stdout.split("\0")
    wanted = {name for name in listed if name and (ROOT / name).is_file()}
    COPY.mkdir(parents=True, exist_ok=True)
    for path in [path for path in COPY.rglob("*") if path.is_file()]:
        if str(path.relative_to(COPY)) not in wanted:
            path.unlink()
    for name in wanted:
        source, target = ROOT / name, COPY / name
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def apply(patch, *words):
    """Applies a patch to the copy; `-R` takes it back."""
    done = subprocess.run(["patch", "-p1", "--silent", "--no-backup-if-mismatch", *words, "-i", str(patch.path)], cwd=COPY)
    if done.returncode != 0:
        fail(f"{patch.path.relative_to(ROOT)} does not apply: write it anew against the source as it is")


def run_patches(chosen, options):
    """Applies one patch after the other and runs its checks. Returns how many of how many noticed."""
    copy_tree()
    noticed = total = 0
    for patch in chosen:
        checks = [check for check in patch.checks if options.kind in (None, check.kind)]
        checks = checks[:1] if options.first else checks
        if not checks:
            continue
        print(f"{patch.name}: {patch.what}")
        apply(patch)
        try:
            kinds = dict.fromkeys(check.kind for check in checks)
            programs = {kind: build(kind, checks, COPY, "patched") for kind in kinds}
            for check in [check for check in checks for _ in range(options.times)]:
                outcome = run(programs, check, None)
                verdict = "caught" if outcome.passed is False else "MISSED"
                total, noticed = total + 1, noticed + (verdict == "caught")
                print(f"    {verdict} by {title(check)} in {outcome.seconds:.1f} s: {outcome.said}", flush=True)
        finally:
            apply(patch, "-R")
    return noticed, total


def build(kind, checks, root=ROOT, prefix=""):
    """Builds these checks, of a kind; returns their programs by name."""
    flags, folder, words = BUILDS[kind]
    folder = f"{prefix}-{folder}" if prefix else folder
    binaries = sorted({check.binary for check in checks if check.kind == kind})
    words = words + [word for name in binaries for word in (["--lib"] if name == "keylatch" else ["--test", name])]
    environment = dict(os.environ, RUSTFLAGS=flags, CARGO_TARGET_DIR=str(TARGET / folder))
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "test", "-p", "keylatch", "--no-run", "--message-format=json-render-diagnostics", *words]
    done = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        fail(f"the checks of kind {kind} do not build")
    programs = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            programs[message["target"]["name"]] = message["executable"]
    return programs


def why(text):
    """The line of a failed check that says most."""
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines):
        if "panicked at" in line and number + 1 < len(lines):
            said = next((said for said in lines[number + 1:] if said), "")
            return said.split("; ")[0][:70]
    return next((line[:70] for line in lines if "fatal" in line or "SUMMARY" in line), "it crashed")


def run(programs, check, fault):
    """Runs one check."""
    environment = dict(os.environ, LOOM_MAX_PREEMPTIONS="2", RUST_BACKTRACE="0")
    environment.pop("KEYLATCH_FAULT", None)
    if fault:
        environment["KEYLATCH_FAULT"] = fault
    command = [programs[check.kind][check.binary], check.name, "--exact", "--test-threads=1"]
    began = time.monotonic()
    try:
        done = subprocess.run(command, cwd=CRATE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Outcome(None, PATIENCE, f"not over after {PATIENCE} s")
    seconds = time.monotonic() - began
    if "running 1 test\n" not in done.stdout:
        fail(f"there is no check {check.binary} {check.name}\n{done.stdout}")
    return Outcome(done.returncode == 0, seconds, "" if done.returncode == 0 else why(done.stdout))


def title(check):
    name = check.name.removeprefix("engine::models::")
    if check.kind == "model":
        return f"model {name}"
    return f"{check.kind} {name}" if check.binary == "keylatch" else f"{check.kind} {check.binary}::{name}"


def see_all_pass(pool, programs, checks):
    """Runs the checks without a fault; ends the program if one does not pass."""
    began = time.monotonic()
    outcomes = list(pool.map(lambda check: run(programs, check, None), checks))
    wrong = [(check, outcome) for check, outcome in zip(checks, outcomes) if not outcome.passed]
    for check, outcome in wrong:
        print(f"without a fault: {title(check)}: {outcome.said}")
    if wrong:
        sys.exit(1)
    print(f"without a fault all {len(checks)} checks pass ({time.monotonic() - began:.0f} s)\n", flush=True)


def of_today(faults, most):
    """As many of the faults as are wanted, others each day."""
    if most is None or len(faults) <= most:
        return faults
    first = int(time.time() // 86400) * most % len(faults)
    return (faults + faults)[first:first + most]


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    words.add_argument("--only", metavar="WORD", help="faults with this in their name")
    words.add_argument("--kind", choices=BUILDS, help="only the checks of this kind")
    words.add_argument("--trust", action="store_true", help="do not run the checks without a fault: something else did")
    words.add_argument("--first", action="store_true", help="only the first check of each fault")
    words.add_argument("--times", type=int, default=1, help="how many times each check runs with its fault")
    words.add_argument("--patches", type=int, metavar="N", help="only N of the patches: others each day")
    words.add_argument("--switches", type=int, metavar="N", help="at most N of the other faults, others each day")
    words.add_argument("--copy-with", metavar="ROOM/NAME", help="only make the copy of the tree with this patch applied")
    words.add_argument("--table", action="store_true", help="end with a table of the faults")
    words.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="checks at a time")
    options = words.parse_args()

    if options.copy_with:
        copy_tree()
        apply(next((patch for patch in patches() if patch.name == options.copy_with), None)
              or fail(f"there is no patch {options.copy_with}"))
        print(COPY)
        return

    listed, present = set(FAULTS), faults_in_source()
    if listed != present:
        fail(f"not in the source: {sorted(listed - present)}; not listed here: {sorted(present - listed)}")
    chosen = {}
    for name, (what, checks) in FAULTS.items():
        checks = [check for check in checks if options.kind in (None, check.kind)]
        if checks and (not options.only or options.only in name):
            chosen[name] = (what, checks[:1] if options.first else checks)
    patched = [patch for patch in patches() if not options.only or options.only in patch.name]
    if options.kind:
        patched = [patch for patch in patched if any(check.kind == options.kind for check in patch.checks)]
    patched = of_today(patched, options.patches)
    chosen = dict(of_today(list(chosen.items()), options.switches))
    if not chosen and not patched:
        fail("no fault is left to switch on")

    began, trusted = time.monotonic(), []
    for patch in patched:
        for check in patch.checks:
            if options.kind in (None, check.kind) and not options.trust:
                trusted.append(check)
    checks = list(dict.fromkeys(trusted + [check for _, checks in chosen.values() for check in checks]))
    programs = {kind: build(kind, checks) for kind in dict.fromkeys(check.kind for check in checks)}
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        if not options.trust:
            see_all_pass(pool, programs, checks)

        began = time.monotonic()
        pairs = [(name, check) for name, (_, checks) in chosen.items() for check in checks for _ in range(options.times)]
        outcomes = pool.map(lambda pair: run(programs, pair[1], pair[0]), pairs)
        noticed, before, results = 0, None, {name: [] for name in chosen}
        for (name, check), outcome in zip(pairs, outcomes):
            if name != before:
                print(f"{name}: {chosen[name][0]}")
                before = name
            verdict = "caught" if outcome.passed is False else "MISSED"
            noticed += verdict == "caught"
            results[name].append(verdict == "caught")
            print(f"    {verdict} by {title(check)} in {outcome.seconds:.1f} s: {outcome.said}", flush=True)

    if options.table:
        print("\n| fault | what is broken | who has to notice | runs, noticed |\n|---|---|---|---|")
        for name, (what, checks) in chosen.items():
            who = "; ".join(title(check) for check in checks)
            print(f"| `{name}` | {what} | {who} | {len(results[name])}, {sum(results[name])} |")
    by_patch, of_patches = run_patches(patched, options)
    noticed, total = noticed + by_patch, len(pairs) + of_patches
    print(f"\n{len(chosen) + len(patched)} faults; {noticed} of {total} checks noticed theirs "
          f"({time.monotonic() - began:.0f} s)")
    sys.exit(0 if noticed == total else 1)


if __name__ == "__main__":
    main()
