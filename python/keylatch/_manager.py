"""The manager: who may touch this object now."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, overload

from . import _asyncio, _keylatch
from ._exceptions import KeylatchError
from ._keylatch import Guard, Owner
from ._types import Health, Key, LockMetrics


class LockManager(_keylatch.LockManager):
    """Shared and exclusive locks on keys that nobody has to create or clean up.

    A key is a str or bytes, or a tuple (bucket, object) or (bucket, object, version) of them. All threads and event loops
    of the process may use one manager; it needs no closing.

    >>> locks = LockManager()
    >>> with locks.lock("cat.jpg"):
    ...     locks.try_lock("cat.jpg") is None
    True

    fairness says who goes first at a lock that is free again:

    * "eventual": whoever runs, until somebody has waited for eventual_after seconds; then in line. The fastest.
    * "fifo": first come, first served.
    * "writer_first", "reader_first": as their names say, at most overtake_limit times at somebody's cost.

    default_timeout, in seconds, is for requests that say nothing about their time; None is for as long as it takes.
    The others are limits: see the README.
    """

    __slots__ = ()

    def lock_many(
        self,
        exclusive: Iterable[Key] = (),
        /,
        *,
        shared: Iterable[Key] = (),
        owner: str | Owner | None = None,
        timeout: float | None = None,
        priority: int = 0,
        best_effort: bool = False,
    ) -> Batch:
        """Take many locks, all or none, with one timeout for all of them.

        They are taken in the order of their keys, so that two batches never wait for each other, whatever order they
        were written in. A key that is named twice is taken once, exclusively if it is named so.

        With best_effort those are taken that can be had within the time, and Batch.missing tells of the others.
        Otherwise an error is that of the lock that could not be had, and nothing is held.

        >>> locks = LockManager()
        >>> with locks.lock_many(["target"], shared=["source"]) as batch:
        ...     [str(guard.mode) for guard in batch]
        ['exclusive', 'shared']
        """
        exclusive, shared = _several(exclusive), _several(shared)
        return Batch(*self._lock_many(exclusive, shared, owner, timeout, priority, best_effort))

    def alock_many(
        self,
        exclusive: Iterable[Key] = (),
        /,
        *,
        shared: Iterable[Key] = (),
        owner: str | Owner | None = None,
        timeout: float | None = None,
        priority: int = 0,
        best_effort: bool = False,
    ) -> AcquireMany:
        """The same as lock_many() for asyncio: await it, or use it in `async with`.

        >>> import asyncio
        >>> locks = LockManager()
        >>> async def main():
        ...     async with locks.alock_many(["a", "b"]) as batch:
        ...         print(len(batch))
        >>> asyncio.run(main())
        2
        """
        exclusive, shared = _several(exclusive), _several(shared)
        return AcquireMany(self, (exclusive, shared, owner, timeout, priority, best_effort))

    def get_metrics(self, *, per_shard: bool = False) -> LockMetrics:
        """What happened so far, in figures; with per_shard for each shard, too."""
        return LockMetrics._from_figures(self._figures(per_shard))

    def health(self) -> Health:
        """Whether the manager is doing well, and what is wrong if not.

        >>> LockManager().health().healthy
        True
        """
        return Health(**self._verdict())

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<keylatch.LockManager {state} at {id(self):#x}>"


class Batch(Sequence[Guard]):
    """The locks of a batch, in the order they were asked for: what lock_many() returns. Releases them all after `with`."""

    __slots__ = ("_guards", "missing")

    missing: tuple[tuple[Key, KeylatchError], ...]
    """The keys that a best-effort batch did not get, and why."""

    def __init__(self, guards: Iterable[Guard], missing: Iterable[tuple[Key, KeylatchError]] = ()) -> None:
        self._guards = tuple(guards)
        self.missing = tuple(missing)

    def release(self) -> None:
        """Release the locks that are still held."""
        for guard in reversed(self._guards):
            if not guard.released:
                guard.release()

    @property
    def released(self) -> bool:
        """Whether none is held any more."""
        return all(guard.released for guard in self._guards)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.release()

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

    def __repr__(self) -> str:
        held = sum(not guard.released for guard in self._guards)
        return f"<keylatch.Batch of {len(self)}, {held} held>"


class AcquireMany:
    """Many locks to be awaited, or used in `async with`: what alock_many() returns."""

    __slots__ = ("_arguments", "_batch", "_manager")

    def __init__(self, manager: LockManager, arguments: tuple[Any, ...]) -> None:
        self._manager = manager
        self._arguments = arguments
        self._batch: Batch | None = None

    async def _wait(self) -> Batch:
        return Batch(*await _asyncio.wait(self._manager._begin_lock_many(*self._arguments)))

    def __await__(self) -> Generator[Any, Any, Batch]:
        return self._wait().__await__()

    async def __aenter__(self) -> Batch:
        if self._batch is not None:
            raise RuntimeError("this was entered before; call alock_many() again for more locks")
        self._batch = await self._wait()
        return self._batch

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.release()


def _several(keys: Iterable[Key]) -> list[Key]:
    """The keys as a list. A single key is a mistake that would lock its letters."""
    if isinstance(keys, (str, bytes)):
        raise TypeError("lock_many() takes several keys: a list of them, not one")
    return list(keys)


for _class in (LockManager, Batch, AcquireMany):
    _class.__module__ = "keylatch"
del _class
