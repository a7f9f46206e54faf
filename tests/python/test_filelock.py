"""keylatch.filelock: the shape of the package filelock, and exclusion of its users."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock as package
import pytest

from children import Child
from conftest import Background, Runner, until
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


def test_ctrl_c_ends_a_wait(path: str) -> None:
    for held in (FileLock(path), package.FileLock(path)):
        with held:
            passes(f"""
                import signal, threading
                from keylatch.filelock import FileLock
                main, waits = threading.get_ident(), threading.Event()
                def interrupt():
                    waits.wait()
                    signal.pthread_kill(main, signal.SIGINT)
                threading.Thread(target=interrupt).start()
                lock = FileLock({path!r})
                try:
                    waits.set()
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
