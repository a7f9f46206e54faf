"""Events: long waits and holds, timeouts, deadlocks, and revoked locks.

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

from ._event_stream import EventStream
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
    """A circle of sessions that waited for each other was found; one of them had to give way."""

    key: Key
    """What the one that gave way was waiting for."""
    cycle: tuple[DeadlockLink, ...]
    """Who waited for whom, beginning with the one that gave way."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class Expired:
    """A lease ran out, and the lock was revoked."""

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


class Events(EventStream[Event]):
    """A subscription to a manager's events: what LockManager.subscribe() returns.

    Iterate over it, with `for` or `async for`; that ends when the manager or the subscription is closed. One thread or
    task at a time waits for the next event: subscribe once for each reader. Events lie in a queue of the subscription's
    own until they are fetched; when it is full, what comes is dropped and counted.
    """

    __slots__ = ("_manager", "_subscription")

    def __init__(self, subscription: Subscription, manager: object) -> None:
        super().__init__(subscription)
        self._subscription = subscription
        # A manager that is forgotten closes, and its subscribers would hear of nothing any more.
        self._manager = manager

    @property
    def dropped(self) -> int:
        """How many events were dropped because the queue was full."""
        return self._subscription.dropped
