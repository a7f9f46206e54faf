"""Locks as threads take them."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import pickle
import threading
import time
from typing import Any, NamedTuple

import pytest

import keylatch
from conftest import Background, until_waiting
from keylatch import AdaptiveTimeout, Guard, Key, LockManager, LockTimeout, Mode, NotHeld


def test_block_holds_and_releases(locks: LockManager) -> None:
    with locks.lock("cat.jpg") as guard:
        assert not guard.released
        assert guard.mode is Mode.EXCLUSIVE
        assert str(guard.mode) == "exclusive"
        assert locks.try_lock("cat.jpg") is None
        assert locks.try_lock("cat.jpg", shared=True) is None
    assert guard.released
    with locks.lock("cat.jpg"):
        pass


def test_a_lock_is_released_when_the_block_raises(locks: LockManager) -> None:
    with pytest.raises(ZeroDivisionError), locks.lock("cat.jpg"):
        _ = 1 / 0
    with locks.lock("cat.jpg", wait=False):
        pass


def test_readers_share_and_keep_writers_out(locks: LockManager) -> None:
    with locks.lock("cat.jpg", shared=True) as one, locks.lock("cat.jpg", shared=True):
        assert one.mode is Mode.SHARED
        assert locks.try_lock("cat.jpg") is None


class Pair(NamedTuple):
    bucket: str
    object: str


class Text(str):
    __slots__ = ()


KEYS: list[Key] = [
    "cat.jpg",
    b"dog.jpg",
    "",
    "käse",
    "\0",
    "\udcff",
    b"\xff",
    ("photos", "cat.jpg"),
    ("photos", b"\xfe"),
    ("photos", ""),
    ("photos", "cat.jpg", "v1"),
    ("photos", "cat.jpg", ""),
    ("a/b", "c"),
    ("a", "b/c"),
    ("x", "\ud800"),
    "x" * 4096,
]


def test_every_key_is_another_lock(locks: LockManager) -> None:
    guards = [locks.lock(key, wait=False) for key in KEYS]
    for key, guard in zip(KEYS, guards, strict=True):
        assert guard.key is key
        assert locks.try_lock(key) is None
        guard.release()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat.jpg", b"cat.jpg"),
        ("käse", "käse".encode()),
        ("cat.jpg", ("", "cat.jpg")),
        (("photos", "cat.jpg"), ("photos", "cat.jpg", None)),
        (("photos", "cat.jpg"), (b"photos", b"cat.jpg")),
        (("photos", "cat.jpg"), Pair("photos", "cat.jpg")),
        ("cat.jpg", Text("cat.jpg")),
        (("x", "\ud800"), ("x", "\ud800".encode("utf-8", "surrogatepass"))),
    ],
)
def test_ways_to_write_one_key(locks: LockManager, one: Key, other: Key) -> None:
    with locks.lock(one):
        assert locks.try_lock(other) is None
        with pytest.raises(keylatch.WouldBlock):
            locks.lock(other, wait=False)


@pytest.mark.parametrize(
    "key", [None, 7, 1.5, bytearray(b"x"), ["a"], (), ("a",), ("a", 1), ("a", "b", "c", "d"), (None, "a")]
)
def test_what_is_no_key(locks: LockManager, key: Any) -> None:
    for call in (locks.lock, locks.try_lock):
        with pytest.raises(TypeError, match="key"):
            call(key)


def test_a_key_that_is_too_long(locks: LockManager) -> None:
    with pytest.raises(keylatch.InvalidKey, match="8193") as caught:
        locks.lock("x" * 8193)
    assert isinstance(caught.value, ValueError)
    assert (caught.value.bytes, caught.value.limit, caught.value.code) == (8193, 8192, -9)


def test_wrong_arguments(locks: LockManager) -> None:
    anything: Any = locks
    with pytest.raises(TypeError, match="missing 1 required"):
        anything.lock()
    with pytest.raises(TypeError, match="positional"):
        anything.lock("a", True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'time_out'"):
        anything.lock("a", time_out=1)
    with pytest.raises(TypeError, match="multiple values"):
        anything.lock("a", key="b")
    with pytest.raises(TypeError, match="owner"):
        anything.lock("a", owner=7)
    with locks.lock("held") as held:
        guard: Any = held
        for call, said in (
            (lambda: anything.lock("a", timeout="1"), "a timeout is a number of seconds or None, not str"),
            (lambda: anything.lock("a", ttl=b"1"), "a ttl is a number of seconds, not bytes"),
            (lambda: anything.alock("a", priority=1.5), "a priority is an int, not float"),
            (lambda: anything.lock_many(["a"], timeout=[]), "a timeout is a number of seconds or None, not list"),
            (lambda: anything.lock_many(7), "several keys: a list of them, not int"),
            (lambda: guard.upgrade("1"), "a timeout is a number of seconds or None, not str"),
            (lambda: guard.renew(None), "a ttl is a number of seconds, not NoneType"),
            (lambda: anything.holders(older_than="1"), "older_than is a number of seconds, not str"),
            (lambda: anything.holders(source=7), "a source is a str, not int"),
            (lambda: anything.waiters(mode=7), "a mode is a Mode or a str, not int"),
        ):
            with pytest.raises(TypeError, match=said):
                call()  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match="priority"):
        anything.lock("a", priority=256)
    for timeout in (-1, -math.inf, math.nan):
        with pytest.raises(ValueError, match="timeout"):
            anything.lock("a", timeout=timeout)
    keyword: dict[str, Any] = {"".join(["sha", "red"]): True}
    with locks.lock(key="a", **keyword) as guard:
        assert guard.mode is Mode.SHARED


def test_a_timeout_says_who_holds_the_lock(locks: LockManager) -> None:
    with locks.lock(("photos", "cat.jpg"), owner="indexer"):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="held by indexer") as caught:
            locks.lock(("photos", "cat.jpg"), timeout=0.05)
        assert time.monotonic() - began >= 0.05
        error = caught.value
        assert isinstance(error, LockTimeout)
        assert error.key == ("photos", "cat.jpg")
        assert error.waited >= 0.05
        assert [(holder.owner, holder.mode) for holder in error.holders] == [("indexer", Mode.EXCLUSIVE)]
        assert (error.code, error.transient) == (-1, True)


def test_a_timeout_of_zero_tries_once(locks: LockManager) -> None:
    with locks.lock("a"), pytest.raises(LockTimeout):
        locks.lock("a", timeout=0)
    with locks.lock("a", timeout=0):
        pass


def test_default_timeout_and_overriding_it() -> None:
    locks = LockManager(default_timeout=0.02)
    guard = locks.lock("a")
    with pytest.raises(LockTimeout):
        locks.lock("a")
    waiting = Background(lambda: locks.lock("a", timeout=math.inf).release())
    time.sleep(0.1)
    assert waiting.is_alive()
    guard.release()
    assert waiting.finish() is None


def test_release_wakes_another_thread(locks: LockManager) -> None:
    guard = locks.lock("a")
    waiting = Background(lambda: locks.lock("a").release())
    until_waiting(locks, 1)
    guard.release()
    assert waiting.finish() is None


def test_nothing_is_lost_among_many_threads(locks: LockManager) -> None:
    counts = {"a": 0, "b": 0}

    def work() -> None:
        for turn in range(2000):
            key = "ab"[turn % 2]
            with locks.lock(key):
                seen = counts[key]
                if turn % 100 == 0:
                    time.sleep(0)
                counts[key] = seen + 1

    for thread in [Background(work) for _ in range(8)]:
        assert thread.finish() is None
    assert counts == {"a": 8000, "b": 8000}


def test_guard_released_by_another_thread(locks: LockManager) -> None:
    guard = locks.lock("a")
    assert Background(guard.release).finish() is None
    assert guard.released
    with locks.lock("a", wait=False):
        pass


def test_second_release_is_an_error(locks: LockManager) -> None:
    guard = locks.lock("a")
    guard.release()
    with locks.lock("a"):
        with pytest.raises(NotHeld) as caught:
            guard.release()
        assert isinstance(caught.value, RuntimeError)
        assert caught.value.code == -6
        assert locks.try_lock("a") is None


def test_a_guard_may_be_released_in_its_block(locks: LockManager) -> None:
    with locks.lock("a") as guard:
        guard.release()
    with pytest.raises(NotHeld):
        guard.__enter__()


def test_a_guard_has_one_block(locks: LockManager) -> None:
    with locks.lock("a") as guard:
        with pytest.raises(RuntimeError, match="a block has the guard already"), guard:
            pass
        assert not guard.released
        assert locks.try_lock("a") is None
    guard = locks.lock("a")
    with guard:
        pass
    with pytest.raises(NotHeld), guard:
        pass
    # One that comes from elsewhere is another one.
    with locks.adopt(locks.grant("a")), locks.lock("b"):
        pass


def test_what_a_released_guard_still_knows(locks: LockManager) -> None:
    with locks.lock("a", owner="me") as guard:
        assert repr(guard) == "<keylatch.Guard 'a' exclusive>"
    assert (guard.key, guard.owner) == ("a", "me")
    assert repr(guard) == "<keylatch.Guard 'a' released>"
    for ask in ("mode", "fence"):
        with pytest.raises(NotHeld):
            getattr(guard, ask)
    for call in (guard.downgrade, guard.try_upgrade, guard.upgrade):
        with pytest.raises(NotHeld):
            call()


def test_fences_grow(locks: LockManager) -> None:
    fences = []
    for _ in range(3):
        with locks.lock("a") as guard:
            fences.append(guard.fence)
    assert fences == sorted(set(fences))
    with locks.lock("a", shared=True) as reader:
        assert reader.fence == fences[-1]


def test_downgrade_lets_readers_in_and_no_writer(locks: LockManager) -> None:
    with locks.lock("a") as guard:
        guard.downgrade()
        assert guard.mode is Mode.SHARED
        with locks.lock("a", shared=True, wait=False):
            pass
        assert locks.try_lock("a") is None


def test_upgrades(locks: LockManager) -> None:
    with locks.lock("a", shared=True) as one, locks.lock("a", shared=True) as other:
        assert not one.try_upgrade()
        with pytest.raises(LockTimeout):
            one.upgrade(timeout=0.01)
        assert one.mode is Mode.SHARED
        waiting = Background(one.upgrade)
        until_waiting(locks, 1)
        with pytest.raises(keylatch.UpgradeConflict) as caught:
            other.upgrade(0.01)
        assert caught.value.key == "a"
        with pytest.raises(RuntimeError, match="waits to upgrade"):
            one.release()
        with pytest.raises(RuntimeError, match="waits to upgrade"):
            one.__exit__(None, None, None)
        assert "upgrading" in repr(one)
        other.release()
        assert waiting.finish() is None
        assert str(one.mode) == "exclusive"
        assert one.try_upgrade()
        one.upgrade()


def test_owners(locks: LockManager) -> None:
    node = locks.owner("node-7")
    assert (node.name, str(node), repr(node)) == ("node-7", "node-7", "<keylatch.Owner 'node-7'>")
    with locks.lock("a", owner=node) as guard:
        assert guard.owner == "node-7"
        with pytest.raises(keylatch.WouldBlock) as caught:
            locks.lock("a", wait=False)
        assert caught.value.holders[0].owner == "node-7"
    with locks.lock("a") as guard:
        assert guard.owner is None
    other = LockManager()
    other.owner("someone")
    with other.lock("a", owner=node), pytest.raises(keylatch.WouldBlock, match="node-7"):
        other.lock("a", wait=False)


def test_higher_priority_goes_first() -> None:
    locks = LockManager(fairness="fifo")
    order: list[int] = []

    def work(priority: int) -> None:
        with locks.lock("a", priority=priority):
            order.append(priority)

    with locks.lock("a"):
        threads = []
        for number, priority in enumerate((0, 9, 200)):
            threads.append(Background(lambda priority=priority: work(priority)))  # type: ignore[misc]
            until_waiting(locks, number + 1)
    for thread in threads:
        thread.finish()
    assert order == [200, 9, 0]


@pytest.mark.parametrize("fairness", ["eventual", "fifo", "writer_first", "reader_first"])
def test_fairness_is_a_setting(fairness: Any) -> None:
    with LockManager(fairness=fairness).lock("a"):
        pass


HUGE = 2**70
NAN, INFINITE = math.nan, math.inf


@pytest.mark.parametrize(
    ("setting", "values", "wrong_types"),
    [
        ("fairness", ["fair", "", "\udc80"], [None, 1, b"fifo"]),
        ("eventual_after", [-1, NAN, -HUGE, -INFINITE], ["1", None]),
        ("default_timeout", [-1, NAN, -(10**400)], ["1", b""]),
        ("shards", [0, 3, -1, 2**17, 2**32, HUGE, 10**5000], [1.0, "1", None]),
        ("max_locks", [0, -1, 2**26, 2**32, HUGE], [1.0, "1"]),
        ("max_waiters", [0, -1, 2**25, 2**32, HUGE], [1.0, "1", None]),
        ("max_key_bytes", [0, -1, 65_536, 2**64, HUGE], [1.0, "1", None]),
        ("overtake_limit", [-1, 2**32, HUGE], [1.0, "1", None]),
        ("reentrancy", ["maybe"], [None, True]),
        ("deadlock_delay", [-1, NAN], ["1"]),
        ("victim", ["oldest"], [None, 0]),
        ("lock_delay", [-1, NAN], ["1", None]),
        ("health_window", [-1, NAN, 0, 0.0001], ["1", None]),
        ("lock_order_lint", [], [None, 1, "yes"]),
        ("reader_slots", [], [None, 1, "yes"]),
        (
            "adaptive",
            [
                AdaptiveTimeout(quantile=NAN),
                AdaptiveTimeout(quantile=-1),
                AdaptiveTimeout(quantile=0.0001),
                AdaptiveTimeout(quantile=2),
                AdaptiveTimeout(factor=0.5),
                AdaptiveTimeout(factor=NAN),
                AdaptiveTimeout(factor=INFINITE),
                AdaptiveTimeout(floor=-1),
                AdaptiveTimeout(ceiling=NAN),
                AdaptiveTimeout(floor=2, ceiling=1),
                AdaptiveTimeout(floor=0, ceiling=0),
            ],
            [True, 1, AdaptiveTimeout(quantile="0.5"), AdaptiveTimeout(floor=None)],  # type: ignore[arg-type]
        ),
    ],
)
def test_wrong_settings(setting: str, values: list[Any], wrong_types: list[Any]) -> None:
    for value in values:
        with pytest.raises(keylatch.InvalidConfig, match=f"the setting {setting} is wrong") as caught:
            LockManager(**{setting: value})
        assert isinstance(caught.value, ValueError)
        assert (caught.value.setting, caught.value.code) == (setting, -10)
    for value in wrong_types:
        with pytest.raises(TypeError, match=setting if setting != "adaptive" else "AdaptiveTimeout"):
            LockManager(**{setting: value})


def test_settings_that_can_be() -> None:
    for settings in (
        {"eventual_after": INFINITE},
        {"eventual_after": 0},
        {"fairness": "fifo", "eventual_after": 1},
        {"default_timeout": INFINITE},
        {"default_timeout": 10**400},
        {"default_timeout": None},
        {"deadlock_delay": None},
        {"deadlock_delay": INFINITE},
        {"adaptive": None},
        {"adaptive": AdaptiveTimeout(ceiling=INFINITE)},
        {"overtake_limit": 0},
        {"max_locks": None},
        {"max_locks": 1024},
    ):
        manager: Any = LockManager
        manager(**settings).lock("a").release()
    assert LockManager(default_timeout=INFINITE).default_timeout() is None
    assert LockManager(default_timeout=2).default_timeout() == 2
    with pytest.raises(keylatch.InvalidConfig, match="1024"):
        LockManager(shards=1000)
    with pytest.raises(TypeError, match='unexpected keyword argument "sharts"'):
        LockManager(sharts=1)  # type: ignore[call-arg]


def test_numbers_that_cannot_be(locks: LockManager) -> None:
    session = locks.session("txn")
    anything: Any = locks
    with locks.lock("held") as guard, locks.subscribe() as heard:
        listener: Any = heard
        for number in (-1, -HUGE, NAN, -INFINITE, -(10**400)):
            for call in (
                lambda number: locks.lock("a", timeout=number),
                lambda number: locks.lock_many(["a"], timeout=number),
                lambda number: locks.alock("a", timeout=number),
                lambda number: locks.grant("a", timeout=number),
                lambda number: locks.lock("a", ttl=number),
                lambda number: locks.try_lock("a", ttl=number),
                lambda number: locks.lock_many(["a"], ttl=number),
                lambda number: guard.renew(number),
                lambda number: guard.upgrade(number),
                lambda number: locks.holders(older_than=number),
                lambda number: locks.subscribe(wait_above=number),
                lambda number: locks.subscribe(hold_above=number),
                lambda number: listener.next(number),
            ):
                with pytest.raises(ValueError, match="number of seconds"):
                    call(number)
        for count in (-1, 256, HUGE, 10**5000):
            for call in (
                lambda count: locks.lock("a", priority=count),
                lambda count: locks.try_lock("a", priority=count),
                lambda count: locks.alock("a", priority=count),
                lambda count: locks.lock_many(["a"], priority=count),
                lambda count: locks.grant("a", priority=count),
            ):
                with pytest.raises(ValueError, match="a priority is a number from 0 to 255, not"):
                    call(count)
        for count in (-1, HUGE):
            for call in (lambda count: locks.top(count), lambda count: locks.subscribe(capacity=count)):
                with pytest.raises(ValueError, match="is a number from 0 to 18446744073709551615, not"):
                    call(count)
            with pytest.raises(keylatch.InvalidConfig, match="request_id"):
                locks.grant("a", owner=session, request_id=count)
        for wrong in (
            lambda: anything.lock("a", priority=1.5),
            lambda: anything.lock("a", timeout="1"),
            lambda: anything.release("1"),
            lambda: anything.is_current("a", 1.0),
            lambda: anything.top("1"),
            lambda: anything.grant("a", request_id="1"),
        ):
            with pytest.raises(TypeError):
                wrong()  # type: ignore[no-untyped-call]
        # Beyond what a float holds is for ever.
        locks.lock("a", timeout=10**400, ttl=10**400).release()


@pytest.mark.parametrize("number", [0, 1, -1, 2**64 - 1, 2**64, HUGE, pytest.param(10**5000, id="long")])
def test_made_up_grants(locks: LockManager, number: int) -> None:
    for call in (locks.release, locks.adopt, locks.remaining, lambda grant: locks.renew(grant, 1)):
        with pytest.raises(NotHeld):
            call(number)
    assert not locks.is_valid(number)
    with locks.lock("a") as guard:
        assert locks.is_current("a", number) is (number == guard.fence)


def test_owner_that_is_no_text_is_escaped(locks: LockManager) -> None:
    name = "node-\udc80"
    with (
        locks.lock("a", owner=name) as guard,
        locks.lock("b", owner=locks.owner(name, source=name)),
        locks.lock("c", owner=locks.session(name)),
        locks.lock_many(["d"], owner=name) as batch,
    ):
        assert (guard.owner, batch[0].owner) == (name, name)
        shown = {holder.owner for holder in locks.holders()}
        assert shown == {str(locks.owner(name))}
        assert "node-\N{REPLACEMENT CHARACTER}" in str(locks.owner(name))
        assert len(locks.holders(owner=name)) == 4
        assert len(locks.holders(source=name)) == 1
        waiting = Background(lambda: locks.lock("a", owner=name).release())
        until_waiting(locks, 1)
        assert {waiter.owner for waiter in locks.waiters()} == shown
        guard.release()
        assert waiting.finish() is None


def test_limits() -> None:
    locks = LockManager(max_locks=64, shards=1)
    guards = []
    with pytest.raises(keylatch.TableFull) as caught:
        for number in range(1000):
            guards.append(locks.lock(f"key-{number}"))
    assert (caught.value.limit, caught.value.transient) == (64, True)
    for guard in guards:
        guard.release()


def test_a_closed_manager() -> None:
    locks = LockManager()
    guard = locks.lock("a")
    waiting = Background(lambda: locks.lock("a"))
    until_waiting(locks, 1)
    assert "open" in repr(locks)
    locks.close()
    assert isinstance(waiting.finish(), keylatch.Closed)
    assert locks.closed
    assert "closed" in repr(locks)
    for call in (lambda: locks.lock("b"), lambda: locks.try_lock("b"), lambda: locks.lock_many(["b"])):
        with pytest.raises(keylatch.Closed):
            call()
    guard.release()


def test_a_forgotten_guard_warns_and_releases(locks: LockManager) -> None:
    with pytest.warns(ResourceWarning, match=r"unreleased lock on \('photos', 'cat.jpg'\)"):
        locks.lock(("photos", "cat.jpg"))
    with locks.lock(("photos", "cat.jpg"), wait=False):
        pass


def test_forgotten_guard_keeps_exception(locks: LockManager) -> None:
    def forget() -> None:
        guard = locks.lock("a")
        raise KeyError(guard.key)

    with pytest.warns(ResourceWarning):
        try:
            forget()
        except KeyError as error:
            assert error.args == ("a",)
            error.__traceback__ = None


def test_leak_warning_as_error_is_reported(
    locks: LockManager, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    import sys
    import warnings

    raised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        locks.lock("a")
    assert isinstance(raised[0].exc_value, ResourceWarning)


def test_a_guard_keeps_its_manager() -> None:
    guard = LockManager().lock("a")
    guard.downgrade()
    guard.release()


def test_pickling_and_copying_are_refused(locks: LockManager) -> None:
    closing = contextlib.closing
    with locks.lock("a") as guard, closing(locks.alock("a")) as one, closing(locks.alock_many([])) as many:
        for thing, name in (
            (locks, "LockManager"),
            (guard, "Guard"),
            (locks.owner("x"), "Owner"),
            (locks.session("x"), "Session"),
            (locks.lock_many([]), "Batch"),
            (locks.subscribe(), "Events"),
            (one, r"alock\(\)"),
            (many, r"alock_many\(\)"),
        ):
            for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match=f"{name} .*cannot be pickled or copied"):
                    attempt(thing)


@pytest.mark.parametrize(
    "name", [name for name, kind in vars(keylatch).items() if isinstance(kind, type) and issubclass(kind, Exception)]
)
def test_exception_made_by_caller_has_attributes(name: str) -> None:
    """As tests of other programs make them."""
    kind: type[keylatch.KeylatchError] = getattr(keylatch, name)
    error = kind("made up")
    declared = {field for base in kind.__mro__ for field in inspect.get_annotations(base)}
    assert {"code", "transient"} <= declared
    for field in declared:
        assert getattr(error, field) is not None
    assert str(pickle.loads(pickle.dumps(error))) == "made up"


def test_guard_cannot_be_made_or_changed(locks: LockManager) -> None:
    anything: Any = Guard
    with pytest.raises(TypeError):
        anything()
    with pytest.raises(TypeError):
        anything.release = None
    with pytest.raises(TypeError):
        type("Mine", (anything,), {})
    with locks.lock("a") as guard, pytest.raises(AttributeError):
        guard.key = "b"  # type: ignore[misc]


def test_two_managers_know_nothing_of_each_other(locks: LockManager) -> None:
    with locks.lock("a"), LockManager().lock("a", wait=False):
        pass


def test_a_manager_may_be_subclassed() -> None:
    class Mine(LockManager):
        pass

    with Mine(fairness="fifo").lock("a") as guard:
        assert guard.mode is Mode.EXCLUSIVE


def test_guards_and_managers_do_not_leak(locks: LockManager) -> None:
    import sys

    key, before = "some key", sys.getrefcount(locks)
    references = sys.getrefcount(key)
    for _ in range(1000):
        with locks.lock(key, owner="me", shared=True):
            pass
        locks.lock(key).release()
        with pytest.raises(TypeError):
            locks.lock(key, nonsense=1)  # type: ignore[call-arg]
    assert sys.getrefcount(locks) <= before + 1
    assert sys.getrefcount(key) <= references + 1


def test_a_hundred_thousand_keys_leave_nothing(locks: LockManager) -> None:
    for number in range(100_000):
        with locks.lock(("bucket", str(number))):
            pass
    assert locks.get_metrics().shard_metrics.entries <= 4 * 1024


def test_many_threads_that_wait_all_go_on(locks: LockManager) -> None:
    done = threading.Semaphore(0)

    def work() -> None:
        with locks.lock("a", shared=True):
            done.release()

    with locks.lock("a"):
        threads = [Background(work) for _ in range(200)]
        until_waiting(locks, 200)
    for thread in threads:
        assert thread.finish() is None
