"""Threads and tasks at work on a few hot objects, with what happens shown while it happens, and a report at the end.

Some read and some write, some are in a hurry and give up, some hold leases that run out. Meanwhile it is checked that no
writer ever met anybody else; if one did, the command fails.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from ._exceptions import LeaseLost, LockTimeout
from ._manager import LockManager
from ._options import seconds, share, whole

NAME = "demo"
HELP = "threads and tasks against hot objects, with live progress and a final report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell what the command may be asked for."""
    parser.add_argument("--seconds", type=seconds, default=5.0, help="how long (default: %(default)s)")
    parser.add_argument("--threads", type=whole(0), default=4, help="threads at work (default: %(default)s)")
    parser.add_argument("--tasks", type=whole(0), default=16, help="asyncio tasks at work (default: %(default)s)")
    parser.add_argument("--keys", type=whole(1), default=3, help="hot objects (default: %(default)s)")
    parser.add_argument("--readers", type=share, default=0.7, help="the share of readers (default: %(default)s)")
    parser.add_argument(
        "--sabotage", action="store_true", help="write without a lock now and then: the check has to notice"
    )


class Objects:
    """What the locks are for. Each thread or task that enters is counted, and checks who else is there."""

    def __init__(self, keys: list[tuple[str, str]]) -> None:
        self.readers = dict.fromkeys(keys, 0)
        self.writers = dict.fromkeys(keys, 0)
        self.met = 0
        self._mutex = threading.Lock()

    def enter(self, key: tuple[str, str], shared: bool) -> None:
        with self._mutex:
            self.met += bool(self.writers[key] or (not shared and self.readers[key]))
            (self.readers if shared else self.writers)[key] += 1

    def leave(self, key: tuple[str, str], shared: bool) -> None:
        with self._mutex:
            (self.readers if shared else self.writers)[key] -= 1


class Demo:
    """The work, and what came of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._keys = [("photos", f"{number}.jpg") for number in range(options.keys)]
        self._objects = Objects(self._keys)
        self._stop = threading.Event()
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self.locks = LockManager()

    def _plan(self, dice: random.Random, owner: Any) -> tuple[tuple[str, str], dict[str, Any], bool]:
        """A key, what is asked of it, and whether to do without the lock."""
        asked = {
            "shared": dice.random() < self._options.readers,
            "owner": owner,
            "timeout": 0.002 if dice.random() < 0.1 else 10,
        }
        sabotaged = self._options.sabotage and dice.random() < 0.3
        return dice.choice(self._keys), asked, sabotaged

    def _turns(self) -> Iterator[None]:
        """Until it is over, and at least one: on a busy machine it may be over before everybody has begun."""
        yield
        while not self._stop.is_set():
            yield

    def _count(self, what: str) -> None:
        with self._counting:
            self._counts[what] += 1

    def _thread(self, number: int) -> None:
        dice, owner = random.Random(number), self.locks.owner(f"thread-{number}", source="demo")
        for _ in self._turns():
            key, asked, sabotaged = self._plan(dice, owner)
            try:
                with nullcontext() if sabotaged else self.locks.lock(key, **asked):
                    self._objects.enter(key, asked["shared"])
                    time.sleep(dice.random() * 0.001)
                    self._objects.leave(key, asked["shared"])
                self._count("locks taken by threads")
            except LockTimeout:
                self._count("timeouts")

    async def _task(self, number: int) -> None:
        dice, owner = random.Random(-1 - number), self.locks.owner(f"task-{number}", source="demo")
        for _ in self._turns():
            key, asked, _ = self._plan(dice, owner)
            try:
                async with self.locks.alock(key, **asked):
                    self._objects.enter(key, asked["shared"])
                    await asyncio.sleep(dice.random() * 0.001)
                    self._objects.leave(key, asked["shared"])
                self._count("locks taken by tasks")
            except LockTimeout:
                self._count("timeouts")

    def _leases(self) -> None:
        """A holder whose leases run out: waiters take the lock away."""
        dice = random.Random(0)
        while not self._stop.wait(0.05):
            key = dice.choice(self._keys)
            try:
                # It only says that it is alive, and touches nothing.
                with self.locks.lock(key, owner="slow", ttl=0.002, timeout=1):
                    self._stop.wait(0.01)
                self._count("leases that ran out unnoticed")
            except LeaseLost:
                self._count("leases that were taken over")
            except LockTimeout:
                self._count("timeouts")

    async def _tasks(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._options.tasks):
                group.create_task(self._task(number))

    def run(self) -> int:
        options = self._options
        print(
            f"{options.threads} threads and {options.tasks} tasks on {options.keys} objects for {options.seconds:g} s; "
            f"{options.readers:.0%} read\n"
        )
        works: list[Any] = [lambda number=number: self._thread(number) for number in range(options.threads)]
        works += [lambda: asyncio.run(self._tasks()), self._leases]
        threads = [threading.Thread(target=work, daemon=True) for work in works]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            self._show_progress(began + options.seconds)
        finally:
            self._stop.set()
        for thread in threads:
            thread.join()
        return self._report(time.monotonic() - began)

    def _show_progress(self, end: float) -> None:
        live = sys.stdout.isatty()
        every = 0.2 if live else 1.0
        taken, at, left = 0, time.monotonic(), every
        while left > 0:
            time.sleep(max(0, min(every, end - time.monotonic())))
            now, figures = time.monotonic(), self.locks.get_metrics().shard_metrics
            rate = (figures.acquisitions - taken) / max(now - at, 1e-9)
            taken, at = figures.acquisitions, now
            line = f"{rate:9,.0f} locks/s   {figures.holders:3} held   {figures.waiters:3} wait"
            hot = self.locks.top(1)
            if hot:
                holder = hot[0].holder
                who = f", held by {holder.owner}" if holder else ""
                line += f"   most waited for: {'/'.join(map(str, hot[0].key))} ({hot[0].waiters}{who})"
            print(f"\r{line[:100]:100}" if live else line, end="" if live else "\n", flush=True)
            left = end - time.monotonic()
        if live:
            print()

    def _report(self, took: float) -> int:
        metrics = self.locks.get_metrics()
        figures, waits = metrics.shard_metrics, metrics.shard_metrics.wait_histogram

        def bound(share: float) -> str:
            limit = waits.quantile(share)
            return "-" if limit is None else f"{limit * 1e3:.3g} ms"

        print(f"\n{figures.acquisitions:,} locks in {took:.1f} s: {figures.acquisitions / took:,.0f} a second")
        for what, count in sorted(self._counts.items()):
            print(f"  {what:30} {count:>10,}")
        print(f"  {'waits':30} {figures.waits:>10,}")
        print(
            f"waits: half were below {bound(0.5)}, 99 % below {bound(0.99)}; longest {figures.max_wait_time * 1e3:.3g} ms"
        )
        print(f"left behind: {figures.holders} held, {figures.waiters} waiting; {metrics.bytes / 1e6:.1f} MB of memory")
        health = self.locks.health()
        print("health: " + ("good" if health else "; ".join(health.problems)))
        if self._objects.met:
            print(f"FAILED: {self._objects.met} times a thread or task met a writer", file=sys.stderr)
            return 1
        if figures.holders or figures.waiters:
            print("FAILED: something was left behind", file=sys.stderr)
            return 1
        print("no thread or task ever met a writer")
        return 0


def run(options: argparse.Namespace) -> int:
    """Carry the command out. Returns the status to exit with."""
    if options.threads + options.tasks == 0:
        sys.exit("--threads 0 --tasks 0: there would be nothing to run")
    return Demo(options).run()
