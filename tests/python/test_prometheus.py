"""The figures as Prometheus reads them."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from keylatch import LockManager
from keylatch.prometheus import LockCollector

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str, parse: object) -> Samples:
    assert callable(parse)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
        for family in parse(text)
        for sample in family.samples
    }


def contended() -> LockManager:
    locks = LockManager()
    with locks.lock("a"):
        with pytest.raises(TimeoutError):
            locks.lock("a", timeout=0.05)
        assert locks.try_lock("a") is None
    locks.lock("a", shared=True).into_grant()
    return locks


def test_prometheus_parser_reads_our_metrics() -> None:
    registry = CollectorRegistry()
    one, other = contended(), LockManager()
    LockCollector({"one": one, "other": other}, registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        LockCollector(one, registry=registry)
    text = samples(generate_latest(registry).decode(), parse_text)
    write: Any = generate_openmetrics
    open_text = samples(write(registry).decode(), parse_openmetrics)
    for read in (text, open_text):
        mine = (("manager", "one"),)
        assert read["keylatch_holders", mine] == 1
        assert read["keylatch_timeouts_total", mine] == 1
        assert read["keylatch_refusals_total", mine] == 1
        assert read["keylatch_wait_seconds_count", mine] == 1
        # Of the wait in line, which may begin when most of the time is over; and in seconds.
        assert 0 < read["keylatch_wait_seconds_sum", mine] < 60
        assert read["keylatch_wait_seconds_bucket", (("le", "+Inf"), *mine)] == 1
        acquisitions = [value for (name, labels), value in read.items() if name == "keylatch_acquisitions_total"]
        assert sum(acquisitions) == 2
        assert read["keylatch_holders", (("manager", "other"),)] == 0
        assert read["keylatch_healthy", (("manager", "other"),)] == 1


def test_our_own_text_is_what_their_parser_takes() -> None:
    read = samples(contended().openmetrics(), parse_openmetrics)
    assert read["keylatch_holders", ()] == 1


def test_collector_goes_to_given_registry() -> None:
    registry = CollectorRegistry()
    collector = LockCollector(LockManager(), registry=None)
    assert registry.get_sample_value("keylatch_holders", {"manager": "default"}) is None
    registry.register(collector)
    assert registry.get_sample_value("keylatch_holders", {"manager": "default"}) == 0


@pytest.mark.parametrize("wrong", [{1: LockManager()}, {"a": 7}])
def test_unshowable_manager_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="managers by their names"):
        LockCollector(wrong, registry=None)
