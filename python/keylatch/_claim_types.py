"""What claims answer with: answers, events and snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Self

from ._claim_exceptions import ClaimFailed, ClaimLost
from ._types import Key


@dataclass(frozen=True, slots=True)
class ClaimPolicy:
    """The rules of one request. They concern that request alone.

    >>> from keylatch.claims import Claims, ClaimPolicy
    >>> nightly = ClaimPolicy(skip_if_claimed=True)
    >>> upload = ClaimPolicy(max_attempts=3, retry_after=1.0)
    """

    max_attempts: int | None = None
    """When this request's attempt has that number and fails, all who wait get the failure. None is no limit."""
    retry_after: float = 0.0
    """For how many seconds the next attempt is held back when this request's attempt fails."""
    skip_if_claimed: bool = False
    """Answer Skipped when another has the work, instead of waiting."""
    latest_only: bool = False
    """Take the places of all who wait: they get Superseded, and this request alone waits."""
    max_waiting: int | None = None
    """How many may be in line for it to join. None is no limit but that of the claims."""
    ttl: float | None = None
    """For how many seconds the grant lasts without being renewed. None is for as long as its claimant."""


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """The end of a resource's work, retained for later requests."""

    succeeded: bool
    """Whether the work was done. A failure ends it only when the attempts that the policy allows are used up."""
    text: str
    """The note of the success, or the reason of the failure."""
    owner: str
    """The name of the claimant that completed it."""
    attempt: int
    """The number of its attempt."""
    fence: int
    """The fence of its grant."""


@dataclass(frozen=True, slots=True)
class ClaimGrant:
    """The right to do the work of one resource."""

    epoch: int
    """The start of the claims that granted it."""
    fence: int
    """Greater than every fence before it."""
    attempt: int
    """1 for the first attempt, one more after each failure."""
    first_in_epoch: bool
    """Whether no earlier attempt is known since the start. After a restart the owner looks at the artefact first."""


class Answer:
    """What a claim came to. Each answer is a context manager; only Yours does something at the end of the block."""

    __slots__ = ()

    yours: ClassVar[bool] = False
    """Whether the work is the caller's to do."""

    def result(self) -> str:
        """Return the note of the work's success. Raises ClaimFailed or ClaimLost when there is none."""
        raise ClaimFailed(f"there is no outcome: the claim came to {self}; claim the resource again to wait for one")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Waiting(Answer):
    """The request is in line."""

    ahead: int
    """How many requests are ahead of it."""


@dataclass(frozen=True, slots=True)
class Done(Answer):
    """The work has an outcome; there is nothing to do."""

    outcome: ClaimOutcome
    """The outcome."""

    def result(self) -> str:
        """Return the note of the work's success. Raises ClaimFailed when the attempts are used up."""
        if not self.outcome.succeeded:
            raise ClaimFailed(self.outcome.text)
        return self.outcome.text


@dataclass(frozen=True, slots=True)
class Ended(Answer):
    """The request owned the work and completed it."""

    succeeded: bool
    """Whether as a success."""
    text: str
    """The note of the success, or the reason of the failure."""

    def result(self) -> str:
        """Return the note of the success. Raises ClaimFailed when it was a failure."""
        if not self.succeeded:
            raise ClaimFailed(self.text)
        return self.text


@dataclass(frozen=True, slots=True)
class Lost(Answer):
    """The request owned the work and lost it."""

    reason: str
    """Why, in a word: lease_expired, session_expired, session_ended, force_released or closed."""
    explanation: str = ""
    """Why, in a sentence."""

    def result(self) -> str:
        """Raise ClaimLost."""
        error = ClaimLost(f"the work was lost: {self.explanation or self.reason}")
        error.reason = self.reason
        raise error


@dataclass(frozen=True, slots=True)
class Skipped(Answer):
    """The work is another's, and the request was not to wait."""

    owner: str | None = None
    """The owner's name, if the resource has an owner."""


@dataclass(frozen=True, slots=True)
class Superseded(Answer):
    """A later request took the places of all who waited."""


@dataclass(frozen=True, slots=True)
class Cancelled(Answer):
    """The request was cancelled."""

    fence: int | None = None
    """The fence of the grant that ended with it, if there was one."""


@dataclass(frozen=True, slots=True)
class ClaimProgress:
    """How far an owner has come."""

    done: int
    """Units done, such as bytes."""
    total: int
    """Units in all; 0 if that is unknown."""
    address: str
    """Where to look at the work, such as a URL; may be empty."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """One request of one claimant."""

    session: str
    """The claimant's session."""
    number: int
    """Its number among that claimant's requests."""


@dataclass(frozen=True, slots=True)
class ClaimOwner:
    """Who does the work."""

    name: str
    """The claimant's name."""
    request: ClaimRequest
    """Its request."""
    grant: ClaimGrant
    """What it was given."""
    progress: ClaimProgress
    """How far it is."""


@dataclass(frozen=True, slots=True)
class ClaimPlace:
    """A place in line."""

    name: str
    """The claimant's name."""
    request: ClaimRequest
    """Its request."""
    dormant: bool
    """Whether it is passed over for now because its connection is cut."""


@dataclass(frozen=True, slots=True)
class ClaimSnapshot:
    """The state of a resource at one moment."""

    resource: Key
    """The resource."""
    owner: ClaimOwner | None
    """Who does the work."""
    waiting: tuple[ClaimPlace, ...]
    """Who waits, in order, at most 64 of them."""
    more_waiting: int
    """How many more wait."""
    outcome: ClaimOutcome | None
    """The outcome, if one is retained."""


@dataclass(frozen=True, slots=True)
class ClaimFigures:
    """How much is remembered."""

    claimants: int
    """Claimants."""
    resources: int
    """Resources with an owner, a line, an outcome, events or subscribers."""
    waiting: int
    """Requests in line."""
    owned: int
    """Resources with an owner."""


@dataclass(frozen=True, slots=True)
class ClaimReset:
    """The events in between are not kept. The snapshot stands for all up to `id`."""

    id: str
    """The latest event that the snapshot contains."""
    snapshot: ClaimSnapshot
    """The state after that event."""


@dataclass(frozen=True, slots=True)
class ClaimGranted:
    """A request became the owner. This is the answer stored for it, so the owner need not ask again."""

    id: str
    """The event's number: one more than that of the event before."""
    request: ClaimRequest
    """The request."""
    owner: str
    """The claimant's name."""
    grant: ClaimGrant
    """What it was given."""


@dataclass(frozen=True, slots=True)
class ClaimFailure:
    """An attempt failed."""

    id: str
    """The event's number: one more than that of the event before."""
    fence: int
    """The fence of the attempt."""
    why: str
    """In a word: reported, cancelled, or the reason of a loss."""
    reason: str
    """In a sentence; when it was reported, the owner's own."""
    next: ClaimRequest | None
    """Who has the work now; its ClaimGranted is the next event."""
    retry_after: float
    """For how many seconds the next attempt is held back."""


@dataclass(frozen=True, slots=True)
class ClaimDone:
    """The work has an outcome. Every request that waited is answered with it."""

    id: str
    """The event's number: one more than that of the event before."""
    outcome: ClaimOutcome
    """The outcome."""


@dataclass(frozen=True, slots=True)
class ClaimProgressed:
    """The owner reported how far it is."""

    id: str
    """The event's number: one more than that of the event before."""
    fence: int
    """The fence of the attempt."""
    progress: ClaimProgress
    """What it reported."""


@dataclass(frozen=True, slots=True)
class ClaimForgotten:
    """The outcome is no longer retained: the next request does the work again."""

    id: str
    """The event's number: one more than that of the event before."""


ClaimEvent = ClaimReset | ClaimGranted | ClaimFailure | ClaimDone | ClaimProgressed | ClaimForgotten

for _class in list(globals().values()):
    if isinstance(_class, type) and _class.__module__ == __name__:
        _class.__module__ = "keylatch.claims"
del _class
