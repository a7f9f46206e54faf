"""The client for threads: the one for asyncio, in an event loop with a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Never, Self, TypeVar

from .._claim_types import Answer, ClaimEvent, ClaimPolicy, ClaimSnapshot
from .._claimant import Yours
from .._exceptions import Closed, Forked, KeylatchError, NotHeld, WouldBlock
from .._types import Key, Lost, Mode
from ._asyncio import AsyncRemoteLocks
from ._guards import AsyncGuard, AsyncYours
from ._session import lease_lost
from ._wire import note_of

T = TypeVar("T")
_PLAIN = ClaimPolicy()


class _Loop:
    """An event loop in a daemon thread, which other threads have coroutines run in."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._closing: asyncio.Task[None] | None = None
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="keylatch-remote", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            # Connections that were closed go with the next turns of the loop.
            self.loop.run_until_complete(asyncio.sleep(0.001))
            self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result. When the wait is interrupted, the coroutine is cancelled."""
        try:
            if os.getpid() != self._process:
                raise Forked("this process is a fork of the one that made the client; make a new one here")
            if threading.current_thread() is self._thread:
                raise RuntimeError("a callback must not wait for the client: do this in another thread")
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError as error:
            coroutine.close()
            if self.loop.is_closed() and not isinstance(error, Forked):
                raise Closed("the client was closed; make a new one") from None
            raise
        try:
            return future.result()
        except CancelledError:
            raise Closed("the client was closed; make a new one") from None
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have the loop's thread call a function, unless it has ended."""
        if os.getpid() == self._process:
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(function, *arguments)

    def stop(self, locks: AsyncRemoteLocks) -> None:
        """End the client and its thread."""
        if os.getpid() != self._process or self.loop.is_closed():
            return
        if threading.current_thread() is self._thread:
            # A collector that runs here found the client forgotten: waiting would be for this thread itself.
            self._closing = self.loop.create_task(_close(locks))
            self._closing.add_done_callback(lambda _: self.loop.stop())
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(_close(locks), self.loop).result(5.0)
        self.call(self.loop.stop)
        self._thread.join(5.0)


async def _close(locks: AsyncRemoteLocks) -> None:
    await locks.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _made(server: str | None, named: dict[str, Any]) -> AsyncRemoteLocks:
    return AsyncRemoteLocks(server, **named)


class RemoteGuard:
    """Locks that are held on the server. Leaving the `with` block releases them.

    They are renewed in the background. Should that not succeed in time they are lost, which every call on the guard
    notices by the client's own clock, before the server frees anything.
    """

    __slots__ = ("__weakref__", "_guard", "_loop")

    def __init__(self, loop: _Loop, guard: AsyncGuard) -> None:
        self._loop = loop
        self._guard = guard

    @property
    def key(self) -> Key:
        """What is held; the first of several keys."""
        return self._guard.key

    @property
    def keys(self) -> tuple[Key, ...]:
        """All that is held."""
        return self._guard.keys

    @property
    def mode(self) -> Mode:
        """How it is held; the first of several keys."""
        return self._guard.mode

    @property
    def fence(self) -> int:
        """Greater than that of every grant before: a store that remembers the highest refuses late writers."""
        return self._guard.fence

    @property
    def remaining(self) -> float:
        """For how many seconds the locks are safe without another renewal. 0 once they are lost or released."""
        return self._guard.remaining

    @property
    def is_valid(self) -> bool:
        """Whether the locks are safe at this moment."""
        return self._guard.is_valid

    @property
    def released(self) -> bool:
        """Whether the locks were released."""
        return self._guard.released

    def check(self) -> None:
        """Raise LeaseLost if the locks are lost, and NotHeld if they were released."""
        self._guard.check()

    def on_lost(self, callback: Callable[[Lost], object], /) -> None:
        """Call callback with why, once, when the locks are lost. It is called immediately if they are.

        It runs in the client's thread, or in that of a call that notices the loss, before that call returns. It must not
        call the client.
        """
        self._guard.on_lost(callback)

    def release(self) -> None:
        """Release the locks. Raises LeaseLost if they were lost before, and NotHeld if they were released."""
        self._loop.run(self._guard.release())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if self._guard.released:
            return
        try:
            self.release()
        except Closed:
            if value is None:
                raise lease_lost(self.key) from None
        except NotHeld:
            pass
        except KeylatchError:
            # The exception of the block says more.
            if value is None:
                raise

    def __reduce__(self) -> Never:
        raise TypeError("a guard belongs to one client in one process and cannot be pickled or copied")

    def __repr__(self) -> str:
        return repr(self._guard).replace("AsyncGuard", "RemoteGuard")


class _RemoteVerbs:
    """The verbs of a claim's work, as `keylatch.claims.Yours` uses them."""

    __slots__ = ("_loop", "_work")

    def __init__(self, loop: _Loop, work: AsyncYours) -> None:
        self._loop = loop
        self._work = work

    def complete(self, fence: int, succeeded: bool, text: str) -> Answer:
        """Complete the work."""
        return self._loop.run(self._work._complete({"note" if succeeded else "error": text}))

    def progress(self, fence: int, done: int, total: int, address: str) -> None:
        """Report progress."""
        self._loop.run(self._work.progress(done, total, address))

    def renew(self, fence: int, ttl: float) -> None:
        """Let the lease begin again."""
        self._loop.run(self._work.renew(ttl))

    def remaining(self, fence: int) -> float | None:
        """Say for how long the work is safe."""
        return self._work.remaining

    def give_up(self) -> None:
        """Cancel the request."""
        self._loop.call(self._work._session.give_up, self._work._number)


class RemoteLocks:
    """Locks and claims of a server, for threads. Leaving the `with` block ends its session.

    server is a URL, token a bearer token, and tls an ssl.SSLContext or a file with root certificates; what is not given
    is taken from KEYLATCH_SERVER, KEYLATCH_TOKEN and KEYLATCH_TLS_ROOTS. owner is a name for listings and errors. ttl is
    for how many seconds the server keeps what a client holds that it hears nothing of.

    The session is opened with the first call, and renewed in a thread of the client's. Should it end, guards are lost,
    and the next call opens another one.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        owner: str = "",
        token: str | None = None,
        tls: ssl.SSLContext | str | None = None,
        ttl: float = 30.0,
    ) -> None:
        self._loop = _Loop()
        try:
            self._locks = self._loop.run(_made(server, {"owner": owner, "token": token, "tls": tls, "ttl": ttl}))
        except BaseException:
            self._loop.call(self._loop.loop.stop)
            raise
        # A client that is forgotten, and one that is there when the program ends, lets go of what it has.
        self._stop = weakref.finalize(self, self._loop.stop, self._locks)

    def lock(
        self,
        key: Key,
        *,
        shared: bool = False,
        timeout: float | None = None,
        priority: int = 0,
        wait: bool = True,
    ) -> RemoteGuard:
        """Take a lock, and wait for it. Raises LockTimeout, which names the holders, when the time is over."""
        taken = self._locks.alock(key, shared=shared, timeout=timeout, priority=priority, wait=wait)
        return RemoteGuard(self._loop, self._loop.run(taken))

    def try_lock(self, key: Key, *, shared: bool = False, priority: int = 0) -> RemoteGuard | None:
        """Take a lock that is free. None if it is not."""
        try:
            return self.lock(key, shared=shared, priority=priority, wait=False)
        except WouldBlock:
            return None

    def lock_many(
        self,
        exclusive: Iterable[Key] = (),
        /,
        *,
        shared: Iterable[Key] = (),
        timeout: float | None = None,
        priority: int = 0,
    ) -> RemoteGuard:
        """Take many locks in one step, all or none. One guard holds them."""
        taken = self._locks.alock_many(exclusive, shared=shared, timeout=timeout, priority=priority)
        return RemoteGuard(self._loop, self._loop.run(taken))

    def claim(self, resource: Key, /, *, timeout: float | None = None, policy: ClaimPolicy = _PLAIN) -> Answer:
        """Ask for the work of a resource, and wait until it is the caller's or has an outcome.

        The answer is Yours, Done, or one of the others of keylatch.claims.
        """
        return self._answer(resource, self._loop.run(self._locks.aclaim(resource, timeout=timeout, policy=policy)))

    def try_claim(self, resource: Key, /, *, policy: ClaimPolicy = _PLAIN) -> Answer:
        """Ask without waiting: Skipped when another has the work."""
        return self._answer(resource, self._loop.run(self._locks.try_claim(resource, policy=policy)))

    def _answer(self, resource: Key, answer: Answer) -> Answer:
        if isinstance(answer, AsyncYours):
            return Yours(_RemoteVerbs(self._loop, answer), resource, answer._number, answer.grant, False)
        return answer

    def run_once(
        self,
        resource: Key,
        work: Callable[[Yours], str | None],
        /,
        *,
        timeout: float | None = None,
        policy: ClaimPolicy = _PLAIN,
    ) -> str:
        """Return the note of the work's success, after doing the work if it is the caller's to do.

        When work raises, the first in line does the work, and the exception is raised here. ClaimFailed says that no
        attempt is left.
        """
        with self.claim(resource, timeout=timeout, policy=policy) as claim:
            if isinstance(claim, Yours):
                note = note_of(work(claim))
                if claim.ended is None:
                    claim.complete(note)
        return claim.result()

    def events(self, resource: Key, /, *, after: str | None = None) -> Iterator[ClaimEvent]:
        """Yield the events of a claimed resource: those after the event of that id, or a ClaimReset and all after it.

        It goes on over connections that break and restarts of the server, without a gap that it does not tell of.
        """
        stream = self._locks.events(resource, after=after)
        try:
            while True:
                event = self._loop.run(_next(stream))
                if event is None:
                    return
                yield event
        finally:
            with contextlib.suppress(Closed):
                self._loop.run(_end(stream))

    def snapshot(self, resource: Key, /) -> ClaimSnapshot:
        """Return who owns a claimed resource, who waits, and its outcome."""
        return self._loop.run(self._locks.snapshot(resource))

    @property
    def session(self) -> str | None:
        """The session's name on the server, if there is one."""
        return self._locks.session

    def close(self) -> None:
        """End the session, and with it what it holds. Closing again does nothing."""
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.close()

    def __reduce__(self) -> Never:
        raise TypeError("a client belongs to one process and cannot be pickled or copied")

    def __repr__(self) -> str:
        return repr(self._locks).replace("AsyncRemoteLocks", "RemoteLocks")


async def _next(stream: Any) -> ClaimEvent | None:
    event: ClaimEvent | None = await anext(stream, None)
    return event


async def _end(stream: Any) -> None:
    await stream.aclose()
