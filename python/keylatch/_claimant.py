"""Claimants, which count their requests, and the work that they own."""

from __future__ import annotations

import collections
import contextlib
import threading
from types import TracebackType
from typing import ClassVar, Never, Protocol, Self

from . import _keylatch
from ._claim_exceptions import InvalidConfig, NotYours
from ._claim_types import Answer, ClaimGrant, Ended, Lost
from ._exceptions import KeylatchError
from ._types import Key

_REASON_CHARACTERS = 200
"""How much of an exception's text becomes a reason; limits on texts are rarely shorter."""


class Verbs(Protocol):
    """What can be done with a grant."""

    def complete(self, fence: int, succeeded: bool, text: str) -> Answer:
        """Complete the work."""

    def progress(self, fence: int, done: int, total: int, address: str) -> None:
        """Report progress."""

    def renew(self, fence: int, ttl: float) -> None:
        """Let the lease begin again."""

    def remaining(self, fence: int) -> float | None:
        """Say how long the lease lasts."""

    def give_up(self) -> None:
        """Cancel the request."""


class Yours(Answer):
    """The work is the caller's to do.

    At the end of a `with` block the work is completed: as a success, or, when the block raises, as a failure with the
    exception as its reason. The first in line has the work then. `complete` and `fail` do so earlier, with a text.

    Work that is forgotten is given up, which is a failure too, unless its request has a number that the caller gave.
    """

    __slots__ = ("__weakref__", "_ended", "_keeps", "_request_id", "_resource", "_verbs", "grant")

    yours: ClassVar[bool] = True

    def __init__(self, verbs: Verbs, resource: Key, request_id: int, grant: ClaimGrant, keeps: bool) -> None:
        self.grant = grant
        """The grant: its epoch and fence, and the number of the attempt."""
        self._verbs = verbs
        self._resource = resource
        self._request_id = request_id
        self._keeps = keeps
        self._ended: Answer | None = None

    @property
    def resource(self) -> Key:
        """What the work is for."""
        return self._resource

    @property
    def request_id(self) -> int:
        """The request's number."""
        return self._request_id

    @property
    def fence(self) -> int:
        """The fencing number: greater than every one before it."""
        return self.grant.fence

    @property
    def attempt(self) -> int:
        """1 for the first attempt, one more after each failure."""
        return self.grant.attempt

    @property
    def ended(self) -> Answer | None:
        """Ended or Lost, once that is known; None while the work is to be done."""
        return self._ended

    @property
    def remaining(self) -> float | None:
        """For how many seconds the lease lasts; None if it has none. Raises NotYours when the work has ended."""
        return self._verbs.remaining(self.fence)

    def progress(self, done: int, total: int = 0, address: str = "") -> None:
        """Report how far the work is: units done, units in all if that is known, and where to look at it."""
        self._verbs.progress(self.fence, done, total, address)

    def renew(self, ttl: float, /) -> None:
        """Let the lease begin again with this many seconds."""
        self._verbs.renew(self.fence, ttl)

    def complete(self, note: str = "") -> None:
        """End the work as a success: all who wait get the note. Completing it twice is harmless.

        Raises ClaimLost when the grant was lost, so that another may do the work, and ClaimFailed when the work was
        failed before.
        """
        self._complete(True, note).result()

    def fail(self, reason: str) -> None:
        """End the work as a failure: the first in line has it now. Raises ClaimLost when the grant was lost before."""
        answer = self._complete(False, reason)
        if isinstance(answer, Lost):
            answer.result()

    def result(self) -> str:
        """Return the note that the work was completed with. Raises ClaimFailed or ClaimLost when there is none."""
        return super().result() if self._ended is None else self._ended.result()

    def _complete(self, succeeded: bool, text: str) -> Answer:
        if self._ended is None:
            # A refusal, such as for a text that is too long, leaves the work as it is.
            answer = self._verbs.complete(self.fence, succeeded, text)
            if not isinstance(answer, Ended | Lost):
                raise NotYours(
                    f"the work is no longer this request's, which came to {answer}; claim the resource again"
                )
            self._ended = answer
        return self._ended

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if self._ended is not None:
            if value is None and isinstance(self._ended, Lost):
                self._ended.result()
        elif value is None:
            self.complete()
        else:
            self._fail_because(value)

    def _fail_because(self, error: BaseException) -> None:
        """Fail for an exception, which goes on whatever becomes of the call."""
        try:
            self._complete(False, reason_of(error))
        except KeylatchError:
            self._verbs.give_up()

    def __del__(self) -> None:
        if getattr(self, "_ended", self) is None and not self._keeps:
            self._verbs.give_up()

    def __reduce__(self) -> Never:
        raise TypeError("the work of a claim belongs to one process and cannot be pickled or copied")

    def __repr__(self) -> str:
        state = "" if self._ended is None else f", {type(self._ended).__name__.lower()}"
        return f"<keylatch.claims.Yours {self._resource!r}, attempt {self.attempt}, fence {self.fence}{state}>"


def reason_of(error: BaseException) -> str:
    """Return what an exception says, as the reason of a failure."""
    text = str(error)
    return f"{type(error).__name__}: {text}"[:_REASON_CHARACTERS] if text else type(error).__name__


class Numbers:
    """The numbers of a claimant's requests: counted here, or given by the caller, never both.

    Counted numbers are settled as they end, so that a claimant can make any number of requests.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 1
        self._open: set[int] = set()
        self._given = False
        self._forgotten: collections.deque[int] = collections.deque()

    def forget(self, number: int) -> None:
        """Note that a request has ended, without the lock: a collector may call this while its thread has the lock."""
        self._forgotten.append(number)

    def take(self, given: int | None) -> int:
        """Return the number for a request."""
        with self._lock:
            if given is None and not self._given:
                number, self._next = self._next, self._next + 1
                self._open.add(number)
                return number
            if given is None or self._open or self._next > 1:
                error = InvalidConfig(
                    "a claimant counts its requests or is given their numbers, not both; make a second claimant"
                )
                error.setting = "request_id"
                raise error
            self._given = True
            return given

    def settle(self, number: int) -> int:
        """Note that a request has ended; return below which number all have."""
        self.forget(number)
        with self._lock:
            while self._forgotten:
                self._open.discard(self._forgotten.popleft())
            return min(self._open, default=self._next) if not self._given else 0

    @property
    def given(self) -> bool:
        """Whether the caller gives the numbers."""
        return self._given


class Claimant:
    """One who claims: what Claims.claimant() returns. Leaving its `with` block ends it.

    When it ends, what it waits for is asked for no more, and what it owns has failed. It ends when it is forgotten, too.
    """

    __slots__ = ("__weakref__", "_claims", "_core", "_name", "_numbers")

    def __init__(self, claims: _keylatch.Claims, name: str, ttl: float | None) -> None:
        self._claims = claims
        self._name = name
        self._core = claims.claimant(name, ttl)
        self._numbers = Numbers()

    @property
    def name(self) -> str:
        """Its name, for people."""
        return self._name

    @property
    def session(self) -> str:
        """Its session, as events name it."""
        epoch, number = self._core.session
        return f"{epoch}-{number}"

    def renew(self) -> None:
        """Let its ttl begin again."""
        self._core.renew()

    def settle_below(self, request_id: int) -> None:
        """Declare that all lower numbers are done with. Its next claim ends what they still wait for or own.

        This is for callers that give the numbers of their requests; numbers that are counted settle by themselves.
        """
        self._core.settle_below(request_id)

    def cancel(self, request_id: int) -> Answer:
        """Give up a request whose number the caller gave. If it owns the work, that is a failure."""
        answer: Answer = self._claims.cancel(self._core, request_id)
        return answer

    def adopt(self, resource: Key, request_id: int, fence: int) -> Yours:
        """Return the work that a request owns by this fence, for callers that keep numbers only."""
        epoch, _ = self._core.session
        return Yours(LocalVerbs(self, request_id), resource, request_id, ClaimGrant(epoch, fence, 0, False), True)

    def end(self) -> None:
        """End it. Ending it twice is harmless."""
        self._core.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.end()

    def __reduce__(self) -> Never:
        raise TypeError("a Claimant belongs to one process and cannot be pickled or copied")

    def __repr__(self) -> str:
        return f"<keylatch.claims.Claimant {self._name!r}>"


class LocalVerbs:
    """The verbs of one request in this process."""

    __slots__ = ("_claimant", "_number")

    def __init__(self, claimant: Claimant, number: int) -> None:
        self._claimant = claimant
        self._number = number

    def complete(self, fence: int, succeeded: bool, text: str) -> Answer:
        """Complete the work."""
        answer: Answer = self._claimant._claims.complete(self._claimant._core, (self._number, fence), succeeded, text)
        self.settle()
        return answer

    def progress(self, fence: int, done: int, total: int, address: str) -> None:
        """Report progress."""
        self._claimant._claims.progress(self._claimant._core, (self._number, fence), (done, total), address)

    def renew(self, fence: int, ttl: float) -> None:
        """Let the lease begin again."""
        self._claimant._claims.renew(self._claimant._core, (self._number, fence), ttl)

    def remaining(self, fence: int) -> float | None:
        """Say how long the lease lasts."""
        return self._claimant._claims.remaining(self._claimant._core, (self._number, fence))

    def give_up(self) -> None:
        """Cancel the request, unless its claimant has ended."""
        # A claimant that has ended, and claims that are closed, have given it up already.
        with contextlib.suppress(KeylatchError):
            self._claimant._claims.cancel(self._claimant._core, self._number)
        self._claimant._numbers.forget(self._number)

    def settle(self) -> None:
        """Note that the request has ended."""
        numbers = self._claimant._numbers
        if not numbers.given:
            self._claimant._core.settle_below(numbers.settle(self._number))
