"""The manager: who may touch this object now."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Never, Self, TypedDict, Unpack, overload

from . import _asyncio, _keylatch, _renewal, _synchronized
from ._awaited import AwaitedOnce
from ._exceptions import Forked, KeylatchError, LeaseLost, NotHeld
from ._keylatch import Guard, Owner, Session
from ._pinned import PinnedKey
from ._report import LockReport
from ._types import (
    AdaptiveState,
    BlockingChain,
    Deadlock,
    Health,
    HolderInfo,
    Key,
    LockMetrics,
    LockOrderReports,
    Mode,
    Part,
    TopKey,
    WaiterInfo,
)
from .events import Events


class Conditions(TypedDict, total=False):
    """The holds that force_release() and expire() revoke: those that meet every condition that is given."""

    bucket: Part
    key: Key
    prefix: Part
    owner: str | Owner | Session
    sessions: bool
    source: str
    mode: Mode | str
    older_than: float


class LockManager(_keylatch.LockManager):
    """Shared and exclusive locks on keys that need no creating and no cleaning up.

    A key is a str or bytes, or a tuple (bucket, object) or (bucket, object, version) of them. All threads and event loops
    of the process may use one manager; it needs no closing.

    >>> locks = LockManager()
    >>> with locks.lock("cat.jpg"):
    ...     locks.try_lock("cat.jpg") is None
    True

    fairness says which request gets a lock that is free again:

    * "eventual": running callers first, until one has waited for eventual_after seconds; then in line. The fastest.
    * "fifo": first come, first served.
    * "writer_first", "reader_first": as their names say, but at most overtake_limit times past one waiter.

    default_timeout, in seconds, is for requests that say nothing about their time; None is for as long as it takes.
    adaptive has it learned from the waits that there were: see AdaptiveTimeout.

    reentrancy is for a session that asks again for what it holds. With "deny" it gets LockDeadlock. With "count" it gets
    the lock once more, which is free when as many guards are gone; if it shares the lock and asks for it exclusively, it
    waits until no other shares it. A request of a session that has waited for deadlock_delay seconds looks for a deadlock;
    None never does. victim is the session whose request fails then: the "asker", the "youngest" or the one of
    "lowest_priority". lock_order_lint reports sessions that take locks in orders that could become a deadlock, before they
    do; it is for development, because it turns the fast path off. With reader_slots the readers of a key that many threads
    read at a time write nothing that these threads share. lock_delay is for how many seconds a lock stays closed
    after its lease ran out. health() judges the last health_window seconds.

    With shared_memory, the path of a file such as "/dev/shm/my-engine", the keys are shared with the managers of all
    processes that name the same file, which is made if it is missing (Linux). A process keeps a key that it has used until
    another wants it, and the keys of a killed process are free. The guide's page on shared memory says what differs.

    With etcd, the addresses of an etcd cluster such as "10.0.0.1:2379,10.0.0.2:2379" or a list of them, the keys are shared
    with the managers of all machines that use the same cluster and namespace; etcd_options, an EtcdOptions, says more of it.
    It takes the package keylatch-etcd: `pip install keylatch[etcd]`. The guide's page on etcd says what differs.

    max_locks=None is room for 8,388,608 locks, or for as many as there is address space for.

    The others are limits: see the guide. An invalid value raises InvalidConfig, a ValueError.
    """

    __slots__ = ()

    def lock_many(
        self,
        exclusive: Iterable[Key] = (),
        /,
        *,
        shared: Iterable[Key] = (),
        owner: str | Owner | Session | None = None,
        timeout: float | None = None,
        ttl: float | None = None,
        priority: int = 0,
        best_effort: bool = False,
        renew: bool = False,
    ) -> Batch:
        """Take many locks, all or none, with one timeout for all of them.

        They are taken in the order of their keys, so that two batches never wait for each other, whatever order they
        were written in. A key that is named twice is taken once, exclusively if it is named so.

        Keys come in a list or whatever else can be iterated over, but not in a tuple of str or bytes, because that is how
        a single key is written: it is a TypeError.

        With ttl each of them is a lease of that many seconds, from the moment when all are held. With renew=True a
        thread renews it in time for as long as its guard is held, as lock() says.

        With best_effort those are taken that can be had within the time, and Batch.missing tells of the others.
        Otherwise an error is that of the lock that could not be had, and nothing is held.

        >>> locks = LockManager()
        >>> with locks.lock_many(["target"], shared=["source"]) as batch:
        ...     [str(guard.mode) for guard in batch]
        ['exclusive', 'shared']
        """
        exclusive, shared = _several(exclusive), _several(shared)
        renewed = _renewed(renew, ttl)
        return _kept(Batch(*self._lock_many(exclusive, shared, owner, timeout, ttl, priority, best_effort)), renewed)

    def alock_many(
        self,
        exclusive: Iterable[Key] = (),
        /,
        *,
        shared: Iterable[Key] = (),
        owner: str | Owner | Session | None = None,
        timeout: float | None = None,
        ttl: float | None = None,
        priority: int = 0,
        best_effort: bool = False,
        renew: bool = False,
    ) -> AcquireMany:
        """The same as lock_many() for asyncio: await it, use it in `async with`, or make a task of it.

        >>> import asyncio
        >>> locks = LockManager()
        >>> async def main():
        ...     async with locks.alock_many(["a", "b"]) as batch:
        ...         print(len(batch))
        >>> asyncio.run(main())
        2
        """
        exclusive, shared = _several(exclusive), _several(shared)
        return AcquireMany(self, (exclusive, shared, owner, timeout, ttl, priority, best_effort), _renewed(renew, ttl))

    async def try_alock(
        self,
        key: Key,
        *,
        shared: bool = False,
        owner: str | Owner | Session | None = None,
        ttl: float | None = None,
        priority: int = 0,
    ) -> Guard | None:
        """The same as try_lock(), which does not wait either, for code that awaits everything."""
        return self.try_lock(key, shared=shared, owner=owner, ttl=ttl, priority=priority)

    def key(self, key: Key) -> PinnedKey:
        """Return a PinnedKey: the key stays in the table for as long as that is there, and locking it costs less.

        >>> locks = LockManager()
        >>> inode = locks.key(("inodes", "4711"))
        >>> with inode:
        ...     pass

        Raises TableFull, InvalidKey, Closed, Forked.
        """
        return PinnedKey(self, key)

    def synchronized(
        self,
        key: Key | Callable[..., Key],
        *,
        shared: bool = False,
        owner: str | Owner | Session | None = None,
        timeout: float | None = None,
        ttl: float | None = None,
        priority: int = 0,
    ) -> _synchronized.Synchronized:
        """Return a decorator that has a function, or a coroutine, hold a lock while it runs.

        key is a key, or a function that is called with the arguments and returns one.

        >>> locks = LockManager()
        >>> @locks.synchronized(lambda name: ("photos", name))
        ... def rotate(name):
        ...     return locks.locked(("photos", name))
        >>> rotate("cat.jpg")
        True
        """
        options = _synchronized.options(shared, owner, timeout, ttl, priority)
        return _synchronized.Synchronized(self, key, options)

    def holders(
        self,
        *,
        bucket: Part | None = None,
        key: Key | None = None,
        prefix: Part | None = None,
        owner: str | Owner | Session | None = None,
        sessions: bool = False,
        source: str | None = None,
        mode: Mode | str | None = None,
        older_than: float | None = None,
    ) -> list[HolderInfo]:
        """List holders: all of them, or those that meet every condition that is given.

        prefix is how the object's name begins, in any bucket; sessions=True lists only those of sessions; older_than is in
        seconds. Locks can be acquired and released meanwhile.

        >>> locks = LockManager()
        >>> with locks.lock(("photos", "cat.jpg"), owner="indexer"), locks.lock(("logs", "today")):
        ...     for holder in locks.holders(bucket="photos"):
        ...         print(holder.key, holder.owner, holder.mode)
        ('photos', 'cat.jpg') indexer exclusive
        """
        return self._holders(_given(locals()))

    def waiters(
        self,
        *,
        bucket: Part | None = None,
        key: Key | None = None,
        prefix: Part | None = None,
        owner: str | Owner | Session | None = None,
        sessions: bool = False,
        source: str | None = None,
        mode: Mode | str | None = None,
        older_than: float | None = None,
    ) -> list[WaiterInfo]:
        """List waiters, queue by queue, each from its front. The conditions are those of holders()."""
        return self._waiters(_given(locals()))

    def force_release(self, *, all: bool = False, **conditions: Unpack[Conditions]) -> list[HolderInfo]:
        """Revoke locks, and return their holders. The conditions are those of holders().

        A call without a condition, or with one that is None, is an error: a look-up that found nothing must not
        revoke the locks of everyone. all=True does that.

        The waiters of these locks are served. The old holders' guards are void, and releasing them changes nothing. An old
        holder may still be at work: the fence keeps that work from doing harm.

        >>> locks = LockManager()
        >>> stuck = locks.lock("cat.jpg", owner="node-7")
        >>> [str(holder.owner) for holder in locks.force_release(owner="node-7")]
        ['node-7']
        >>> stuck.is_valid
        False
        """
        return self._force_release(_revoked("force_release", all, conditions))

    def expire(self, *, all: bool = False, **conditions: Unpack[Conditions]) -> list[HolderInfo]:
        """Revoke locks whose leases have run out, also without waiters, and return their holders; see force_release()."""
        return self._expire(_revoked("expire", all, conditions))

    def blocking_chain(self, key: Key | None = None, *, owner: str | Owner | Session | None = None) -> BlockingChain:
        """List who waits for whom: from a key, or from what an owner waits for, to holders that wait for nothing.

        A holder is followed only if it is a session, which is one thread of control.

        >>> locks = LockManager()
        >>> with locks.lock("cat.jpg", owner="indexer"):
        ...     print(locks.blocking_chain("cat.jpg").running[0].owner)
        indexer
        """
        return self._blocking_chain(key, owner)

    def top(self, count: int = 10, *, by: Literal["age", "waiters"] = "waiters") -> list[TopKey]:
        """List the keys with the most waiters, or those that were held for longest.

        A hold's age counts from the first look at it, because taking a free lock reads no clock.
        """
        return self._top(count, by)

    def recent_deadlocks(self) -> list[Deadlock]:
        """List the latest broken deadlocks among sessions, at most 64 of them, oldest first."""
        return self._recent_deadlocks()

    def lock_order_reports(self) -> LockOrderReports:
        """List what lock_order_lint has found.

        >>> locks = LockManager(lock_order_lint=True)
        >>> for name, first, second in [("one", "a", "b"), ("two", "b", "a")]:
        ...     with locks.session(name) as session:
        ...         with locks.lock(first, owner=session), locks.lock(second, owner=session):
        ...             pass
        >>> print(locks.lock_order_reports().reports[0].links[0])
        two held "b" (exclusive) and asked for "a" (exclusive)
        """
        return self._lock_order_reports()

    def subscribe(
        self, *, wait_above: float | None = None, hold_above: float | None = None, capacity: int = 1024
    ) -> Events:
        """Subscribe to timeouts, deadlocks and revoked locks from now on; see keylatch.events.

        With wait_above or hold_above, also to waits or holds of at least that many seconds. hold_above makes every request
        slower, because every request has to read the clock. capacity is how many events are kept until they are fetched.

        >>> locks = LockManager()
        >>> with locks.subscribe(hold_above=0) as events:
        ...     locks.lock("cat.jpg", owner="indexer").release()
        ...     print(type(events.next()).__name__)
        SlowHold
        """
        return Events(self._subscribe(wait_above, hold_above, capacity), self)

    def adaptive_timeout(self) -> AdaptiveState | None:
        """Return what the adaptive timeout has learned; None if the manager has none."""
        state = self._adaptive_timeout()
        return None if state is None else AdaptiveState(**state)

    def get_metrics(self, *, per_shard: bool = False) -> LockMetrics:
        """Return counts and times of what happened so far; with per_shard for each shard, too."""
        return LockMetrics._from_figures(self._figures(per_shard))

    def report(self, *, hottest_keys: int = 10) -> LockReport:
        """Return how the manager is doing: str() of it is a page for people, to_dict() of it is for programs.

        >>> print(LockManager().report().to_dict()["health"]["healthy"])
        True
        """
        return LockReport(time.time(), self.health(), self.get_metrics(), tuple(self.top(hottest_keys, by="waiters")))

    def health(self) -> Health:
        """Return whether the manager has been doing well in the last minute, and what is wrong if not.

        >>> LockManager().health().healthy
        True
        """
        return Health(**self._verdict())

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<keylatch.LockManager {state} at {id(self):#x}>"


class Batch(Sequence[Guard]):
    """The locks of a batch, in the order in which they were asked for. Made by lock_many(); `with` releases them all."""

    # As a dictionary, so that help() tells what they are.
    __slots__ = {"_guards": None, "missing": "The keys that a best-effort batch did not get, and why."}

    missing: tuple[tuple[Key, KeylatchError], ...]

    def __init__(self, guards: Iterable[Guard], missing: Iterable[tuple[Key, KeylatchError]] = ()) -> None:
        self._guards = tuple(guards)
        self.missing = tuple(missing)

    def release(self) -> None:
        """Release the locks that are still held.

        Raises what releasing one of them raises, after all are released.
        """
        _keylatch.release_all(self._guards)

    @property
    def released(self) -> bool:
        """Whether none is held any more."""
        return all(guard.released for guard in self._guards)

    def __enter__(self) -> Self:
        """Return the batch itself. Raises RuntimeError if a block has it already, or one of its guards."""
        if not _keylatch.enter_all(self._guards) and self._guards:
            raise NotHeld("the batch was released before")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        try:
            self.release()
        except Forked:
            # The locks are the parent's, whose block is still to end.
            pass
        except (LeaseLost, NotHeld):
            if value is None:
                raise

    @overload
    def __getitem__(self, position: int) -> Guard: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Guard, ...]: ...
    def __getitem__(self, position: int | slice) -> Guard | tuple[Guard, ...]:
        return self._guards[position]

    def __len__(self) -> int:
        return len(self._guards)

    def __iter__(self) -> Iterator[Guard]:
        return iter(self._guards)

    def __reduce__(self) -> Never:
        raise TypeError("a keylatch.Batch is held locks, and cannot be pickled or copied")

    def __repr__(self) -> str:
        held = sum(not guard.released for guard in self._guards)
        return f"<keylatch.Batch of {len(self)}, {held} held>"


class AcquireMany(AwaitedOnce[Batch]):
    """Many locks to be awaited, or used in `async with`: what alock_many() returns."""

    __slots__ = ()
    _verb = "alock_many"
    _omitted = "nothing was locked"

    @staticmethod
    def _wait(*arguments: Any) -> Coroutine[Any, Any, Batch]:
        return _wait_for_many(*arguments)

    def __repr__(self) -> str:
        exclusive, shared, *_ = self._arguments[1]
        return f"<keylatch.AcquireMany of {len(exclusive) + len(shared)}>"


async def _wait_for_many(manager: LockManager, arguments: tuple[Any, ...], renewed: float | None) -> Batch:
    return _kept(Batch(*await _asyncio.wait(manager._begin_lock_many(*arguments))), renewed)


def _renewed(renew: bool, ttl: float | None) -> float | None:
    """The length of the leases that are to be renewed."""
    if renew and ttl is None:
        raise ValueError("renew=True renews a lease: say how long it is with ttl")
    return ttl if renew else None


def _kept(batch: Batch, ttl: float | None) -> Batch:
    """Have the leases of a batch renewed, if they are to be."""
    if ttl is not None:
        for guard in batch:
            _renewal.keep(guard, ttl)
    return batch


def _revoked(verb: str, all: bool, conditions: Conditions) -> dict[str, Any]:
    """The conditions of a revocation, which have to be there."""
    given: dict[str, Any] = dict(conditions)
    for name, value in given.items():
        if value is None:
            raise ValueError(f"{verb}({name}=None) is no condition: leave it out, or say all=True to revoke everything")
    if all and given:
        raise ValueError(f"{verb}() takes all=True or conditions, not both")
    if all:
        return {"all": True}
    if not given or given == {"sessions": False}:
        raise ValueError(f"{verb}() needs a condition, such as owner=..., or all=True to revoke everything")
    return given


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """What a caller said of the locks that are meant."""
    return {name: value for name, value in arguments.items() if name != "self" and value is not None}


def _several(keys: Iterable[Key]) -> list[Key]:
    """The keys as a list. A single key is a mistake that would lock its letters, or its parts.

    A tuple of parts is refused however many there are: a program should not depend on whether its keys are as many as
    those of a bucket and an object.
    """
    if isinstance(keys, (str, bytes)):
        raise TypeError("lock_many() takes several keys: a list of them, not one")
    if not isinstance(keys, Iterable):
        raise TypeError(f"lock_many() takes several keys: a list of them, not {type(keys).__name__}")
    if isinstance(keys, tuple) and keys and all(isinstance(key, (str, bytes)) or key is None for key in keys):
        raise TypeError("lock_many() takes a list of keys, and a tuple of str or bytes is a key: write [...] around it")
    return list(keys)


for _class in (LockManager, Batch, AcquireMany):
    _class.__module__ = "keylatch"
del _class
