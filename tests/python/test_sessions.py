"""Sessions: deadlocks, asking again, repeated requests."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any, Literal

import pytest

import keylatch
from conftest import Background, until, until_waiting
from keylatch import LockDeadlock, LockManager, Mode, NotHeld, Session, events


@pytest.fixture
def quick() -> LockManager:
    return LockManager(deadlock_delay=0)


def test_deadlock_is_found_and_reported(quick: LockManager) -> None:
    alice, bob = quick.session("alice", source="tests"), quick.session("bob")
    quick.grant("x", owner=alice)
    y = quick.grant("y", owner=bob)
    waiting = Background(lambda: quick.grant("y", owner=alice))
    until_waiting(quick, 1)
    with pytest.raises(LockDeadlock, match='bob waits for "x"') as caught:
        quick.lock("x", owner=bob)
    error = caught.value
    assert (error.key, error.code, error.transient) == ("x", -3, True)
    assert [(link.session, link.key, link.mode, link.blocked_by) for link in error.cycle] == [
        ("bob", "x", Mode.EXCLUSIVE, Mode.EXCLUSIVE),
        ("alice", "y", Mode.EXCLUSIVE, Mode.EXCLUSIVE),
    ]
    assert error.cycle[1].source == "tests"
    assert quick.get_metrics().shard_metrics.deadlocks == 1
    (deadlock,) = quick.recent_deadlocks()
    assert (deadlock.victim, deadlock.links) == ("bob", error.cycle)
    assert "bob gave way" in str(deadlock)
    quick.release(y)
    assert isinstance(waiting.finish(), int)
    assert alice.release_all() == 2


def test_the_lowest_priority_gives_way() -> None:
    locks = LockManager(deadlock_delay=0, victim="lowest_priority")
    alice, bob = locks.session("alice"), locks.session("bob")
    x, y = locks.lock("x", owner=alice), locks.lock("y", owner=bob)
    waiting = Background(lambda: locks.lock("y", owner=alice))
    until_waiting(locks, 1)
    waiting_too = Background(lambda: locks.lock("x", owner=bob, priority=9))
    assert isinstance(waiting.finish(), LockDeadlock)
    x.release()
    assert isinstance(waiting_too.finish(), keylatch.Guard)
    assert bob.release_all() == 2
    assert not y.is_valid


def test_asking_again_is_refused_or_counted(locks: LockManager) -> None:
    with locks.session("txn") as session:
        guard = locks.lock("a", owner=session)
        with pytest.raises(LockDeadlock):
            locks.lock("a", owner=session)
        assert locks.try_lock("a", owner=session) is None
        guard.release()
    counting = LockManager(reentrancy="count")
    session = counting.session("txn")
    with counting.lock("a", owner=session), counting.lock("a", owner=session, shared=True):
        assert counting.try_lock("a", shared=True) is None
    with counting.lock("a", wait=False):
        pass


def test_the_end_of_a_block_releases_what_is_left(locks: LockManager) -> None:
    with locks.session("txn") as session:
        assert isinstance(session, Session)
        guard = locks.lock("a", owner=session)
        batch = locks.lock_many(["b"], shared=["c"], owner=session)
        done = locks.lock("d", owner=session)
        done.release()
        assert {holder.key for holder in locks.holders(owner=session)} == {"a", "b", "c"}
        assert all(holder.session for holder in locks.holders(owner="txn"))
    assert locks.holders() == []
    assert (guard.is_valid, guard.owner) == (False, "txn")
    with pytest.raises(NotHeld):
        guard.release()
    with pytest.raises(NotHeld):
        batch.release()
    assert batch.released


def test_a_session_has_one_block_at_a_time(locks: LockManager) -> None:
    with locks.session("txn") as session:
        guard = locks.lock("a", owner=session)
        with pytest.raises(RuntimeError, match="a block has the session already"), session:
            pass
        assert guard.is_valid
    with session:
        locks.grant("a", owner=session)
    assert locks.holders() == []


def test_a_session_ends_with_its_block(locks: LockManager) -> None:
    with locks.session("txn") as session:
        pass
    for ask in (
        lambda: locks.lock("a", owner=session),
        lambda: locks.try_lock("a", owner=session),
        lambda: locks.grant("a", owner=session),
        lambda: locks.lock_many(["a"], owner=session),
    ):
        with pytest.raises(RuntimeError, match="block has ended"):
            ask()
    assert locks.holders() == locks.holders(owner=session) == []
    with session, locks.lock("a", owner=session):
        pass


def test_a_block_that_raises_releases_too(locks: LockManager) -> None:
    with pytest.raises(ZeroDivisionError), locks.session("txn") as session:
        guard = locks.lock("a", owner=session)
        _ = 1 / 0
    assert not guard.is_valid


def test_a_repeated_request_gets_the_same_number(locks: LockManager) -> None:
    with locks.session("upload") as session, locks.session("other") as other:
        grant = locks.grant("a", owner=session, request_id=1)
        assert locks.grant("a", owner=session, request_id=1) == grant
        with pytest.raises(keylatch.InvalidConfig, match="request_id"):
            locks.grant("b", owner=session, request_id=1)
        with pytest.raises(keylatch.InvalidConfig, match="session"):
            locks.grant("b", request_id=1)
        # One that was waited for is remembered, too.
        waiting = Background(lambda: locks.grant("a", owner=other, request_id=7))
        until_waiting(locks, 1)
        locks.release(grant)
        waited = waiting.finish()
        assert locks.grant("a", owner=other, request_id=7) == waited
        assert locks.grant("c", owner=session, request_id=1) != grant


def test_repeated_request_shares_the_answer(locks: LockManager) -> None:
    session = locks.session("upload")
    held = locks.lock("a", owner="someone")
    first = Background(lambda: locks.grant("a", owner=session, request_id=7))
    until_waiting(locks, 1)
    again = [Background(lambda: locks.grant("a", owner=session, request_id=7, timeout=60)) for _ in range(3)]
    # One that has less time says who holds the lock, and one that does not wait, too.
    with pytest.raises(keylatch.LockTimeout, match="held by someone") as caught:
        locks.grant("a", owner=session, request_id=7, timeout=0.05)
    assert (caught.value.key, caught.value.waited >= 0.05) == ("a", True)
    with pytest.raises(keylatch.WouldBlock):
        locks.grant("a", owner=session, request_id=7, wait=False)
    # None of them stands in line behind the first, or is a deadlock with it.
    assert len(locks.waiters()) == 1
    held.release()
    grants = {repeat.finish() for repeat in (first, *again)}
    (grant,) = grants
    assert isinstance(grant, int)
    locks.release(grant)


def test_request_is_retried_after_failure(locks: LockManager) -> None:
    session = locks.session("upload")
    held = locks.lock("a")
    first = Background(lambda: locks.grant("a", owner=session, request_id=7, timeout=0.2))
    # On a slow machine its time may be over before anybody sees it wait; the other asks by itself then.
    until(lambda: len(locks.waiters()) == 1 or not first.is_alive())
    again = Background(lambda: locks.grant("a", owner=session, request_id=7, timeout=60))
    assert isinstance(first.finish(), keylatch.LockTimeout)
    until_waiting(locks, 1)
    held.release()
    grant = again.finish()
    assert isinstance(grant, int)
    locks.release(grant)


def test_session_belongs_to_one_manager(locks: LockManager) -> None:
    session = locks.session("txn", source="tests")
    assert (session.name, str(session), session.source, repr(session)) == (
        "txn",
        "txn",
        "tests",
        "<keylatch.Session 'txn'>",
    )
    for attempt in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            attempt(session)


@pytest.mark.parametrize("reentrancy", ["deny", "count"])
def test_session_of_another_manager_is_refused(locks: LockManager, reentrancy: Literal["deny", "count"]) -> None:
    session = locks.session("txn")
    other = LockManager(reentrancy=reentrancy)
    for call in (
        lambda: other.lock("a", owner=session),
        lambda: other.lock("a", owner=session, shared=True, timeout=0),
        lambda: other.try_lock("a", owner=session),
        lambda: other.grant("a", owner=session),
        lambda: other.grant("a", owner=session, request_id=1),
        lambda: asyncio.run(_awaited(other.alock("a", owner=session))),
        lambda: other.lock_many(["a", "b"], owner=session),
        lambda: asyncio.run(_awaited(other.alock_many(["a"], owner=session))),
        lambda: other.blocking_chain(owner=session),
    ):
        with pytest.raises(keylatch.InvalidConfig, match="begin one with this manager's session"):
            call()
    assert other.get_metrics().shard_metrics.holders == 0


async def _awaited(lock: Any) -> None:
    async with lock:
        pass


def test_lock_order_report_before_deadlock() -> None:
    locks = LockManager(lock_order_lint=True)
    with locks.subscribe() as heard:
        for name, first, second in [("one", "a", "b"), ("two", "b", "a")]:
            with (
                locks.session(name, source="tests") as session,
                locks.lock(first, owner=session),
                locks.lock(second, owner=session),
            ):
                pass
        found = locks.lock_order_reports()
        assert (found.reported, found.orders, found.forgotten) == (1, 2, 0)
        (report,) = found.reports
        assert [(link.session, link.held, link.wanted) for link in report.links] == [
            ("two", "b", "a"),
            ("one", "a", "b"),
        ]
        assert (report.links[0].source, report.links[0].wanted_mode) == ("tests", Mode.EXCLUSIVE)
        event = heard.next(10)
        assert isinstance(event, events.LockOrder)
        assert event.report == report
        assert "orders that go round" in str(event)
    assert LockManager().lock_order_reports().reports == ()
