"""Managers whose keys are shared between processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from children import Child
from keylatch import Closed, InvalidKey, LockManager, LockTimeout, NotHeld, SharedFileError, TierFailed

HOLD = """
from keylatch import LockManager
locks = LockManager(shared_memory=sys.argv[1])
with locks.lock(("photos", "cat.jpg"), owner="indexer"):
    say("holds")
    hear()
say("keeps")
hear()
"""
COUNT = """
from pathlib import Path
from keylatch import LockManager
locks, number = LockManager(shared_memory=sys.argv[1]), Path(sys.argv[2])
for _ in range(200):
    with locks.lock("number", timeout=60):
        number.write_text(str(int(number.read_text()) + 1))
say("counted")
"""
CAT = ("photos", "cat.jpg")


def test_process_gives_back_what_it_keeps(folder: Path) -> None:
    path = str(folder / "locks")
    locks = LockManager(shared_memory=Path(path))
    with Child(HOLD, path) as child:
        assert child.hear() == "holds"
        assert locks.try_lock(CAT) is None
        child.say("leave")
        assert child.hear() == "keeps"
        locks.lock(CAT, timeout=60).release()


def test_key_of_killed_process_is_free(folder: Path) -> None:
    path = str(folder / "locks")
    locks = LockManager(shared_memory=path)
    with Child(HOLD, path) as child:
        assert child.hear() == "holds"
        child.kill()
        with locks.lock(CAT, timeout=60) as guard:
            assert guard.previous_holder_died
        with locks.lock(CAT) as guard:
            assert not guard.previous_holder_died
        with pytest.raises(NotHeld):
            _ = guard.previous_holder_died


def test_holds_of_processes_listed(folder: Path) -> None:
    path = str(folder / "locks")
    locks = LockManager(shared_memory=path)
    with Child(HOLD, path) as child:
        assert child.hear() == "holds"
        assert locks.holders() == []
        (hold,) = locks.tier_holds(CAT)
        assert (hold.key, hold.mode, hold.owner, hold.waits, hold.own) == (CAT, "exclusive", "indexer", False, False)
        assert hold.since is not None
        assert hold.process.startswith("process ")
        assert [hold.key for hold in locks.tier_holds()] == [CAT]
        assert locks.tier_holds("dog.jpg") == []
    with locks.lock("dog.jpg", timeout=60):
        assert [hold.own for hold in locks.tier_holds("dog.jpg")] == [True]


def test_manager_without_tier_lists_no_processes() -> None:
    locks = LockManager()
    with pytest.raises(TierFailed, match="with no other process") as raised:
        locks.tier_holds()
    assert raised.value.kind == "unsupported"
    with pytest.raises(InvalidKey):
        locks.tier_holds("x" * 10_000)
    locks.close()
    with pytest.raises(Closed):
        locks.tier_holds()


def test_processes_count(folder: Path) -> None:
    path, number = str(folder / "locks"), folder / "number"
    number.write_text("0")
    with Child(COUNT, path, str(number)) as one, Child(COUNT, path, str(number)) as two:
        assert one.hear() == "counted"
        assert two.hear() == "counted"
    assert number.read_text() == "400"


def test_wrong_files_refused(folder: Path) -> None:
    with pytest.raises(SharedFileError, match="create the folder"):
        LockManager(shared_memory=folder / "none" / "locks")
    with pytest.raises(TypeError, match="shared_memory is a path or None, not int"):
        LockManager(shared_memory=7)  # type: ignore[arg-type]


def test_upgrade_waits_for_readers_of_others(folder: Path) -> None:
    path = str(folder / "locks")
    locks, other = LockManager(shared_memory=path), LockManager(shared_memory=path)
    with locks.lock(CAT, shared=True, timeout=60) as guard:
        with other.lock(CAT, shared=True, timeout=60):
            with pytest.raises(LockTimeout):
                guard.upgrade(timeout=0.01)
            assert guard.mode == "shared"
        guard.upgrade(timeout=60)
        assert guard.mode == "exclusive"
