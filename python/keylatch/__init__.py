"""keylatch: who may touch this object now?

A lock manager for threads and tasks: shared and exclusive locks on keys that nobody has to create or clean up.

>>> from keylatch import LockManager
>>> locks = LockManager()
>>> with locks.lock(("photos", "cat.jpg"), owner="indexer") as guard:
...     print(guard.mode, guard.fence)
exclusive 1

`alock` is the same for asyncio, `lock_many` takes many keys at once, `try_lock` does not wait.
"""

from ._exceptions import (
    Cancelled,
    Closed,
    Forked,
    InvalidConfig,
    InvalidKey,
    KeylatchError,
    LockTimeout,
    NotHeld,
    TableFull,
    TooManyWaiters,
    UpgradeConflict,
    WouldBlock,
)
from ._keylatch import Acquire, Guard, Owner, __version__
from ._manager import AcquireMany, Batch, LockManager
from ._types import Health, Holder, Key, LockMetrics, Mode, ShardMetrics, WaitHistogram

__all__ = [
    "Acquire",
    "AcquireMany",
    "Batch",
    "Cancelled",
    "Closed",
    "Forked",
    "Guard",
    "Health",
    "Holder",
    "InvalidConfig",
    "InvalidKey",
    "Key",
    "KeylatchError",
    "LockManager",
    "LockMetrics",
    "LockTimeout",
    "Mode",
    "NotHeld",
    "Owner",
    "ShardMetrics",
    "TableFull",
    "TooManyWaiters",
    "UpgradeConflict",
    "WaitHistogram",
    "WouldBlock",
    "__version__",
]
