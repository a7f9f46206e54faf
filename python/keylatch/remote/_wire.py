"""Keys and answers as JSON has them."""

from __future__ import annotations

from typing import Any

from .._claim_types import (
    Answer,
    Cancelled,
    ClaimDone,
    ClaimEvent,
    ClaimFailure,
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
from .._exceptions import InvalidKey
from .._types import Key, Part
from ._errors import Unreachable
from ._http import Event


def _text(part: Part) -> str:
    """Return a part of a key as text, which is what JSON has."""
    try:
        if isinstance(part, bytes):
            return part.decode()
        if isinstance(part, str):
            part.encode()
            return part
    except UnicodeError:
        raise InvalidKey(
            f"{part[:64]!r} is no text, and the service takes keys of text: encode it, as with hex()"
        ) from None
    raise TypeError(
        f"a key is str, bytes, or a tuple of two or three of them, and its parts are not {type(part).__name__}"
    )


def resource_of(key: Key) -> dict[str, str]:
    """Return a key as the service takes it."""
    parts = key if isinstance(key, tuple) else ("", key)
    if not 2 <= len(parts) <= 3:
        raise TypeError("a key is (bucket, object) or (bucket, object, version)")
    resource = {"bucket": _text(parts[0]), "object": _text(parts[1])}
    if not all(resource.values()):
        raise InvalidKey("the service takes keys whose bucket and object are not empty: write (bucket, object)")
    if len(parts) == 3 and parts[2] is not None:
        resource["version"] = _text(parts[2])
    return resource


def key_of(resource: Any) -> Key:
    """Return the key of an item or a resource."""
    bucket, name, version = resource["bucket"], resource["object"], resource.get("version")
    if version is not None:
        return bucket, name, version
    return (bucket, name) if bucket else name


def policy_fields(policy: ClaimPolicy) -> dict[str, Any]:
    """Return a policy as fields of a claim."""
    if not isinstance(policy, ClaimPolicy):
        raise TypeError(f"policy is a ClaimPolicy, not {type(policy).__name__}")
    fields: dict[str, Any] = {}
    if policy.max_attempts is not None:
        fields["max_attempts"] = policy.max_attempts
    if policy.retry_after:
        fields["retry_after_ms"] = milliseconds(policy.retry_after, "retry_after")
    if policy.skip_if_claimed:
        fields["skip_if_claimed"] = True
    if policy.latest_only:
        fields["latest_only"] = True
    if policy.max_waiting is not None:
        fields["max_waiting"] = policy.max_waiting
    if policy.ttl is not None:
        fields["lease_ms"] = milliseconds(policy.ttl, "ttl")
    return fields


def milliseconds(seconds: float, what: str) -> int:
    """Return a time as the service takes it: at least a millisecond, unless it is none."""
    if not seconds >= 0 or seconds > 1e9:
        raise ValueError(f"{what} is a number of seconds from 0 to a billion, not {seconds}")
    return max(int(seconds * 1000), 1) if seconds else 0


def grant_of(text: Any) -> tuple[int, int]:
    """Return the epoch and the fence of a grant's name."""
    epoch, _, fence = str(text).partition(".")
    return int(epoch), int(fence)


def claim_answer(body: Any) -> ClaimGrant | Answer:
    """Return a claim's answer; a ClaimGrant stands for Yours."""
    match body:
        case {"state": "yours", "grant": grant, "attempt": attempt}:
            epoch, fence = grant_of(grant)
            return ClaimGrant(epoch, fence, attempt, bool(body.get("first_in_epoch")))
        case {"state": "waiting"}:
            return Waiting(max(body.get("place", 1) - 1, 0))
        case {"state": "done", "outcome": done}:
            return Done(_outcome(done))
        case {"state": "ended"}:
            return Ended(body.get("error") is None, body.get("error") or body.get("note") or "")
        case {"state": "lost"}:
            return Lost(str(body.get("reason", "")))
        case {"state": "skipped"}:
            return Skipped(body.get("owner"))
        case {"state": "superseded"}:
            return Superseded()
        case {"state": "cancelled"}:
            return Cancelled(body.get("fence"))
    raise Unreachable(f"the server's answer is no claim's: {str(body)[:200]}")


def _outcome(body: Any) -> ClaimOutcome:
    text = body.get("error") if body.get("error") is not None else body.get("note", "")
    return ClaimOutcome(body.get("error") is None, text, body["owner"], body["attempt"], body["fence"])


def _request(body: Any) -> ClaimRequest:
    return ClaimRequest(body["session"], body["request_id"])


def _progress(body: Any) -> ClaimProgress:
    return ClaimProgress(body["done"], body["total"], body["address"])


def snapshot_of(row: Any) -> ClaimSnapshot:
    """Return the state of a resource from a row of the listing of claims."""
    owner = None
    if row.get("owned_by"):
        owned = row["owned_by"]
        epoch, fence = grant_of(owned["grant"])
        grant = ClaimGrant(epoch, fence, owned["attempt"], False)
        owner = ClaimOwner(owned["owner"], _request(owned), grant, _progress(owned["progress"]))
    waiting = tuple(ClaimPlace(place["owner"], _request(place), place["cut"]) for place in row["waiters"])
    outcome = _outcome(row["outcome"]) if row.get("outcome") else None
    return ClaimSnapshot(key_of(row["resource"]), owner, waiting, row["waiting"] - len(waiting), outcome)


def claim_event(event: Event) -> ClaimEvent | None:
    """Return an event of a resource; None for one that says nothing here."""
    body, identity = event.data, event.id or ""
    match event.name:
        case "reset":
            return ClaimReset(identity, snapshot_of(body))
        case "granted":
            epoch, fence = grant_of(body["grant"])
            grant = ClaimGrant(epoch, fence, body["attempt"], bool(body.get("first_in_epoch")))
            return ClaimGranted(identity, _request(body["request"]), body["owner"], grant)
        case "failed":
            why = body.get("reason", "reported")
            following = _request(body["next"]) if body.get("next") else None
            later = body.get("retry_after_ms", 0) / 1000
            return ClaimFailure(identity, body["fence"], why, body.get("error") or why, following, later)
        case "done":
            return ClaimDone(identity, _outcome(body["outcome"]))
        case "progress":
            return ClaimProgressed(identity, body["fence"], _progress(body["progress"]))
        case "forgotten":
            return ClaimForgotten(identity)
    return None


def note_of(outcome: str | None) -> str:
    """Return what the work of run_once() came to, as it is recorded."""
    if outcome is not None and not isinstance(outcome, str):
        raise TypeError(f"the work returned {type(outcome).__name__}; its outcome is a str or None")
    return outcome or ""
