"""Who holds what, who waits for what, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from conftest import Background, until_waiting
from keylatch import LockManager, Mode


def test_holders_by_what_is_said_of_them(locks: LockManager) -> None:
    node = locks.owner("node-7", source="replicator")
    assert node.source == "replicator"
    with (
        locks.lock(("photos", "2024/cat.jpg"), owner=node, priority=3, ttl=3600) as cat,
        locks.lock(("photos", "2024/dog.jpg", "v1"), owner="viewer", shared=True),
        locks.lock(("logs", b"\xff"), owner="viewer"),
        locks.lock("today"),
    ):
        every: dict[Any, Any] = {holder.key: holder for holder in locks.holders()}
        assert set(every) == {
            ("photos", "2024/cat.jpg"),
            ("photos", "2024/dog.jpg", "v1"),
            ("logs", b"\xff"),
            "today",
        }
        holder = every["photos", "2024/cat.jpg"]
        assert (holder.owner, holder.source, holder.session, holder.priority) == ("node-7", "replicator", False, 3)
        assert (holder.mode, holder.fence) == (Mode.EXCLUSIVE, cat.fence)
        assert 3000 < holder.lease <= 3600
        assert every["photos", "2024/dog.jpg", "v1"].fence is None
        assert every["today"].owner == ""
        assert 'node-7 of replicator holds "photos"/"2024/cat.jpg"' in str(holder)
        with pytest.raises(dataclasses.FrozenInstanceError):
            holder.owner = "x"

        def keys(**said: Any) -> set[Any]:
            return {holder.key for holder in locks.holders(**said)}

        photos = {("photos", "2024/cat.jpg"), ("photos", "2024/dog.jpg", "v1")}
        assert keys(bucket="photos") == photos
        assert keys(prefix="2024/") == photos
        assert keys(key=("photos", "2024/dog.jpg", "v1")) == {("photos", "2024/dog.jpg", "v1")}
        assert keys(key=("photos", "2024/dog.jpg")) == set()
        assert keys(owner="viewer") == {("photos", "2024/dog.jpg", "v1"), ("logs", b"\xff")}
        assert keys(owner=node) == keys(source="replicator") == {("photos", "2024/cat.jpg")}
        assert keys(owner="viewer", mode=Mode.SHARED) == keys(mode="shared") == {("photos", "2024/dog.jpg", "v1")}
        assert keys(sessions=True) == set()
        assert keys(older_than=3600) == set()
        assert len(keys(older_than=0)) == 4
        for wrong in ({"mode": "both"}, {"older_than": -1}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                keys(**wrong)
        for name in ("bucket", "prefix"):
            with pytest.raises(TypeError, match=f"^{name} is str or bytes, not int$"):
                keys(**{name: 7})
        with pytest.raises(TypeError):
            keys(colour="red")
    assert locks.holders() == []


def test_waiters_chains_and_what_stands_out() -> None:
    locks = LockManager(fairness="fifo", deadlock_delay=None)
    first, second = locks.session("txn-1"), locks.session("txn-2")
    alice, bob = locks.lock("alice", owner=first), locks.lock("bob", owner=second)
    waiting = Background(lambda: locks.lock("alice", owner=second, priority=5).release())
    until_waiting(locks, 1)
    behind = Background(lambda: locks.lock("alice", owner="reader", shared=True).release())
    until_waiting(locks, 2)
    one, two = locks.waiters()
    assert (one.key, one.owner, one.session, one.priority, one.position) == ("alice", "txn-2", True, 5, 1)
    assert (two.owner, two.mode, two.upgrade, two.position) == ("reader", Mode.SHARED, False, 2)
    assert 'reader waits for "alice"' in str(two)
    assert [waiter.owner for waiter in locks.waiters(mode="shared")] == ["reader"]

    chain = locks.blocking_chain("bob")
    assert chain
    assert [link.key for link in chain.links] == ["bob", "alice"]
    assert chain.links[0].waiter is None
    assert chain.links[1].waiter is not None
    assert (chain.links[1].waiter.owner, chain.links[1].after) == ("txn-2", 0)
    assert [holder.owner for holder in chain.running] == ["txn-1"]
    assert not chain.circle
    assert "running: txn-1" in str(chain)
    assert [link.key for link in locks.blocking_chain(owner=second).links] == ["alice"]
    assert [link.key for link in locks.blocking_chain(owner="reader").links] == ["alice"]
    assert not locks.blocking_chain("nothing")
    for wrong in ({}, {"key": "a", "owner": "b"}):
        with pytest.raises(TypeError, match="blocking_chain"):
            locks.blocking_chain(**wrong)

    (hot,) = locks.top()
    assert (hot.key, hot.waiters) == ("alice", 2)
    assert hot.longest_wait > 0
    assert hot.holder is not None
    assert hot.holder.owner == "txn-1"
    assert {key.key for key in locks.top(5, by="age")} == {"alice", "bob"}
    assert len(locks.top(1, by="age")) == 1
    with pytest.raises(ValueError, match="by is"):
        locks.top(by="size")  # type: ignore[arg-type]

    alice.release()
    assert waiting.finish() is None
    assert behind.finish() is None
    bob.release()
    assert locks.waiters() == []


def test_an_upgrade_is_listed_as_one(locks: LockManager) -> None:
    one, other = locks.lock("a", shared=True, owner="one"), locks.lock("a", shared=True)
    waiting = Background(one.upgrade)
    until_waiting(locks, 1)
    (waiter,) = locks.waiters()
    assert (waiter.owner, waiter.upgrade, waiter.mode) == ("one", True, Mode.EXCLUSIVE)
    other.release()
    assert waiting.finish() is None
    one.release()


def test_wrong_arguments_are_explained(locks: LockManager) -> None:
    with pytest.raises(TypeError, match='there is no condition "bukcet": they are bucket, key'):
        locks.force_release(bukcet="photos")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="the name of a session is a str, not int"):
        locks.session(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="from 0 to 4294967295, not 1000000000000"):
        LockManager(shards=10**12)
    with locks.lock("a", ttl=60) as guard, pytest.raises(ValueError, match="above zero"):
        guard.renew(0)
