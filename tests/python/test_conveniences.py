"""What is there for convenience: locked(), synchronized(), renewed leases, weak references, logging, figures for people."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from weakref import WeakSet, ref

import pytest

import keylatch._renewal
from conftest import Background, until, until_waiting
from keylatch import Batch, Guard, LockManager, LockTimeout, NamedLockManager, NotHeld, WaitHistogram
from keylatch.log import EventLog


def test_locked_tells_whether_a_key_is_held(locks: LockManager) -> None:
    assert not locks.locked(("photos", "cat.jpg"))
    with locks.lock(("photos", "cat.jpg"), shared=True):
        assert locks.locked(("photos", "cat.jpg"))
        assert not locks.locked("cat.jpg")
    assert not locks.locked(("photos", "cat.jpg"))
    with pytest.raises(TypeError, match="a key is"):
        locks.locked(7)  # type: ignore[arg-type]


def test_guard_tells_the_grant_that_listings_tell(locks: LockManager) -> None:
    with locks.lock("a") as guard:
        assert guard.grant == locks.holders(key="a")[0].grant
        with pytest.raises(NotHeld):
            locks.release(guard.grant)
    with pytest.raises(NotHeld):
        _ = guard.grant


def test_guard_can_be_referred_to_weakly(locks: LockManager) -> None:
    guard = locks.lock("a")
    known, seen = WeakSet([guard]), list[object]()
    reference = ref(guard, seen.append)
    assert reference() is guard
    guard.release()
    del guard
    gc.collect()
    assert (reference(), list(known), seen) == (None, [], [reference])


def test_try_alock_takes_what_is_free(locks: LockManager) -> None:
    async def main() -> None:
        guard = await locks.try_alock("a", owner="me")
        assert guard is not None
        assert await locks.try_alock("a", shared=True) is None
        guard.release()

    asyncio.run(main())


def test_synchronized_function_holds_its_lock(locks: LockManager) -> None:
    @locks.synchronized("a", owner="worker", timeout=0.001)
    def work(value: int, *, fail: bool = False) -> int:
        """Works."""
        assert locks.holders(key="a")[0].owner == "worker"
        if fail:
            raise ZeroDivisionError
        return value + 1

    assert (work(1), work.__name__, work.__doc__) == (2, "work", "Works.")
    with pytest.raises(ZeroDivisionError):
        work(1, fail=True)
    with locks.lock("a"), pytest.raises(LockTimeout):
        work(1)


def test_synchronized_key_comes_from_arguments(locks: LockManager) -> None:
    @locks.synchronized(lambda bucket, name: (bucket, name), shared=True)
    def work(bucket: str, name: str) -> bool:
        return locks.locked((bucket, name))

    assert work("photos", name="cat.jpg")


def test_synchronized_coroutine_waits_in_its_loop(locks: LockManager) -> None:
    inside = 0

    @locks.synchronized("a")
    async def work() -> int:
        nonlocal inside
        inside += 1
        await asyncio.sleep(0)
        inside -= 1
        return inside

    async def main() -> None:
        assert await asyncio.gather(*(work() for _ in range(20))) == [0] * 20

    asyncio.run(main())


def test_synchronized_generator_is_refused(locks: LockManager) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def more_numbers() -> AsyncIterator[int]:
        yield 1

    for generator in (numbers, more_numbers):
        with pytest.raises(TypeError, match="generator"):
            locks.synchronized("a")(generator)


def test_synchronized_without_a_key_is_refused(locks: LockManager) -> None:
    with pytest.raises(TypeError, match=r"not int: write @locks.synchronized\(key\)"):
        locks.synchronized("k")(3)  # type: ignore[arg-type]

    @locks.synchronized
    def work(value: int) -> str:
        return str(value)

    with pytest.raises(TypeError, match=r"write @locks.synchronized\(key\)"):
        work(3)  # type: ignore[arg-type]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Renew every ten milliseconds leases that are too long to run out in a test."""
    monkeypatch.setattr(keylatch._renewal, "SHARE", LONG / 0.01)
    yield
    until(nothing_is_renewed)


LONG = 3600.0


def nothing_is_renewed() -> bool:
    renewer = keylatch._renewal._renewer
    return renewer is None or not renewer._due


@pytest.mark.usefixtures("often")
def test_renewed_lease_begins_anew(locks: LockManager) -> None:
    with locks.lock("a", ttl=LONG, renew=True) as guard:
        for _ in range(3):
            guard.renew(LONG / 2)
            until(lambda: (guard.remaining or 0) > LONG / 2)


@pytest.mark.usefixtures("often")
def test_renewal_ends_with_the_guard(locks: LockManager) -> None:
    guard = locks.lock("a", ttl=LONG, renew=True)
    assert not nothing_is_renewed()
    guard.release()
    until(nothing_is_renewed)
    guard = locks.lock("a", ttl=LONG, renew=True)
    with pytest.warns(ResourceWarning, match="unreleased"):
        # The thread may have it in hand for a moment.
        del guard
        until(nothing_is_renewed)
        until(lambda: not locks.locked("a"))


@pytest.mark.usefixtures("often")
def test_renewal_does_not_restore_lost_lock(locks: LockManager) -> None:
    guard = locks.lock("a", ttl=LONG, renew=True)
    locks.force_release(key="a")
    until(nothing_is_renewed)
    with pytest.raises(NotHeld):
        guard.release()


@pytest.mark.usefixtures("often")
def test_awaited_lease_is_renewed(locks: LockManager) -> None:
    async def main() -> None:
        held = locks.lock("a")
        task = asyncio.create_task(locks.alock("a", ttl=LONG, renew=True))
        await asyncio.sleep(0)
        held.release()
        async with await_of(task) as guard, locks.alock("b", ttl=LONG, renew=True) as other:
            for lease in (guard, other):
                lease.renew(LONG / 2)
                until(lambda lease=lease: (lease.remaining or 0) > LONG / 2)  # type: ignore[misc]

    @contextlib.asynccontextmanager
    async def await_of(task: asyncio.Task[Guard]) -> AsyncIterator[Guard]:
        with await task as guard:
            yield guard

    asyncio.run(main())


@pytest.mark.usefixtures("often")
def test_leases_of_a_batch_are_renewed(locks: LockManager) -> None:
    async def main() -> None:
        async with locks.alock_many(["c"], shared=["d"], ttl=LONG, renew=True) as batch:
            each_begins_anew(batch)

    def each_begins_anew(batch: Batch) -> None:
        for guard in batch:
            guard.renew(LONG / 2)
            until(lambda guard=guard: (guard.remaining or 0) > LONG / 2)  # type: ignore[misc]

    with locks.lock_many(["a"], shared=["b"], ttl=LONG, renew=True) as batch:
        each_begins_anew(batch)
    asyncio.run(main())
    until(nothing_is_renewed)


def test_renew_needs_a_ttl(locks: LockManager) -> None:
    with pytest.raises(ValueError, match="ttl"):
        locks.lock_many(["a"], renew=True)
    with pytest.raises(ValueError, match="ttl"):
        locks.alock_many(["a"], renew=True)
    with pytest.raises(ValueError, match="ttl"):
        locks.lock("a", renew=True)
    with pytest.raises(ValueError, match="ttl"):
        locks.alock("a", renew=True)


def test_named_manager_names_threads_and_tasks() -> None:
    locks = NamedLockManager(shards=4)

    def owners() -> list[str]:
        return sorted(holder.owner for holder in locks.holders())

    async def main() -> None:
        async with locks.alock("a"), locks.alock_many(["b"], shared=["c"]):
            assert owners() == ["reader"] * 3
        with locks.lock("a", owner="named"), locks.lock("b", owner=None):
            assert owners() == ["named", "reader"]

    def work() -> None:
        guard = locks.try_lock("a", shared=True)
        assert guard is not None
        with guard, locks.lock_many(["b"]):
            locks.release(locks.grant("c"))
            assert owners() == ["worker", "worker"]

    asyncio.run(main_in_a_task_called("reader", main))
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
    with locks.session("txn") as session, locks.lock("a", owner=session):
        assert owners() == ["txn"]
    with pytest.raises(TypeError, match="colour"):
        locks.lock("a", colour="red")


async def main_in_a_task_called(name: str, main: Callable[[], Coroutine[object, object, None]]) -> None:
    await asyncio.create_task(main(), name=name)


def test_batch_release_names_lost_keys(locks: LockManager) -> None:
    batch = locks.lock_many(["a", "b", "c"], shared=["d"])
    assert [guard.key for guard in batch] == ["a", "b", "c", "d"]
    locks.force_release(key="b")
    with pytest.raises(NotHeld, match="'b'"), batch:
        assert locks.locked("d")
    assert batch.released
    for key in "abcd":
        assert not locks.locked(key)


def test_batch_takes_repeated_key_once(locks: LockManager) -> None:
    with locks.lock_many(["a"], shared=["a", "b", "b", ("", "b")]) as batch:
        assert [(guard.key, str(guard.mode)) for guard in batch] == [("a", "exclusive"), ("b", "shared")]
        assert len(locks.holders()) == 2
    with locks.lock_many([], shared=[str(number) for number in range(100)]) as batch:
        assert len(batch) == 100


def test_batch_of_a_session_has_each_key_once() -> None:
    locks = LockManager(reentrancy="count")
    with locks.session("transaction") as session:
        with locks.lock_many(["a", "a"], shared=["a", "b", "b"], owner=session) as batch:
            assert (len(batch), len(locks.holders())) == (2, 2)
        assert not locks.locked("a")


def test_waiting_batch_holds_nothing(locks: LockManager) -> None:
    held = locks.lock("b")
    waiter = Background(lambda: locks.lock_many(["c", "a", "b"], timeout=60))
    until_waiting(locks, 1)
    assert locks.locked("a")
    assert not locks.locked("c")
    held.release()
    batch = waiter.finish()
    assert isinstance(batch, keylatch.Batch)
    assert [guard.key for guard in batch] == ["c", "a", "b"]
    batch.release()


def test_event_log_writes_what_happens(locks: LockManager, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "keylatch"), EventLog(locks, levels={keylatch.events.Timeout: logging.CRITICAL}):
        with locks.lock("a", owner="node-7"), pytest.raises(LockTimeout):
            locks.lock("a", timeout=0.001)
        grant = locks.lock("a", owner="node-8").into_grant()
        locks.force_release(owner="node-8")
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL, logging.WARNING]
    assert "node-7" in caplog.text
    assert "node-8" in caplog.text
    assert isinstance(caplog.records[0].__dict__["event"], keylatch.events.Timeout)
    with pytest.raises(NotHeld):
        locks.release(grant)


def test_figures_are_readable(locks: LockManager) -> None:
    with locks.lock("a"):
        text = repr(locks.get_metrics())
    assert text.startswith("<keylatch.LockMetrics 1 held, 0 waiting, 1 taken (")
    assert "buckets" not in text
    assert repr(WaitHistogram(((0.001, 90), (0.002, 10), (None, 0)))) == (
        "<keylatch.WaitHistogram of 100 waits: half below 1 ms, 99 % below 2 ms>"
    )
    assert repr(WaitHistogram(((None, 0),))) == "<keylatch.WaitHistogram of 0 waits>"


def test_trio_error_says_what_to_do(locks: LockManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", types.ModuleType("trio"))
    with locks.lock("a"):
        coroutine = locks.alock("a")
        with pytest.raises(RuntimeError, match=r"trio\.to_thread"):
            coroutine.send(None)


def test_prefork_recipe_runs() -> None:
    recipe = Path(__file__).parents[2] / "examples" / "python" / "prefork.py"
    done = subprocess.run([sys.executable, str(recipe)], capture_output=True, text=True, timeout=120, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert sum("is a fork of the one that made the lock manager" in line for line in lines) == 2
    assert sum(line.startswith("worker ") and line.endswith(" has 'cat.jpg'") for line in lines) == 2
