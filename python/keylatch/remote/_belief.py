"""What a client believes: until when its leases are safe, and which of its requests are open.

Invariant: `until` is the moment some renewal was *sent* plus the validity that its answer named, never more. So it is over
before the server frees anything. What was held when it was over stays lost.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import Any

from . import _clock

LOST_EXPIRED, LOST_FORCED = "expired", "forced"


class Fate:
    """What became of one grant."""

    __slots__ = ("_listeners", "_lock", "reason")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[str], object]] | None = []
        self.reason = ""
        """Empty while it holds."""

    def lose(self, reason: str) -> None:
        """Make it lost, for good, and call those who want to know."""
        with self._lock:
            if self._listeners is None:
                return
            listeners, self._listeners = self._listeners, None
            self.reason = reason
        for listener in listeners:
            listener(reason)

    def settle(self) -> None:
        """Note that it ended otherwise: no listener is called any more."""
        with self._lock:
            if self._listeners is not None:
                self._listeners = []

    def listen(self, listener: Callable[[str], object]) -> None:
        """Call listener when it is lost; now if it is."""
        with self._lock:
            if self._listeners is not None:
                self._listeners.append(listener)
                return
        listener(self.reason)

    def forget(self, listener: Callable[[str], object]) -> None:
        """Call listener no more."""
        with self._lock:
            if self._listeners and listener in self._listeners:
                self._listeners.remove(listener)


class Belief:
    """The belief of one session. Any thread reads it; the event loop of the session changes it."""

    def __init__(self, until: float, clock: Callable[[], float] = _clock.now) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._until = until
        self._over = False
        self._next = 1
        self._open: dict[int, Fate | None] = {}
        self._forgotten: collections.deque[int] = collections.deque()

    @property
    def over(self) -> bool:
        """Whether the session has ended."""
        return self._over

    def safe_for(self) -> float:
        """Return for how many seconds grants are safe; 0 when they are not. A belief that has lapsed loses them."""
        left = 0.0 if self._over else self._until - self._clock()
        if left <= 0:
            self._lose_all(LOST_EXPIRED)
            return 0.0
        return left

    def extend(self, sent: float, valid: float) -> None:
        """Note that a renewal was answered."""
        if self._clock() >= self._until:
            self._lose_all(LOST_EXPIRED)
        with self._lock:
            self._until = max(self._until, sent + valid)

    def end(self) -> None:
        """Note that the session has ended: everything that it held is lost."""
        self._over = True
        self._lose_all(LOST_EXPIRED)

    def _lose_all(self, reason: str) -> None:
        with self._lock:
            fates = [fate for fate in self._open.values() if fate is not None]
        for fate in fates:
            fate.lose(reason)

    def take_number(self) -> int:
        """Return a new number, open from now on."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._open[number] = None
            return number

    def hold(self, number: int) -> Fate:
        """Note that a number got what it asked for."""
        fate = Fate()
        with self._lock:
            self._open[number] = fate
        if self._over:
            fate.lose(LOST_EXPIRED)
        return fate

    def settle(self, number: int) -> None:
        """Note that a number has its last answer."""
        with self._lock:
            fate = self._open.pop(number, None)
        if fate is not None:
            fate.settle()

    def forget(self, number: int) -> None:
        """Settle a number later, without the lock: a collector may call this while its thread has the lock."""
        self._forgotten.append(number)

    def settle_forgotten(self) -> None:
        """Settle the numbers that were forgotten, so that the next renewal gives them up."""
        while self._forgotten:
            self.settle(self._forgotten.popleft())

    def lose(self, number: int, reason: str) -> None:
        """Note that the server says that a number holds nothing."""
        with self._lock:
            fate = self._open.get(number)
        if fate is not None:
            fate.lose(reason)

    def holding(self) -> set[int]:
        """Return the numbers that hold something now."""
        with self._lock:
            return {number for number, fate in self._open.items() if fate is not None and not fate.reason}

    @property
    def settled_below(self) -> int:
        """Below which number all have their answer."""
        with self._lock:
            return min(self._open, default=self._next)

    def standing(self) -> dict[str, Any]:
        """Return what a renewal says of the numbers."""
        self.settle_forgotten()
        with self._lock:
            settled = min(self._open, default=self._next)
            return {"next": self._next, "open": sorted(self._open), "settled_below": settled}
