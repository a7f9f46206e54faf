"""The values that keylatch answers with."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Part = str | bytes
Key = str | bytes | tuple[Part, Part] | tuple[Part, Part, Part | None]


class Mode(enum.StrEnum):
    """How a key is held."""

    SHARED = "shared"
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as an error tells it."""

    owner: str
    """The owner's name; empty if it gave none."""
    mode: Mode
    """How the lock is held."""
    held_for: float
    """For how many seconds at least: taking a free lock reads no clock, so time counts from the first look at it."""


@dataclass(frozen=True, slots=True)
class WaitHistogram:
    """How many waits were how long."""

    buckets: tuple[tuple[float | None, int], ...]
    """Upper bound in seconds and number of waits of each bucket, shortest first; the last one has no bound."""

    @property
    def count(self) -> int:
        """Waits altogether."""
        return sum(count for _, count in self.buckets)

    def quantile(self, share: float) -> float | None:
        """A bound that at least this share of waits (0 to 1) stayed below; None if there were none, or it has no bound.

        >>> WaitHistogram(((0.001, 90), (0.002, 10), (None, 0))).quantile(0.99)
        0.002
        """
        wanted = self.count * min(max(share, 0.0), 1.0)
        seen = 0
        for bound, count in self.buckets:
            seen += count
            if seen > 0 and seen >= wanted:
                return bound
        return None

    def __iter__(self) -> Iterator[tuple[float | None, int]]:
        return iter(self.buckets)


@dataclass(frozen=True, slots=True)
class ShardMetrics:
    """Figures of one shard, or of all of them together. Times are in seconds."""

    fast: int
    """Locks taken with one compare-and-swap, without any mutex."""
    inserted: int
    """Locks taken at once by bringing their key into the table."""
    slow: int
    """Locks taken otherwise: found held, or waited for."""
    releases: int
    """Locks released."""
    waits: int
    """Requests that had to queue."""
    timeouts: int
    """Waits that ended because their time was over."""
    cancelled: int
    """Waits that were cancelled, or ended by closing the manager."""
    refused: int
    """Attempts without waiting that found the lock held."""
    wait_time: float
    """Time waited altogether, by requests whose wait is over."""
    max_wait_time: float
    """The longest wait."""
    wait_histogram: WaitHistogram
    """How long the waits were."""
    holders: int
    """Locks held now, each reader counted."""
    waiters: int
    """Requests waiting now."""
    entries: int
    """Keys in the table now, a few idle ones included."""

    @property
    def acquisitions(self) -> int:
        """Locks taken."""
        return self.fast + self.inserted + self.slow

    @property
    def fast_path_rate(self) -> float:
        """The share of locks taken at once, from 0 to 1. 1 when none was taken."""
        return (self.fast + self.inserted) / self.acquisitions if self.acquisitions else 1.0

    @property
    def timeout_rate(self) -> float:
        """The share of requests that timed out, from 0 to 1."""
        requests = self.acquisitions + self.timeouts
        return self.timeouts / requests if requests else 0.0

    @property
    def avg_wait_time(self) -> float:
        """The mean time that those waited who had to wait."""
        count = self.wait_histogram.count
        return self.wait_time / count if count else 0.0

    @classmethod
    def _from_figures(cls, figures: dict[str, Any]) -> ShardMetrics:
        return cls(**{**figures, "wait_histogram": WaitHistogram(tuple(figures["wait_histogram"]))})


@dataclass(frozen=True, slots=True)
class LockMetrics:
    """Figures of a manager.

    >>> from keylatch import LockManager
    >>> locks = LockManager()
    >>> for _ in range(100):
    ...     with locks.lock("cat.jpg"):
    ...         pass
    >>> locks.get_metrics().shard_metrics.acquisitions
    100
    """

    shard_metrics: ShardMetrics
    """All shards together."""
    shards: tuple[ShardMetrics, ...]
    """Each shard, if they were asked for."""
    uptime: float
    """For how many seconds the manager has existed."""
    bytes: int
    """Bytes of memory that the manager uses."""

    @property
    def ops_per_second(self) -> float:
        """Locks taken a second, on average since the manager was made."""
        return self.shard_metrics.acquisitions / self.uptime if self.uptime > 0 else 0.0

    @classmethod
    def _from_figures(cls, figures: dict[str, Any]) -> LockMetrics:
        return cls(
            shard_metrics=ShardMetrics._from_figures(figures["shard_metrics"]),
            shards=tuple(map(ShardMetrics._from_figures, figures["shards"])),
            uptime=figures["uptime"],
            bytes=figures["bytes"],
        )


@dataclass(frozen=True, slots=True)
class Health:
    """A judgement, and the figures it rests on."""

    healthy: bool
    """More than 80 % of locks were had at once, fewer than 5 % of requests timed out, waits were under 10 ms on average."""
    fast_path_rate: float
    """The share of locks that were had at once."""
    timeout_rate: float
    """The share of requests that timed out."""
    avg_wait_time: float
    """The mean wait, in seconds."""
    problems: tuple[str, ...]
    """What is wrong, a sentence each."""

    def __bool__(self) -> bool:
        return self.healthy


for _class in (Mode, Holder, WaitHistogram, ShardMetrics, LockMetrics, Health):
    _class.__module__ = "keylatch"
del _class
