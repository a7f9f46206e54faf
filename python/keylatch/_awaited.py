"""What the asynchronous verbs return: awaited once, or used in `async with`."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Coroutine, Generator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, ClassVar, Never, TypeVar

T = TypeVar("T", bound=AbstractContextManager[Any])


class AwaitedOnce(Coroutine[Any, Any, T]):
    """A wait that begins when it is awaited; event loops take it for a coroutine, so tasks can be made of it."""

    __slots__ = ("_arguments", "_entered", "_waiting")

    # The verb that returned it, and what did not happen if it is never awaited.
    _verb: ClassVar[str]
    _omitted: ClassVar[str]

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self._waiting: Coroutine[Any, Any, T] | None = None
        self._entered: T | None = None

    @staticmethod
    @abstractmethod
    def _wait(*arguments: Any) -> Coroutine[Any, Any, T]: ...

    def _begin(self) -> Coroutine[Any, Any, T]:
        if self._waiting is not None:
            raise RuntimeError(f"this was awaited before; call {self._verb}() again")
        self._waiting = self._wait(*self._arguments)
        return self._waiting

    def __await__(self) -> Generator[Any, Any, T]:
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

    async def __aenter__(self) -> T:
        entered = await self
        entered.__enter__()
        self._entered = entered
        return entered

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        entered, self._entered = self._entered, None
        if entered is not None:
            entered.__exit__(kind, value, traceback)

    def __del__(self) -> None:
        # Without the attribute it was never made: its arguments were wrong.
        if getattr(self, "_waiting", self) is None:
            warnings.warn(f"{self._verb}() was never awaited, so {self._omitted}", RuntimeWarning, stacklevel=2)

    def __reduce__(self) -> Never:
        raise TypeError(f"what {self._verb}() returns cannot be pickled or copied")
