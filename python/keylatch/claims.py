"""Claims: one does the work of a resource, the others wait for its outcome.

A claim is answered with Yours, when the work is the caller's to do, or with Done, when it has an outcome already. When an
owner fails, the first in line has the work before anybody hears of the failure.

>>> from keylatch.claims import Claims
>>> claims = Claims()
>>> for node in "node-1", "node-2":
...     with claims.claim(("layers", "sha256:4711"), owner=node) as claim:
...         if claim.yours:
...             claim.complete("12 MiB")
...     print(node, claim.yours, claim.result())
node-1 True 12 MiB
node-2 False 12 MiB

`aclaim` is the same for asyncio, `try_claim` does not wait, `run_once` does all of it, and `watch` gives the events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Never

from . import _asyncio, _keylatch
from ._awaited import AwaitedOnce
from ._claim_exceptions import (
    ClaimError,
    ClaimFailed,
    ClaimLost,
    ClaimTimeout,
    EpochChanged,
    LineFull,
    NotYours,
    NumberInUse,
    SessionGone,
    StaleRequest,
    TextTooLong,
    TooManyClaimants,
    TooManyOpen,
)
from ._claim_types import (
    Answer,
    Cancelled,
    ClaimDone,
    ClaimEvent,
    ClaimFailure,
    ClaimFigures,
    ClaimForgotten,
    ClaimGrant,
    ClaimGranted,
    ClaimOutcome,
    ClaimOwner,
    ClaimPlace,
    ClaimPolicy,
    ClaimProgress,
    ClaimProgressed,
    ClaimRequest,
    ClaimReset,
    ClaimSnapshot,
    Done,
    Ended,
    Lost,
    Skipped,
    Superseded,
    Waiting,
)
from ._claimant import Claimant, LocalVerbs, Yours
from ._event_stream import EventStream
from ._types import Key

__all__ = [
    "Answer",
    "AwaitedClaim",
    "Cancelled",
    "ClaimDone",
    "ClaimError",
    "ClaimEvent",
    "ClaimEvents",
    "ClaimFailed",
    "ClaimFailure",
    "ClaimFigures",
    "ClaimForgotten",
    "ClaimGrant",
    "ClaimGranted",
    "ClaimLost",
    "ClaimOutcome",
    "ClaimOwner",
    "ClaimPlace",
    "ClaimPolicy",
    "ClaimProgress",
    "ClaimProgressed",
    "ClaimRequest",
    "ClaimReset",
    "ClaimSnapshot",
    "ClaimTimeout",
    "Claimant",
    "Claims",
    "Done",
    "Ended",
    "EpochChanged",
    "LineFull",
    "Lost",
    "NotYours",
    "NumberInUse",
    "SessionGone",
    "Skipped",
    "StaleRequest",
    "Superseded",
    "TextTooLong",
    "TooManyClaimants",
    "TooManyOpen",
    "Waiting",
    "Yours",
]

_PLAIN = ClaimPolicy()


for _class in Claimant, Yours:
    _class.__module__ = __name__
del _class


class Claims:
    """Claims on resources, for all threads and event loops of the process. It needs no closing.

    A resource is written as keys of locks are: str, bytes, or a tuple of bucket, object and, optionally, version.

    Outcomes are retained for retain_for seconds, and those of retain_count resources. ring is how many events of a
    resource are kept for subscribers. The others are limits: max_open is how many requests of a claimant have not
    ended, and max_ttl the longest lease, in seconds. A setting that is wrong is InvalidConfig, a ValueError.
    """

    __slots__ = ("__weakref__", "_core")

    def __init__(
        self,
        *,
        retain_for: float = 600.0,
        retain_count: int = 10_000,
        ring: int = 256,
        max_claimants: int = 100_000,
        max_open: int = 1024,
        max_waiters: int = 100_000,
        max_text_bytes: int = 4096,
        max_key_bytes: int = 8192,
        max_ttl: float = 3600.0,
    ) -> None:
        self._core = _keylatch.Claims(
            retain_for=retain_for,
            retain_count=retain_count,
            ring=ring,
            max_claimants=max_claimants,
            max_open=max_open,
            max_waiters=max_waiters,
            max_text_bytes=max_text_bytes,
            max_key_bytes=max_key_bytes,
            max_ttl=max_ttl,
        )

    def claimant(self, name: str, *, ttl: float | None = None) -> Claimant:
        """Make one who claims, for many requests. With ttl it has to be renewed within this many seconds."""
        return Claimant(self._core, name, ttl)

    def claim(
        self,
        resource: Key,
        /,
        *,
        owner: str | Claimant = "",
        request_id: int | None = None,
        timeout: float | None = None,
        policy: ClaimPolicy = _PLAIN,
    ) -> Answer:
        """Ask for the work of a resource, and wait until it is the caller's or has an outcome.

        owner is a name, or a Claimant. A request with a request_id can be repeated, and gets the same answer.

        timeout is for how many seconds to wait; then ClaimTimeout is raised, and the request has left the line.
        """
        asked = _Asked(self._core, resource, owner, request_id, policy)
        return asked.settle_unless_yours(
            lambda: self._core.claim(resource, asked.claimant._core, asked.number, policy, timeout)
        )

    def aclaim(
        self,
        resource: Key,
        /,
        *,
        owner: str | Claimant = "",
        request_id: int | None = None,
        timeout: float | None = None,
        policy: ClaimPolicy = _PLAIN,
    ) -> AwaitedClaim:
        """The same for asyncio: to be awaited, or used in `async with`. Cancelling it gives the request up.

        >>> import asyncio
        >>> from keylatch.claims import Claims
        >>> async def fetch(node):
        ...     async with claims.aclaim("sha256:4712", owner=node) as claim:
        ...         if claim.yours:
        ...             await asyncio.sleep(0)
        ...             claim.complete("from the origin")
        ...     return claim.result()
        >>> async def main():
        ...     return await asyncio.gather(fetch("node-1"), fetch("node-2"))
        >>> claims = Claims()
        >>> asyncio.run(main())
        ['from the origin', 'from the origin']
        """
        return AwaitedClaim(self._core, resource, owner, request_id, timeout, policy)

    def try_claim(
        self,
        resource: Key,
        /,
        *,
        owner: str | Claimant = "",
        request_id: int | None = None,
        policy: ClaimPolicy = _PLAIN,
    ) -> Answer:
        """Ask without waiting. Waiting is an answer for requests with a request_id alone: they are in line then.

        Others leave the line, and their answer is Skipped.
        """
        asked = _Asked(self._core, resource, owner, request_id, policy)
        answer = asked.settle_unless_yours(
            lambda: self._core.claim_now(resource, asked.claimant._core, asked.number, policy)
        )
        if isinstance(answer, Waiting) and request_id is None:
            asked.verbs.give_up()
            return Skipped(_owner_of(self._core, resource))
        return answer

    def run_once(
        self,
        resource: Key,
        work: Callable[[Yours], str | None],
        /,
        *,
        owner: str | Claimant = "",
        timeout: float | None = None,
        policy: ClaimPolicy = _PLAIN,
    ) -> str:
        """Return the note of the work's success, after doing the work if it is the caller's to do.

        work is called with Yours and returns the note. When it raises, the first in line does the work, and the
        exception is raised here. ClaimFailed says that no attempt is left.

        >>> from keylatch.claims import Claims
        >>> claims = Claims()
        >>> claims.run_once("sha256:4711", lambda work: f"attempt {work.attempt}", owner="node-1")
        'attempt 1'
        >>> claims.run_once("sha256:4711", lambda work: f"attempt {work.attempt}", owner="node-2")
        'attempt 1'
        """
        with self.claim(resource, owner=owner, timeout=timeout, policy=policy) as claim:
            if isinstance(claim, Yours) and claim.ended is None:
                note = work(claim)
                if claim.ended is None:
                    claim.complete(note or "")
        return claim.result()

    async def arun_once(
        self,
        resource: Key,
        work: Callable[[Yours], Awaitable[str | None]],
        /,
        *,
        owner: str | Claimant = "",
        timeout: float | None = None,
        policy: ClaimPolicy = _PLAIN,
    ) -> str:
        """The same for asyncio: what work returns is awaited."""
        async with self.aclaim(resource, owner=owner, timeout=timeout, policy=policy) as claim:
            if isinstance(claim, Yours) and claim.ended is None:
                note = await work(claim)
                if claim.ended is None:
                    claim.complete(note or "")
        return claim.result()

    def force_release(self, resource: Key, /) -> bool:
        """End the owner's grant, as a failure. False if the resource has no owner."""
        return self._core.force_release(resource)

    def forget(self, resource: Key, /) -> bool:
        """Drop a retained outcome, so that the next request does the work again. False if there is none."""
        return self._core.forget(resource)

    def snapshot(self, resource: Key, /) -> ClaimSnapshot:
        """Return who owns a resource, who waits, and its outcome."""
        snapshot: ClaimSnapshot = self._core.snapshot(resource)
        return snapshot

    def figures(self) -> ClaimFigures:
        """Return how much is remembered."""
        return ClaimFigures(*self._core.figures())

    def watch(self, resource: Key, /, *, after: str | None = None) -> ClaimEvents:
        """Subscribe to the events of a resource: those after the event of that id, or a ClaimReset and all after it."""
        return ClaimEvents(self._core.watch(resource, None if after is None else _event_id(after)), after)

    def close(self) -> None:
        """End everything: calls that wait, and later ones, raise Closed."""
        self._core.close()

    @property
    def closed(self) -> bool:
        """Whether the claims were closed."""
        return self._core.closed

    def __reduce__(self) -> Never:
        raise TypeError("Claims belong to one process and cannot be pickled or copied")

    def __repr__(self) -> str:
        return f"<keylatch.claims.Claims {'closed' if self.closed else 'open'}>"


class _Asked:
    """One request on its way to an answer."""

    __slots__ = ("claimant", "keeps", "number", "resource", "verbs")

    def __init__(
        self, core: _keylatch.Claims, resource: Key, owner: str | Claimant, request_id: int | None, policy: ClaimPolicy
    ) -> None:
        if not isinstance(policy, ClaimPolicy):
            raise TypeError(f"policy is a ClaimPolicy, not {type(policy).__name__}")
        if isinstance(owner, Claimant):
            if owner._claims is not core:
                raise ValueError("the claimant is of other claims; make one with claimant() of these")
            self.claimant = owner
        elif request_id is not None:
            raise ValueError("a request_id is for an owner that is a Claimant; make one with claimant()")
        else:
            # Ends with the request: with the answer, or with the work.
            self.claimant = Claimant(core, owner, None)
        self.number = self.claimant._numbers.take(request_id)
        self.verbs = LocalVerbs(self.claimant, self.number)
        self.keeps = request_id is not None
        self.resource = resource

    def settle_unless_yours(self, ask: Callable[[], Any]) -> Answer:
        """Ask, and make Yours of a grant."""
        try:
            answer: ClaimGrant | Answer = ask()
        except BaseException:
            self.verbs.settle()
            raise
        if isinstance(answer, ClaimGrant):
            return Yours(self.verbs, self.resource, self.number, answer, self.keeps)
        if not isinstance(answer, Waiting):
            self.verbs.settle()
        return answer


def _owner_of(core: _keylatch.Claims, resource: Key) -> str | None:
    owner: ClaimOwner | None = core.snapshot(resource).owner
    return None if owner is None else owner.name


def _event_id(text: str) -> tuple[int, int]:
    epoch, _, sequence = text.partition("-")
    if not (epoch.isdecimal() and sequence.isdecimal() and len(text) <= 41):
        raise ValueError(f"{text[:64]!r} is no event id: write <epoch>-<number>, as the events have it")
    return int(epoch), int(sequence)


class AwaitedClaim(AwaitedOnce[Answer]):
    """A claim to be awaited, or used in `async with`: what aclaim() returns."""

    __slots__ = ()
    _verb = "aclaim"
    _omitted = "nothing was claimed"

    @staticmethod
    def _wait(*arguments: Any) -> Coroutine[Any, Any, Answer]:
        return _wait_for_claim(*arguments)

    def __repr__(self) -> str:
        return f"<keylatch.claims.AwaitedClaim of {self._arguments[1]!r}>"


async def _wait_for_claim(
    core: _keylatch.Claims,
    resource: Key,
    owner: str | Claimant,
    request_id: int | None,
    timeout: float | None,
    policy: ClaimPolicy,
) -> Answer:
    asked = _Asked(core, resource, owner, request_id, policy)
    try:
        pending = core.begin_claim(resource, asked.claimant._core, asked.number, policy, timeout)
        answer = await _asyncio.wait(pending)
    except BaseException:
        asked.verbs.settle()
        raise
    return asked.settle_unless_yours(lambda: answer)


class ClaimEvents(EventStream[ClaimEvent]):
    """A subscription to the events of one resource: what Claims.watch() returns.

    Iterate over it, with `for` or `async for`; that ends when the claims or the subscription are closed. One thread or
    task at a time waits for the next event. However slow it is, no event is lost unnoticed: when the next one is no
    longer kept, it gets one ClaimReset.
    """

    __slots__ = ("_last",)

    def __init__(self, watch: _keylatch.ClaimWatch, last: str | None) -> None:
        super().__init__(watch)
        self._last = last

    def _fetched(self, event: Any) -> ClaimEvent | None:
        fetched = super()._fetched(event)
        if fetched is not None:
            self._last = fetched.id
        return fetched

    @property
    def last(self) -> str | None:
        """The id of the event fetched last, to go on from: watch(resource, after=...)."""
        return self._last
