"""Locks of files in the shape of the package `filelock`: programs change one import.

>>> import tempfile
>>> from keylatch.filelock import FileLock, Timeout
>>> folder = tempfile.TemporaryDirectory()
>>> with FileLock(folder.name + "/data.lock") as lock:
...     lock.previous_holder_died  # if so, what the lock protects may be half-written
False
>>> folder.cleanup()

Processes of a user exclude each other through memory that they share, without a system call, and stand in line. A program
that uses the package `filelock`, or an exclusive flock(1), on the same file is excluded as well; one that locks the file
shared, as `flock -s` does, is not. For a second after such a program has opened the file each hold locks it anew. Processes that do not see the same /dev/shm, those of other users, and those on
other machines are excluded by the file alone, as with the package.

`poll_interval` says how often `cancel_check` is asked, and is of no use otherwise. What differs from the package:

* A thread that waits for a lock that it holds by another object waits; it does not raise.
* A lock that a forked child has from its parent can be acquired there.
* There is no SoftFileLock and no hook.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Never, Self, TypeVar
from weakref import WeakValueDictionary

from . import _asyncio, _keylatch

__all__ = ["AcquireReturnProxy", "AsyncAcquireReturnProxy", "AsyncFileLock", "FileLock", "Timeout"]

_LONGEST_PAUSE = 0.02
# How often a cancel_check is asked, unless the lock or the call says it.
_POLL = 0.05


class Timeout(TimeoutError):
    """The lock could not be acquired within the time given."""

    def __init__(self, lock_file: str) -> None:
        super().__init__()
        self._lock_file = lock_file

    @property
    def lock_file(self) -> str:
        """The path of the lock's file."""
        return self._lock_file

    def __reduce__(self) -> tuple[type[Timeout], tuple[str]]:
        return type(self), (self._lock_file,)

    def __str__(self) -> str:
        return f"The file lock '{self._lock_file}' could not be acquired."


class _Base(_keylatch.FileLock):
    """What the two kinds of file locks have in common: their settings."""

    _instances: ClassVar[WeakValueDictionary[tuple[type[Any], str], Any]] = WeakValueDictionary()
    _proxy: ClassVar[type[AcquireReturnProxy[Any]]]
    _lock_file: str
    _settings: tuple[Any, ...]
    timeout: float
    """How many seconds acquire() waits unless it says so; below zero, for as long as it takes."""
    blocking: bool
    """Whether acquire() waits unless it says so."""
    poll_interval: float
    """How often a cancel_check is asked, in seconds."""

    def __new__(
        cls,
        lock_file: str | os.PathLike[str],
        timeout: float = -1,
        mode: int = -1,
        thread_local: bool = True,
        *,
        blocking: bool = True,
        is_singleton: bool = False,
        poll_interval: float = _POLL,
    ) -> Self:
        """Make a lock of a file, which is made when it is acquired. mode is the file's permissions."""
        path = os.fspath(lock_file)
        settings = (path, timeout, mode, thread_local)
        if is_singleton:
            known: Self | None = cls._instances.get((cls, path))
            if known is not None:
                if known._settings != settings:
                    raise ValueError(f"{path!r} has a lock with other settings; a singleton has one set of them")
                return known
        _seconds(timeout)
        if mode != -1 and (not 0 <= mode <= 0o777 or mode & 0o600 != 0o600):
            raise ValueError(f"mode is {mode:o}; choose permissions that include 0600")
        lock = super().__new__(cls, path, None if mode == -1 else mode, thread_local)
        lock._lock_file, lock._settings = path, settings
        lock.timeout, lock.blocking, lock.poll_interval = timeout, blocking, poll_interval
        if is_singleton:
            lock = cls._instances.setdefault((cls, path), lock)
        return lock

    @property
    def lock_file(self) -> str:
        """The path of the lock's file."""
        return self._lock_file

    @property
    def mode(self) -> int:
        """The permissions of a new file."""
        mode: int = self._settings[2]
        return 0o666 if mode == -1 else mode

    @property
    def has_explicit_mode(self) -> bool:
        """Whether permissions were asked for."""
        return bool(self._settings[2] != -1)

    def is_thread_local(self) -> bool:
        """Tell whether each thread has the lock for itself."""
        return bool(self._settings[3])

    @property
    def is_singleton(self) -> bool:
        """Whether this is the one object of its file."""
        return self._instances.get((type(self), self._lock_file)) is self

    def _late(self) -> Timeout:
        return Timeout(self._lock_file)

    def _patience(self, timeout: float | None, blocking: bool | None) -> float:
        """For how many seconds to wait: 0 for one try, and infinity for as long as it takes."""
        if blocking is None:
            blocking = self.blocking
        elif not isinstance(blocking, bool):
            raise TypeError(f"blocking is a bool, not {type(blocking).__name__}")
        seconds = _seconds(self.timeout if timeout is None else timeout)
        return seconds if blocking else 0.0

    def _slice(self, poll_interval: float | None) -> float:
        """How many seconds to wait before a cancel_check is asked: the first of these that is above zero."""
        return next(time for time in (poll_interval, self.poll_interval, _POLL) if time is not None and time > 0)

    def __reduce__(self) -> Never:
        raise TypeError("the lock of a file is made in each process, with its path, and cannot be pickled or copied")

    def __repr__(self) -> str:
        held = "held" if self.is_locked else "not held"
        return f"<keylatch.filelock.{type(self).__name__} {self._lock_file!r}, {held}>"


class FileLock(_Base, ContextDecorator):
    """A lock of a file, in the shape of `filelock.FileLock`. Its holder may acquire it again.

    timeout, in seconds, is for `with`, and acquire() without a time of its own; below zero it is for as long as it takes. With
    thread_local=False all threads of the process hold the lock together: those that wait join the first that has it. With
    is_singleton=True there is one object for a path.
    """

    if TYPE_CHECKING:

        def acquire(
            self,
            timeout: float | None = None,
            poll_interval: float | None = None,
            *,
            poll_intervall: float | None = None,
            blocking: bool | None = None,
            cancel_check: Callable[[], bool] | None = None,
        ) -> AcquireReturnProxy[Self]:
            """Acquire the lock, and return what releases it at the end of a `with` block."""


class AsyncFileLock(_Base):
    """The same for asyncio, in the shape of `filelock.AsyncFileLock`: its acquire() and release() are awaited.

    As there, all threads and tasks hold it together, unless thread_local=True.
    """

    def __new__(
        cls,
        lock_file: str | os.PathLike[str],
        timeout: float = -1,
        mode: int = -1,
        thread_local: bool = False,
        *,
        blocking: bool = True,
        is_singleton: bool = False,
        poll_interval: float = _POLL,
    ) -> Self:
        """Make a lock of a file, which is made when it is acquired. mode is the file's permissions."""
        return super().__new__(
            cls,
            lock_file,
            timeout,
            mode,
            thread_local,
            blocking=blocking,
            is_singleton=is_singleton,
            poll_interval=poll_interval,
        )

    def __enter__(self) -> Never:
        raise NotImplementedError("Do not use `with` for asyncio locks, use `async with` instead.")

    async def acquire(  # type: ignore[override]
        self,
        timeout: float | None = None,
        poll_interval: float | None = None,
        *,
        blocking: bool | None = None,
        cancel_check: Callable[[], bool] | None = None,
    ) -> AsyncAcquireReturnProxy[Self]:
        """Acquire the lock, and return what releases it at the end of an `async with` block.

        As FileLock.acquire(). Cancelled, the wait leaves nothing held.
        """
        end = time.monotonic() + self._patience(timeout, blocking)
        slice = math.inf if cancel_check is None else self._slice(poll_interval)
        while not await self._try(min(slice, max(end - time.monotonic(), 0.0))):
            if time.monotonic() >= end or (cancel_check is not None and cancel_check()):
                raise Timeout(self._lock_file)
        return AsyncAcquireReturnProxy(self)

    async def _try(self, seconds: float) -> bool:
        """Stand in line for the file, and then lock it. False when the time is over, or the path has another file."""
        if seconds <= 0:
            return self._acquire(0.0)
        end = time.monotonic() + seconds
        pending = self._begin(seconds)
        if pending is None:
            return True
        turn: _keylatch.FileTurn | bool = await _asyncio.wait(pending)
        if isinstance(turn, bool):
            # If so, a task or a thread has it by the same object: this one joins it, unless that has released it.
            return turn and self._acquire(0.0)
        try:
            pause = 0.001
            while (entered := self._enter(turn)) is None:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                await asyncio.sleep(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE)
            return entered
        finally:
            turn.close()

    async def release(self, force: bool = False) -> None:  # type: ignore[override]
        """Release the lock, as FileLock.release(). Never waits."""
        super().release(force)

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        super().release()


_LockT = TypeVar("_LockT", bound=_Base)


class AcquireReturnProxy(Generic[_LockT]):
    """What FileLock.acquire() returns: releases the lock at the end of a `with` block."""

    def __init__(self, lock: _LockT) -> None:
        self.lock = lock

    def __enter__(self) -> _LockT:
        return self.lock

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.lock.release()


class AsyncAcquireReturnProxy(Generic[_LockT]):
    """What AsyncFileLock.acquire() returns: releases the lock at the end of an `async with` block."""

    def __init__(self, lock: _LockT) -> None:
        self.lock = lock

    async def __aenter__(self) -> _LockT:
        return self.lock

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        _keylatch.FileLock.release(self.lock)


FileLock._proxy = AcquireReturnProxy


def _seconds(timeout: float) -> float:
    """A time as it is waited for; what is below zero is for as long as it takes."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"a timeout is a number of seconds, not {type(timeout).__name__}")
    if math.isnan(timeout):
        raise ValueError("a timeout is a number of seconds, not NaN")
    return math.inf if timeout < 0 else float(timeout)
