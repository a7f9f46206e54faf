"""The scenarios that every language has to pass, through the public face of this one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import uvloop

import scenario
from scenario import Wrong

FOLDER = Path(__file__).parents[1] / "scenarios"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_scenario(file: Path, loop: str) -> None:
    story = json.loads(file.read_text())
    lacking = set(story.get("needs", ())) - scenario.FEATURES
    if lacking:
        pytest.skip(f"needs {', '.join(sorted(lacking))}")
    scenario.run(story, LOOPS[loop])


ACQUIRE = {"do": "acquire", "as": "a", "key": ["b", "x"], "mode": "exclusive", "owner": "me"}
RELEASE = {"do": "release", "grant": "a"}
REFUSED = {"do": "try", "key": ["b", "x"], "mode": "shared"}


@pytest.mark.parametrize(
    ("steps", "others", "problem"),
    [
        ([{"do": "dance"}], {}, "dance is no step"),
        ([{**ACQUIRE, "colour": "red"}, RELEASE], {}, "colour is not known"),
        ([ACQUIRE], {}, r"it came to \(1, 0\)"),
        ([ACQUIRE, RELEASE], {"left": {"holders": 1}}, r"it came to \(0, 0\)"),
        ([ACQUIRE, RELEASE], {"left": {"readers": 1}}, "readers is not known"),
        ([ACQUIRE, RELEASE], {"colour": "red"}, "colour is not known"),
        ([ACQUIRE, RELEASE], {"manager": {"colour": "red"}}, "colour is no setting"),
        ([ACQUIRE, RELEASE], {"manager": {"shards": 1000}}, "it came to InvalidConfig"),
        ([ACQUIRE, RELEASE, RELEASE], {}, "it came to NotHeld"),
        ([ACQUIRE, {**RELEASE, "expect": {"error": "not_held"}}], {}, "it came to None"),
        ([ACQUIRE, REFUSED], {}, "it came to WouldBlock"),
        ([ACQUIRE, {**REFUSED, "expect": {"error": "timeout"}}], {}, "it came to WouldBlock"),
        ([ACQUIRE, {**REFUSED, "expect": {"error": "would_block", "holders": ["you"]}}], {}, "holders of WouldBlock"),
        ([ACQUIRE, {**REFUSED, "expect": {"error": "would_block", "key": ["b", "y"]}}], {}, "key of WouldBlock"),
        ([ACQUIRE, {**REFUSED, "expect": {"error": "would_block", "colour": 1}}], {}, "nothing that an error has"),
        ([ACQUIRE, {"do": "holds", "grant": "a", "mode": "shared"}], {}, "it came to exclusive"),
        ([ACQUIRE, {"do": "holders", "expect": []}], {}, "is there too"),
        ([ACQUIRE, {"do": "holders", "expect": [{"owner": "you"}]}], {}, "is not among"),
        ([ACQUIRE, {"do": "metrics", "expect": {"holders": 2}}], {}, "holders is 1"),
        ([{"do": "health", "expect": False}], {}, "it came to True"),
    ],
)
def test_the_runner_notices(steps: list[dict[str, Any]], others: dict[str, Any], problem: str) -> None:
    with pytest.raises(Wrong, match=problem):
        scenario.run({"name": "wrong", "steps": steps, **others}, asyncio.new_event_loop)
