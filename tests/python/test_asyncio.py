"""Locks as tasks take them."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

import keylatch
from conftest import Background, Runner, until_waiting
from keylatch import Acquire, AcquireMany, Batch, Guard, LockManager, LockTimeout, Mode


def waiters(locks: LockManager) -> int:
    return locks.get_metrics().shard_metrics.waiters


async def until_tasks_wait(locks: LockManager, number: int) -> None:
    async with asyncio.timeout(60):
        while waiters(locks) != number:
            await asyncio.sleep(0)


def test_a_free_lock(locks: LockManager, run: Runner) -> None:
    async def main() -> None:
        async with locks.alock("a", owner="me") as guard:
            assert (guard.key, guard.owner, guard.mode) == ("a", "me", Mode.EXCLUSIVE)
            assert locks.try_lock("a") is None
        assert guard.released
        with await locks.alock("a", shared=True) as guard:
            assert guard.mode is Mode.SHARED

    run(main())


def test_a_held_lock_is_waited_for(locks: LockManager, run: Runner) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        async with locks.alock("a") as guard:
            assert not guard.released
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name in "abcde":
                group.create_task(work(name))

    run(main())
    assert sorted(order[::2]) == list("abcde")
    assert order[::2] == order[1::2]


def test_a_thread_releases_what_a_task_waits_for(locks: LockManager, run: Runner) -> None:
    guard = locks.lock("a")

    async def main() -> None:
        task = asyncio.ensure_future(locks.alock("a"))
        await until_tasks_wait(locks, 1)
        releasing = Background(guard.release)
        (await task).release()
        releasing.finish()

    run(main())


def test_a_timeout(locks: LockManager, run: Runner) -> None:
    async def main() -> None:
        async with locks.alock("a", owner="me"):
            with pytest.raises(LockTimeout, match="held by me"):
                await locks.alock("a", timeout=0.02)
            with pytest.raises(keylatch.WouldBlock):
                await locks.alock("a", wait=False)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02), locks.alock("a"):
                    pass
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(locks.alock("a"), 0.02)
            assert waiters(locks) == 0

    run(main())


def test_closing_ends_waits(run: Runner) -> None:
    locks = LockManager()

    async def main() -> None:
        async with locks.alock("a"):
            task = asyncio.ensure_future(locks.alock("a"))
            await until_tasks_wait(locks, 1)
            locks.close()
            with pytest.raises(keylatch.Closed):
                await task
            with pytest.raises(keylatch.Closed):
                await locks.alock("b")

    run(main())


def test_cancelled_wait_leaves_line(locks: LockManager, run: Runner) -> None:
    async def main() -> None:
        async with locks.alock("a"):
            task = asyncio.ensure_future(locks.alock("a"))
            await until_tasks_wait(locks, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert waiters(locks) == 0
        with locks.lock("a", wait=False):
            pass

    run(main())


@pytest.mark.once
def test_cancel_at_every_point_leaves_nothing(locks: LockManager) -> None:
    async def one() -> None:
        async with locks.alock("a"):
            await asyncio.sleep(0)

    async def many() -> None:
        async with locks.alock_many(["b", "a"], shared=["c"]):
            await asyncio.sleep(0)

    async def upgrading() -> None:
        async with locks.alock("a", shared=True) as guard:
            with contextlib.suppress(keylatch.UpgradeConflict):
                await guard.aupgrade()
            await asyncio.sleep(0)

    async def main() -> None:
        ended = cancelled = turn = 0
        while cancelled < 100_000:
            turn += 1
            works = [(one, many, upgrading)[(turn + position) % 3] for position in range(8)]
            tasks = [asyncio.create_task(work()) for work in works]
            for _ in range(turn % 11):
                await asyncio.sleep(0)
            for position, task in enumerate(tasks):
                if position % 3 != turn % 3:
                    task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, asyncio.CancelledError):
                    cancelled += 1
                else:
                    assert outcome is None
                    ended += 1
            if turn % 1000 == 0:
                assert (locks.holders(), locks.waiters()) == ([], [])
        assert ended > 0

    asyncio.run(main())


@pytest.mark.parametrize("work", ["one", "many", "upgrade", "event"])
def test_cancelled_at_every_await(locks: LockManager, run: Runner, work: str) -> None:
    """Each point at which a wait can be left, one after the other, while the lock is held and then given up."""

    async def wait(guard: keylatch.Guard, heard: keylatch.events.Events) -> None:
        if work == "one":
            (await locks.alock("a")).release()
        elif work == "many":
            (await locks.alock_many(["b", "a"])).release()
        elif work == "upgrade":
            await guard.aupgrade()
        else:
            await heard.anext()

    async def main() -> None:
        for point in range(12):
            for gives_way in range(12):
                heard = locks.subscribe()
                held, guard = locks.lock("a", shared=True), locks.lock("a", shared=True)
                task = asyncio.ensure_future(wait(guard, heard))
                for step in range(max(point, gives_way) + 1):
                    if step == gives_way:
                        held.release()
                        if work != "upgrade":
                            guard.release()
                        heard.close()
                    if step == point:
                        task.cancel()
                    await asyncio.sleep(0)
                (outcome,) = await asyncio.gather(task, return_exceptions=True)
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)
                if work == "upgrade":
                    assert guard.mode is (Mode.EXCLUSIVE if outcome is None else Mode.SHARED)
                if not guard.released:
                    guard.release()
                assert (locks.holders(), locks.waiters()) == ([], [])

    run(main())


def test_cancelled_while_another_thread_grants(locks: LockManager) -> None:
    stop = threading.Event()

    def hold() -> None:
        while not stop.is_set():
            locks.lock("a").release()

    async def main() -> None:
        for turn in range(3000):
            task = asyncio.ensure_future(locks.alock("a"))
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            task.cancel()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            if not isinstance(outcome, asyncio.CancelledError):
                assert isinstance(outcome, keylatch.Guard)
                outcome.release()

    holder = Background(hold)
    try:
        asyncio.run(main())
    finally:
        stop.set()
        holder.finish()


def test_several_loops_in_several_threads(locks: LockManager, run: Runner) -> None:
    count = 0

    async def work() -> None:
        nonlocal count
        for _ in range(300):
            async with locks.alock("a"):
                seen = count
                await asyncio.sleep(0)
                count = seen + 1

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(3)))

    for thread in [Background(lambda: run(main())) for _ in range(3)]:
        assert thread.finish() is None
    assert count == 2700


LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


async def one_of_these(locks: LockManager, work: str, reader: keylatch.Guard) -> None:
    if work == "block":
        async with locks.alock("a"):
            pass
    elif work == "one":
        (await locks.alock("a")).release()
    elif work == "many":
        (await locks.alock_many(["0", "a"])).release()
    else:
        await reader.aupgrade()
        reader.downgrade()


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("work", ["block", "one", "many", "upgrade"])
@pytest.mark.parametrize("granted", ["not granted", "granted", "granted and delivered"])
def test_closing_a_loop_ends_its_waits(
    locks: LockManager, new_loop: Callable[[], asyncio.AbstractEventLoop], work: str, granted: str
) -> None:
    loop = new_loop()
    held = locks.lock("a", shared=work == "upgrade")
    reader = locks.lock("a" if work == "upgrade" else "b", shared=True)
    task = loop.create_task(one_of_these(locks, work, reader))
    loop.run_until_complete(until_tasks_wait(locks, 1))
    if granted != "not granted":
        held.release()
    if granted == "granted and delivered":
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.close()
    # Immediately, without a garbage collection.
    assert waiters(locks) == 0
    if not held.released:
        held.release()
    assert reader.mode is Mode.SHARED
    reader.release()
    assert locks.holders() == []
    forgotten = weakref.ref(loop)
    del loop, task
    gc.collect()
    assert forgotten() is None


@pytest.mark.parametrize("itself", [False, True])
def test_forgetting_a_loop_ends_its_waits(locks: LockManager, itself: bool) -> None:
    held = locks.lock("a")
    loop = asyncio.new_event_loop()
    task = loop.create_task(locks.alock("a") if itself else one_of_these(locks, "block", held))
    loop.run_until_complete(until_tasks_wait(locks, 1))
    forgotten = weakref.ref(loop)
    del loop, task
    with warnings.catch_warnings():
        # Of a loop that was not closed.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert forgotten() is None
    assert waiters(locks) == 0
    held.release()


def test_upgrades(locks: LockManager, run: Runner) -> None:
    async def main() -> None:
        with locks.lock("a", shared=True) as one, locks.lock("a", shared=True) as other:
            with pytest.raises(LockTimeout):
                await one.aupgrade(timeout=0.01)
            assert one.mode is Mode.SHARED
            task = asyncio.ensure_future(one.aupgrade())
            await until_tasks_wait(locks, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert one.mode is Mode.SHARED
            task = asyncio.ensure_future(one.aupgrade())
            await until_tasks_wait(locks, 1)
            other.release()
            await task
            assert str(one.mode) == "exclusive"

    run(main())


def test_batches(locks: LockManager, run: Runner) -> None:
    async def main() -> None:
        async with locks.alock_many(["b", ("x", "y")], shared=["a"]) as batch:
            assert [guard.key for guard in batch] == ["b", ("x", "y"), "a"]
            with pytest.raises(LockTimeout):
                await locks.alock_many(["c", "b"], timeout=0.01)
            assert locks.get_metrics().shard_metrics.holders == 3
            task = asyncio.ensure_future(locks.alock_many(["0", "b"]))
            await until_tasks_wait(locks, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert locks.get_metrics().shard_metrics.holders == 3
        assert batch.released
        (await locks.alock_many(["b"])).release()

    run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_a_guard_has_one_block(locks: LockManager, run: Runner, waits: bool) -> None:
    async def block() -> None:
        async with locks.alock("a") as guard:
            with pytest.raises(RuntimeError, match="a block has the guard already"), guard:
                pass
            assert not guard.released
        async with locks.alock_many(["a", "b"]) as batch:
            with pytest.raises(RuntimeError, match="a block has the guard already"), batch:
                pass
            assert not batch[0].released
        # Awaited, it has none yet.
        with await locks.alock("a"), await locks.alock_many(["b"]):
            pass

    async def main() -> None:
        held = locks.lock("a")
        task = asyncio.ensure_future(block())
        if waits:
            await until_tasks_wait(locks, 1)
        held.release()
        await task

    run(main())


def test_request_begins_when_awaited(locks: LockManager) -> None:
    acquire = locks.alock("a")
    assert locks.get_metrics().shard_metrics.acquisitions == 0
    acquire.close()


def test_an_acquire_is_used_once_and_not_copied(locks: LockManager) -> None:
    async def main() -> None:
        acquire = locks.alock("a")
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            copy.copy(acquire)
        (await acquire).release()
        with pytest.raises(RuntimeError, match="awaited before"):
            await acquire
        for wrong in ((), (acquire,), (1, 2)):
            with pytest.raises(TypeError, match="takes the guard"):
                acquire._entered(*wrong)

    asyncio.run(main())


@pytest.mark.parametrize("many", [False, True])
def test_a_task_is_made_of_an_acquire_itself(locks: LockManager, run: Runner, many: bool) -> None:
    def ask(timeout: float | None = None) -> Acquire | AcquireMany:
        return locks.alock_many(["a"], timeout=timeout) if many else locks.alock("a", timeout=timeout)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            free = tasks.create_task(ask())
        held: Any = await free
        async with asyncio.TaskGroup() as tasks:
            waits = tasks.create_task(ask())
            cancelled = asyncio.create_task(ask())
            await until_tasks_wait(locks, 2)
            assert "Task pending" in repr(waits)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            with pytest.raises(LockTimeout):
                await asyncio.create_task(ask(timeout=0.001))
            held.release()
        had: Any = await waits
        had.release()
        # What was done to a coroutine before it began is done to one of these.
        early = asyncio.create_task(ask())
        early.cancel()
        with pytest.raises(asyncio.CancelledError):
            await early
        assert not locks.holders()
        assert waiters(locks) == 0

    run(main())
    alone: Batch | Guard = asyncio.run(locks.alock_many(["a"])) if many else asyncio.run(locks.alock("a"))
    alone.release()


@pytest.mark.parametrize("many", [False, True])
def test_an_acquire_by_hand(locks: LockManager, many: bool) -> None:
    def ask() -> Acquire | AcquireMany:
        return locks.alock_many(["a"]) if many else locks.alock("a")

    class Mine(Exception):
        pass

    async def main() -> None:
        with pytest.raises(StopIteration) as stopped:
            ask().send(None)
        held = stopped.value.value
        for thrown in (Mine("thrown"), Mine):
            waiting = ask()
            waiting.send(None)
            assert waiters(locks) == 1
            with pytest.raises(Mine):
                waiting.throw(thrown)
            assert waiters(locks) == 0
            with pytest.raises(RuntimeError):
                waiting.send(None)
            with pytest.raises(Mine):
                ask().throw(thrown)
        waiting = ask()
        waiting.send(None)
        waiting.close()
        waiting.close()
        assert waiters(locks) == 0
        closed = ask()
        closed.close()
        for over in (waiting, closed):
            with pytest.raises(RuntimeError):
                await over
        forgotten = ask()
        forgotten.send(None)
        del forgotten
        assert waiters(locks) == 0
        held.release()

    asyncio.run(main())
    assert not locks.holders()


def test_an_acquire_of_many_is_used_once(locks: LockManager) -> None:
    async def main() -> None:
        acquire = locks.alock_many(["a", "b"])
        assert repr(acquire) == "<keylatch.AcquireMany of 2>"
        one = locks.alock("a")
        assert repr(one) == "<keylatch.Acquire 'a'>"
        one.close()
        with locks.lock("b"):
            first = asyncio.ensure_future(acquire.__aenter__())
            await until_tasks_wait(locks, 1)
            # Or the first one's batch would be forgotten with its locks.
            with pytest.raises(RuntimeError, match="awaited before"):
                await acquire.__aenter__()
        await first
        await acquire.__aexit__(None, None, None)
        with pytest.raises(RuntimeError, match="awaited before"):
            await acquire

    asyncio.run(main())
    assert not locks.holders()


def test_wrong_arguments_raise_before_await(locks: LockManager) -> None:
    with pytest.raises(TypeError, match="key"):
        locks.alock(7, shared=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout"):
        locks.alock("a", timeout=-1)
    # What was refused is not warned of as forgotten, or this would fail: warnings are errors here.


def test_what_a_wait_refers_to_is_kept(locks: LockManager, run: Runner) -> None:
    """Parts of keys that had to be encoded, and sessions that nothing else refers to."""
    first, second = ("a\ud800" * 9, "one\ud800" * 9), ("b\ud800" * 9, "two\ud800" * 9)

    async def main() -> None:
        held = locks.lock_many([first, "other"])
        one = asyncio.ensure_future(locks.alock("other", owner=locks.session("one")))
        # The second is asked for when the first was had.
        many = asyncio.ensure_future(locks.alock_many([first, second], owner=locks.session("many")))
        await until_tasks_wait(locks, 2)
        gc.collect()
        # Whatever was freed is overwritten.
        rubbish = [bytes([number]) * size for size in range(1, 256) for number in range(32)]
        assert {(waiter.key, waiter.owner) for waiter in locks.waiters()} == {("other", "one"), (first, "many")}
        held.release()
        with await one, await many:
            assert {holder.key for holder in locks.holders()} == {"other", first, second}
        assert rubbish

    run(main())


def test_an_owner_that_is_no_text_waits(locks: LockManager, run: Runner) -> None:
    async def main() -> None:
        held = locks.lock_many(["a", "b"])
        one = asyncio.ensure_future(locks.alock("a", owner="node-\udc80"))
        many = asyncio.ensure_future(locks.alock_many(["b"], owner="node-\udc80"))
        await until_tasks_wait(locks, 2)
        gc.collect()
        assert {waiter.owner for waiter in locks.waiters()} == {str(locks.owner("node-\udc80"))}
        held.release()
        (await one).release()
        (await many).release()

    run(main())


def test_a_wait_and_a_thread_in_one_line(locks: LockManager) -> None:
    async def main() -> None:
        guard = await locks.alock("a")
        thread = Background(lambda: locks.lock("a").release())
        await asyncio.to_thread(until_waiting, locks, 1)
        guard.release()
        await asyncio.to_thread(thread.finish)

    asyncio.run(main())


@pytest.mark.parametrize(
    "ask",
    [
        lambda locks: locks.alock("a"),
        lambda locks: locks.alock(("b", "a\0c"), owner="node-7", timeout=1),
        lambda locks: locks.alock_many(["a", "b"]),
    ],
)
def test_forgotten_await_warns(locks: LockManager, ask: Callable[[LockManager], object]) -> None:
    with pytest.warns(RuntimeWarning, match="never awaited"):
        ask(locks)
        gc.collect()
    assert locks.get_metrics().shard_metrics.acquisitions == 0


def test_awaited_or_closed_lock_does_not_warn(locks: LockManager) -> None:
    async def main() -> None:
        (await locks.alock("a")).release()
        (await locks.alock_many(["a"])).release()
        async with locks.alock("a"):
            pass
        locks.alock("a").close()
        locks.alock_many(["a"]).close()
        gc.collect()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())


def test_forgotten_await_keeps_exception(locks: LockManager) -> None:
    with pytest.warns(RuntimeWarning, match="never awaited"), pytest.raises(KeyError, match="first"):
        (locks.alock("a"), dict[str, int]()["first"])  # forgotten while the exception is on its way


def test_wrong_kind_of_with_is_explained(locks: LockManager) -> None:
    async def main() -> None:
        guard = locks.lock("a")
        with pytest.raises(TypeError, match=r"write `async with locks\.alock"):
            async with guard:  # type: ignore[attr-defined]
                pass
        assert guard.released
        assert not locks.locked("a")
        with pytest.raises(TypeError, match=r"write `async with locks\.alock"), locks.alock("a"):  # type: ignore[attr-defined]
            pass
        assert not locks.locked("a")

    asyncio.run(main())
