"""Locks and claims of a `keylatch serve`, with guards as local locks have them. The standard library is all it needs.

RemoteLocks is for threads, AsyncRemoteLocks for asyncio:

    from keylatch.remote import RemoteLocks

    with RemoteLocks("http://127.0.0.1:7373", owner="node-7") as locks:
        with locks.lock(("photos", "cat.jpg"), timeout=5) as guard:
            store.write(data, fence=guard.fence)
        with locks.claim(("layers", digest)) as claim:
            if claim.yours:
                claim.complete(fetch(digest))

A client has a session on the server, which is renewed in the background and reconnects by itself. It counts what it holds
as safe from the moment a renewal was sent, so it knows of a loss before the server gives anything to another.
"""

from __future__ import annotations

from ._asyncio import AsyncRemoteLocks, Awaited
from ._errors import RemoteError, SessionLost, Unauthorized, Unreachable
from ._guards import AsyncGuard, AsyncYours
from ._threads import RemoteGuard, RemoteLocks

__all__ = [
    "AsyncGuard",
    "AsyncRemoteLocks",
    "AsyncYours",
    "Awaited",
    "RemoteError",
    "RemoteGuard",
    "RemoteLocks",
    "SessionLost",
    "Unauthorized",
    "Unreachable",
]

for _class in (AsyncGuard, AsyncRemoteLocks, AsyncYours, Awaited, RemoteGuard, RemoteLocks):
    _class.__module__ = __name__
del _class
