"""A manager whose requests bear the name of the task or thread that makes them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from ._keylatch import Acquire, Guard
from ._manager import AcquireMany, Batch, LockManager
from ._types import Key


def current_name() -> str:
    """The name of the asyncio task that runs in this thread, or of the thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.current_thread().name if task is None else task.get_name()


class NamedLockManager(LockManager):
    """A LockManager for which a request without an owner has that of the task or thread that makes it.

    Errors and listings say then who holds a lock, without a word from the program. It costs each request about a
    microsecond, which is why it is a class of its own. A request that names an owner, or a session, has that one. The
    `with` block of a PinnedKey is a request of no owner; its exclusive() and shared() have the name.

    >>> locks = NamedLockManager()
    >>> with locks.lock("cat.jpg"):
    ...     print(locks.holders()[0].owner)
    MainThread
    """

    __slots__ = ()

    def lock(self, key: Key, **options: Any) -> Guard:
        """As LockManager.lock()."""
        return super().lock(key, **_named(options))

    def try_lock(self, key: Key, **options: Any) -> Guard | None:
        """As LockManager.try_lock()."""
        return super().try_lock(key, **_named(options))

    def alock(self, key: Key, **options: Any) -> Acquire:
        """As LockManager.alock(). The name is that of the task that calls this, not of one that awaits it."""
        return super().alock(key, **_named(options))

    def grant(self, key: Key, **options: Any) -> int:
        """As LockManager.grant()."""
        return super().grant(key, **_named(options))

    def lock_many(self, *exclusive: Any, **options: Any) -> Batch:
        """As LockManager.lock_many()."""
        return super().lock_many(*exclusive, **_named(options))

    def alock_many(self, *exclusive: Any, **options: Any) -> AcquireMany:
        """As LockManager.alock_many(). The name is that of the task that calls this, not of one that awaits it."""
        return super().alock_many(*exclusive, **_named(options))


def _named(options: dict[str, Any]) -> dict[str, Any]:
    if options.get("owner") is None:
        options["owner"] = current_name()
    return options


# Error messages and pickles name it as users import it.
NamedLockManager.__module__ = "keylatch"
