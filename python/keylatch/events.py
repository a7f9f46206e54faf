"""What is worth telling when it happens: long waits and holds, timeouts, deadlocks, and locks that were taken away.

>>> import keylatch
>>> from keylatch import events
>>> locks = keylatch.LockManager()
>>> with locks.subscribe() as heard, locks.lock("cat.jpg", owner="indexer"):
...     try:
...         locks.lock("cat.jpg", owner="viewer", timeout=0.001)
...     except TimeoutError:
...         pass
...     match heard.next():
...         case events.Timeout(owner=owner, holders=holders):
...             print(owner, "gave up on what is held by", holders[0].owner)
viewer gave up on what is held by indexer
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Never, Self

from . import _asyncio
from ._keylatch import Subscription
from ._types import DeadlockLink, Holder, HolderInfo, Key, LockOrderReport, Mode

__all__ = ["Deadlock", "Event", "Events", "Expired", "Forced", "LockOrder", "Other", "SlowHold", "SlowWait", "Timeout"]


@dataclass(frozen=True, slots=True)
class SlowWait:
    """A wait that took long has ended, however it ended."""

    key: Key
    """What was waited for."""
    mode: Mode
    """How it was wanted."""
    owner: str
    """Who waited."""
    source: str
    """Where the owner comes from; empty for nothing."""
    waited: float
    """For how many seconds."""
    granted: bool
    """Whether the request got the lock."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class SlowHold:
    """A lock that was held for long has been released."""

    key: Key
    """What was held."""
    mode: Mode
    """How it was held at the end."""
    owner: str
    """Who held it."""
    source: str
    """Where the owner comes from; empty for nothing."""
    held_for: float
    """For how many seconds; if the hold began before anybody subscribed, since that."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class Timeout:
    """A request gave up because its time was over."""

    key: Key
    """What was asked for."""
    mode: Mode
    """How it was wanted."""
    owner: str
    """Who asked."""
    source: str
    """Where the owner comes from; empty for nothing."""
    waited: float
    """For how many seconds it waited."""
    holders: tuple[Holder, ...]
    """Who held the lock at that moment."""
    more_holders: int
    """How many holders there were besides."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class Deadlock:
    """A circle of sessions that waited for each other was found; one of them was told to give way."""

    key: Key
    """What the one that gave way was waiting for."""
    cycle: tuple[DeadlockLink, ...]
    """Who waited for whom, beginning with the one that gave way."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class Expired:
    """A lease ran out, and the lock was taken away."""

    hold: HolderInfo
    """From whom."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class Forced:
    """A lock was released by force."""

    hold: HolderInfo
    """From whom it was taken."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class LockOrder:
    """Sessions took locks in orders that go round; see LockManager's lock_order_lint."""

    report: LockOrderReport
    """Which sessions, and which locks."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class Other:
    """Something that has no class of its own here."""

    _text: str

    def __str__(self) -> str:
        return self._text


Event = SlowWait | SlowHold | Timeout | Deadlock | Expired | Forced | LockOrder | Other


class Events:
    """A subscription to a manager's events: what LockManager.subscribe() returns.

    Iterate over it, with `for` or `async for`; that ends when the manager or the subscription is closed. One thread or
    task at a time waits for the next event: subscribe once for each reader. Events lie in a queue of the subscription's
    own until they are fetched; when it is full, what comes is dropped and counted.
    """

    __slots__ = ("_manager", "_subscription")

    def __init__(self, subscription: Subscription, manager: object) -> None:
        self._subscription = subscription
        # A manager that is forgotten closes, and then nobody would hear of anything any more.
        self._manager = manager

    def try_next(self) -> Event | None:
        """The oldest event that was not fetched yet, or None."""
        return self._subscription.try_next()

    def next(self, timeout: float | None = None) -> Event | None:
        """Wait for the next event. None if the time, in seconds, is over, or if there will be no more."""
        return self._subscription.next(timeout)

    async def anext(self) -> Event | None:
        """The same for asyncio. Cancelling it loses no event."""
        event: Event | None = await _asyncio.wait(self._subscription.begin_next())
        return event

    def close(self) -> None:
        """End the subscription. Whoever waits for an event is told that there will be no more."""
        self._subscription.close()

    @property
    def closed(self) -> bool:
        """Whether the subscription was closed."""
        return self._subscription.closed

    @property
    def dropped(self) -> int:
        """How many events were dropped because the queue was full."""
        return self._subscription.dropped

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
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
        raise TypeError("a keylatch.events.Events is a subscription of one process, and cannot be pickled or copied")

    def __repr__(self) -> str:
        return f"<keylatch.events.Events {'closed' if self.closed else 'open'}>"
