"""How a task waits.

Each event loop has one `LoopWaits`: a descriptor that becomes readable when a lock is granted to a task of that loop, or
its time is over. Whoever releases the lock, in whatever thread, rings it; the loop's own thread does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from ._exceptions import LeaseLost, NotHeld
from ._keylatch import Acquire, Guard, LoopWaits, Pending

_waits: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWaits] = WeakKeyDictionary()


def _waits_of(loop: asyncio.AbstractEventLoop) -> LoopWaits:
    waits = _waits.get(loop)
    if waits is None:
        waits = LoopWaits()
        # The loop refers to the waits and not they to it, so that they go with the loop.
        loop.add_reader(waits.fileno(), waits.drain)
        _waits[loop] = waits
    return waits


async def wait(pending: Pending, give_back: Callable[[Any], object] | None = None) -> Any:
    """Wait for what was begun. However this is left, it has ended, and nothing is held that was not returned.

    An answer that has come when the task is cancelled goes to give_back; by default, locks are released.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    waits = _waits_of(loop)
    token = waits.add(pending, future)
    try:
        return await future
    except BaseException:
        waits.discard(token)
        # The task was cancelled after the answer had come and before it was read.
        if future.done() and not future.cancelled() and future.exception() is None:
            (give_back or _release)(future.result())
        raise


async def enter(pending: Pending, acquire: Acquire) -> Guard:
    """Wait for the lock of an `async with`, and have it released at the end."""
    guard: Guard = await wait(pending)
    acquire._entered(guard)
    return guard


def _release(result: Any) -> None:
    guards = [result] if isinstance(result, Guard) else result[0] if isinstance(result, tuple) else ()
    for guard in reversed(guards):
        # One that was taken away already is what was wanted.
        with contextlib.suppress(LeaseLost, NotHeld):
            guard.release()
