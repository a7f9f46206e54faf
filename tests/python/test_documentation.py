"""The examples in the documentation, and the figures."""

from __future__ import annotations

import doctest
import importlib.metadata
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import keylatch
import keylatch.claims
import keylatch.filelock
import keylatch.log
import keylatch.multiprocessing
import keylatch.prometheus
import keylatch.remote
from keylatch import LockManager

ROOT = Path(__file__).parents[2]
EXAMPLES = (keylatch.events, keylatch.claims, keylatch.prometheus, keylatch.multiprocessing, keylatch.filelock)


def documented() -> Iterator[tuple[str, str]]:
    """Everything public that has an example, and its documentation. doctest by itself overlooks the compiled half."""
    things: dict[str, Any] = {"keylatch": keylatch}
    things |= {module.__name__: module for module in EXAMPLES}
    for module in list(things.values()):
        things |= {f"{module.__name__}.{name}": getattr(module, name) for name in module.__all__}
    for name, thing in list(things.items()):
        if inspect.isclass(thing):
            things |= {f"{name}.{member}": getattr(thing, member) for member in dir(thing) if member[0] != "_"}
    for name, thing in things.items():
        if ">>>" in (getattr(thing, "__doc__", None) or ""):
            yield name, thing.__doc__


@pytest.mark.parametrize(("name", "text"), list(documented()), ids=lambda argument: argument.partition("\n")[0][:40])
def test_examples(name: str, text: str) -> None:
    names = {"__name__": "__main__", **{public: getattr(keylatch, public) for public in keylatch.__all__}}
    names |= {public: getattr(keylatch.multiprocessing, public) for public in keylatch.multiprocessing.__all__}
    examples = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    assert examples.examples
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples).failed == 0


@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "docs/python-processes.md"])
def test_guide_examples_run(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {"__name__": "__main__"})


def test_everything_public_says_what_it_is() -> None:
    modules = (keylatch, *EXAMPLES, keylatch.log, keylatch.remote)
    for module, name in [(each, public) for each in modules for public in each.__all__]:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            assert thing.__doc__, name
            assert thing.__module__ == module.__name__, name
            for member, value in vars(thing).items():
                if not member.startswith("_") and callable(value):
                    assert value.__doc__, f"{name}.{member}"
    assert "did not get" in str(inspect.getdoc(keylatch.Batch.missing))
    signature = (
        "(self, /, key, *, shared=False, owner=None, timeout=None, ttl=None, priority=0, wait=True, renew=False)"
    )
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
            locks.lock("a", timeout=0.05)
        metrics = locks.get_metrics(per_shard=True)
    figures = metrics.shard_metrics
    assert (figures.acquisitions, figures.releases, figures.refused, figures.timeouts) == (11, 10, 1, 1)
    assert (figures.holders, figures.waits, len(metrics.shards)) == (1, 1, 4)
    assert sum(shard.acquisitions for shard in metrics.shards) == 11
    assert figures.wait_histogram.count == 1
    # Of the wait in line, which may begin when most of the time is over; and in seconds.
    assert 0 < figures.avg_wait_time == figures.wait_time == figures.max_wait_time < 60
    assert 0 < figures.timeout_rate < 1
    assert figures.fast_path_rate == 1.0
    assert metrics.ops_per_second > 0
    assert metrics.bytes > 0
    health = locks.health()
    assert not health
    assert "timed out" in health.problems[0]


def test_a_timeout_that_is_learned() -> None:
    assert LockManager().adaptive_timeout() is None
    locks = LockManager(adaptive=keylatch.AdaptiveTimeout(quantile=0.5, factor=1, floor=0.002, ceiling=0.004))
    assert locks.default_timeout() == 0.004
    with locks.lock("a"):
        for _ in range(40):
            with pytest.raises(TimeoutError):
                locks.lock("a")
    state = locks.adaptive_timeout()
    assert state is not None
    assert state.samples == state.timeouts >= 32
    assert (state.floor, state.ceiling) == (0.002, 0.004)
    assert state.quantile is not None
    assert 0.002 <= state.timeout <= 0.004
    metrics = locks.get_metrics().adaptive
    assert metrics is not None
    assert metrics.samples == state.samples
    with pytest.raises(keylatch.InvalidConfig, match="adaptive"):
        LockManager(adaptive=keylatch.AdaptiveTimeout(quantile=2))
    with pytest.raises(ValueError, match="floor"):
        LockManager(adaptive=keylatch.AdaptiveTimeout(floor=-1))
