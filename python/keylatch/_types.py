"""The values that keylatch answers with."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._keylatch import SharedHold

Part = str | bytes
Key = str | bytes | tuple[Part, Part] | tuple[Part, Part, Part | None]


class Mode(enum.StrEnum):
    """How a key is held."""

    SHARED = "shared"
    EXCLUSIVE = "exclusive"


class Lost(enum.StrEnum):
    """Why a lock is gone that was not released."""

    EXPIRED = "expired"
    """Its lease ran out, and a waiter took the lock, or a caller revoked it."""
    FORCED = "forced"
    """It was released by force."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as an error tells it."""

    owner: str
    """The owner's name; empty if it gave none."""
    mode: Mode
    """How the lock is held."""
    held_for: float
    """For how many seconds at least: taking a free lock reads no clock, so time counts from the first look at it."""


@dataclass(frozen=True)
class SharedHolder(Holder):
    """A lock of a shared table that a process holds. As a str it is a sentence."""

    key: Key
    """What is held; of a long key the first 80 bytes."""
    pid: int
    """The process id, as the holder itself sees it."""
    program: str
    """The name of the holder's program."""
    label: str
    """What the process called itself when it opened the table."""
    hold: SharedHold = field(repr=False)
    """Names the hold, for SharedTable.revoke()."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class SharedFigures:
    """Sizes and counts of a shared table."""

    keys: int
    """Keys that may be held at the same time."""
    members: int
    """Processes that may use the table at the same time."""
    live_members: int
    """Processes that do."""
    recoveries: int
    """Recoveries of dead processes since the table was made; two for a death that two processes noticed together."""
    bytes: int
    """Size of the file."""


@dataclass(frozen=True, slots=True)
class HolderInfo:
    """A lock that is held. As a str it is a sentence."""

    key: Key
    """What is held."""
    mode: Mode
    """How."""
    owner: str
    """The owner's name; empty if it gave none."""
    source: str
    """Where the owner comes from, as given when it was made; empty for nothing."""
    session: bool
    """Whether the owner is a session rather than a name."""
    priority: int
    """The priority of the request."""
    held_for: float
    """For how many seconds at least: taking a free lock reads no clock, so time counts from the first look at it."""
    lease: float | None
    """How many seconds of the lease are left; None if it is none."""
    fence: int | None
    """The number of this exclusive hold; None for a shared one."""
    grant: int
    """The lock's number. As long as a guard has it, it is only a name."""
    in_lock_delay: bool
    """Whether it is held by none, but closed: so it stays for lock_delay after its lease ran out."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class WaiterInfo:
    """A request that waits. As a str it is a sentence."""

    key: Key
    """What it waits for."""
    mode: Mode
    """How it wants it."""
    owner: str
    """The owner's name; empty if it gave none."""
    source: str
    """Where the owner comes from, as given when it was made; empty for nothing."""
    session: bool
    """Whether the owner is a session rather than a name."""
    priority: int
    """The request's priority."""
    waited: float
    """For how many seconds it has waited."""
    upgrade: bool
    """Whether it holds the lock shared already."""
    position: int
    """Its place in the line for this key; 1 is the next one."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One key with a waiter, and who has it."""

    key: Key
    """The key."""
    waiter: WaiterInfo | None
    """Who waits for it; None for the key that was asked about."""
    holders: tuple[HolderInfo, ...]
    """Who holds it. Empty if it has become free, or goes from one to the next in this moment."""
    after: int | None
    """The link of which one of the holders is the waiter here; None where a chain begins."""


@dataclass(frozen=True, slots=True)
class BlockingChain:
    """Who waits for whom. As a str it has a line for each link; it is false if there is no waiter and no holder."""

    links: tuple[ChainLink, ...]
    """The links, each after the one that it follows from."""
    running: tuple[HolderInfo, ...]
    """Those at the end, who wait for nothing as far as is known: the ones to look at."""
    circle: bool
    """Whether it goes round: sessions of it wait for each other."""
    _text: str = field(repr=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.links)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class TopKey:
    """A key that stands out."""

    key: Key
    """The key."""
    holder: HolderInfo | None
    """The hold that stands out, or the oldest of the key; None if it was free by then."""
    waiters: int
    """How many wait for it."""
    longest_wait: float
    """For how many seconds the one that came first has waited."""


@dataclass(frozen=True, slots=True)
class TierHold:
    """What a process holds, or waits for, of a key that it shares with others. As a str it is a sentence."""

    key: Key
    """The key."""
    mode: Mode
    """How it holds it or wants it."""
    waits: bool
    """Whether it waits for the key."""
    process: str
    """The process, as people recognise it: its host, name and number."""
    owner: str
    """The owner's name, as its process gave it; empty if that is not known."""
    since: float | None
    """For how many seconds the process has had the key, or has waited; None if that is not known, as with etcd."""
    own: bool
    """Whether it is the process that lists."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class DeadlockLink:
    """One session of a deadlock: it waits for a lock that the next one holds, or will hold first."""

    session: str
    """The session's name."""
    source: str
    """Where the session comes from; empty for nothing."""
    key: Key
    """What it waits for."""
    mode: Mode
    """How it wants it."""
    blocked_by: Mode | None
    """How the next session holds it; None if that one waits in line ahead."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class Deadlock:
    """A deadlock that was broken."""

    at: float
    """When, in seconds since the manager was made."""
    victim: str
    """The session that gave way: its request ended with LockDeadlock."""
    links: tuple[DeadlockLink, ...]
    """Who waited for whom, beginning with the victim; the last one waited for the victim."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class LockOrderLink:
    """One order in which a session took two locks, when it was seen for the first time."""

    session: str
    """The session's name."""
    source: str
    """Where the session comes from; empty for nothing."""
    held: Key
    """What it held."""
    held_mode: Mode
    """How it had taken that."""
    wanted: Key
    """What it asked for, ready to wait."""
    wanted_mode: Mode
    """How it wanted that."""
    at: float
    """When, in seconds since the manager was made."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class LockOrderReport:
    """Sessions took locks in orders that go round, which will be a deadlock when they meet."""

    at: float
    """When it was noticed, in seconds since the manager was made."""
    links: tuple[LockOrderLink, ...]
    """Each asked for what the next one held, and the last one for what the first one held."""
    _text: str = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class LockOrderReports:
    """What LockManager(lock_order_lint=True) has found."""

    reports: tuple[LockOrderReport, ...]
    """The latest, at most 64, oldest first."""
    reported: int
    """How many there were altogether."""
    orders: int
    """Orders that are remembered, at most 65,536."""
    forgotten: int
    """Orders that had to be forgotten because of that."""


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

    def __repr__(self) -> str:
        # Without the buckets, most of which are empty.
        if not self.count:
            return "<keylatch.WaitHistogram of 0 waits>"
        median, most = (_time(self.quantile(share)) for share in (0.5, 0.99))
        return f"<keylatch.WaitHistogram of {self.count} waits: half {median}, 99 % {most}>"


def _time(bound: float | None) -> str:
    if bound is None:
        return "beyond the last bucket"
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if bound >= unit:
            return f"below {bound / unit:.3g} {name}"
    return f"below {bound * 1e9:.3g} ns"


@dataclass(frozen=True, slots=True)
class ShardMetrics:
    """Figures of one shard, or of all of them together. Times are in seconds."""

    fast: int
    """Locks taken with one compare-and-swap, without any mutex."""
    inserted: int
    """Locks taken without waiting, under the mutex of their shard: mostly by bringing their key into the table."""
    slow: int
    """Locks that were waited for."""
    releases: int
    """Locks released."""
    waits: int
    """Requests that had to queue."""
    timeouts: int
    """Requests whose time was over before they had the lock."""
    cancelled: int
    """Waits that were cancelled, or ended by closing the manager."""
    deadlocks: int
    """Waits of sessions that ended with LockDeadlock so that others could go on."""
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
        """The share of locks taken without waiting, from 0 to 1. 1 when none was taken."""
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

    def __repr__(self) -> str:
        figures = (
            f"{self.holders} held, {self.waiters} waiting, {self.acquisitions} taken ({self.fast_path_rate:.1%} fast)"
        )
        ended = f"{self.waits} waits, {self.timeouts} timeouts, {self.deadlocks} deadlocks, {self.refused} refused"
        return f"<keylatch.ShardMetrics {figures}; {ended}>"

    @classmethod
    def _from_figures(cls, figures: dict[str, Any]) -> ShardMetrics:
        return cls(**{**figures, "wait_histogram": WaitHistogram(tuple(figures["wait_histogram"]))})


@dataclass(frozen=True, slots=True)
class AdaptiveTimeout:
    """How a manager learns its default timeout from the waits that there were: LockManager(adaptive=AdaptiveTimeout()).

    The timeout is factor times the wait that the given share of waits stayed below, within floor and ceiling. It serves
    wherever a request names no timeout.

    >>> from keylatch import LockManager
    >>> locks = LockManager(default_timeout=5, adaptive=AdaptiveTimeout(ceiling=60))
    >>> locks.default_timeout()  # until enough waits were seen
    5.0
    """

    quantile: float = 0.99
    """The share of waits, above 0 and up to 1."""
    factor: float = 2.0
    """At least 1."""
    floor: float = 0.01
    """The shortest timeout, in seconds."""
    ceiling: float = 30.0
    """The longest timeout, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdOptions:
    """How an etcd cluster is reached, and what the locks are called there: LockManager(etcd=..., etcd_options=EtcdOptions()).

    Files are in PEM. An address without a scheme is https:// if there is a ca_file, and http:// otherwise.
    """

    namespace: str = "default"
    """Managers with the same one exclude each other: 1 to 64 letters, digits, "-", "_" and "."."""
    ttl: float = 10.0
    """After how many seconds without contact all locks of the process end; whole ones, and at least the server's floor."""
    connect_timeout: float = 5.0
    """For how many seconds a new manager tries to reach the cluster."""
    ca_file: str | os.PathLike[str] | None = None
    """The authority of the members' certificates."""
    certificate_file: str | os.PathLike[str] | None = None
    """The process's own certificate, with key_file."""
    key_file: str | os.PathLike[str] | None = None
    """The key of that certificate."""
    server_name: str | None = None
    """What the members' certificates are for; None for the host of the address."""
    user: str | None = None
    """For clusters with authentication, with password."""
    password: str | None = field(default=None, repr=False)
    """The user's password."""
    label: str = ""
    """What listings call the process, beside its host and number."""


@dataclass(frozen=True, slots=True)
class AdaptiveState:
    """What an adaptive timeout has learned."""

    timeout: float
    """How many seconds a request waits now that names no timeout."""
    quantile: float | None
    """The wait, in seconds, that the given share of waits stayed below; None until enough were seen."""
    samples: int
    """Waits it was learned from."""
    timeouts: int
    """How many of those timed out."""
    floor: float
    """The shortest timeout, in seconds."""
    ceiling: float
    """The longest timeout, in seconds."""
    times_at_floor: int
    """How often it came to the floor."""
    times_at_ceiling: int
    """How often it came to the ceiling."""


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
    expired_leases: int
    """Holds that were revoked because their lease ran out."""
    forced_releases: int
    """Holds that were released by force."""
    events_dropped: int
    """Events that subscribers did not get because their queue was full."""
    max_locks: int
    """Keys that the table has room for."""
    adaptive: AdaptiveState | None
    """What the adaptive timeout has learned, if the manager has one."""

    @property
    def ops_per_second(self) -> float:
        """Locks taken a second, on average since the manager was made."""
        return self.shard_metrics.acquisitions / self.uptime if self.uptime > 0 else 0.0

    @property
    def table_fill(self) -> float:
        """The share of the table that is in use, from 0 to 1."""
        return self.shard_metrics.entries / self.max_locks if self.max_locks else 0.0

    def __repr__(self) -> str:
        all_shards = repr(self.shard_metrics).removeprefix("<keylatch.ShardMetrics ").removesuffix(">")
        return f"<keylatch.LockMetrics {all_shards}; up {self.uptime:.3g} s, {self.bytes} bytes>"

    @classmethod
    def _from_figures(cls, figures: dict[str, Any]) -> LockMetrics:
        return cls(
            **{
                **figures,
                "shard_metrics": ShardMetrics._from_figures(figures["shard_metrics"]),
                "shards": tuple(map(ShardMetrics._from_figures, figures["shards"])),
                "adaptive": None if figures["adaptive"] is None else AdaptiveState(**figures["adaptive"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Health:
    """A judgement of the last minute, and the figures it rests on."""

    healthy: bool
    """More than 80 % of locks were had without a wait, fewer than 5 % of requests timed out, waits were under 10 ms on average."""
    fast_path_rate: float
    """The share of locks that were had without a wait."""
    timeout_rate: float
    """The share of requests that timed out."""
    avg_wait_time: float
    """The mean wait, in seconds."""
    max_wait_time: float
    """The longest wait, in seconds."""
    window: float
    """How many seconds are judged: 60, or as long as the manager exists."""
    problems: tuple[str, ...]
    """What is wrong, a sentence each."""

    def __bool__(self) -> bool:
        return self.healthy


for _class in list(globals().values()):
    if isinstance(_class, type) and _class.__module__ == __name__:
        _class.__module__ = "keylatch"
del _class
