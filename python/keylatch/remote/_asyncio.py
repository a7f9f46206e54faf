"""The client for asyncio."""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable
from types import TracebackType
from typing import Any, Generic, Never, Self, TypeVar
from urllib.parse import quote, urlencode

from .. import _claim_exceptions as claim_errors
from .._claim_types import Answer, ClaimEvent, ClaimGrant, ClaimPolicy, ClaimSnapshot, Waiting
from .._exceptions import Closed, KeylatchError, WouldBlock
from .._types import Key, Mode
from . import _clock
from ._backoff import Backoff
from ._errors import SessionLost, holders_of, is_passing, would_block
from ._guards import AsyncGuard, AsyncYours
from ._http import Http
from ._session import CALL_TIME, Session, open_session, timed_out
from ._target import target_of
from ._wire import claim_answer, claim_event, key_of, milliseconds, note_of, policy_fields, resource_of, snapshot_of

Result = TypeVar("Result", bound="Answer | AsyncGuard | AsyncYours")
_PLAIN = ClaimPolicy()


class Awaited(Coroutine[Any, Any, Result], Generic[Result]):
    """Something to be awaited, or used in `async with`: what alock() and aclaim() return."""

    __slots__ = ("_coroutine", "_result")

    def __init__(self, coroutine: Coroutine[Any, Any, Result]) -> None:
        self._coroutine = coroutine
        self._result: Result | None = None

    def __await__(self) -> Generator[Any, Any, Result]:
        return self._coroutine.__await__()

    def send(self, value: None, /) -> Any:
        """For event loops: go on, as a coroutine does."""
        return self._coroutine.send(value)

    def throw(self, error: Any, /, *deprecated: Any) -> Any:
        """For event loops: raise an exception where this waits, as in a coroutine."""
        return self._coroutine.throw(error, *deprecated)

    def close(self) -> None:
        """Wait no more, as a coroutine that is closed."""
        self._coroutine.close()

    async def __aenter__(self) -> Result:
        self._result = await self._coroutine
        return self._result

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        result, self._result = self._result, None
        if isinstance(result, AsyncGuard | AsyncYours):
            await result.__aexit__(kind, value, traceback)


class AsyncRemoteLocks:
    """Locks and claims of a server, for one event loop. Leaving the `async with` block ends its session.

    server is a URL, token a bearer token, and tls an ssl.SSLContext or a file with root certificates; what is not given
    is taken from KEYLATCH_SERVER, KEYLATCH_TOKEN and KEYLATCH_TLS_ROOTS. owner is a name for listings and errors. ttl is
    for how many seconds the server keeps what a client holds that it hears nothing of.

    The session is opened with the first call. Should it end, guards are lost, and the next call opens another one.
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
        self._target = target_of(server, token, tls)
        self._owner = owner
        self._ttl = ttl
        milliseconds(ttl, "ttl")
        self._backoff = Backoff(_clock.now)
        self._http = Http(self._target, self._backoff)
        self._session: Session | None = None
        self._opening = asyncio.Lock()

    def alock(
        self,
        key: Key,
        *,
        shared: bool = False,
        timeout: float | None = None,
        priority: int = 0,
        wait: bool = True,
    ) -> Awaited[AsyncGuard]:
        """Take a lock: to be awaited, or used in `async with`."""
        mode = Mode.SHARED if shared else Mode.EXCLUSIVE
        return Awaited(self._lock([(key, mode)], 0.0 if not wait else _timeout(timeout), priority, wait))

    async def try_lock(self, key: Key, *, shared: bool = False, priority: int = 0) -> AsyncGuard | None:
        """Take a lock that is free. None if it is not."""
        try:
            return await self.alock(key, shared=shared, priority=priority, wait=False)
        except WouldBlock:
            return None

    def alock_many(
        self,
        exclusive: Iterable[Key] = (),
        /,
        *,
        shared: Iterable[Key] = (),
        timeout: float | None = None,
        priority: int = 0,
    ) -> Awaited[AsyncGuard]:
        """Take many locks in one step, all or none. One guard holds them."""
        if _is_key(exclusive) or _is_key(shared):
            raise TypeError("keys come in a list; a str, bytes or a tuple of them is a single key")
        modes = {key: Mode.SHARED for key in shared} | {key: Mode.EXCLUSIVE for key in exclusive}
        if not modes:
            raise ValueError("alock_many() takes at least one key")
        return Awaited(self._lock(list(modes.items()), _timeout(timeout), priority, True))

    async def _lock(
        self, items: list[tuple[Key, Mode]], timeout: float | None, priority: int, wait: bool
    ) -> AsyncGuard:
        began = _clock.now()
        fields = {"items": [{**resource_of(key), "mode": str(mode)} for key, mode in items], "priority": priority}
        while True:
            left = timeout if timeout is None else max(timeout - (_clock.now() - began), 0.0)
            session = await self._current(left if wait else None)
            number = session.belief.take_number()
            try:
                answer = await session.ask("/v1/lock", number, fields, left)
                if answer["state"] != "granted":
                    await session.cancel(number)
                    raise timed_out(items[0][0], _clock.now() - began, holders_of(answer.get("holders")))
                return AsyncGuard(session, number, await session.until_safe(number), items, answer)
            except SessionLost:
                # Nothing was granted, so asking again in another session is the same request.
                if timeout is not None and _clock.now() - began >= timeout:
                    raise
            except WouldBlock as error:
                if not wait:
                    raise would_block(items[0][0], error) from None
                raise timed_out(items[0][0], _clock.now() - began, error.holders) from None

    def aclaim(
        self, resource: Key, /, *, timeout: float | None = None, policy: ClaimPolicy = _PLAIN
    ) -> Awaited[Answer]:
        """Ask for the work of a resource, and wait until it is the caller's or has an outcome.

        The answer is AsyncYours, Done, or one of the others of keylatch.claims.
        """
        return Awaited(self._claim(resource, _timeout(timeout), policy))

    async def try_claim(self, resource: Key, /, *, policy: ClaimPolicy = _PLAIN) -> Answer:
        """Ask without waiting: Skipped when another has the work."""
        values = {name: getattr(policy, name) for name in policy.__slots__}
        return await self._claim(resource, None, ClaimPolicy(**{**values, "skip_if_claimed": True}))

    async def _claim(self, resource: Key, timeout: float | None, policy: ClaimPolicy) -> Answer:
        began = _clock.now()
        fields = {"resource": resource_of(resource), **policy_fields(policy)}
        while True:
            left = timeout if timeout is None else max(timeout - (_clock.now() - began), 0.0)
            session = await self._current(left)
            number = session.belief.take_number()
            try:
                body = await session.ask("/v1/claim", number, fields, left)
                answer = claim_answer(body)
                if isinstance(answer, ClaimGrant):
                    return AsyncYours(session, number, await session.until_safe(number), resource, body)
                if isinstance(answer, Waiting):
                    await session.cancel(number)
                    raise _claim_timeout(resource, _clock.now() - began)
                session.belief.settle(number)
                return answer
            except SessionLost:
                if timeout is not None and _clock.now() - began >= timeout:
                    raise

    async def arun_once(
        self,
        resource: Key,
        work: Callable[[AsyncYours], Awaitable[str | None]],
        /,
        *,
        timeout: float | None = None,
        policy: ClaimPolicy = _PLAIN,
    ) -> str:
        """Return the note of the work's success, after doing the work if it is the caller's to do."""
        async with self.aclaim(resource, timeout=timeout, policy=policy) as claim:
            if isinstance(claim, AsyncYours):
                note = note_of(await work(claim))
                if claim._ended is None:
                    await claim.complete(note)
        return claim.result()

    async def events(self, resource: Key, /, *, after: str | None = None) -> AsyncIterator[ClaimEvent]:
        """Yield the events of a claimed resource: those after the event of that id, or a ClaimReset and all after it.

        It goes on over connections that break and restarts of the server, without a gap that it does not tell of.
        """
        parts = resource_of(resource)
        query = urlencode({"resource": json.dumps(list(parts.values()))}, quote_via=quote)
        last = after
        while not self._http.closed:
            try:
                async for event in self._http.stream(f"/v1/events?{query}", last):
                    last = event.id or last
                    if (known := claim_event(event)) is not None:
                        yield known
            except KeylatchError as error:
                if not is_passing(error):
                    raise

    async def snapshot(self, resource: Key, /) -> ClaimSnapshot:
        """Return who owns a claimed resource, who waits, and its outcome."""
        parts = resource_of(resource)
        query = urlencode({"bucket": parts["bucket"], "object": parts["object"]}, quote_via=quote)
        listed = await self._http.call("GET", f"/v1/claims?{query}", None, CALL_TIME)
        for row in listed["rows"]:
            if row["resource"] == parts:
                return snapshot_of(row)
        return ClaimSnapshot(key_of(parts), None, (), 0, None)

    async def _current(self, timeout: float | None) -> Session:
        """Return the session, after opening one if there is none that lives."""
        if self._http.closed:
            raise Closed("the client was closed; make a new one")
        async with self._opening:
            if self._session is not None and not self._session.belief.over:
                return self._session
            if self._session is not None:
                await self._session.end()
                self._session = None
            deadline = None if timeout is None else _clock.now() + timeout
            while True:
                try:
                    self._session = await open_session(self._http, self._owner, self._ttl)
                    return self._session
                except KeylatchError as error:
                    passing = is_passing(error) or isinstance(error, SessionLost)
                    # The first error is worth more than silence to those who did not say how long to wait.
                    if not passing or deadline is None or _clock.now() >= deadline:
                        raise
                    await asyncio.sleep(0.02)

    @property
    def session(self) -> str | None:
        """The session's name on the server, if there is one."""
        return None if self._session is None else self._session.name

    async def close(self) -> None:
        """End the session, and with it what it holds."""
        self._http.closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.end()
        await self._http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        await self.close()

    def __reduce__(self) -> Never:
        raise TypeError("a client belongs to one process and cannot be pickled or copied")

    def __repr__(self) -> str:
        return f"<keylatch.remote.{type(self).__name__} {self._target.url} {'closed' if self._http.closed else 'open'}>"


def _is_key(keys: Any) -> bool:
    return isinstance(keys, str | bytes) or (
        isinstance(keys, tuple) and any(isinstance(part, str | bytes) for part in keys)
    )


def _timeout(timeout: float | None) -> float | None:
    if timeout is None or timeout == math.inf:
        return None
    if not isinstance(timeout, int | float) or not timeout >= 0:
        raise ValueError("a timeout is a number of seconds from 0 on, or None")
    return timeout


def _claim_timeout(resource: Key, waited: float) -> claim_errors.ClaimTimeout:
    error = claim_errors.ClaimTimeout(f"the claim on {resource!r} had no answer within {waited:.3g} s; ask again")
    error.code, error.transient, error.waited = -1, True, waited
    return error
