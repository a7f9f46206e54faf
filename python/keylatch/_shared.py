"""Locks between the processes of one machine."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from . import _asyncio, _keylatch
from ._awaited import AwaitedOnce
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


class AcquireShared(AwaitedOnce[SharedGuard]):
    """A lock to be awaited, or used in `async with`: what SharedTable.alock() returns."""

    __slots__ = ()
    _verb = "alock"
    _omitted = "nothing was locked"

    @staticmethod
    def _wait(*arguments: Any) -> Coroutine[Any, Any, SharedGuard]:
        return _wait_for(*arguments)


async def _wait_for(table: SharedTable, *arguments: Any) -> SharedGuard:
    begun = table._begin_lock(*arguments)
    if isinstance(begun, Pending):
        guard: SharedGuard = await _asyncio.wait(begun)
        return guard
    return begun


# Error messages and pickles name them as users import them.
SharedTable.__module__ = AcquireShared.__module__ = "keylatch"
