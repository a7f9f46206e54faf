"""Carries out one of `tests/scenarios/claims`; `tests/scenarios/README.md` says what the steps mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from keylatch import KeylatchError
from keylatch.claims import (
    Answer,
    ClaimDone,
    ClaimEvent,
    ClaimFailure,
    ClaimForgotten,
    ClaimGranted,
    ClaimPolicy,
    ClaimProgressed,
    Done,
    Ended,
    Lost,
    Skipped,
    Waiting,
    Yours,
)

ERRORS = {
    "NotYours": ("not_yours", -6),
    "LineFull": ("line_full", -13),
    "SessionGone": ("session_gone", -20),
    "EpochChanged": ("epoch_changed", -21),
    "StaleRequest": ("stale_request", -22),
    "NumberInUse": ("number_in_use", -23),
    "TooManyOpen": ("too_many_open", -24),
    "TooManyClaimants": ("too_many_sessions", -25),
}
EVENTS = {
    ClaimGranted: "granted",
    ClaimFailure: "failed",
    ClaimDone: "done",
    ClaimProgressed: "progress",
    ClaimForgotten: "forgotten",
}


class Wrong(Exception):
    """A step came to something else."""


class Front(Protocol):
    """One way to make claims: the verbs with numbers that the story gives."""

    def end(self, by: str) -> None: ...
    def claim(self, by: str, number: int, resource: str, policy: ClaimPolicy) -> Answer: ...
    def wait(self, by: str, number: int, resource: str, policy: ClaimPolicy) -> Answer: ...
    def adopt(self, by: str, number: int, resource: str, fence: int) -> Yours: ...
    def cancel(self, by: str, number: int) -> Answer: ...
    def settle_below(self, by: str, number: int) -> None: ...
    def force_release(self, resource: str) -> bool: ...
    def forget(self, resource: str) -> bool: ...
    def events(self) -> list[ClaimEvent]: ...


def run(story: dict[str, Any], make: Callable[[dict[str, int]], Front]) -> None:
    """Carry a story out; Wrong says what came otherwise."""
    runner = _Runner(make(story.get("claims", {})))
    for number, step in enumerate(story["steps"], 1):
        fields = dict(step)
        expected = fields.pop("expect", None)
        try:
            came = runner.step(fields)
        except KeylatchError as error:
            word, code = ERRORS.get(type(error).__name__, (type(error).__name__, 0))
            if error.code != code:
                raise Wrong(f"{word} has the code {error.code}") from error
            came = {"error": word}
        problem = f"step {number} {step} came to {came}"
        if fields:
            raise Wrong(f"{problem}, and {fields} is not known")
        fits = came.items() >= expected.items() if isinstance(came, dict) and isinstance(expected, dict) else False
        if not fits and came != expected:
            raise Wrong(problem)


class _Runner:
    def __init__(self, front: Front) -> None:
        self._front = front
        self._fences: dict[tuple[str, int], int] = {}
        self._events: list[str] = []

    def step(self, fields: dict[str, Any]) -> Any:
        verb, by, number = fields.pop("do"), fields.pop("by", ""), fields.pop("number", 0)
        resource = fields.pop("resource", "x")
        match verb:
            case "claim" | "wait":
                ask = self._front.claim if verb == "claim" else self._front.wait
                return self._note((by, number), ask(by, number, resource, _policy(fields)))
            case "complete":
                shown = tuple(fields.pop("fence_of", (by, number)))
                work = self._front.adopt(by, number, resource, self._fences[shown])
                if "success" in fields:
                    answer = work._complete(True, fields.pop("success"))
                else:
                    answer = work._complete(False, fields.pop("failure"))
                return _answered(answer)
            case "progress":
                work = self._front.adopt(by, number, resource, self._fences.get((by, number), 1))
                work.progress(fields.pop("done"), fields.pop("total"), fields.pop("address", ""))
            case "renew":
                work = self._front.adopt(by, number, resource, self._fences[by, number])
                work.renew(fields.pop("lease_ms") / 1000)
            case "cancel":
                return _answered(self._front.cancel(by, number))
            case "settle_below":
                self._front.settle_below(by, fields.pop("below"))
            case "end":
                self._front.end(by)
            case "force_release":
                return self._front.force_release(resource)
            case "forget":
                return self._front.forget(resource)
            case "events":
                self._events += [EVENTS[type(event)] for event in self._front.events()]
                return list(self._events)
            case _:
                raise Wrong(f"{verb} is no step")
        return None

    def _note(self, request: tuple[str, int], answer: Answer) -> dict[str, Any]:
        if isinstance(answer, Yours) and self._fences.setdefault(request, answer.fence) != answer.fence:
            raise Wrong(f"{request} had the fence {self._fences[request]} and has {answer.fence}")
        return _answered(answer)


def _policy(fields: dict[str, Any]) -> ClaimPolicy:
    seconds = {name: fields.pop(f"{name}_ms") / 1000 for name in ("retry_after",) if f"{name}_ms" in fields}
    if "lease_ms" in fields:
        seconds["ttl"] = fields.pop("lease_ms") / 1000
    names = ("max_attempts", "skip_if_claimed", "latest_only", "max_waiting")
    return ClaimPolicy(**seconds, **{name: fields.pop(name) for name in names if name in fields})


def _answered(answer: Answer) -> dict[str, Any]:
    fields: dict[str, Any] = {"answer": type(answer).__name__.lower()}
    match answer:
        case Waiting(ahead):
            fields["ahead"] = ahead
        case Yours():
            fields["attempt"] = answer.attempt
        case Done(outcome):
            fields |= {"succeeded": outcome.succeeded, "text": outcome.text}
        case Ended(succeeded, text):
            fields |= {"succeeded": succeeded, "text": text}
        case Lost(reason):
            fields["text"] = reason
        case Skipped(owner):
            fields["text"] = owner or ""
    return fields
