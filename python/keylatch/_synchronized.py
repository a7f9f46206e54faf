"""Functions that hold a lock while they run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from ._keylatch import Owner, Session
from ._types import Key

if TYPE_CHECKING:
    from ._manager import LockManager

P = ParamSpec("P")
R = TypeVar("R")


class Synchronized:
    """What LockManager.synchronized() returns: a decorator."""

    __slots__ = ("_key", "_locks", "_options")

    def __init__(self, locks: LockManager, key: Key | Callable[..., Key], options: dict[str, Any]) -> None:
        self._locks = locks
        self._key = key
        self._options = options

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Return the function with the lock around it."""
        if not callable(function):
            raise TypeError(
                f"synchronized() decorates a function, not {type(function).__name__}: write @locks.synchronized(key)"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                "synchronized() is for functions and coroutines: a generator runs after its call has returned"
            )
        locks, options, key_of = self._locks, self._options, self._key_of
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def with_alock(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with locks.alock(key_of(*args, **kwargs), **options):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", with_alock)

        @functools.wraps(function)
        def with_lock(*args: P.args, **kwargs: P.kwargs) -> R:
            with locks.lock(key_of(*args, **kwargs), **options):
                return function(*args, **kwargs)

        return with_lock

    def _key_of(self, *args: Any, **kwargs: Any) -> Key:
        return self._key(*args, **kwargs) if callable(self._key) else self._key


def options(
    shared: bool, owner: str | Owner | Session | None, timeout: float | None, ttl: float | None, priority: int
) -> dict[str, Any]:
    """What a decorator says of each request."""
    return {"shared": shared, "owner": owner, "timeout": timeout, "ttl": ttl, "priority": priority}
