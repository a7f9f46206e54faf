"""The scenarios of claims, by threads and in event loops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

import claim_scenario
from claim_scenario import Wrong
from keylatch.claims import Answer, Claimant, ClaimEvent, ClaimPolicy, ClaimReset, Claims, Yours

FOLDER = Path(__file__).parents[1] / "scenarios" / "claims"
PATIENCE = 60.0

Wait = Callable[..., Answer]


def by_thread(claims: Claims, *arguments: Any, **named: Any) -> Answer:
    return claims.claim(*arguments, **named)


def by_asyncio(claims: Claims, *arguments: Any, **named: Any) -> Answer:
    async def wait() -> Answer:
        return await claims.aclaim(*arguments, **named)

    return asyncio.run(wait())


def by_uvloop(claims: Claims, *arguments: Any, **named: Any) -> Answer:
    async def wait() -> Answer:
        return await claims.aclaim(*arguments, **named)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(wait())


class Local:
    """Claims of this process."""

    def __init__(self, settings: dict[str, int], wait: Wait) -> None:
        self._claims = Claims(**settings)
        self._watch = self._claims.watch(("layers", "x"))
        assert isinstance(self._watch.try_next(), ClaimReset)
        self._wait = wait
        self._claimants: dict[str, Claimant] = {}

    def _claimant(self, name: str) -> Claimant:
        if name not in self._claimants:
            self._claimants[name] = self._claims.claimant(name)
        return self._claimants[name]

    def end(self, by: str) -> None:
        self._claimants.pop(by).end()

    def claim(self, by: str, number: int, resource: str, policy: ClaimPolicy) -> Answer:
        return self._claims.try_claim(("layers", resource), owner=self._claimant(by), request_id=number, policy=policy)

    def wait(self, by: str, number: int, resource: str, policy: ClaimPolicy) -> Answer:
        named = {"owner": self._claimant(by), "request_id": number, "policy": policy, "timeout": PATIENCE}
        return self._wait(self._claims, ("layers", resource), **named)

    def adopt(self, by: str, number: int, resource: str, fence: int) -> Yours:
        return self._claimant(by).adopt(("layers", resource), number, fence)

    def cancel(self, by: str, number: int) -> Answer:
        return self._claimant(by).cancel(number)

    def settle_below(self, by: str, number: int) -> None:
        self._claimant(by).settle_below(number)

    def force_release(self, resource: str) -> bool:
        return self._claims.force_release(("layers", resource))

    def forget(self, resource: str) -> bool:
        return self._claims.forget(("layers", resource))

    def events(self) -> list[ClaimEvent]:
        return list(iter(self._watch.try_next, None))


WAYS = {"thread": by_thread, "asyncio": by_asyncio, "uvloop": by_uvloop}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_claim_scenario(file: Path, way: str) -> None:
    claim_scenario.run(json.loads(file.read_text()), lambda settings: Local(settings, WAYS[way]))


CLAIM = {"do": "claim", "by": "a", "number": 1, "expect": {"answer": "yours"}}


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([{"do": "dance"}], "dance is no step"),
        ([{**CLAIM, "expect": {"answer": "waiting"}}], "came to"),
        ([{**CLAIM, "colour": "red"}], "colour"),
        ([CLAIM, {**CLAIM, "expect": {"error": "line_full"}}], "came to"),
        ([CLAIM, {"do": "events", "expect": []}], "granted"),
        ([{"do": "forget", "expect": True}], "False"),
        ([{"do": "cancel", "by": "a", "number": 1}], "cancelled"),
    ],
)
def test_the_claim_runner_notices(steps: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(Wrong, match=problem):
        claim_scenario.run({"name": "wrong", "steps": steps}, lambda settings: Local(settings, by_thread))


def test_there_are_claim_scenarios() -> None:
    assert len(list(FOLDER.glob("*.json"))) >= 19
