"""How a task waits.

Each event loop has one `LoopWaits`: a descriptor that becomes readable when a lock is granted to a task of that loop, or
its time is over. The thread that releases the lock rings it; the loop's own thread wakes the task, and the
task takes what has come.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from ._keylatch import Acquire, Guard, Listener, LoopWaits, Pending

# Weak at both ends: waits refer to futures, and those to their loop, which would never be forgotten.
_waits: WeakKeyDictionary[asyncio.AbstractEventLoop, ReferenceType[LoopWaits]] = WeakKeyDictionary()


def _waits_of(loop: asyncio.AbstractEventLoop) -> LoopWaits:
    known = _waits.get(loop)
    waits = None if known is None else known()
    if waits is None:
        waits = LoopWaits()
        loop.add_reader(waits.fileno(), Listener(waits).drain)
        _waits[loop] = ref(waits)
    return waits


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        if "trio" not in sys.modules:
            raise
        raise RuntimeError(
            "keylatch waits with asyncio, and this task is not asyncio's. Under trio, wait in a thread: "
            "`guard = await trio.to_thread.run_sync(lambda: locks.lock(key))`, and release it with `guard.release()`"
        ) from None


async def wait(pending: Pending) -> Any:
    """Wait for what was begun. However this is left, it has ended, and nothing is held that was not returned."""
    loop = _running_loop()
    waits = _waits_of(loop)
    token = waits.add(pending)
    try:
        while True:
            signal = loop.create_future()
            ended = waits.look(token, signal)
            if ended is not None:
                return ended[0]
            await signal
    finally:
        waits.discard(token)


async def enter(pending: Pending, acquire: Acquire) -> Guard:
    """Wait for the lock of an `async with`, and have it released at the end."""
    guard: Guard = await wait(pending)
    acquire._entered(guard)
    return guard
