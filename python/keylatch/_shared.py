"""Locks between the processes of one machine."""

from __future__ import annotations

import warnings
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, Never

from . import _asyncio, _keylatch
from ._keylatch import Pending, SharedGuard
from ._types import Key


class SharedTable(_keylatch.SharedTable):
    """Shared and exclusive locks between the processes of one machine, in a file that they map.

    The first process that opens a table creates its file, and the others attach to it. A path with a slash in it names the
    file. A name without one is a file of the user in /dev/shm, which is gone when the machine is started again. There is
    nothing to remove by hand: what a process held that was killed is free as soon as another process notices, at most
    about 20 milliseconds later, and the next one that holds it alone can ask whether that happened.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> table = SharedTable(folder.name + "/locks", label="indexer")
    >>> with table.lock(("photos", "cat.jpg"), timeout=5) as guard:
    ...     guard.previous_holder_died  # if so, what the lock protects may be half-written
    False
    >>> folder.cleanup()

    keys is how many may be held at the same time, 65,536 in a new table, and members how many processes may use the table,
    256 in a new one. A process that asks for more than a table has is refused; one that says nothing takes what is there.
    holds limits the holds and waiting requests of all processes together. mode is the permissions of a new file. label is
    what listings call this process, and default_timeout, in seconds, is for requests that say nothing about their time;
    None is for as long as it takes.

    A forked child opens the table again: there each call of the parent's table raises Forked. Processes on other machines,
    or in a container with a /dev/shm of its own, do not share the file.
    """

    __slots__ = ()

    def alock(
        self, key: Key, *, shared: bool = False, owner: str | None = None, timeout: float | None = None
    ) -> AcquireShared:
        """The same as lock() for asyncio: await it, use it in `async with`, or make a task of it.

        Cancelling the wait is exact: the request is out of the line, and nothing is held.

        >>> import asyncio, tempfile
        >>> async def main(table):
        ...     async with table.alock("cat.jpg", timeout=5) as guard:
        ...         print(guard.key)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asyncio.run(main(SharedTable(folder + "/locks")))
        cat.jpg
        """
        return AcquireShared(self, key, shared, owner, timeout)


class AcquireShared(Coroutine[Any, Any, SharedGuard]):
    """A lock to be awaited, or used in `async with`: what SharedTable.alock() returns."""

    __slots__ = ("_arguments", "_guard", "_table", "_waiting")

    def __init__(self, table: SharedTable, *arguments: Any) -> None:
        self._table = table
        self._arguments = arguments
        self._waiting: Coroutine[Any, Any, SharedGuard] | None = None
        self._guard: SharedGuard | None = None

    def _begin(self) -> Coroutine[Any, Any, SharedGuard]:
        if self._waiting is not None:
            raise RuntimeError("this was awaited before; call alock() again for another lock")
        self._waiting = _wait(self._table, self._arguments)
        return self._waiting

    def __await__(self) -> Generator[Any, Any, SharedGuard]:
        return self._begin().__await__()

    def send(self, value: None, /) -> Any:
        """For event loops: go on, as a coroutine does."""
        return (self._waiting or self._begin()).send(value)

    def throw(self, error: Any, /, *deprecated: Any) -> Any:
        """For event loops: raise an exception where this waits, as in a coroutine."""
        return (self._waiting or self._begin()).throw(error, *deprecated)

    def close(self) -> None:
        """Wait no more, as a coroutine that is closed."""
        (self._waiting or self._begin()).close()

    async def __aenter__(self) -> SharedGuard:
        self._guard = (await self).__enter__()
        return self._guard

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.__exit__(kind, value, traceback)

    def __del__(self) -> None:
        if self._waiting is None:
            warnings.warn("alock() was never awaited, so nothing was locked", RuntimeWarning, stacklevel=2)

    def __reduce__(self) -> Never:
        raise TypeError("what alock() returns cannot be pickled or copied")


async def _wait(table: SharedTable, arguments: tuple[Any, ...]) -> SharedGuard:
    begun = table._begin_lock(*arguments)
    if isinstance(begun, Pending):
        guard: SharedGuard = await _asyncio.wait(begun)
        return guard
    return begun


# Error messages and pickles name them as users import them.
SharedTable.__module__ = AcquireShared.__module__ = "keylatch"
