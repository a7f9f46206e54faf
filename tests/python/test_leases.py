"""Locks that are not for ever, and locks that are taken away."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

import keylatch
from conftest import Background, until, until_waiting
from keylatch import LeaseLost, LockManager, LockTimeout, Lost, Mode, NotHeld

NOW = 1e-9
"""A lease that has run out by the time that anybody looks."""


def take_over(locks: LockManager, key: str = "a") -> None:
    """Have another caller take a lock whose lease has run out."""
    locks.lock(key, timeout=60).release()


def test_unwanted_lease_stays(locks: LockManager) -> None:
    with locks.lock("a", ttl=NOW) as guard:
        assert not guard.is_valid
        assert guard.remaining == 0
        guard.renew(3600)
        assert guard.is_valid
        assert guard.remaining is not None
        assert 3000 < guard.remaining <= 3600
        assert locks.try_lock("a") is None
    assert (guard.is_valid, guard.remaining) == (False, 0.0)


def test_lock_without_lease_can_get_one(locks: LockManager) -> None:
    with locks.lock("a") as guard:
        assert guard.remaining is None
        assert guard.is_valid
        guard.renew(3600)
        assert guard.remaining is not None


def test_block_end_raises_lease_lost(locks: LockManager) -> None:
    with pytest.raises(LeaseLost) as caught, locks.lock("a", ttl=NOW):
        take_over(locks)
    assert isinstance(caught.value, RuntimeError)
    assert (caught.value.code, caught.value.transient) == (-7, False)
    with pytest.raises(ZeroDivisionError), locks.lock("a", ttl=NOW):
        take_over(locks)
        _ = 1 / 0


def test_release_of_lost_lease_changes_nothing(locks: LockManager) -> None:
    guard = locks.lock("a", ttl=NOW)
    with locks.lock("a"):
        with pytest.raises(LeaseLost):
            guard.renew(1)
        with pytest.raises(LeaseLost):
            guard.release()
        with pytest.raises(NotHeld, match="released before"):
            guard.release()
        with pytest.raises(NotHeld):
            guard.renew(1)
        assert guard.released
        assert locks.try_lock("a") is None


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("why", "error"), [(Lost.EXPIRED, LeaseLost), (Lost.FORCED, NotHeld)])
def test_what_is_done_with_a_lost_lock_says_so(
    locks: LockManager, shared: bool, why: Lost, error: type[keylatch.KeylatchError]
) -> None:
    guard = locks.lock("a", shared=shared, ttl=NOW if why is Lost.EXPIRED else None)
    if why is Lost.FORCED:
        locks.force_release(all=True)
    with locks.lock("a"):

        async def upgrade() -> None:
            await guard.aupgrade()

        for call in (
            guard.downgrade,
            guard.try_upgrade,
            guard.upgrade,
            lambda: asyncio.run(upgrade()),
            lambda: guard.renew(1),
        ):
            with pytest.raises(error) as caught:
                call()
            assert why is Lost.EXPIRED or "by force" in str(caught.value)
        # How it was held; whether it is, is another question.
        assert guard.mode is (Mode.SHARED if shared else Mode.EXCLUSIVE)
        assert not guard.is_valid
        with pytest.raises(error):
            guard.release()


def test_lock_delay_is_listed() -> None:
    locks = LockManager(lock_delay=3600)
    guard = locks.lock("a", ttl=NOW, owner="slow")
    with pytest.raises(LockTimeout):
        locks.lock("a", timeout=0.001)
    (shut,) = locks.holders()
    assert (shut.key, shut.in_lock_delay, shut.mode) == ("a", True, Mode.EXCLUSIVE)
    assert "kept shut" in str(shut)
    with locks.lock("b"):
        assert [holder.in_lock_delay for holder in locks.holders(key="b")] == [False]
    assert [taken.in_lock_delay for taken in locks.force_release(key="a")] == [True]
    with locks.lock("a", wait=False), pytest.raises(LeaseLost):
        guard.release()


def test_forgotten_lost_lock_does_not_warn(locks: LockManager) -> None:
    guard = locks.lock("a", ttl=NOW)
    take_over(locks)
    del guard


def test_force_says_so(locks: LockManager) -> None:
    with pytest.raises(NotHeld, match="taken away by force"), locks.lock("a", owner="stuck") as guard:
        (taken,) = locks.force_release(owner="stuck")
        assert (taken.key, taken.owner, taken.grant > 0) == ("a", "stuck", True)
        assert not guard.is_valid
        locks.lock("a", wait=False).release()
    assert locks.force_release(owner="stuck") == []


def test_lease_lost_names_the_key(locks: LockManager) -> None:
    for verb in ("downgrade", "release"):
        expired = locks.lock(("a", "\ud800"), ttl=NOW)
        locks.lock(("a", "\ud800")).release()
        assert repr(expired) == r"<keylatch.Guard ('a', '\ud800') not valid any more>"
        with pytest.raises(LeaseLost) as caught:
            getattr(expired, verb)()
        assert str(caught.value).startswith(r"the lease of ('a', '\ud800') ran out")
    forced, released = locks.lock("forced"), locks.lock("released")
    locks.force_release(key="forced")
    released.release()
    with pytest.raises(NotHeld, match="the lock on 'forced' was taken away by force"):
        forced.release()
    with pytest.raises(NotHeld, match="the guard of 'released' was released before"):
        released.release()

    async def main() -> None:
        with pytest.raises(LeaseLost, match="the lease of 'a' ran out"):
            async with locks.alock("a", ttl=NOW):
                locks.lock("a").release()

    asyncio.run(main())


def test_what_is_wrong_with_a_ttl(locks: LockManager) -> None:
    anything: Any = locks
    with pytest.raises(keylatch.InvalidConfig, match="ttl"):
        locks.lock("a", ttl=0)
    for ttl in (-1, float("nan")):
        with pytest.raises(ValueError, match="ttl"):
            locks.lock("a", ttl=ttl)
    with pytest.raises(TypeError):
        anything.lock("a", ttl="1")
    with locks.lock("a", ttl=float("inf")) as guard:
        assert guard.is_valid
        with pytest.raises(TypeError, match="exactly one"):
            guard.renew()  # type: ignore[call-arg]


def test_every_way_to_take_a_lock_makes_leases(locks: LockManager) -> None:
    guard = locks.try_lock("a", ttl=NOW)
    assert guard is not None
    assert guard.remaining == 0
    guard.release()
    with locks.lock_many(["a", "b"], shared=["c"], ttl=3600) as batch:
        assert all(guard.remaining for guard in batch)

    async def main() -> None:
        async with locks.alock("a", ttl=3600) as guard:
            assert guard.remaining
        async with locks.alock_many(["a"], ttl=3600) as batch:
            assert batch[0].remaining
        with pytest.raises(LeaseLost):
            async with locks.alock("a", ttl=NOW):
                (await locks.alock("a")).release()
        with pytest.raises(ZeroDivisionError):
            async with locks.alock("b", ttl=NOW):
                (await locks.alock("b")).release()
                _ = 1 / 0

    asyncio.run(main())


def test_batch_with_losses_releases_the_rest(locks: LockManager) -> None:
    with pytest.raises(LeaseLost), locks.lock_many(["a", "b", "c"], ttl=NOW):
        take_over(locks, "b")
    assert locks.get_metrics().shard_metrics.holders == 0
    with pytest.raises(ZeroDivisionError), locks.lock_many(["a", "b"], ttl=NOW):
        take_over(locks, "b")
        _ = 1 / 0


def test_waiter_gets_expired_lock(locks: LockManager) -> None:
    guard = locks.lock("a", ttl=3600)
    waiting = Background(lambda: locks.lock("a").release())
    until_waiting(locks, 1)
    guard.renew(NOW)
    assert waiting.finish() is None
    with pytest.raises(LeaseLost):
        guard.release()


def test_callback_runs_on_loss_not_on_release(locks: LockManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", lambda *failure: failed.append(failure))
    failed: list[Any] = []
    calls: list[tuple[Lost, str]] = []
    heard = threading.Semaphore(0)

    def tell(why: Lost) -> None:
        calls.append((why, threading.current_thread().name))
        heard.release()

    with locks.lock("released") as guard:
        guard.on_lost(tell)
    with pytest.raises(NotHeld):
        guard.on_lost(tell)
    expired, forced = locks.lock("a", ttl=NOW), locks.lock("b")
    expired.on_lost(tell)
    forced.on_lost(tell)
    take_over(locks)
    assert heard.acquire(timeout=60)
    locks.force_release(key="b")
    assert heard.acquire(timeout=60)
    # One that is lost already is reported immediately.
    expired.on_lost(tell)
    assert heard.acquire(timeout=60)
    assert calls == [
        (Lost.EXPIRED, "keylatch-lost"),
        (Lost.FORCED, "keylatch-lost"),
        (Lost.EXPIRED, "keylatch-lost"),
    ]
    assert failed == []
    with pytest.raises(TypeError, match="function"):
        forced.on_lost(7)  # type: ignore[arg-type]


def test_a_callback_that_raises_disturbs_no_other(locks: LockManager, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[BaseException] = []
    heard = threading.Event()
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, traceback: raised.append(error))

    def fail(why: Lost) -> None:
        raise KeyError(why)

    one, other = locks.lock("a"), locks.lock("b")
    one.on_lost(fail)
    other.on_lost(lambda why: heard.set())
    locks.force_release(key="a")
    locks.force_release(key="b")
    assert heard.wait(10)
    until(lambda: len(raised) == 1)
    assert isinstance(raised[0], KeyError)


def test_watched_guards_are_let_go_of(locks: LockManager) -> None:
    from keylatch import _losses

    for _ in range(100):
        with locks.lock("a") as guard:
            guard.on_lost(lambda why: None)
    assert _losses._dispatcher is not None
    watched = _losses._dispatcher._watched
    until(lambda: not watched)


def test_watched_guard_is_released_if_forgotten(locks: LockManager) -> None:
    with pytest.warns(ResourceWarning, match="unreleased lock"):
        locks.lock("a").on_lost(lambda why: None)
    locks.lock("a", wait=False).release()


def test_task_awaits_loss(locks: LockManager) -> None:
    async def main() -> None:
        guard = await locks.alock("a")
        loss = asyncio.ensure_future(guard.lost())
        work = asyncio.ensure_future(asyncio.Event().wait())
        await asyncio.sleep(0)
        await asyncio.to_thread(locks.force_release, all=True)
        done, _ = await asyncio.wait([loss, work], return_when=asyncio.FIRST_COMPLETED)
        assert done == {loss}
        assert loss.result() is Lost.FORCED
        work.cancel()
        with pytest.raises(NotHeld):
            guard.release()
        with pytest.raises(NotHeld):
            await guard.lost()

    asyncio.run(main())


def test_lock_delay_keeps_lost_lock_closed() -> None:
    locks = LockManager(lock_delay=3600)
    guard = locks.lock("a", ttl=NOW)
    assert locks.try_lock("a") is None
    with pytest.raises(LeaseLost):
        guard.release()
    assert locks.try_lock("a") is None


def test_expire_takes_what_has_run_out(locks: LockManager) -> None:
    old, fresh = locks.lock("a", ttl=NOW), locks.lock("b", ttl=3600)
    assert [holder.key for holder in locks.expire(all=True)] == ["a"]
    assert not old.is_valid
    fresh.release()


def test_numbers_are_enough(locks: LockManager) -> None:
    grant = locks.grant("a", owner="me", ttl=3600)
    assert locks.is_valid(grant)
    assert locks.remaining(grant) is not None
    locks.renew(grant, 3600)
    assert Background(lambda: locks.release(grant)).finish() is None
    assert not locks.is_valid(grant)
    for call in (locks.release, locks.adopt, locks.remaining):
        with pytest.raises(NotHeld):
            call(grant)
        with pytest.raises(NotHeld):
            call(0)
        with pytest.raises(NotHeld):
            call(2**64 - 1)
    guard = locks.lock(("x", b"\xff"), owner="me")
    grant = guard.into_grant()
    assert guard.released
    with pytest.raises(NotHeld):
        guard.into_grant()
    with locks.adopt(grant) as again:
        assert (again.key, again.owner, again.is_valid) == (("x", b"\xff"), "me", True)
        with pytest.raises(keylatch.WouldBlock):
            locks.grant(("x", b"\xff"), wait=False)
    lost = locks.grant("a", ttl=NOW)
    take_over(locks)
    with pytest.raises(LeaseLost):
        locks.release(lost)


def test_a_number_waits(locks: LockManager) -> None:
    with locks.lock("a"):
        waiting = Background(lambda: locks.grant("a"))
        until_waiting(locks, 1)
    grant = waiting.finish()
    assert isinstance(grant, int)
    locks.release(grant)


def test_fence_is_current_while_held(locks: LockManager) -> None:
    with locks.lock("a") as guard:
        fence = guard.fence
        assert locks.is_current("a", fence)
        assert not locks.is_current("a", fence + 1)
        guard.downgrade()
        assert not locks.is_current("a", fence)


@pytest.mark.parametrize("verb", ["force_release", "expire"])
def test_revocation_without_condition_fails(locks: LockManager, verb: str) -> None:
    revoke = getattr(locks, verb)
    grant = locks.grant("a", owner="node-7", ttl=1e-9)
    owner = {"node-8": "node-8"}.get("node-7")  # a look-up that finds nothing
    for said in ({}, {"owner": owner}, {"owner": owner, "bucket": b""}, {"sessions": False}, {"all": False}):
        with pytest.raises(ValueError, match="all=True"):
            revoke(**said)
    with pytest.raises(ValueError, match="not both"):
        revoke(all=True, owner="node-7")
    assert [holder.grant for holder in locks.holders()] == [grant]
    assert [holder.grant for holder in revoke(all=True)] == [grant]
