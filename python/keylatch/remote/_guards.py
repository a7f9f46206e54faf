"""What a client for asyncio holds on the server: locks, and the work of claims."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Never, Self

from .. import _claim_exceptions as claim_errors
from .._claim_types import Answer, ClaimGrant, Ended, Lost
from .._claimant import reason_of
from .._exceptions import KeylatchError, LeaseLost, NotHeld
from .._types import Key, Mode
from .._types import Lost as LockLost
from ._belief import Fate
from ._errors import SessionLost, Unreachable, of_claim
from ._session import Session, lease_lost
from ._wire import claim_answer, milliseconds


class AsyncGuard:
    """Locks that are held on the server. Leaving the `async with` block releases them.

    They are renewed in the background. Should that not succeed in time they are lost, which every call on the guard
    notices by the client's own clock, before the server frees anything.
    """

    __slots__ = ("__weakref__", "_fate", "_grant", "_items", "_number", "_released", "_session")

    def __init__(self, session: Session, number: int, fate: Fate, items: list[tuple[Key, Mode]], grant: Any) -> None:
        self._session = session
        self._number = number
        self._fate = fate
        self._items = items
        self._grant: dict[str, Any] = grant
        self._released = False

    @property
    def key(self) -> Key:
        """What is held; the first of several keys."""
        return self._items[0][0]

    @property
    def keys(self) -> tuple[Key, ...]:
        """All that is held."""
        return tuple(key for key, _ in self._items)

    @property
    def mode(self) -> Mode:
        """How it is held; the first of several keys."""
        return self._items[0][1]

    @property
    def fence(self) -> int:
        """Greater than that of every grant before: a store that remembers the highest refuses late writers."""
        fence: int = self._grant["fence"]
        return fence

    @property
    def remaining(self) -> float:
        """For how many seconds the locks are safe without another renewal. 0 once they are lost or released."""
        if self._released:
            return 0.0
        left = self._session.belief.safe_for()
        return 0.0 if self._fate.reason else left

    @property
    def is_valid(self) -> bool:
        """Whether the locks are safe at this moment."""
        return self.remaining > 0

    @property
    def released(self) -> bool:
        """Whether the locks were released."""
        return self._released

    def check(self) -> None:
        """Raise LeaseLost if the locks are lost, and NotHeld if they were released."""
        if self._released:
            raise NotHeld(f"the lock on {self.key!r} was released")
        if not self.is_valid:
            raise lease_lost(self.key)

    def on_lost(self, callback: Callable[[LockLost], object], /) -> None:
        """Call callback with why, once, when the locks are lost. It is called immediately if they are.

        It runs in the event loop's thread, or in that of a call that notices the loss, before that call returns.
        """
        self._fate.listen(lambda reason: callback(LockLost(reason)))

    async def lost(self) -> LockLost:
        """Wait until the locks are lost, and return why."""
        loop = asyncio.get_running_loop()
        came = asyncio.Event()

        def listener(_: str) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(came.set)

        self._fate.listen(listener)
        try:
            while not self._fate.reason:
                left = self._session.belief.safe_for()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(came.wait(), max(left, 0.001))
        finally:
            self._fate.forget(listener)
        return LockLost(self._fate.reason)

    async def release(self) -> None:
        """Release the locks. Raises LeaseLost if they were lost before, and NotHeld if they were released."""
        if self._released:
            raise NotHeld(f"the lock on {self.key!r} was released before")
        was_lost = not self.is_valid
        self._released = True
        try:
            await self._session.finish("/v1/unlock", self._number, {"grant": self._grant["grant"]})
        except (SessionLost, LeaseLost, NotHeld) as error:
            raise lease_lost(self.key) from error
        except Unreachable:
            # The next renewal releases it, and so does the end of the session; meanwhile no other client has it.
            pass
        finally:
            self._session.belief.settle(self._number)
        if was_lost:
            raise lease_lost(self.key)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if self._released:
            return
        try:
            await self.release()
        except KeylatchError:
            # The exception of the block says more.
            if value is None:
                raise

    def __del__(self) -> None:
        if not getattr(self, "_released", True):
            # The next renewal gives it up.
            self._session.belief.forget(self._number)

    def __reduce__(self) -> Never:
        raise TypeError("a guard belongs to one client in one process and cannot be pickled or copied")

    def __repr__(self) -> str:
        state = "released" if self._released else "held" if self.is_valid else "lost"
        return f"<keylatch.remote.{type(self).__name__} {self.key!r} {self.mode}, fence {self.fence}, {state}>"


class AsyncYours(Answer):
    """The work is the caller's to do; as keylatch.claims.Yours, with methods to be awaited."""

    __slots__ = ("__weakref__", "_ended", "_fate", "_number", "_resource", "_session", "_wire_grant", "grant")

    yours: ClassVar[bool] = True

    def __init__(self, session: Session, number: int, fate: Fate, resource: Key, body: Any) -> None:
        grant = claim_answer(body)
        assert isinstance(grant, ClaimGrant)
        self.grant = grant
        """The grant: its epoch and fence, and the number of the attempt."""
        self._session = session
        self._number = number
        self._fate = fate
        self._resource = resource
        self._wire_grant: str = body["grant"]
        self._ended: Answer | None = None

    @property
    def resource(self) -> Key:
        """What the work is for."""
        return self._resource

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
        if self._ended is None and not self._is_safe():
            return Lost(self._reason())
        return self._ended

    @property
    def remaining(self) -> float:
        """For how many seconds the work is safe without another renewal. 0 once it is lost or ended."""
        left = self._session.belief.safe_for()
        return 0.0 if self._ended is not None or self._fate.reason else left

    def _is_safe(self) -> bool:
        return self._session.belief.safe_for() > 0 and not self._fate.reason

    def _reason(self) -> str:
        return "force_released" if self._fate.reason == "forced" else "session_expired"

    async def progress(self, done: int, total: int = 0, address: str = "") -> None:
        """Report how far the work is: units done, units in all if that is known, and where to look at it."""
        await self._report({"done": done, "total": total, "address": address})

    async def renew(self, ttl: float, /) -> None:
        """Let the lease of the grant begin again with this many seconds. The session is renewed without this."""
        await self._report({"lease_ms": milliseconds(ttl, "ttl")})

    async def _report(self, fields: dict[str, Any]) -> None:
        if not self._is_safe():
            Lost(self._reason()).result()
        try:
            await self._session.post("/v1/progress", self._named(fields))
        except SessionLost as error:
            raise _claim_lost(error) from error
        except NotHeld as error:
            raise of_claim(error) from error

    def _named(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"request_id": self._number, "grant": self._wire_grant, **fields}

    async def complete(self, note: str = "") -> None:
        """End the work as a success: all who wait get the note. Completing it twice is harmless."""
        (await self._complete({"note": note})).result()

    async def fail(self, reason: str) -> None:
        """End the work as a failure: the first in line has it now."""
        answer = await self._complete({"error": reason})
        if isinstance(answer, Lost):
            answer.result()

    def result(self) -> str:
        """Return the note that the work was completed with. Raises ClaimFailed or ClaimLost when there is none."""
        return super().result() if self.ended is None else self.ended.result()

    async def _complete(self, fields: dict[str, Any]) -> Answer:
        if self._ended is not None:
            return self._ended
        if not self._is_safe():
            # The server may have given the work to another by now.
            self._session.give_up(self._number)
            self._ended = Lost(self._reason())
            return self._ended
        try:
            answer = claim_answer(await self._session.finish("/v1/complete", self._number, self._named(fields)))
            self._ended = answer if isinstance(answer, Ended) else Lost(self._reason())
        except SessionLost as error:
            self._ended = Lost("session_expired", str(error))
        except NotHeld as error:
            raise of_claim(error) from error
        except claim_errors.ClaimLost as error:
            self._ended = Lost(error.reason or self._reason(), str(error))
        return self._ended

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if self._ended is not None:
            if value is None and isinstance(self._ended, Lost):
                self._ended.result()
        elif value is None:
            await self.complete()
        else:
            # The exception goes on whatever becomes of this.
            with contextlib.suppress(KeylatchError):
                await self._complete({"error": reason_of(value)})

    def __del__(self) -> None:
        if getattr(self, "_ended", self) is None:
            # The next renewal gives it up.
            self._session.belief.forget(self._number)

    def __repr__(self) -> str:
        return f"<keylatch.remote.{type(self).__name__} {self._resource!r}, attempt {self.attempt}, fence {self.fence}>"


def _claim_lost(error: KeylatchError) -> claim_errors.ClaimLost:
    lost = claim_errors.ClaimLost(f"the work was lost: {error}")
    lost.reason = "session_expired"
    return lost
