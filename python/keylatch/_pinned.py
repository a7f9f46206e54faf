"""Keys that stay in the table of their manager."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from . import _keylatch
from ._keylatch import Guard, Owner, Session


class PinnedKey(_keylatch.PinnedKey):
    """What LockManager.key() returns: a key that stays in the table, held or not, so that locking it costs less.

    A `with` block has it exclusively. exclusive() and shared() are for everything else, with the options of
    LockManager.lock(), and for `async with`.

    >>> from keylatch import LockManager
    >>> locks = LockManager()
    >>> inode = locks.key(("inodes", "4711"))
    >>> with inode:
    ...     locks.locked(("inodes", "4711"))
    True
    >>> with inode.shared(owner="reader") as guard:
    ...     guard.mode
    <Mode.SHARED: 'shared'>

    It takes one of the manager's max_locks places for as long as the object is there. Threads may use one PinnedKey, or
    each its own. It is not reentrant: a thread that enters it twice waits for itself, as with threading.Lock.
    """

    __slots__ = ()

    def exclusive(
        self,
        *,
        owner: str | Owner | Session | None = None,
        timeout: float | None = None,
        ttl: float | None = None,
        priority: int = 0,
    ) -> PinnedBlock:
        """Hold the key alone, in a `with` or `async with` block, which gets the guard."""
        return PinnedBlock(self, False, owner, timeout, ttl, priority)

    def shared(
        self,
        *,
        owner: str | Owner | Session | None = None,
        timeout: float | None = None,
        ttl: float | None = None,
        priority: int = 0,
    ) -> PinnedBlock:
        """Share the key, in a `with` or `async with` block, which gets the guard."""
        return PinnedBlock(self, True, owner, timeout, ttl, priority)

    def locked(self) -> bool:
        """Tell whether the key is held at this moment, by whomever."""
        return self.locks.locked(self.key)

    def __reduce__(self) -> Any:
        """Refuse: a copy would be no lock."""
        raise TypeError("a PinnedKey belongs to its process and its manager; pass the key itself")

    def __repr__(self) -> str:
        return f"<keylatch.PinnedKey {self.key!r}>"


PinnedKey.__module__ = "keylatch"


class PinnedBlock:
    """What PinnedKey.exclusive() and shared() return: one block, with `with` or `async with`."""

    __slots__ = ("_ask", "_guard", "_pinned")

    def __init__(
        self,
        pinned: PinnedKey,
        shared: bool,
        owner: str | Owner | Session | None,
        timeout: float | None,
        ttl: float | None,
        priority: int,
    ) -> None:
        self._pinned = pinned
        self._ask: dict[str, Any] = {
            "shared": shared,
            "owner": owner,
            "timeout": timeout,
            "ttl": ttl,
            "priority": priority,
        }
        self._guard: Guard | None = None

    def _asked_once(self) -> dict[str, Any]:
        if not self._ask:
            raise RuntimeError("a block of a PinnedKey is entered once: call exclusive() or shared() for each")
        ask, self._ask = self._ask, {}
        return ask

    def __enter__(self) -> Guard:
        ask = self._asked_once()
        self._guard = self._pinned.locks.lock(self._pinned.key, **ask)
        return self._guard.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._guard is not None:
            self._guard.__exit__(kind, error, trace)

    async def __aenter__(self) -> Guard:
        ask = self._asked_once()
        self._guard = await self._pinned.locks.alock(self._pinned.key, **ask)
        return self._guard.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __reduce__(self) -> Any:
        """Refuse: a copy would hold nothing."""
        raise TypeError("a block of a PinnedKey belongs to its process")
