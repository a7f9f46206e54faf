"""The exceptions. All are KeylatchErrors; where the standard library has a fitting one, they are that, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._types import DeadlockLink, Holder, Key


class KeylatchError(Exception):
    """A call has failed, and has changed nothing."""

    code: int = 0
    """The error's number, the same in every language that keylatch has."""
    transient: bool = False
    """Whether the same call may succeed when it is made again later."""


class _Held(KeylatchError):
    key: Key = ""
    """What was asked for."""
    holders: tuple[Holder, ...] = ()
    """Who holds it."""
    more_holders: int = 0
    """How many holders there are besides."""


class LockTimeout(_Held, TimeoutError):
    """The time given was over before the lock was free. The message names who holds it.

    >>> from keylatch import LockManager
    >>> locks = LockManager()
    >>> with locks.lock("cat.jpg", owner="indexer"):
    ...     try:
    ...         locks.lock("cat.jpg", timeout=0.01)
    ...     except TimeoutError as error:
    ...         print([holder.owner for holder in error.holders])
    ['indexer']
    """

    waited: float = 0.0
    """For how many seconds the request waited."""


class WouldBlock(_Held):
    """The lock is held, and the request was not to wait."""


class UpgradeConflict(_Held):
    """Another holder waits to upgrade the same lock: each would wait for the other."""


class LockDeadlock(KeylatchError):
    """A deadlock: sessions that would wait for each other for ever.

    The session should let go of what it holds and start again.

    >>> from keylatch import LockManager
    >>> locks = LockManager()
    >>> with locks.session("txn-17") as transaction:
    ...     guard = locks.lock("cat.jpg", owner=transaction)
    ...     try:
    ...         locks.lock("cat.jpg", owner=transaction)
    ...     except LockDeadlock as error:
    ...         print(error.cycle[0])
    txn-17 waits for "cat.jpg" (exclusive) held exclusive by the next
    """

    key: Key = ""
    """What was asked for."""
    cycle: tuple[DeadlockLink, ...] = ()
    """Who waits for whom, beginning with the session whose request this was; the last one waits for the first."""


class Cancelled(KeylatchError):
    """The request was cancelled while it waited."""

    key: Key = ""
    """What was asked for."""


class Closed(KeylatchError):
    """The manager was closed."""


class NotHeld(KeylatchError, RuntimeError):
    """The lock is not held: it was released before, or revoked by force."""


class LeaseLost(KeylatchError, RuntimeError):
    """The lock was a lease that ran out, and another caller has taken it.

    >>> from keylatch import LockManager
    >>> locks = LockManager()
    >>> try:
    ...     with locks.lock("cat.jpg", ttl=1e-9) as guard:
    ...         locks.lock("cat.jpg").release()
    ... except LeaseLost:
    ...     print("another holder may have worked on it during the block")
    another holder may have worked on it during the block
    """


class TableFull(KeylatchError):
    """The table holds max_locks locks already."""

    limit: int = 0
    """The setting max_locks."""


class TooManyWaiters(KeylatchError):
    """max_waiters requests wait already."""

    limit: int = 0
    """The setting max_waiters."""


class InvalidKey(KeylatchError, ValueError):
    """The key is longer than keys may be."""

    bytes: int = 0
    """How many bytes it has in all its parts."""
    limit: int = 0
    """The setting max_key_bytes."""


class InvalidConfig(KeylatchError, ValueError):
    """A setting has an invalid value."""

    setting: str = ""
    """Which one."""


class TooManyProcesses(KeylatchError):
    """The shared table is used by as many processes as it was made for."""

    limit: int = 0
    """The setting members."""


class SharedFileError(KeylatchError, OSError):
    """The file of a shared table cannot be made or used, or was damaged; the message says what to do.

    >>> from keylatch import SharedTable
    >>> SharedTable("/no/such/folder/locks")
    Traceback (most recent call last):
    keylatch.SharedFileError: [Errno 2] ...; create the folder first: '/no/such/folder...
    """


class TierFailed(KeylatchError):
    """What managers share keys through failed, such as an etcd cluster; the message says what to do."""

    kind: str = "other"
    """What failed: "unavailable", "term_over", "full", "not_permitted", "unsupported", "closed", "damaged" or "other"."""


class Forked(KeylatchError, RuntimeError):
    """The process is a fork of the one that made the manager; make a new one there.

    Whatever asks for locks, changes them or looks at them raises this in the child. Leaving is quiet: the end of a `with`
    block that began in the parent, close(), and guards that are forgotten. They let go of nothing, because the locks are
    the parent's; what is left of the block runs without them.
    """


for _class in list(globals().values()):
    if isinstance(_class, type) and issubclass(_class, KeylatchError) and _class is not _Held:
        _class.__module__ = "keylatch"
NotHeld.code = -6
del _class
