"""Callbacks for revoked locks, all of them in one thread.

The thread begins with the first callback and sleeps until a lock is lost; the thread that takes a lock away only leaves a note.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable

from ._keylatch import Guard, RevocationListeners
from ._types import Lost

Callback = Callable[[Lost], object]


class _Dispatcher:
    def __init__(self) -> None:
        self._losses = RevocationListeners()
        self._tokens = itertools.count()
        self._watched: dict[int, Callback] = {}
        threading.Thread(target=self._run, name="keylatch-lost", daemon=True).start()

    def watch(self, guard: Guard, callback: Callback) -> None:
        token = next(self._tokens)
        # Not the guard: one that is forgotten is released, also while a callback waits for its loss.
        self._watched[token] = callback
        # If that fails, the callback is called too, because there is nothing to watch any more.
        self._losses.watch(guard, token)

    def _run(self) -> None:
        while True:
            token, why = self._losses.next()
            callback = self._watched.pop(token)
            if why is not None:
                try:
                    callback(Lost(why))
                except BaseException:
                    sys.excepthook(*sys.exc_info())
            # Or the last one would be kept until the next.
            del callback


_dispatcher: _Dispatcher | None = None
_starting = threading.Lock()


def on_lost(guard: Guard, callback: Callback) -> None:
    global _dispatcher
    if not callable(callback):
        raise TypeError("on_lost() takes a function to be called with why")
    with _starting:
        if _dispatcher is None:
            _dispatcher = _Dispatcher()
        dispatcher = _dispatcher
    dispatcher.watch(guard, callback)


def _after_fork() -> None:
    # The thread is the parent's.
    global _dispatcher, _starting
    _dispatcher, _starting = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
