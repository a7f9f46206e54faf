"""What the tests share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
import uvloop

from keylatch import LockManager

T = TypeVar("T")


@pytest.fixture
def locks() -> Iterator[LockManager]:
    """A manager that has to be left as it came: nothing held, no waiter."""
    manager = LockManager()
    yield manager
    figures = manager.get_metrics().shard_metrics
    assert (figures.holders, figures.waiters) == (0, 0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, for tables."""
    with TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture(scope="session", autouse=True)
def shared_table() -> Iterator[str]:
    """A table for the locks of these tests alone, in this process and its children."""
    with TemporaryDirectory(dir="/dev/shm") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYLATCH_SHARED_TABLE", f"{folder}/locks")
        yield f"{folder}/locks"


class Background(threading.Thread):
    """A call in another thread, and what came of it."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.outcome: object = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._call()
        except BaseException as error:
            self.outcome = error

    def finish(self) -> object:
        self.join(60)
        assert not self.is_alive(), "it did not end within a minute"
        return self.outcome


def is_asleep(thread: threading.Thread) -> bool:
    """Whether the kernel has the thread asleep, in whatever it waits for."""
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come true within a minute"
        time.sleep(0.001)


def until_waiting(manager: LockManager, number: int) -> None:
    until(lambda: manager.get_metrics().shard_metrics.waiters == number)


Runner = Callable[[Coroutine[Any, Any, None]], None]


def run_in_asyncio(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def run_in_uvloop(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


@pytest.fixture(params=[run_in_asyncio, run_in_uvloop])
def run(request: pytest.FixtureRequest) -> Runner:
    runner: Runner = request.param
    return runner
