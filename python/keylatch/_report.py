"""The report of a manager: for people as text, for programs as a dict."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

from ._types import Health, LockMetrics, TopKey


@dataclass(frozen=True, slots=True)
class LockReport:
    """How a manager is doing: what LockManager.report() returns. As a str it is a page of text.

    >>> from keylatch import LockManager
    >>> locks = LockManager()
    >>> with locks.lock("cat.jpg"):
    ...     report = locks.report()
    >>> print(report)
    === Lock Performance Report ===
    Generated at: ...
    <BLANKLINE>
    Total acquisitions: 1
    ...
    Status: ✅ Healthy
    >>> report.to_dict()["metrics"]["shard_metrics"]["holders"]
    1
    """

    generated_at: float
    """When, as time.time() tells it."""
    health: Health
    """The verdict on the last minute."""
    metrics: LockMetrics
    """The figures, since the manager was made."""
    hottest_keys: tuple[TopKey, ...]
    """The keys that most requests wait for now."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists, str, numbers and None: what json.dumps() takes.

        Keys become lists of their parts, and parts that are not UTF-8 a str with escapes.
        """
        return {
            "generated_at": self.generated_at,
            "health": _plain(self.health),
            "metrics": _plain(self.metrics),
            "hottest_keys": [_plain(key) for key in self.hottest_keys],
        }

    def __str__(self) -> str:
        all_ = self.metrics.shard_metrics
        generated_at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.generated_at))
        lines = [
            "=== Lock Performance Report ===",
            f"Generated at: {generated_at}",
            "",
            f"Total acquisitions: {all_.acquisitions}",
            f"Timeouts: {all_.timeouts} ({all_.timeout_rate:.2%})",
            f"Deadlocks: {all_.deadlocks}",
            f"Leases lost: {self.metrics.expired_leases}",
            f"Forced releases: {self.metrics.forced_releases}",
            f"Avg wait time: {_duration(all_.avg_wait_time)}",
            f"Max wait time: {_duration(all_.max_wait_time)}",
            f"Max wait time of the last {self.health.window:.0f}s: {_duration(self.health.max_wait_time)}",
            f"Current holders: {all_.holders}",
            f"Current waiters: {all_.waiters}",
            f"Table: {all_.entries} keys ({self.metrics.table_fill:.1%} full)",
            f"Status: {self._status()}",
        ]
        if self.hottest_keys:
            lines += ["", "Hottest keys:"]
        for key in self.hottest_keys:
            lines.append(f"  {key.key!r}")
            lines.append(f"    Waiters: {key.waiters}, the first for {_duration(key.longest_wait)}")
            if key.holder is not None:
                # As repr: an owner's name may hold line breaks.
                held_for = _duration(key.holder.held_for)
                lines.append(f"    Held by: {key.holder.owner!r} ({key.holder.mode}) for {held_for}")
        return "\n".join(lines)

    def _status(self) -> str:
        if self.health:
            return "✅ Healthy"
        return f"⚠️  High contention detected: {'; '.join(self.health.problems)}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    # Modes are strings of a kind of their own.
    return str(value) if isinstance(value, str) else value


def _duration(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.4g}{unit}"
    return f"{seconds * 1e9:.0f}ns"


LockReport.__module__ = "keylatch"
