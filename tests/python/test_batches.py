"""Many locks together."""

from __future__ import annotations

from typing import Any

import pytest

import keylatch
from conftest import Background, until_waiting
from keylatch import LockManager, LockTimeout, Mode, NotHeld


def test_all_of_them(locks: LockManager) -> None:
    with locks.lock_many(["b", ("x", "y")], shared=["a", "b"], owner="me") as batch:
        assert [(guard.key, guard.mode, guard.owner) for guard in batch] == [
            ("b", Mode.EXCLUSIVE, "me"),
            (("x", "y"), Mode.EXCLUSIVE, "me"),
            ("a", Mode.SHARED, "me"),
        ]
        assert len(batch) == 3
        assert batch[0].key == "b"
        assert "3 held" in repr(batch)
        batch[0].release()
    assert batch.released
    batch.release()


def test_none_of_them(locks: LockManager) -> None:
    with locks.lock("b", owner="someone"):
        with pytest.raises(LockTimeout, match='the batch failed at "b", and nothing of it is held') as caught:
            locks.lock_many(["a", "b", "c"], timeout=0.01)
        assert caught.value.key == "b"
        assert caught.value.holders[0].owner == "someone"
        assert locks.get_metrics().shard_metrics.holders == 1


def test_best_effort(locks: LockManager) -> None:
    with locks.lock("b"), locks.lock_many(["a", "b", "c"], timeout=0.01, best_effort=True) as batch:
        assert [guard.key for guard in batch] == ["a", "c"]
        ((key, why),) = batch.missing
        assert key == "b"
        assert isinstance(why, LockTimeout)


def test_nothing_and_one_key_by_mistake(locks: LockManager) -> None:
    with locks.lock_many([]) as batch:
        assert len(batch) == 0
    mistake: Any = "cat.jpg"
    with pytest.raises(TypeError, match="several keys"):
        locks.lock_many(mistake)
    with pytest.raises(TypeError, match="key"):
        locks.lock_many([7])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "key", [("photos", "cat.jpg"), ("photos", b"cat.jpg", "v1"), ("photos", "cat.jpg", None), ("a",), tuple("abcd")]
)
def test_a_forgotten_list(locks: LockManager, key: Any) -> None:
    for call in (locks.lock_many, locks.alock_many):
        with pytest.raises(TypeError, match="a tuple of str or bytes is a key"):
            call(key)
        with pytest.raises(TypeError, match="a tuple of str or bytes is a key"):
            call(["other"], shared=key)
    # What can be nothing else than several keys is that.
    for keys in ((("photos", "cat.jpg"), ("photos", "dog.jpg")), ("a", ("photos", "b")), (), {"a", "b"}, iter("ab")):
        locks.lock_many(keys).release()


def test_a_batch_has_one_block(locks: LockManager) -> None:
    with locks.lock_many(["a", "b"]) as batch:
        for inner in (batch, *batch):
            with pytest.raises(RuntimeError, match="a block has the guard already"), inner:
                pass
        assert [guard.released for guard in batch] == [False, False]
    with pytest.raises(NotHeld, match="released before"), batch:
        pass
    batch = locks.lock_many(["a", "b"])
    batch[0].release()
    with batch:
        assert not batch.released
    assert batch.released
    with locks.lock_many([]):
        pass


def test_opposite_batches_never_deadlock(locks: LockManager) -> None:
    keys = [str(number) for number in range(20)]

    def work(keys: list[str]) -> None:
        for _ in range(200):
            with locks.lock_many(keys):
                pass

    for thread in [Background(lambda: work(keys)), Background(lambda: work(keys[::-1]))]:
        assert thread.finish() is None


def test_a_batch_waits(locks: LockManager) -> None:
    guard = locks.lock("b")
    waiting = Background(lambda: locks.lock_many(["a", "b"]).release())
    until_waiting(locks, 1)
    guard.release()
    assert waiting.finish() is None


def test_closed() -> None:
    locks = LockManager()
    locks.close()
    with pytest.raises(keylatch.Closed):
        locks.lock_many(["a"])
