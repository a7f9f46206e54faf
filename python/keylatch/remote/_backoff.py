"""How often a server that does not answer is asked."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

FIRST, LONGEST = 0.02, 1.0
"""The pause after the first failure and the longest one, in seconds."""


class Backoff:
    """Attempts of one client, all of its calls together: while none succeeds they take turns, with growing pauses.

    The pauses are doubled and a random part is added; from the seventh failure on, within two seconds, each lasts at least
    the longest.
    """

    def __init__(self, clock: Callable[[], float], longest: float = LONGEST) -> None:
        self._clock = clock
        self._longest = longest
        self._failures = 0
        self._next = 0.0
        self._turns = asyncio.Lock()
        self._reached = asyncio.Event()

    def _pause(self) -> float:
        doubled: float = FIRST * 2 ** min(max(self._failures - 1, 0), 16)
        return min(doubled, self._longest) * (1 + random.random() / 4)

    async def turn(self) -> None:
        """Wait for a turn. When another attempt reaches the server meanwhile, it comes now."""
        if not self._failures:
            return
        async with self._turns:
            while self._failures and (left := self._next - self._clock()) > 0:
                self._reached.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._reached.wait(), left)
            if self._failures:
                self._next = self._clock() + self._pause()

    def failed(self) -> None:
        """Note that an attempt did not reach the server."""
        self._failures += 1
        self._next = max(self._next, self._clock() + self._pause())

    def reached(self) -> None:
        """Note that the server answered."""
        if self._failures:
            self._failures = 0
            self._reached.set()
