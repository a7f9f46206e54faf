"""Leases that are renewed for as long as their guards are held, all of them by one thread.

The thread begins with the first such lease. It knows guards by weak references: a guard that is forgotten is released as ever,
and its lease is renewed no more.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from weakref import ReferenceType, ref

from ._exceptions import KeylatchError
from ._keylatch import Guard

SHARE = 3.0
"""A lease is renewed each time that one part in this number of it has passed."""

_Due = tuple[float, int, "ReferenceType[Guard]", float]


class _Renewer:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        threading.Thread(target=self._run, name="keylatch-renew", daemon=True).start()

    def add(self, guard: ReferenceType[Guard], ttl: float) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + ttl / SHARE, next(self._numbers), guard, ttl))
            self._changed.notify()

    def _next(self) -> tuple[ReferenceType[Guard], float]:
        with self._changed:
            while True:
                if not self._due:
                    self._changed.wait()
                elif (left := self._due[0][0] - time.monotonic()) > 0:
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                else:
                    _, _, guard, ttl = heapq.heappop(self._due)
                    return guard, ttl

    def _run(self) -> None:
        while True:
            guard, ttl = self._next()
            if _renewed(guard, ttl):
                self.add(guard, ttl)


def _renewed(known: ReferenceType[Guard], ttl: float) -> bool:
    guard = known()
    if guard is None or guard.released:
        return False
    try:
        guard.renew(ttl)
    except KeylatchError:
        # Released or lost, which the guard's own methods report.
        return False
    except RuntimeError:
        # An upgrade waits with the hold; look again.
        return True
    return True


_renewer: _Renewer | None = None
_starting = threading.Lock()


def keep(guard: Guard, ttl: float) -> None:
    """Renew the lease of a guard until it is released, lost or forgotten."""
    global _renewer
    with _starting:
        if _renewer is None:
            _renewer = _Renewer()
        renewer = _renewer
    renewer.add(ref(guard), ttl)


def _after_fork() -> None:
    # The thread is the parent's, and so are the locks.
    global _renewer, _starting
    _renewer, _starting = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
