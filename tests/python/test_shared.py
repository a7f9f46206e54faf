"""Locks between processes: modes, waiting, death, stopping, forking, bad input."""

from __future__ import annotations

import asyncio
import copy
import gc
import math
import os
import pickle
import signal
import struct
import warnings
from pathlib import Path

import pytest

import keylatch
from children import Child
from conftest import Background, Runner, until
from keylatch import Mode, SharedTable
from test_processes import passes

HOLD = """
    from keylatch import SharedTable
    table = SharedTable(path, label="child")
    guard = table.lock("cat.jpg", shared={shared}, owner="indexer")
    say()
    hear()
    guard.release()
    say("released")
"""
WAIT = """
    from keylatch import SharedTable
    table = SharedTable(path)
    say()
    guard = table.lock("cat.jpg", shared={shared})
    say(f"granted {{guard.previous_holder_died}}")
    hear()
    guard.release()
"""


@pytest.fixture
def table(folder: Path) -> SharedTable:
    return SharedTable(folder / "locks", keys=64, members=64)


def holder(table: SharedTable, shared: bool = False) -> Child:
    child = Child(HOLD.format(shared=shared), table.path)
    assert child.hear() == "ready"
    return child


def waiter(table: SharedTable, shared: bool = False) -> Child:
    child = Child(WAIT.format(shared=shared), table.path)
    assert child.hear() == "ready"
    return child


def test_held_by_another_process(table: SharedTable) -> None:
    with holder(table) as child:
        assert table.locked("cat.jpg")
        assert table.try_lock("cat.jpg") is None
        assert table.try_lock("cat.jpg", shared=True) is None
        with pytest.raises(keylatch.WouldBlock, match="indexer") as refused:
            table.lock("cat.jpg", wait=False)
        (named,) = refused.value.holders
        with pytest.raises(keylatch.LockTimeout, match=f"process {child.pid} .* owner .indexer. exclusive") as late:
            table.lock("cat.jpg", timeout=0.01)
        assert late.value.key == "cat.jpg"
        assert late.value.waited >= 0.01
        assert late.value.transient
        (found,) = table.holders("cat.jpg")
        assert isinstance(named, keylatch.SharedHolder)
        assert table.holders()[0].hold == found.hold == named.hold
        assert (found.key, found.mode, found.owner) == ("cat.jpg", Mode.EXCLUSIVE, "indexer")
        assert (found.pid, found.program[:6], found.label) == (child.pid, "python", "child")
        assert 0 <= found.held_for < 60
        assert str(child.pid) in str(found)
        assert table.figures().live_members == 2
        table.lock(("photos", "dog.jpg")).release()
        child.say()
        assert child.hear() == "released"
        with table.lock("cat.jpg") as guard:
            assert not guard.previous_holder_died
            assert guard.is_valid
    assert table.holders() == []


def test_shared_between_processes(table: SharedTable) -> None:
    with holder(table, shared=True), table.lock("cat.jpg", shared=True) as mine:
        assert mine.mode is Mode.SHARED
        assert {found.mode for found in table.holders()} == {Mode.SHARED}
        assert not mine.try_upgrade()
        assert table.try_lock("cat.jpg") is None


def test_waits_until_released(table: SharedTable) -> None:
    def take() -> int:
        with table.lock("cat.jpg", timeout=60) as late:
            return late.fence

    with table.lock("cat.jpg") as guard, waiter(table) as child:
        fence, background = guard.fence, Background(take)
        guard.release()
        assert child.hear() == "granted False"
        child.say()
        assert child.finish() == 0
        # The two went in either order.
        assert background.finish() in (fence + 1, fence + 2)


@pytest.mark.parametrize("shared", [False, True])
def test_killed_holder_frees(table: SharedTable, shared: bool) -> None:
    with holder(table, shared) as child, waiter(table) as other:
        child.kill()
        assert other.hear() == f"granted {not shared}"
        other.say()
        assert other.finish() == 0
    with table.lock("cat.jpg") as guard:
        assert not guard.previous_holder_died
    # Two processes may have noticed the same death.
    assert table.figures().recoveries >= 1


def test_killed_waiter_frees(table: SharedTable) -> None:
    with holder(table) as child, waiter(table) as first, waiter(table) as second:
        first.kill()
        child.say()
        assert second.hear() == "granted False"
        second.say()
        assert second.finish() == 0
    table.lock("cat.jpg", timeout=60).release()


def test_stopped_holder_keeps_until_revoked(table: SharedTable) -> None:
    with holder(table) as child:
        child.signal(signal.SIGSTOP)
        assert table.try_lock("cat.jpg") is None
        (found,) = table.holders("cat.jpg")
        assert table.revoke(found)
        assert not table.revoke(found)
        with table.lock("cat.jpg", timeout=60) as guard:
            assert not guard.previous_holder_died
            child.signal(signal.SIGCONT)
            child.say()
            # It finds out, and takes nothing from its successor.
            assert child.finish() == 1
            assert guard.is_valid


def test_revoked_guard_raises_at_the_end(table: SharedTable) -> None:
    with pytest.raises(keylatch.NotHeld, match="revoked"), table.lock("cat.jpg") as guard:
        assert table.revoke(table.holders()[0])
        assert not guard.is_valid
        with pytest.raises(keylatch.NotHeld):
            guard.downgrade()


def test_many_processes_count(table: SharedTable, folder: Path) -> None:
    number = folder / "number"
    number.write_text("0")
    program = """
        from keylatch import SharedTable
        from pathlib import Path
        table, number = SharedTable(path), Path(sys.argv[2])
        for turn in range(100):
            with table.lock("number"):
                number.write_text(str(int(number.read_text()) + 1))
    """
    children = [Child(program, table.path, str(number)) for _ in range(12)]
    assert [child.finish() for child in children] == [0] * 12
    assert number.read_text() == "1200"
    assert table.holders() == []


def test_guard_life(table: SharedTable) -> None:
    guard = table.lock(("photos", b"\xff", "v1"), owner="indexer")
    assert (guard.key, guard.owner, guard.mode) == (("photos", b"\xff", "v1"), "indexer", Mode.EXCLUSIVE)
    assert "exclusive" in repr(guard)
    first = guard.fence
    guard.downgrade()
    assert guard.mode is Mode.SHARED
    assert guard.try_upgrade()
    assert guard.fence > first
    for refuse in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError):
            refuse(guard)
        with pytest.raises(TypeError):
            refuse(table)
    with guard, pytest.raises(RuntimeError), guard:
        pass
    assert guard.released
    assert not guard.is_valid
    for gone in (guard.release, guard.downgrade, guard.try_upgrade, lambda: guard.fence, lambda: guard.mode):
        with pytest.raises(keylatch.NotHeld):
            gone()
    assert guard.owner == "indexer"
    assert "released" in repr(guard)


def test_forgotten_guard_warns(table: SharedTable) -> None:
    with pytest.warns(ResourceWarning, match=r"unreleased lock on 'cat\.jpg'"):
        table.lock("cat.jpg")
        gc.collect()
    assert not table.locked("cat.jpg")
    with pytest.warns(RuntimeWarning, match="never awaited"):
        table.alock("cat.jpg")


def test_tasks_wait(table: SharedTable, run: Runner) -> None:
    async def main() -> None:
        with holder(table) as child:
            with pytest.raises(keylatch.LockTimeout, match="indexer"):
                await table.alock("cat.jpg", timeout=0.01)
            given_up = asyncio.create_task(table.alock("cat.jpg"))
            await asyncio.sleep(0)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            waits = asyncio.create_task(table.alock("cat.jpg", owner="task"))
            await asyncio.sleep(0)
            child.say()
            guard = await asyncio.wait_for(waits, 60)
            assert guard.owner == "task"
            guard.release()
        async with table.alock("cat.jpg", shared=True) as guard:
            assert guard.mode is Mode.SHARED
        assert guard.released

    run(main())
    assert table.holders() == []


@pytest.mark.parametrize("receiver", ["threading.get_ident()", "other.ident"])
def test_ctrl_c_ends_a_wait(table: SharedTable, receiver: str) -> None:
    with holder(table):
        passes(f"""
            import signal, threading, time
            from keylatch import SharedTable
            table, ends = SharedTable({table.path!r}), threading.Event()
            other = threading.Thread(target=ends.wait)
            other.start()
            target = {receiver}
            def interrupt():
                while table.waiting("cat.jpg") != 1:
                    time.sleep(0.001)
                signal.pthread_kill(target, signal.SIGINT)
            threading.Thread(target=interrupt).start()
            try:
                table.lock("cat.jpg", timeout=100)
            except KeyboardInterrupt:
                print("interrupted")
            ends.set()
            assert (len(table.holders()), table.waiting("cat.jpg")) == (1, 0)
        """)
    table.lock("cat.jpg", timeout=60).release()


def test_fork_refused_then_opened_again(table: SharedTable) -> None:
    passes(f"""
        import os, warnings
        from keylatch import Forked, SharedTable
        warnings.simplefilter("ignore", DeprecationWarning)
        table = SharedTable({table.path!r})
        with table.lock("cat.jpg") as guard:
            pid = os.fork()
            if pid:
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            if pid == 0:
                for refused in (
                    lambda: table.lock("dog.jpg"), lambda: table.try_lock("dog.jpg"), table.holders, table.check,
                    table.figures, lambda: table.locked("dog.jpg"), guard.release, lambda: guard.fence,
                ):
                    try:
                        refused()
                    except Forked as error:
                        assert "open it again here" in str(error), error
                    else:
                        os._exit(1)
                assert not guard.is_valid
                again = SharedTable(table.path)
                assert again.try_lock("cat.jpg") is None
                again.lock("dog.jpg").release()
        if pid == 0:
            # The end of the block released nothing: the lock is the parent's.
            os._exit(0)
        table.lock("cat.jpg").release()
    """)


def test_named_table_is_the_users() -> None:
    name = f"test-{os.getpid()}"
    table = SharedTable(name, keys=8, members=2)
    try:
        assert table.path == f"/dev/shm/keylatch-{os.geteuid()}-{name}"
        assert os.stat(table.path).st_mode & 0o777 == 0o600
        assert SharedTable(name, keys=8, members=2).figures().live_members == 2
        with pytest.raises(keylatch.TooManyProcesses, match="`members`") as full:
            others = [SharedTable(name, keys=8, members=2) for _ in range(2)]
            assert others
        assert full.value.limit == 2
    finally:
        os.unlink(table.path)


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"keys": 0}, keylatch.InvalidConfig),
        ({"keys": 2**40}, keylatch.InvalidConfig),
        ({"keys": -1}, keylatch.InvalidConfig),
        ({"members": 4096}, keylatch.InvalidConfig),
        ({"holds": 0}, keylatch.InvalidConfig),
        ({"mode": 0o444}, keylatch.InvalidConfig),
        ({"default_timeout": -1}, ValueError),
        ({"default_timeout": "soon"}, TypeError),
        ({"keys": "many"}, TypeError),
        ({"label": 7}, TypeError),
        ({"shards": 7}, TypeError),
    ],
)
def test_bad_settings(folder: Path, settings: dict[str, object], wrong: type[Exception]) -> None:
    with pytest.raises(wrong):
        SharedTable(folder / "locks", **settings)  # type: ignore[arg-type]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"timeout": -1}, {"timeout": math.nan}, {"owner": 7}, {"ttl": 1}])
def test_bad_requests(table: SharedTable, arguments: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        table.lock("cat.jpg", **arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a key is"):
        table.lock(7)  # type: ignore[arg-type]
    with pytest.raises(keylatch.InvalidKey):
        table.lock("x" * 70_000)
    assert table.holders() == []


def test_bad_files(folder: Path) -> None:
    def refused(path: object, match: str) -> keylatch.SharedFileError:
        with pytest.raises(keylatch.SharedFileError, match=match) as error:
            SharedTable(path)  # type: ignore[arg-type]
        assert not error.value.transient
        return error.value

    (folder / "text").write_text("no table\n" * 1000)
    refused(folder / "text", "no table of this library")
    (folder / "short").write_text("")
    refused(folder / "short", "no table, or was truncated")
    assert refused(folder / "none" / "locks", "create the folder first").errno == 2
    assert refused(folder / ("x" * 300), "choose a shorter name").errno == 36
    refused("x" * 300, "choose a shorter name")
    (folder / "link").symlink_to(folder / "text")
    refused(folder / "link", "symbolic link")
    refused(folder, "Is a directory|no table")
    with pytest.raises(keylatch.InvalidConfig, match="zero byte"):
        SharedTable(folder / "a\0b")
    with pytest.raises(TypeError):
        SharedTable(7)  # type: ignore[arg-type]
    assert SharedTable(folder / "locks", keys=8, members=2).figures().keys == 8
    assert SharedTable(folder / "locks").figures().members == 2
    with pytest.raises(keylatch.SharedFileError, match="fewer than asked for"):
        SharedTable(folder / "locks", keys=9)
    whole = (folder / "locks").read_bytes()
    (folder / "copy").write_bytes(whole)
    refused(folder / "copy", "copy")
    (folder / "newer").write_bytes(whole[:8] + struct.pack("=I", 99) + whole[12:])
    refused(folder / "newer", "version 99")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")
def test_missing_rights(folder: Path) -> None:
    SharedTable(folder / "locks", keys=8, members=2)
    (folder / "closed").mkdir(mode=0o555)
    folder.chmod(0o755)
    passes(f"""
        import os
        import keylatch
        os.setgid(65534)
        os.setuid(65534)
        for name in ("locks", "closed/locks"):
            try:
                keylatch.SharedTable({str(folder)!r} + "/" + name)
            except keylatch.SharedFileError as error:
                assert error.errno == 13 and "wider `mode`" in str(error), error
            else:
                raise SystemExit("opened")
    """)


def test_truncated_file_is_an_error(table: SharedTable) -> None:
    os.truncate(table.path, 4096)
    until(lambda: table_is_refused(table))
    with pytest.raises(keylatch.SharedFileError, match="truncated"):
        table.check()


def table_is_refused(table: SharedTable) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            table.lock("cat.jpg", timeout=0)
        except keylatch.SharedFileError:
            return True
        return False


def test_key_may_ask_its_guard(folder: Path) -> None:
    # The text of a key is Python code, which is allowed to use the guard that asks for it.
    passes(f"""
        import faulthandler
        faulthandler.dump_traceback_later(60, exit=True)
        import keylatch
        class Nosy(str):
            def __repr__(self):
                return f"nosy {{guard.released}}"
        guard = keylatch.SharedTable({str(folder / "locks")!r}).lock(Nosy("a"))
        guard.release()
        try:
            guard.fence
        except keylatch.NotHeld as error:
            assert "nosy True" in str(error)
        else:
            raise SystemExit("held")
    """)
