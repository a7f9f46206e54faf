"""A session on the server: one lease for any number of locks and claims, renewed and reconnected in the background.

Everything runs in one event loop. A session that has ended stays so; its client opens another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from .._claim_exceptions import ClaimLost
from .._exceptions import KeylatchError, LeaseLost, LockTimeout, NotHeld
from . import _clock
from ._belief import LOST_EXPIRED, LOST_FORCED, Belief, Fate
from ._errors import RemoteError, SessionLost, Unreachable, held_by, is_passing
from ._http import Http
from ._wire import milliseconds

POLL = 20.0
"""A call that waits says so for this long at a time."""
CALL_TIME = 30.0
"""A call is given up after this."""
SPARE = 5.0
"""What a call with a timeout may take on top of it when the server does not answer."""
LOCK_STATES, CLAIM_STATES = {"granted"}, {"yours"}


class Session:
    """A session that was opened; `open_session` makes it."""

    def __init__(self, http: Http, opened: dict[str, Any], sent: float) -> None:
        self._http = http
        self.name: str = opened["session"]
        valid = opened["valid_ms"] / 1000
        self.belief = Belief(sent + valid)
        self._interval = max(valid / 3, 0.001)
        self._attached = asyncio.Event()
        self._nudge = asyncio.Event()
        self._changed = asyncio.Event()
        keepers = (self._keep_attached(), self._keep_renewed(), self._keep_watch())
        self._tasks = {asyncio.create_task(keeper) for keeper in keepers}

    async def wait_until_attached(self) -> None:
        """Wait for the stream: before, the server grants nothing to the session."""
        while not (self._attached.is_set() or self.belief.over):
            left = self.belief.safe_for()
            if left <= 0:
                self.end_belief()
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._attached.wait(), left)
        if self.belief.over:
            raise SessionLost("the session's stream could not be attached in time; is a proxy in between that buffers?")

    async def post(self, path: str, body: dict[str, Any], within: float = CALL_TIME) -> Any:
        """Make a call of the session's; notice when the server says that it has ended."""
        try:
            return checked(await self._http.call("POST", path, {"session": self.name, **body}, within))
        except SessionLost:
            self.end_belief()
            raise

    async def ask(self, path: str, number: int, fields: dict[str, Any], timeout: float | None) -> Any:
        """Ask for something, and wait for it. After an error, cancelled too, the number is given up.

        A timeout of 0 does not take a place in line.
        """
        deadline = None if timeout is None else _clock.now() + timeout
        try:
            while True:
                left = POLL if deadline is None else min(max(deadline - _clock.now(), 0), POLL)
                # A number that waits is not to be refused because the time is nearly over.
                wait = 0 if timeout == 0 else max(milliseconds(left, "timeout"), 1)
                body = {"request_id": number, "wait_ms": wait, "client_timeout_ms": int(CALL_TIME * 1000), **fields}
                late = deadline is not None and _clock.now() >= deadline
                within = CALL_TIME if deadline is None else min(left + SPARE, CALL_TIME)
                try:
                    answer = await self.post(path, {**body, "settled_below": self.belief.settled_below}, within)
                except KeylatchError as error:
                    if self.belief.over:
                        raise SessionLost(f"the session has ended: {error}") from error
                    if not is_passing(error) or timeout == 0 or late:
                        raise
                    await asyncio.sleep(0.02)
                    continue
                if answer.get("state") != "waiting":
                    return answer
                if late or timeout == 0:
                    return answer
        except BaseException:
            self.give_up(number)
            raise

    async def until_safe(self, number: int) -> Fate:
        """Hold what a number got, once the belief covers it: a renewal is on its way, if it does not."""
        try:
            while self.belief.safe_for() <= 0:
                if self.belief.over:
                    raise SessionLost("the session has ended on the server; ask again")
                self._changed.clear()
                self._nudge.set()
                await self._changed.wait()
        except BaseException:
            self.give_up(number)
            raise
        return self.belief.hold(number)

    async def finish(self, path: str, number: int, fields: dict[str, Any]) -> Any:
        """End a number: unlock, cancel or complete. It is repeated while that can make a difference.

        A number whose end the server refused, or may not have heard of, stays open: the caller may try again.
        """
        while True:
            try:
                settled = self.belief.settled_below
                answer = await self.post(path, {"request_id": number, **fields, "settled_below": settled})
            except (SessionLost, LeaseLost, NotHeld, ClaimLost):
                self.belief.settle(number)
                raise
            except KeylatchError as error:
                if not is_passing(error) or self.belief.safe_for() <= 0:
                    raise
                await asyncio.sleep(0.02)
            else:
                self.belief.settle(number)
                return answer

    def give_up(self, number: int) -> None:
        """Cancel a number in the background. Should that not arrive, the next renewal does it."""
        self.belief.settle(number)
        if self.belief.over or self._http.closed:
            return
        task = asyncio.get_running_loop().create_task(self._cancel(number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel(self, number: int) -> None:
        with contextlib.suppress(KeylatchError):
            await self.post("/v1/cancel", {"request_id": number})

    async def cancel(self, number: int) -> None:
        """Cancel a number, and wait until that is done. Should it not arrive, the next renewal does it."""
        try:
            with contextlib.suppress(KeylatchError):
                await self.finish("/v1/cancel", number, {})
        finally:
            self.belief.settle(number)

    def end_belief(self) -> None:
        """Note that the session has ended."""
        self.belief.end()
        self._attached.set()
        self._nudge.set()
        self._changed.set()

    async def end(self) -> None:
        """End the session, and with it what it holds."""
        tell = not self.belief.over
        self.end_belief()
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tell:
            # The end of the stream tells the server as well, after the grace.
            with contextlib.suppress(KeylatchError):
                await self._http.call("DELETE", f"/v1/sessions/{self.name}", None, 1.0)

    async def _keep_attached(self) -> None:
        path = f"/v1/sessions/{self.name}/attach"
        while not self.belief.over:
            with contextlib.suppress(Unreachable):
                try:
                    async for event in self._http.stream(path):
                        self._hear(event.name, event.data)
                except SessionLost:
                    self.end_belief()
                except RemoteError as error:
                    if not is_passing(error):
                        self.end_belief()

    def _hear(self, name: str, data: Any) -> None:
        match name:
            case "attached":
                self._attached.set()
            case "lost" | "claim":
                if isinstance(data, dict) and (name == "lost" or data.get("state") == "lost"):
                    forced = data.get("reason") in ("forced", "force_released")
                    self.belief.lose(data.get("request_id", 0), LOST_FORCED if forced else LOST_EXPIRED)
            case "gone":
                self.end_belief()
            case "resync":
                self._nudge.set()

    async def _keep_renewed(self) -> None:
        while not self.belief.over:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudge.wait(), self._interval)
            self._nudge.clear()
            while not self.belief.over:
                try:
                    await self._renew()
                    break
                except KeylatchError:
                    await asyncio.sleep(0.02)

    async def _keep_watch(self) -> None:
        """Have a lapse noticed when it happens, also by those who make no calls."""
        while not self.belief.over:
            if (left := self.belief.safe_for()) > 0:
                await asyncio.sleep(left)
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _renew(self) -> None:
        holding, sent = self.belief.holding(), _clock.now()
        # An answer that is late is worth nothing; the next attempt is.
        answer = await self.post("/v1/renew", self.belief.standing(), max(self._interval, 1.0))
        renewed = checked(answer, "valid_ms")
        self.belief.extend(sent, renewed["valid_ms"] / 1000)
        held = {row["request_id"] for row in renewed.get("requests", ()) if row["state"] in LOCK_STATES}
        held |= {row["request_id"] for row in renewed.get("claims", ()) if row["state"] in CLAIM_STATES}
        forced = {
            row["request_id"]
            for row in (*renewed.get("requests", ()), *renewed.get("claims", ()))
            if row.get("reason") in ("forced", "force_released")
        }
        for number in holding - held:
            self.belief.lose(number, LOST_FORCED if number in forced else LOST_EXPIRED)
        self._changed.set()


async def open_session(http: Http, owner: str, ttl: float) -> Session:
    """Open a session and attach its stream."""
    sent = _clock.now()
    body = {"owner": owner, "ttl_ms": milliseconds(ttl, "ttl"), "attach": True}
    opened = checked(await http.call("POST", "/v1/sessions", body, CALL_TIME), "session", "valid_ms")
    session = Session(http, opened, sent)
    try:
        await session.wait_until_attached()
    except BaseException:
        await session.end()
        raise
    return session


def checked(answer: Any, *names: str) -> dict[str, Any]:
    """Return an answer that is an object and has these fields."""
    if not isinstance(answer, dict) or not answer.keys() >= set(names):
        raise Unreachable(f"the server's answer is none of a lock service: {str(answer)[:200]}")
    return answer


def lease_lost(key: Any) -> LeaseLost:
    """Return the error of a lock that was lost."""
    return LeaseLost(
        f"the lock on {key!r} was lost: its session ended or could not be renewed in time, or it was taken away by force; "
        "what it protects may be in other hands"
    )


def timed_out(key: Any, waited: float, holders: tuple[Any, ...]) -> LockTimeout:
    """Return the error of a lock that was not free in time."""
    error = LockTimeout(f"{key!r} was not free within {waited:.3g} s; {held_by(holders)}")
    error.code, error.transient = -1, True
    error.key, error.waited, error.holders = key, waited, holders
    return error
