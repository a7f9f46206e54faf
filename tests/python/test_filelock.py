"""keylatch.filelock: the shape of the package filelock, and exclusion of its users."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import filelock as package
import pytest

import keylatch
from children import Child
from conftest import Background, Runner, is_asleep, until
from keylatch import SharedTable
from keylatch.filelock import AcquireReturnProxy, AsyncFileLock, FileLock, Timeout
from test_processes import passes

# Locks of the same file: by this package, by the other, and by this one in a process that has another table.
OURS = "from keylatch.filelock import FileLock, Timeout\n"
THEIRS = "from filelock import FileLock, Timeout\n"
STRANGE = "import os; os.environ['KEYLATCH_SHARED_TABLE'] += '-strange'\n" + OURS
KINDS = {"ours": OURS, "theirs": THEIRS, "strange": STRANGE}

HOLD = """
lock = FileLock(path)
lock.acquire()
say("holds")
hear()
lock.release()
say("released")
hear()
"""
TRY = """
while True:
    hear()
    try:
        with FileLock(path, timeout=0.2):
            say("free")
    except Timeout:
        say("held")
"""
COUNT = """
from pathlib import Path
number = Path(sys.argv[2])
for turn in range(int(sys.argv[3])):
    with FileLock(path):
        number.write_text(str(int(number.read_text()) + 1))
        if sys.argv[4] == "remove":
            import os
            os.remove(path)
"""


def answer(tries: Child) -> str:
    tries.say()
    return tries.hear()


@pytest.fixture
def path(folder: Path) -> str:
    return str(folder / "data.lock")


def test_counts_and_proxies(path: str) -> None:
    lock = FileLock(path)
    assert (lock.is_locked, lock.lock_counter, lock.lock_file) == (False, 0, path)
    with lock as entered:
        assert entered is lock
        with lock.acquire() as again:
            assert again is lock
            assert (lock.is_locked, lock.lock_counter) == (True, 2)
        assert lock.lock_counter == 1
    assert not lock.is_locked
    lock.release()
    proxy = lock.acquire(timeout=0)
    assert isinstance(proxy, AcquireReturnProxy)
    assert proxy.lock is lock
    lock.acquire()
    lock.release(force=True)
    assert lock.lock_counter == 0
    assert Path(path).exists()
    assert "not held" in repr(lock)
    with pytest.raises(KeyError), lock:
        raise KeyError
    with pytest.raises(TypeError):
        pickle.dumps(lock)


def test_refused_with_timeout(path: str) -> None:
    with FileLock(path):
        other = FileLock(path, timeout=0.01)
        for acquire in (
            other.acquire,
            other.__enter__,
            lambda: other.acquire(blocking=False),
            lambda: other.acquire(timeout=0),
            lambda: other.acquire(-1, cancel_check=lambda: True),
            lambda: FileLock(path, blocking=False).acquire(),
        ):
            with pytest.raises(Timeout, match=r"The file lock '.*data\.lock' could not be acquired") as late:
                acquire()
            assert isinstance(late.value, TimeoutError)
            assert late.value.lock_file == path
            assert str(pickle.loads(pickle.dumps(late.value))) == str(late.value)
        assert not other.is_locked
        other.timeout = -1
        waits = Background(lambda: other.acquire().lock.lock_counter)
    assert waits.finish() == 1


def test_settings(path: str) -> None:
    lock = FileLock(Path(path), 3, 0o640, poll_interval=0.2, blocking=False)
    assert (lock.lock_file, lock.timeout, lock.mode, lock.has_explicit_mode) == (path, 3, 0o640, True)
    assert (lock.poll_interval, lock.blocking, lock.is_thread_local(), lock.is_singleton) == (0.2, False, True, False)
    with lock:
        assert os.stat(path).st_mode & 0o777 == 0o640
    one = FileLock(path, is_singleton=True)
    assert one.is_singleton
    assert FileLock(path, is_singleton=True) is one
    with pytest.raises(ValueError, match="other settings"):
        FileLock(path, 7, is_singleton=True)
    del one
    gc.collect()
    assert FileLock(path, 7, is_singleton=True).timeout == 7
    for wrong in (True, "soon", None):
        with pytest.raises(TypeError):
            FileLock(path, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NaN"):
        FileLock(path).acquire(float("nan"))
    with pytest.raises(ValueError, match="include 0600"):
        FileLock(path, mode=0o444)
    with pytest.raises(TypeError, match="blocking"):
        FileLock(path).acquire(blocking="false")  # type: ignore[arg-type]


def test_decorates_a_function(path: str) -> None:
    lock = FileLock(path)

    @lock
    def held() -> bool:
        return lock.is_locked

    assert held()
    assert not lock.is_locked


def test_threads_have_it_alone_or_together(path: str) -> None:
    alone, together = FileLock(path), FileLock(path, thread_local=False)
    with alone:
        assert Background(lambda: alone.is_locked).finish() is False
        assert isinstance(Background(lambda: alone.acquire(timeout=0.01)).finish(), Timeout)
        assert Background(alone.release).finish() is None
        assert alone.is_locked
    with together:
        assert Background(lambda: together.acquire().lock.lock_counter).finish() == 2
        assert Background(together.release).finish() is None
        assert together.lock_counter == 1


def test_waiting_threads_join_a_hold(path: str, shared_table: str) -> None:
    together = FileLock(path, thread_local=False)
    with FileLock(path):
        (held,) = SharedTable(shared_table).holders()
        waits = [Background(lambda: together.acquire(timeout=60).lock.lock_counter) for _ in range(3)]
        until(lambda: SharedTable(shared_table).waiting(held.key) == 1)
        for thread in waits:
            until(lambda thread=thread: is_asleep(thread))  # type: ignore[misc]
    assert sorted(str(thread.finish()) for thread in waits) == ["1", "2", "3"]
    assert Background(lambda: together.acquire(timeout=0).lock.lock_counter).finish() == 4
    together.release(force=True)
    assert not together.is_locked
    FileLock(path).acquire(timeout=60).lock.release()


def test_tasks_join_a_hold(path: str, run: Runner) -> None:
    async def main() -> None:
        together = AsyncFileLock(path)
        assert together.is_thread_local() is package.AsyncFileLock(path).is_thread_local() is False
        holder = FileLock(path)
        holder.acquire()
        waits = [asyncio.create_task(together.acquire(timeout=60)) for _ in range(3)]
        await asyncio.sleep(0)
        given_up = waits.pop()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        holder.release()
        for task in waits:
            assert (await asyncio.wait_for(task, 60)).lock is together
        assert together.lock_counter == 2
        await together.release()
        await together.release()
        assert not together.is_locked

    run(main())
    FileLock(path).acquire(timeout=60).lock.release()


def test_interrupt_leaves_nothing_held(path: str) -> None:
    # Wherever Python code of the package runs while the lock is held already, an interrupt would leave it held.
    lock = FileLock(path)
    slow = (lock.acquire, lock.__enter__, lambda: lock.acquire(cancel_check=lambda: False, poll_interval=60))

    def interrupt(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename.endswith("keylatch/filelock.py"):
            frame.f_trace_opcodes = True
            if lock.is_locked:
                raise KeyboardInterrupt
            return interrupt
        return None

    for acquire in slow:
        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            acquire()
        except KeyboardInterrupt:
            pytest.fail("there was a moment for an interrupt")
        finally:
            sys.settrace(before)
        assert lock.lock_counter == 1
        lock.release()


@pytest.mark.parametrize("thread_local", [True, False])
def test_revoked_hold_leaves_the_next_alone(path: str, shared_table: str, thread_local: bool) -> None:
    lock, table = FileLock(path, thread_local=thread_local), SharedTable(shared_table)
    for _ in range(2):
        lock.acquire()
        (held,) = table.holders()
        assert table.revoke(held)
        # Another thread has it now, and no part in what was taken from this one.
        assert isinstance(Background(partial(lock.acquire, timeout=60)).finish(), AcquireReturnProxy)
        with pytest.raises(keylatch.NotHeld):
            lock.release()
        (held,) = table.holders()
        with pytest.raises(package.Timeout):
            package.FileLock(path).acquire(timeout=0.01)
        assert table.revoke(held)
        # The thread has ended, and its hold is forgotten with the object, or ended by any thread.
        if thread_local:
            lock = FileLock(path)
        else:
            with pytest.raises(keylatch.NotHeld):
                lock.release()
            assert not lock.is_locked
    package.FileLock(path).acquire(timeout=60).lock.release()


def test_revoked_hold_is_not_entered_again(path: str, shared_table: str) -> None:
    lock, table = FileLock(path), SharedTable(shared_table)
    lock.acquire()
    assert table.revoke(table.holders()[0])
    other = FileLock(path)
    with other, pytest.raises(Timeout):
        lock.acquire(timeout=0.01)
    with lock.acquire(timeout=60), pytest.raises(Timeout):
        other.acquire(timeout=0.01)
    assert lock.lock_counter == 1
    with pytest.raises(keylatch.NotHeld):
        lock.release()
    assert not lock.is_locked


def test_forgotten_lock_is_released(path: str) -> None:
    FileLock(path).acquire().lock.acquire()
    gc.collect()
    FileLock(path).acquire(timeout=60).lock.release()
    package.FileLock(path).acquire(timeout=60).lock.release()


@pytest.mark.parametrize("holder", list(KINDS))
@pytest.mark.parametrize("other", list(KINDS))
def test_excluded_until_released(path: str, holder: str, other: str) -> None:
    with Child(KINDS[other] + TRY, path) as tries, Child(KINDS[holder] + HOLD, path) as holds:
        assert holds.hear() == "holds"
        for _ in range(2):
            assert answer(tries) == "held"
        holds.say()
        assert holds.hear() == "released"
        # What the holder keeps for its next time it gives up when it is asked.
        for _ in range(3):
            until(lambda: answer(tries) == "free")


@pytest.mark.parametrize("holder", list(KINDS))
@pytest.mark.parametrize("other", list(KINDS))
def test_killed_holder_frees(path: str, holder: str, other: str) -> None:
    with Child(KINDS[other] + TRY, path) as tries, Child(KINDS[holder] + HOLD, path) as holds:
        assert holds.hear() == "holds"
        assert answer(tries) == "held"
        holds.kill()
        until(lambda: answer(tries) == "free")


def test_next_holder_hears_of_a_death(path: str) -> None:
    with Child(OURS + HOLD, path) as holds:
        assert holds.hear() == "holds"
        holds.kill()
    lock = FileLock(path)
    assert not lock.previous_holder_died
    with lock:
        assert lock.previous_holder_died
    with lock:
        assert not lock.previous_holder_died


@pytest.mark.parametrize(
    "kinds", ["ours ours ours", "ours theirs", "ours ours theirs", "ours strange", "strange theirs ours"]
)
@pytest.mark.parametrize("what", ["keep", "remove"])
def test_mixed_processes_count(path: str, folder: Path, kinds: str, what: str) -> None:
    number, turns = folder / "number", 60
    number.write_text("0")
    children = [Child(KINDS[kind] + COUNT, path, str(number), str(turns), what) for kind in kinds.split()]
    assert [child.finish() for child in children] == [0] * len(children)
    assert number.read_text() == str(turns * len(children))


def test_kept_file_removed_or_replaced(path: str) -> None:
    lock = FileLock(path)
    for change in (os.remove, lambda name: os.replace(name, name + ".old")):
        with lock:
            pass
        change(path)
        with package.FileLock(path):
            with pytest.raises(Timeout):
                lock.acquire(timeout=0.01)
            with pytest.raises(Timeout):
                FileLock(path).acquire(timeout=0.01)
        with lock, pytest.raises(package.Timeout):
            package.FileLock(path).acquire(timeout=0.01)


def test_links_are_one_file(path: str) -> None:
    lock = FileLock(path)
    with lock:
        os.link(path, path + ".link")
        with pytest.raises(Timeout):
            FileLock(path + ".link").acquire(timeout=0.01)
    os.symlink(path, path + ".soft")
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(path + ".soft").acquire()


@pytest.mark.parametrize("lock_class", ["FileLock", "filelock.FileLock"])
def test_kept_file_not_the_childs(path: str, lock_class: str) -> None:
    # A child that outlives its parent has no part in what the parent has locked.
    program = """
        import filelock, os, signal, warnings
        from keylatch.filelock import FileLock
        warnings.simplefilter("ignore", DeprecationWarning)
        lock = FileLock(path)
        with lock:
            pass
        lock.acquire()
        child = os.fork()
        if child == 0:
            assert not lock.is_locked
            signal.pause()
        say(str(child))
        hear()
    """
    with Child(program, path) as parent:
        child = int(parent.hear())
        try:
            parent.kill()
            names = {"filelock": package, "FileLock": FileLock}
            eval(lock_class, names)(path).acquire(timeout=60).lock.release()
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("thread_local", [True, False])
@pytest.mark.parametrize("holder", ["ours", "theirs"])
def test_ctrl_c_ends_a_wait(path: str, holder: str, thread_local: bool) -> None:
    with FileLock(path) if holder == "ours" else package.FileLock(path):
        passes(f"""
            import os, signal, threading, time
            from keylatch import SharedTable
            from keylatch.filelock import FileLock
            table, main = SharedTable(os.environ["KEYLATCH_SHARED_TABLE"]), threading.get_ident()
            def waits():
                held = table.holders()
                # In line, or first in line while another program has the file.
                return held and (held[0].pid == os.getpid() or table.waiting(held[0].key))
            def interrupt():
                while not waits():
                    time.sleep(0.001)
                signal.pthread_kill(main, signal.SIGINT)
            threading.Thread(target=interrupt).start()
            lock = FileLock({path!r}, thread_local={thread_local})
            try:
                lock.acquire()
            except KeyboardInterrupt:
                assert not lock.is_locked
            else:
                raise SystemExit("not interrupted")
        """)
    FileLock(path).acquire(timeout=60).lock.release()


@pytest.mark.parametrize("make", [FileLock, package.FileLock])
def test_tasks_wait(path: str, run: Runner, make: Callable[[str], Any]) -> None:
    async def main() -> None:
        lock = AsyncFileLock(path)
        async with lock as entered:
            assert entered is lock
            async with await lock.acquire():
                assert lock.lock_counter == 2
        holder = make(path)
        holder.acquire()
        for arguments in ({"timeout": 0.05}, {"blocking": False}, {"cancel_check": lambda: True}):
            with pytest.raises(Timeout):
                await lock.acquire(**arguments)
        given_up, waits = asyncio.create_task(lock.acquire()), asyncio.create_task(AsyncFileLock(path).acquire())
        await asyncio.sleep(0.01)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert not waits.done()
        holder.release()
        proxy = await asyncio.wait_for(waits, 60)
        assert proxy.lock.is_locked
        await proxy.lock.release()
        assert not proxy.lock.is_locked
        with pytest.raises(NotImplementedError, match="async with"), lock:
            pass

    run(main())
    FileLock(path).acquire(timeout=60).lock.release()


def test_missing_folder_is_made(folder: Path) -> None:
    with FileLock(folder / "some" / "where" / "data.lock"):
        assert (folder / "some" / "where" / "data.lock").exists()


def test_bad_files(folder: Path) -> None:
    with pytest.raises(IsADirectoryError) as error:
        FileLock(folder).acquire()
    assert error.value.filename == str(folder)
    (folder / "file").write_text("")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        FileLock(folder / "file" / "data.lock").acquire()
    with pytest.raises(OSError, match="too long"):
        FileLock(folder / ("x" * 300)).acquire()
    with pytest.raises((ValueError, OSError)):
        FileLock(folder / "a\0b").acquire()
    with pytest.raises(TypeError):
        FileLock(7)  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")
def test_missing_rights(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o555)
    (folder / "theirs").write_text("")
    folder.chmod(0o755)
    passes(f"""
        import os
        from keylatch.filelock import FileLock
        os.environ["KEYLATCH_SHARED_TABLE"] = "/dev/shm/keylatch-test-%d" % os.getpid()
        os.setgid(65534)
        os.setuid(65534)
        try:
            for name in ("theirs", "closed/data.lock"):
                try:
                    FileLock({str(folder)!r} + "/" + name).acquire()
                except PermissionError:
                    pass
                else:
                    raise SystemExit("acquired")
        finally:
            os.unlink(os.environ["KEYLATCH_SHARED_TABLE"])
    """)


def test_bad_table_is_an_error(path: str, folder: Path) -> None:
    (folder / "text").write_text("no table\n" * 1000)
    passes(f"""
        import os
        import keylatch
        from keylatch.filelock import FileLock
        os.environ["KEYLATCH_SHARED_TABLE"] = {str(folder / "text")!r}
        try:
            FileLock({path!r}).acquire()
        except keylatch.SharedFileError as error:
            assert "no table of this library" in str(error)
        else:
            raise SystemExit("acquired")
    """)


def test_poll_interval_of_nothing_does_not_spin(path: str) -> None:
    slices = []

    class Recorded(AsyncFileLock):
        async def _try(self, seconds: float) -> bool:
            slices.append(seconds)
            return await super()._try(0.0)

    with FileLock(path):
        for interval in (0, -1, float("nan")):
            for lock, own in ((Recorded(path, poll_interval=interval), None), (Recorded(path), interval)):
                with pytest.raises(Timeout):
                    asyncio.run(lock.acquire(poll_interval=own, cancel_check=lambda: True))
            assert FileLock(path, poll_interval=interval)._slice(interval) == 0.05
    assert slices == [0.05] * 6
