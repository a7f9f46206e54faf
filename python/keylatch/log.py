"""Events of a lock manager as records of `logging`.

>>> import logging, sys
>>> from keylatch import LockManager
>>> from keylatch.log import EventLog
>>> logger = logging.getLogger("storage.locks")
>>> logger.addHandler(logging.StreamHandler(sys.stdout))
>>> locks = LockManager()
>>> with EventLog(locks, logger):
...     _ = locks.lock("cat.jpg", owner="node-7").into_grant()
...     _ = locks.force_release(owner="node-7")
forced: node-7 lost ...cat.jpg... (exclusive...
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Self

from . import events
from ._manager import LockManager

__all__ = ["LEVELS", "EventLog"]

LEVELS: dict[type[events.Event], int] = {
    events.SlowWait: logging.INFO,
    events.SlowHold: logging.INFO,
    events.Timeout: logging.WARNING,
    events.Expired: logging.WARNING,
    events.Forced: logging.WARNING,
    events.LockOrder: logging.WARNING,
    events.Deadlock: logging.ERROR,
}
"""How much each kind of event matters, unless an EventLog is given something else."""


class EventLog:
    """Logs what happens to a manager, in a thread of its own, from when it is made until it is closed.

    The event itself is the record's attribute `event`, for handlers that write more than its text. Events that were dropped,
    because the logger was slower than they came, are counted in a warning.
    """

    def __init__(
        self,
        locks: LockManager,
        logger: logging.Logger | None = None,
        *,
        wait_above: float | None = None,
        hold_above: float | None = None,
        levels: dict[type[events.Event], int] | None = None,
        capacity: int = 1024,
    ) -> None:
        self._logger = logging.getLogger("keylatch") if logger is None else logger
        self._levels = LEVELS if levels is None else {**LEVELS, **levels}
        self._events = locks.subscribe(wait_above=wait_above, hold_above=hold_above, capacity=capacity)
        self._thread = threading.Thread(target=self._run, name="keylatch-log", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        dropped = 0
        while (event := self._events.next()) is not None:
            self._log(event)
            if self._events.dropped > dropped:
                self._logger.warning("%d events were dropped", self._events.dropped - dropped)
                dropped = self._events.dropped

    def _log(self, event: events.Event) -> None:
        self._logger.log(self._levels.get(type(event), logging.INFO), "%s", event, extra={"event": event})

    def close(self) -> None:
        """Log what has happened so far, and no more."""
        # Closing forgets what was not fetched.
        while (event := self._events.try_next()) is not None:
            self._log(event)
        self._events.close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.close()
