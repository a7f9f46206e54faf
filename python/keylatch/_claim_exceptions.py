"""The exceptions of claims. All are KeylatchErrors."""

from __future__ import annotations

from ._exceptions import Closed, Forked, InvalidConfig, InvalidKey, KeylatchError

__all__ = [
    "ClaimError",
    "ClaimFailed",
    "ClaimLost",
    "ClaimTimeout",
    "Closed",
    "EpochChanged",
    "Forked",
    "InvalidConfig",
    "InvalidKey",
    "LineFull",
    "NotYours",
    "NumberInUse",
    "SessionGone",
    "StaleRequest",
    "TextTooLong",
    "TooManyClaimants",
    "TooManyOpen",
]


class ClaimError(KeylatchError):
    """Why a call on a claim was refused. A refused call changes nothing."""


class ClaimFailed(ClaimError):
    """The work has failed, and no further attempt is allowed. The message is the reason that its last owner gave."""


class ClaimLost(ClaimError, RuntimeError):
    """The grant was lost before the work was completed, so another may do it meanwhile. `reason` says why, in a word."""

    reason: str = ""
    """lease_expired, session_expired, session_ended, force_released or closed."""


class ClaimTimeout(ClaimError, TimeoutError):
    """The time given was over before the claim had an answer. The request left the line."""

    waited: float = 0.0
    """For how many seconds the request waited."""


class NotYours(ClaimError, RuntimeError):
    """The grant is not this request's, or it has ended."""


class LineFull(ClaimError):
    """The limit of waiting requests is reached."""

    limit: int = 0
    """That limit."""


class SessionGone(ClaimError):
    """The claimant was ended, or its ttl ran out."""


class EpochChanged(ClaimError):
    """The claims were started anew since the claimant was made. What it owned is void."""

    epoch: int = 0
    """The epoch now."""


class StaleRequest(ClaimError, ValueError):
    """The request's number is settled already."""

    settled_below: int = 0
    """The lowest number that is still good."""


class NumberInUse(ClaimError, ValueError):
    """The request's number is in use for another resource."""


class TooManyOpen(ClaimError):
    """The claimant has as many open requests as it may have."""

    limit: int = 0
    """The setting max_open."""


class TooManyClaimants(ClaimError):
    """There are max_claimants claimants already."""

    limit: int = 0
    """The setting max_claimants."""


class TextTooLong(ClaimError, ValueError):
    """A note, a reason, an address or a name is longer than max_text_bytes."""


for _class in list(globals().values()):
    if isinstance(_class, type) and issubclass(_class, ClaimError):
        _class.__module__ = "keylatch.claims"
for _class, _code in (
    (ClaimFailed, -6),
    (ClaimLost, -7),
    (ClaimTimeout, -1),
    (NotYours, -6),
    (LineFull, -13),
    (SessionGone, -20),
    (EpochChanged, -21),
    (StaleRequest, -22),
    (NumberInUse, -23),
    (TooManyOpen, -24),
    (TooManyClaimants, -25),
):
    _class.code = _code
del _class, _code
