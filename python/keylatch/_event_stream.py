"""What subscriptions have in common: the next event, waited for or not, iteration and the end."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, Never, Protocol, Self, TypeVar

from . import _asyncio
from ._keylatch import Pending

E = TypeVar("E")


class Source(Protocol):
    """Where events come from: a subscription of the extension module's."""

    def try_next(self) -> Any:
        """Return the oldest event that was not fetched yet, or None."""

    def next(self, timeout: float | None) -> Any:
        """Wait for it."""

    def begin_next(self) -> Pending:
        """Begin to wait for it."""

    def close(self) -> None:
        """End the subscription."""

    @property
    def closed(self) -> bool:
        """Say whether it was ended."""


class EventStream(Generic[E]):
    """A subscription. Iterate over it with `for` or `async for`, which ends when no more events come."""

    __slots__ = ("_source",)

    def __init__(self, source: Source) -> None:
        self._source = source

    def _fetched(self, event: Any) -> E | None:
        fetched: E | None = event
        return fetched

    def try_next(self) -> E | None:
        """The oldest event that was not fetched yet, or None."""
        return self._fetched(self._source.try_next())

    def next(self, timeout: float | None = None) -> E | None:
        """Wait for the next event. None after `timeout` seconds, or when no more events come."""
        return self._fetched(self._source.next(timeout))

    async def anext(self) -> E | None:
        """The same for asyncio. Cancelling it loses no event."""
        return self._fetched(await _asyncio.wait(self._source.begin_next()))

    def close(self) -> None:
        """End the subscription. A reader that waits gets None."""
        self._source.close()

    @property
    def closed(self) -> bool:
        """Whether the subscription was closed."""
        return self._source.closed

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        event = await self.anext()
        if event is None:
            raise StopAsyncIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.close()

    def __reduce__(self) -> Never:
        raise TypeError(f"{self._name()} is a subscription of one process and cannot be pickled or copied")

    def __repr__(self) -> str:
        return f"<{self._name()} {'closed' if self.closed else 'open'}>"

    def _name(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}"
