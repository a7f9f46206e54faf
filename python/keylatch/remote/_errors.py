"""What can go wrong between a client and its server."""

from __future__ import annotations

from typing import Any

from .. import _claim_exceptions as claims
from .. import _exceptions as locks
from .._exceptions import KeylatchError
from .._types import Holder, Key, Mode


class RemoteError(KeylatchError):
    """The server refused a call, or could not be asked. `problem` is the refusal's name."""

    problem: str = ""
    """The refusal's name, such as invalid_request; empty if the server did not answer."""


class Unreachable(RemoteError, ConnectionError):
    """The server could not be reached, or its answer is none. The call may have had an effect."""

    transient = True


class Unauthorized(RemoteError, PermissionError):
    """The server knows no such token, or it has expired, or its scope does not reach so far."""


class SessionLost(RemoteError):
    """The session has ended on the server, and everything that it held is released."""


for _class in (RemoteError, Unreachable, Unauthorized, SessionLost):
    _class.__module__ = "keylatch.remote"
Unreachable.code = -105
SessionLost.code = -20
del _class

_GONE = {"epoch_changed", "session_gone", "unknown_session"}
_CLASSES: dict[str, type[KeylatchError]] = {
    "locked": locks.WouldBlock,
    "lease_lost": locks.LeaseLost,
    "not_held": locks.NotHeld,
    "already_ended": locks.NotHeld,
    "other_grant": locks.NotHeld,
    "still_queued": locks.NotHeld,
    "cancelled": locks.Cancelled,
    "too_many_waiters": locks.TooManyWaiters,
    "too_many_keys": locks.TableFull,
    "too_many_open_requests": claims.TooManyOpen,
    "line_full": claims.LineFull,
    "stale_request": claims.StaleRequest,
    "number_reused": claims.NumberInUse,
    "not_yours": claims.NotYours,
    "claim_lost": claims.ClaimLost,
    "key_too_long": locks.InvalidKey,
    "unauthorized": Unauthorized,
    "forbidden": Unauthorized,
} | dict.fromkeys(_GONE, SessionLost)


def error_of(status: int, body: Any, key: Key | None = None) -> KeylatchError:
    """Return the exception for a problem document; what is none is taken for one all the same."""
    document = body if isinstance(body, dict) else {}
    name = str(document.get("type", "")).removeprefix("urn:keylatch:problem:")
    detail = document.get("detail") or f"the server answered {status}; is it a keylatch server?"
    kind = _CLASSES.get(name)
    if kind is None:
        kind = Unauthorized if status in (401, 403) else RemoteError
    text = f"{name.replace('_', ' ')}: {detail}" if name else str(detail)
    error = kind(text)
    if isinstance(error, RemoteError):
        error.problem = name
    code = document.get("code")
    error.code = code if isinstance(code, int) else kind.code
    error.transient = status in (423, 429, 503)
    if isinstance(error, locks.WouldBlock):
        error.holders = holders_of(document.get("holders"))
    if isinstance(error, locks.WouldBlock | locks.Cancelled) and key is not None:
        error.key = key
    if isinstance(error, claims.ClaimLost):
        error.reason = str(document.get("reason", ""))
    return error


def of_claim(error: KeylatchError) -> KeylatchError:
    """Return an error as the claims' own classes have it."""
    return claims.NotYours(str(error)) if type(error) is locks.NotHeld else error


def would_block(key: Key, error: locks.WouldBlock) -> locks.WouldBlock:
    """Return the error of a lock that is not free, which names the holders."""
    blocked = locks.WouldBlock(f"{key!r} is not free; {held_by(error.holders)}")
    blocked.code, blocked.transient, blocked.key, blocked.holders = -2, True, key, error.holders
    return blocked


def held_by(holders: tuple[Holder, ...]) -> str:
    """Name the holders."""
    return "held by " + (
        ", ".join(repr(holder.owner) for holder in holders) or "a client that the server does not name"
    )


def holders_of(rows: Any) -> tuple[Holder, ...]:
    """Return the holders that an answer names."""
    return tuple(
        Holder(str(row.get("owner", "")), Mode(row.get("mode", "exclusive")), row.get("held_ms", 0) / 1000)
        for row in rows or ()
    )


def is_passing(error: KeylatchError) -> bool:
    """Say whether the same call may succeed when it is made again."""
    if isinstance(error, Unreachable):
        return True
    return isinstance(error, RemoteError) and error.problem in ("quiet_period", "no_fences", "closing", "session_cut")
