"""The report of a manager, as text and as a dict."""

from __future__ import annotations

import json
import threading
import time

import pytest

from keylatch import LockManager


def wait_until_waiting(locks: LockManager, count: int) -> None:
    give_up_at = time.monotonic() + 60
    while locks.get_metrics().shard_metrics.waiters < count:
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def test_report_of_idle_manager_is_healthy() -> None:
    report = LockManager().report()
    text = str(report)
    assert text.startswith("=== Lock Performance Report ===\nGenerated at: ")
    assert "Total acquisitions: 0\nTimeouts: 0 (0.00%)\n" in text
    assert text.endswith("Status: ✅ Healthy")
    assert abs(report.generated_at - time.time()) < 600


def test_report_names_hottest_keys_and_holders() -> None:
    locks = LockManager()
    held = locks.lock(("b\n", b"\xff"), owner="a\nb")
    waiting = threading.Thread(target=lambda: locks.lock(("b\n", b"\xff"), shared=True).release())
    waiting.start()
    wait_until_waiting(locks, 1)
    report = locks.report()
    none = locks.report(hottest_keys=0)
    named = locks.openmetrics(hottest_keys=True)
    held.release()
    waiting.join()
    text = str(report)
    assert "Hottest keys:\n  ('b\\n', b'\\xff')\n    Waiters: 1, the first for " in text
    assert "Held by: 'a\\nb' (exclusive) for " in text
    assert "Hottest keys" not in str(none)
    read = json.loads(json.dumps(report.to_dict()))
    assert read["hottest_keys"][0]["key"] == ["b\n", "\\xff"]
    assert read["hottest_keys"][0]["holder"]["mode"] == "exclusive"
    assert read["metrics"]["shard_metrics"]["waiters"] == 1
    assert "keylatch_hot_key_waiters{" in named
    assert "keylatch_hot_key" not in locks.openmetrics()


def test_report_of_losses_says_unhealthy() -> None:
    locks = LockManager()
    leased = locks.lock("leased", ttl=1e-6)
    locks.lock("leased").release()
    stuck = locks.lock("a", owner="stuck")
    with pytest.raises(TimeoutError):
        locks.lock("a", timeout=0.03)
    locks.force_release(owner="stuck")
    del leased, stuck
    report = locks.report()
    assert "Leases lost: 1\nForced releases: 1\n" in str(report)
    assert "Status: ⚠️  High contention detected: " in str(report)
    assert "timed out" in report.to_dict()["health"]["problems"][0]
    assert (report.metrics.expired_leases, report.metrics.forced_releases) == (1, 1)
    assert report.health.window > 0
    assert report.health.max_wait_time > 0


@pytest.mark.parametrize("count", [-1, "ten"])
def test_report_of_no_number_of_keys_is_refused(count: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        LockManager().report(hottest_keys=count)  # type: ignore[arg-type]
