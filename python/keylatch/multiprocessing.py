"""Locks in the shape of `multiprocessing`'s, which a killed process does not leave locked.

They go to children as those do: inherited by `fork`, or as arguments of a `Process` or in a pool, with `spawn` and
`forkserver`, too. What a process held that was killed is free as soon as another process notices, at most about 20
milliseconds later, and the next holder can ask whether that happened.

>>> from keylatch.multiprocessing import Lock
>>> lock = Lock()
>>> with lock:
...     lock.previous_holder_died  # if so, what the lock protects may be half-written
False

A lock that has a name is the same one in all programs of the user that name it, whether they are related or not.

>>> with Lock("nightly-report"):
...     Lock("nightly-report").acquire(block=False)
False

What differs from `multiprocessing`:

* Only the process that acquired a lock or a permit releases it, by the object that acquired it.
* A thread releases what it acquired itself, if it has acquired something, and else what another thread did.
* A `Semaphore` has 1 to 256 permits and never more than it began with: it is a `BoundedSemaphore`.
* In a forked child, nothing is held that the parent holds.

All locks of a user are in one file in /dev/shm, which is made when it is needed, takes 15 MB, and need not be removed.
The environment variable KEYLATCH_SHARED_TABLE names another file.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Self

from ._keylatch import ProcessLock, ProcessSemaphore

__all__ = ["BoundedSemaphore", "Lock", "RLock", "RWLock", "Semaphore"]


class Lock(ProcessLock):
    """A lock that one thread of one process holds at a time, in the shape of `multiprocessing.Lock`."""

    __slots__ = ()

    def __new__(cls, name: str | None = None, *, path: str | None = None) -> Self:
        """Make a lock, or name one that other programs name too."""
        return super().__new__(cls, "lock", _named(name), False, False, path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _again, (type(self), self.name, self._path)


class RLock(ProcessLock):
    """A lock that its holder may acquire again, in the shape of `multiprocessing.RLock`.

    It is free when the thread has released it as often as it has acquired it.

    >>> lock = RLock()
    >>> with lock, lock:
    ...     print("held twice")
    held twice
    """

    __slots__ = ()

    def __new__(cls, name: str | None = None, *, path: str | None = None) -> Self:
        """Make a lock, or name one that other programs name too."""
        return super().__new__(cls, "rlock", _named(name), False, True, path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _again, (type(self), self.name, self._path)


class _Side(ProcessLock):
    """One side of a RWLock."""

    __slots__ = ()

    def __new__(cls, name: str, shared: bool, path: str | None) -> Self:
        return super().__new__(cls, "rwlock", name, shared, False, path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self.name, self._shared, self._path)


class RWLock:
    """A lock that many share, or one holds alone. Each of its two sides is used like a Lock.

    >>> lock = RWLock()
    >>> with lock.reader:
    ...     lock.writer.acquire(block=False)
    False
    """

    __slots__ = ("reader", "writer")

    reader: _Side
    """What shares the lock. Several threads of a process may have it."""
    writer: _Side
    """What holds it alone."""

    def __init__(self, name: str | None = None, *, path: str | None = None) -> None:
        name = _named(name)
        self.reader = _Side(name, True, path)
        self.writer = _Side(name, False, path)

    @property
    def name(self) -> str:
        """Its name: the one that it was given, or one by chance."""
        return self.writer.name

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _again, (type(self), self.name, self.writer._path)

    def __repr__(self) -> str:
        return f"<keylatch.multiprocessing.RWLock {self.name}>"


class Semaphore(ProcessSemaphore):
    """Permits, each of which one process has at a time, in the shape of `multiprocessing.Semaphore`.

    Requests that wait stand in line. While one is first in line, each other process is served at most once by each
    permit. A permit whose holder was killed is free again. While a process has used the semaphore and lives, another that
    names it with another number of permits gets a ValueError when it first uses it.

    >>> seats = Semaphore(2)
    >>> with seats, seats:
    ...     seats.acquire(timeout=0.01)
    False
    >>> seats.get_value()
    2
    """

    __slots__ = ()

    def __new__(cls, value: int = 1, name: str | None = None, *, path: str | None = None) -> Self:
        """Make a semaphore, or name one that other programs name too."""
        return super().__new__(cls, "semaphore", _named(name), value, path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _again_with_value, (type(self), self.value, self.name, self._path)


class BoundedSemaphore(Semaphore):
    """The same as Semaphore, which has no more permits than it began with, either."""

    __slots__ = ()


def _named(name: str | None) -> str:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    return secrets.token_hex(12) if name is None else name


def _again(kind: Callable[..., Any], name: str, path: str) -> Any:
    return kind(name, path=path)


def _again_with_value(kind: Callable[..., Any], value: int, name: str, path: str) -> Any:
    return kind(value, name, path=path)
