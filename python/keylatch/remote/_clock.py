"""The clock that leases are counted by: time that the machine was suspended included, because leases go on then."""

from __future__ import annotations

import time

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return the time in seconds, from a moment that does not change while the machine runs."""
    return time.clock_gettime(_CLOCK)
