"""How long it takes to lock and release, beside other locks of Python, all in one run.

Each row is measured in rounds that alternate between the locks, so that what disturbs one disturbs the others, too. Shown
is the median time of one operation, and the median, over the rounds, of keylatch's time divided by the other lock's.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import multiprocessing
import os
import platform
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

from . import filelock
from . import multiprocessing as processes
from ._keylatch import __version__
from ._manager import LockManager
from ._options import whole

NAME = "bench"
HELP = "times of lock and release beside threading, asyncio and other packages"

Loop = Callable[[int], float]
"""Repeats something, and returns how many seconds that took."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell what the command may be asked for."""
    parser.add_argument("--rounds", type=whole(1), default=31, help="rounds of each row (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: to see that it works")
    parser.add_argument("--only", metavar="WORD", default="", help="only rows whose name contains this")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures there, too")


@dataclass
class Row:
    """One kind of work, by keylatch and by others."""

    name: str
    subjects: dict[str, Loop]
    goals: dict[str, float] = field(default_factory=dict)
    """What keylatch's time, divided by that of another, should not be above."""
    times: dict[str, list[float]] = field(default_factory=dict)


class DictOfLocks:
    """What people write by hand: a lock for each key, kept while a thread holds it or waits for it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._locks: dict[Any, _Counted] = {}

    def lock(self, key: Any) -> _Counted:
        with self._mutex:
            counted = self._locks.get(key)
            if counted is None:
                counted = self._locks[key] = _Counted(self, key)
            counted.users += 1
        counted.lock.acquire()
        return counted

    def release(self, counted: _Counted) -> None:
        counted.lock.release()
        with self._mutex:
            counted.users -= 1
            if counted.users == 0:
                del self._locks[counted.key]


class _Counted:
    __slots__ = ("key", "lock", "owner", "users")

    def __init__(self, owner: DictOfLocks, key: Any) -> None:
        self.owner, self.key, self.lock, self.users = owner, key, threading.Lock(), 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.owner.release(self)


def with_lock(lock: Any) -> Loop:
    """`with lock:`."""

    def loop(times: int) -> float:
        began = time.perf_counter()
        for _ in repeat(None, times):
            with lock:
                pass
        return time.perf_counter() - began

    return loop


def with_key(take: Any, **asked: Any) -> Loop:
    """`with take(key):`."""

    def loop(times: int) -> float:
        began = time.perf_counter()
        for _ in repeat(None, times):
            with take("cat.jpg"):
                pass
        return time.perf_counter() - began

    def loop_asking(times: int) -> float:
        began = time.perf_counter()
        for _ in repeat(None, times):
            with take("cat.jpg", shared=True):
                pass
        return time.perf_counter() - began

    return loop_asking if asked else loop


def with_keys(take: Any, keys: list[Any]) -> Loop:
    """`with take(key):` for many keys in turn."""

    def loop(times: int) -> float:
        began = time.perf_counter()
        for key in (keys * (times // len(keys) + 1))[:times]:
            with take(key):
                pass
        return time.perf_counter() - began

    return loop


def with_batches(locks: LockManager, keys: list[Any]) -> Loop:
    """`with locks.lock_many(keys):`, of which each key counts as one."""

    def loop(times: int) -> float:
        began = time.perf_counter()
        for _ in repeat(None, -(-times // len(keys))):
            with locks.lock_many(keys):
                pass
        return time.perf_counter() - began

    return loop


def pair_of_lock(lock: Any) -> Loop:
    """`lock.acquire()`, `lock.release()`."""

    def loop(times: int) -> float:
        began = time.perf_counter()
        for _ in repeat(None, times):
            lock.acquire()
            lock.release()
        return time.perf_counter() - began

    return loop


def pair_of_key(take: Any) -> Loop:
    """`take(key).release()`."""

    def loop(times: int) -> float:
        began = time.perf_counter()
        for _ in repeat(None, times):
            take("cat.jpg").release()
        return time.perf_counter() - began

    return loop


def try_key(take: Any) -> Loop:
    """A try that finds the lock held."""

    def loop(times: int) -> float:
        began = time.perf_counter()
        for _ in repeat(None, times):
            take("held")
        return time.perf_counter() - began

    return loop


def try_lock(lock: Any) -> Loop:
    """The same of a lock."""

    def loop(times: int) -> float:
        began = time.perf_counter()
        for _ in repeat(None, times):
            lock.acquire(False)
        return time.perf_counter() - began

    return loop


def run_async(loop: Callable[[int], Any]) -> Loop:
    """A loop that is a coroutine, in an event loop of its own for each round."""
    return lambda times: float(asyncio.run(loop(times)))


def async_with_lock() -> Loop:
    """`async with asyncio.Lock()`."""

    async def loop(times: int) -> float:
        lock = asyncio.Lock()
        began = time.perf_counter()
        for _ in repeat(None, times):
            async with lock:
                pass
        return time.perf_counter() - began

    return run_async(loop)


def async_with_key(take: Any) -> Loop:
    """`async with take(key)`."""

    async def loop(times: int) -> float:
        began = time.perf_counter()
        for _ in repeat(None, times):
            async with take("cat.jpg"):
                pass
        return time.perf_counter() - began

    return run_async(loop)


def async_hand_over(take: Callable[[], Any]) -> Loop:
    """Eight tasks that want one lock all the time, and each lets the others run while it has it."""

    async def loop(times: int) -> float:
        lock = take()

        async def work() -> None:
            for _ in repeat(None, times // 8):
                async with lock() if callable(lock) else lock:
                    await asyncio.sleep(0)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(8)))
        return time.perf_counter() - began

    return run_async(loop)


def threads_hand_over(work: Loop) -> Loop:
    """The same work in two threads together."""

    def loop(times: int) -> float:
        threads = [threading.Thread(target=work, args=(times // 2,)) for _ in range(2)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - began

    return loop


class Others:
    """Packages of others, as far as they are installed."""

    def __init__(self, folder: str) -> None:
        self.missing: list[str] = []
        self._folder = folder

    def _module(self, name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ImportError:
            package = name.partition(".")[0]
            if package not in self.missing:
                self.missing.append(package)
            return None

    def exclusive(self) -> Iterator[tuple[str, Loop]]:
        """`with` blocks that one holds at a time."""
        if fair := self._module("readerwriterlock.rwlock"):
            yield "readerwriterlock", with_lock(fair.RWLockFair().gen_wlock())
        if fasteners := self._module("fasteners"):
            lock = fasteners.ReaderWriterLock()
            yield "fasteners", self._called(lock.write_lock)
        yield from self.files("bench.lock")

    def file(self, name: str) -> str:
        """Where a file of the bench may be."""
        return os.path.join(self._folder, name)

    def files(self, name: str) -> Iterator[tuple[str, Loop]]:
        """`with` blocks that hold a file."""
        if package := self._module("filelock"):
            yield "filelock", with_lock(package.FileLock(self.file(name)))

    def shared(self) -> Iterator[tuple[str, Loop]]:
        """`with` blocks that many hold."""
        if fair := self._module("readerwriterlock.rwlock"):
            yield "readerwriterlock", with_lock(fair.RWLockFair().gen_rlock())
        if fasteners := self._module("fasteners"):
            yield "fasteners", self._called(fasteners.ReaderWriterLock().read_lock)

    @staticmethod
    def _called(take: Any) -> Loop:
        def loop(times: int) -> float:
            began = time.perf_counter()
            for _ in repeat(None, times):
                with take():
                    pass
            return time.perf_counter() - began

        return loop


def rows(others: Others) -> list[Row]:
    """Everything that is measured."""
    locks, by_hand, keys = LockManager(), DictOfLocks(), [("photos", f"{number}.jpg") for number in range(10_000)]
    held, held_mutex = LockManager(), threading.Lock()
    held.lock("held").into_grant()
    held_mutex.acquire()
    return [
        Row(
            "with block",
            {
                "keylatch": with_key(locks.lock),
                "threading.Lock": with_lock(threading.Lock()),
                "threading.RLock": with_lock(threading.RLock()),
                "dict of locks": with_key(by_hand.lock),
                **dict(others.exclusive()),
            },
            # At least four times faster is at most a quarter of the time.
            {"threading.Lock": 1.15, "dict of locks": 0.25},
        ),
        Row(
            "method pair",
            {"keylatch": pair_of_key(locks.lock), "threading.Lock": pair_of_lock(threading.Lock())},
            {"threading.Lock": 1.3},
        ),
        Row("shared with block", {"keylatch": with_key(locks.lock, shared=True), **dict(others.shared())}),
        Row(
            "10,000 keys in turn",
            {"keylatch": with_keys(locks.lock, keys), "dict of locks": with_keys(by_hand.lock, keys)},
            {"dict of locks": 0.25},
        ),
        Row(
            "16 keys in a batch",
            {"keylatch": with_batches(locks, keys[:16]), "16 single locks": with_keys(locks.lock, keys[:16])},
            {"16 single locks": 1.2},
        ),
        Row(
            "with block of a pinned key",
            {"keylatch": with_lock(LockManager().key("cat.jpg")), "threading.Lock": with_lock(threading.Lock())},
            {"threading.Lock": 0.7},
        ),
        Row("try in vain", {"keylatch": try_key(held.try_lock), "threading.Lock": try_lock(held_mutex)}),
        Row(
            "two threads, one key",
            {
                "keylatch": threads_hand_over(with_key(locks.lock)),
                "threading.Lock": threads_hand_over(with_lock(threading.Lock())),
                "dict of locks": threads_hand_over(with_key(by_hand.lock)),
            },
        ),
        Row(
            "processes, with block",
            {"keylatch": with_lock(processes.Lock()), "multiprocessing.Lock": with_lock(multiprocessing.Lock())},
            {"multiprocessing.Lock": 1.0},
        ),
        Row(
            "processes, semaphore",
            {
                "keylatch": with_lock(processes.Semaphore(4)),
                "multiprocessing.Semaphore": with_lock(multiprocessing.Semaphore(4)),
            },
        ),
        Row(
            "processes, a file, with block",
            {
                "keylatch": with_lock(filelock.FileLock(others.file("ours.lock"))),
                **dict(others.files("theirs.lock")),
            },
            {"filelock": 0.05},
        ),
        Row(
            "async with",
            {"keylatch": async_with_key(locks.alock), "asyncio.Lock": async_with_lock()},
            {"asyncio.Lock": 1.0},
        ),
        Row(
            "eight tasks, one key",
            {
                "keylatch": async_hand_over(lambda: lambda: locks.alock("hot")),
                "asyncio.Lock": async_hand_over(asyncio.Lock),
            },
        ),
    ]


def measure(row: Row, rounds: int, seconds: float, say: Callable[[str], None]) -> None:
    """Fill in the times of a row, in nanoseconds an operation."""
    counts = {}
    for name, loop in row.subjects.items():
        times = 64
        while (took := loop(times)) < seconds / 4 and times < 1 << 24:
            times *= 2
        counts[name] = max(64, int(times * seconds / max(took, 1e-9)))
    for number in range(rounds):
        say(f"{row.name}: round {number + 1} of {rounds}")
        # The other way round each time, so that none always comes after the same one.
        order = list(row.subjects.items())
        for name, loop in order if number % 2 else reversed(order):
            row.times.setdefault(name, []).append(loop(counts[name]) / counts[name] * 1e9)


def interrupts(times: int) -> list[float]:
    """How many milliseconds a thread that waits for a lock takes to leave after Ctrl-C."""
    locks, took, main = LockManager(), list[float](), threading.main_thread()
    if threading.current_thread() is not main:
        return took
    # A process that was started in the background may have inherited a setting that ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with locks.lock("held"):
            for _ in range(times):
                sent = 0.0

                def send() -> None:
                    nonlocal sent
                    while locks.get_metrics().shard_metrics.waiters == 0:
                        time.sleep(0.001)
                    time.sleep(0.005)
                    sent = time.perf_counter()
                    # To the process, as a terminal does: any of its threads may receive it.
                    os.kill(os.getpid(), signal.SIGINT)

                sender = threading.Thread(target=send)
                sender.start()
                try:
                    locks.lock("held")
                except KeyboardInterrupt:
                    took.append((time.perf_counter() - sent) * 1e3)
                sender.join()
    finally:
        signal.signal(signal.SIGINT, before)
    return took


def ratio(row: Row, other: str) -> float:
    """The median over the rounds of keylatch's time divided by another's."""
    pairs = zip(row.times["keylatch"], row.times[other], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def show(row: Row) -> None:
    """Print a row, a line for each lock."""
    print(f"\n{row.name}")
    for name in row.subjects:
        times = row.times[name]
        line = f"  {name:18} {statistics.median(times):>10,.0f} ns"
        if name != "keylatch":
            share = ratio(row, name)
            line += f"   keylatch takes {share:5.3g} times as long"
            goal = row.goals.get(name)
            if goal is not None:
                line += f"   goal {goal:.2f}: {'reached' if share <= goal else 'MISSED'}"
        print(line)


def run(options: argparse.Namespace) -> int:
    """Carry the command out. Returns the status to exit with."""
    rounds, seconds = (3, 0.002) if options.quick else (options.rounds, 0.02)
    live = sys.stderr.isatty()

    def say(what: str) -> None:
        if live:
            print(f"\r{what:60}", end="", file=sys.stderr, flush=True)

    machine = f"keylatch {__version__}, {platform.python_implementation()} {platform.python_version()}"
    print(f"{machine}, {platform.machine()}, {os.cpu_count()} processors; medians of {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        others = Others(folder)
        chosen = [row for row in rows(others) if options.only in row.name]
        if not chosen:
            sys.exit(f"--only {options.only}: no row is named so")
        for row in chosen:
            measure(row, rounds, seconds, say)
            say("")
            if live:
                print("\r", end="", file=sys.stderr, flush=True)
            show(row)
            sys.stdout.flush()
    left = interrupts(5 if options.quick else 50) if not options.only else []
    if left:
        print(
            f"\nCtrl-C ends a wait after {statistics.median(left):.2f} ms, at most {max(left):.1f} ms, in {len(left)} tries"
        )
        print("  goal 50 ms: " + ("reached" if max(left) <= 50 else "MISSED"))
    for package in others.missing:
        print(f"\n{package} is not installed and was left out: pip install {package}")
    if options.json:
        figures = {
            "machine": machine,
            "rounds": rounds,
            "interrupts_ms": left,
            "rows": [{"name": row.name, "goals": row.goals, "nanoseconds": row.times} for row in chosen],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"\nall figures: {options.json}")
    return 0
