"""What subscribers receive."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from conftest import Background, Runner, until, until_waiting
from keylatch import LockDeadlock, LockManager, LockTimeout, Mode, events


def give_up(locks: LockManager, key: str = "a", owner: str = "viewer") -> None:
    with pytest.raises(LockTimeout):
        locks.lock(key, owner=owner, timeout=0.001, shared=True)


def test_every_event(locks: LockManager) -> None:
    with locks.subscribe(wait_above=0, hold_above=0) as heard:
        assert heard.try_next() is None
        with locks.lock("a", owner=locks.owner("indexer", source="tests")):
            give_up(locks)
        wait, timeout = sorted([heard.next(60), heard.next(60)], key=lambda event: type(event).__name__)
        assert isinstance(wait, events.SlowWait)
        assert (wait.key, wait.owner, wait.mode, wait.granted) == ("a", "viewer", Mode.SHARED, False)
        assert isinstance(timeout, events.Timeout)
        assert (timeout.key, timeout.owner, timeout.holders[0].owner) == ("a", "viewer", "indexer")
        assert timeout.waited >= 0.001
        assert 'viewer gave up on "a"' in str(timeout)
        hold = heard.next(10)
        assert isinstance(hold, events.SlowHold)
        assert (hold.key, hold.owner, hold.source) == ("a", "indexer", "tests")

        stuck = locks.lock("a", owner="stuck")
        locks.force_release(all=True)
        forced = heard.next(10)
        assert isinstance(forced, events.Forced)
        assert (forced.hold.key, forced.hold.owner) == ("a", "stuck")
        late = locks.lock("b", owner="late", ttl=1e-9)
        locks.lock("b").release()
        expired = next(event for event in heard if isinstance(event, events.Expired))
        assert expired.hold.owner == "late"
        for guard in (stuck, late):
            del guard
    assert heard.closed
    assert heard.next() is None
    assert list(heard) == []


def test_deadlock_event() -> None:
    locks = LockManager(deadlock_delay=0)
    session = locks.session("txn")
    with locks.subscribe() as heard, locks.session("other") as other:
        locks.grant("b", owner=other)
        locks.grant("a", owner=session)
        waiting = Background(lambda: locks.grant("b", owner=session))
        until_waiting(locks, 1)
        with pytest.raises(LockDeadlock) as caught:
            locks.lock("a", owner=other)
        event = heard.next(10)
        assert isinstance(event, events.Deadlock)
        assert (event.key, event.cycle) == ("a", caught.value.cycle)
    assert isinstance(waiting.finish(), int)
    session.release_all()


def test_full_queue_counts_dropped_events(locks: LockManager) -> None:
    with locks.subscribe(capacity=2) as heard, locks.lock("a"):
        for _ in range(5):
            give_up(locks)
        assert heard.dropped == 3
        assert isinstance(heard.try_next(), events.Timeout)
        assert heard.next(0) is not None
        assert heard.next(0.001) is None
    assert heard.dropped == 3


def test_waiting_reader_sees_the_end(locks: LockManager) -> None:
    heard = locks.subscribe()
    with locks.lock("a"):
        reading = Background(lambda: heard.next())
        give_up(locks, owner="late")
        event = reading.finish()
        assert isinstance(event, events.Timeout)
        assert event.owner == "late"
    for end in (heard.close, LockManager.close):
        manager = LockManager()
        subscription = heard if end == heard.close else manager.subscribe()
        reading = Background(lambda heard=subscription: list(heard))  # type: ignore[misc]
        until_busy(subscription)
        heard.close() if end == heard.close else manager.close()
        assert reading.finish() == []


def until_busy(subscription: events.Events) -> None:
    """Until a reader waits for an event of it: then there is no room for another."""

    def busy() -> bool:
        try:
            subscription.next(0)
        except RuntimeError as error:
            return "another reader waits" in str(error)
        return False

    until(busy)


def test_tasks_hear_events(locks: LockManager, run: Runner) -> None:
    async def main() -> None:
        with locks.subscribe() as heard, locks.lock("a"):
            owners: list[str] = []

            async def listen() -> None:
                async for event in heard:
                    assert isinstance(event, events.Timeout)
                    owners.append(event.owner)
                    if event.owner == "last":
                        break

            listening = asyncio.ensure_future(listen())
            for owner in ("one", "two", "last"):
                with pytest.raises(LockTimeout):
                    await locks.alock("a", owner=owner, timeout=0.001)
            async with asyncio.timeout(60):
                await listening
            assert owners == ["one", "two", "last"]

    run(main())


def test_loop_subscriptions_need_no_threads(locks: LockManager, run: Runner) -> None:
    import threading

    async def main() -> None:
        with locks.lock("a"):
            subscriptions = [locks.subscribe() for _ in range(50)]
            waits = [asyncio.ensure_future(heard.anext()) for heard in subscriptions]
            await asyncio.sleep(0)
            before = threading.active_count()
            await asyncio.to_thread(give_up, locks)
            async with asyncio.timeout(60):
                received = await asyncio.gather(*waits)
            assert all(isinstance(event, events.Timeout) for event in received)
            # One more at most, that of to_thread.
            assert threading.active_count() <= before + 1
            last = asyncio.ensure_future(subscriptions[0].anext())
            await asyncio.sleep(0)
            for heard in subscriptions:
                heard.close()
            assert await last is None

    run(main())


def test_a_cancelled_task_loses_no_event(locks: LockManager) -> None:
    async def main() -> None:
        with locks.subscribe() as heard, locks.lock("a"):
            for turn in range(200):
                reading = asyncio.ensure_future(heard.anext())
                for _ in range(turn % 3):
                    await asyncio.sleep(0)
                with pytest.raises(LockTimeout):
                    locks.lock("a", owner=str(turn), timeout=0.0001)
                for _ in range(turn % 5):
                    await asyncio.sleep(0)
                reading.cancel()
                (outcome,) = await asyncio.gather(reading, return_exceptions=True)
                event: Any = heard.try_next() if isinstance(outcome, asyncio.CancelledError) else outcome
                assert event is not None, turn
                assert event.owner == str(turn)
                assert heard.try_next() is None

    asyncio.run(main())


def test_a_subscription_keeps_its_manager() -> None:
    with LockManager().subscribe() as heard:
        gc.collect()
        assert Background(lambda: heard.next(0.01)).finish() is None
        assert not heard._manager.closed  # type: ignore[attr-defined]


def test_a_subscription_that_is_forgotten_ends(locks: LockManager) -> None:
    heard = locks.subscribe(hold_above=0)
    del heard
    gc.collect()
    locks.lock("a").release()
    assert locks.get_metrics().shard_metrics.acquisitions == 1
