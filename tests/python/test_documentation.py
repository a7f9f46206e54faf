"""The examples in the documentation, and the figures."""

from __future__ import annotations

import doctest
import importlib.metadata
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import keylatch
from keylatch import LockManager, _exceptions, _keylatch, _manager, _types

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", [keylatch, _exceptions, _manager, _types], ids=lambda module: module.__name__)
def test_examples(module: Any) -> None:
    outcome = doctest.testmod(module, extraglobs={"WaitHistogram": keylatch.WaitHistogram, "LockManager": LockManager})
    assert outcome.failed == 0


@pytest.mark.parametrize("name", ["LockManager.lock", "LockManager.try_lock", "LockManager.alock", "Guard", "Owner"])
def test_examples_of_the_compiled_half(name: str) -> None:
    thing: Any = _keylatch
    for part in name.split("."):
        thing = getattr(thing, part)
    examples = doctest.DocTestParser().get_doctest(thing.__doc__, {}, name, None, None)
    assert examples.examples
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples).failed == 0


def test_the_example_in_the_readme() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})


def test_everything_public_says_what_it_is() -> None:
    for name in keylatch.__all__:
        thing = getattr(keylatch, name)
        if inspect.isclass(thing):
            assert thing.__doc__, name
            assert thing.__module__ == "keylatch", name
            for member, value in vars(thing).items():
                if not member.startswith("_") and callable(value):
                    assert value.__doc__, f"{name}.{member}"
    signature = "(self, /, key, *, shared=False, owner=None, timeout=None, priority=0, wait=True)"
    assert str(inspect.signature(LockManager.lock)) == signature


def test_the_version_is_that_of_the_workspace() -> None:
    found = re.search(r'^version = "(.*?)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert found is not None
    assert keylatch.__version__ == found[1] == importlib.metadata.version("keylatch")


def test_figures_and_health() -> None:
    locks = LockManager(shards=4)
    for _ in range(10):
        locks.lock("a").release()
    with locks.lock("a"):
        assert locks.try_lock("a") is None
        with pytest.raises(TimeoutError):
            locks.lock("a", timeout=0.001)
        metrics = locks.get_metrics(per_shard=True)
    figures = metrics.shard_metrics
    assert (figures.acquisitions, figures.releases, figures.refused, figures.timeouts) == (11, 10, 1, 1)
    assert (figures.holders, figures.waits, len(metrics.shards)) == (1, 1, 4)
    assert sum(shard.acquisitions for shard in metrics.shards) == 11
    assert figures.wait_histogram.count == 1
    assert figures.avg_wait_time == figures.wait_time == figures.max_wait_time >= 0.001
    assert 0 < figures.timeout_rate < 1
    assert figures.fast_path_rate == 1.0
    assert metrics.ops_per_second > 0
    assert metrics.bytes > 0
    health = locks.health()
    assert not health
    assert "timed out" in health.problems[0]
