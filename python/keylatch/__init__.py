"""keylatch: who may touch this object now?

A lock manager for threads and tasks: shared and exclusive locks on keys that need no creating and no cleaning up.

>>> from keylatch import LockManager
>>> locks = LockManager()
>>> with locks.lock(("photos", "cat.jpg"), owner="indexer") as guard:
...     print(guard.mode, guard.fence)
exclusive 1

`alock` is the same for asyncio, `lock_many` takes many keys together, `try_lock` does not wait. `session` is for
transactions, `holders` and `waiters` tell who is in whose way, and `subscribe` what has happened: see `keylatch.events`.
`keylatch.prometheus` shows the figures to Prometheus. `keylatch.claims` has one do a piece of work, and the others wait
for its outcome. `SharedTable` has locks between the processes of one machine, which survive that one of them is killed.
`keylatch.remote` has the locks and claims of a server, for programs that share no process. With the package keylatch-etcd
managers share their keys with other machines.
"""

# The first one says what the others import.
from . import _compiled, claims, events  # noqa: F401
from ._exceptions import (
    Cancelled,
    Closed,
    Forked,
    InvalidConfig,
    InvalidKey,
    KeylatchError,
    LeaseLost,
    LockDeadlock,
    LockTimeout,
    NotHeld,
    SharedFileError,
    TableFull,
    TierFailed,
    TooManyProcesses,
    TooManyWaiters,
    UpgradeConflict,
    WouldBlock,
)
from ._keylatch import Acquire, Guard, Owner, Session, SharedGuard, __version__
from ._manager import AcquireMany, Batch, LockManager
from ._named import NamedLockManager
from ._pinned import PinnedKey
from ._report import LockReport
from ._shared import AcquireShared, SharedTable
from ._types import (
    AdaptiveState,
    AdaptiveTimeout,
    BlockingChain,
    ChainLink,
    Deadlock,
    DeadlockLink,
    EtcdOptions,
    Health,
    Holder,
    HolderInfo,
    Key,
    LockMetrics,
    LockOrderLink,
    LockOrderReport,
    LockOrderReports,
    Lost,
    Mode,
    ShardMetrics,
    SharedFigures,
    SharedHolder,
    TierHold,
    TopKey,
    WaiterInfo,
    WaitHistogram,
)

__all__ = [
    "Acquire",
    "AcquireMany",
    "AcquireShared",
    "AdaptiveState",
    "AdaptiveTimeout",
    "Batch",
    "BlockingChain",
    "Cancelled",
    "ChainLink",
    "Closed",
    "Deadlock",
    "DeadlockLink",
    "EtcdOptions",
    "Forked",
    "Guard",
    "Health",
    "Holder",
    "HolderInfo",
    "InvalidConfig",
    "InvalidKey",
    "Key",
    "KeylatchError",
    "LeaseLost",
    "LockDeadlock",
    "LockManager",
    "LockMetrics",
    "LockOrderLink",
    "LockOrderReport",
    "LockOrderReports",
    "LockReport",
    "LockTimeout",
    "Lost",
    "Mode",
    "NamedLockManager",
    "NotHeld",
    "Owner",
    "PinnedKey",
    "Session",
    "ShardMetrics",
    "SharedFigures",
    "SharedFileError",
    "SharedGuard",
    "SharedHolder",
    "SharedTable",
    "TableFull",
    "TierFailed",
    "TierHold",
    "TooManyProcesses",
    "TooManyWaiters",
    "TopKey",
    "UpgradeConflict",
    "WaitHistogram",
    "WaiterInfo",
    "WouldBlock",
    "__version__",
    "claims",
    "events",
]
