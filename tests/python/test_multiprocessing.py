"""keylatch.multiprocessing: locks that go to children, and survive their holders."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import keylatch
from children import Child
from conftest import Background, is_asleep, until
from keylatch.multiprocessing import BoundedSemaphore, Lock, RLock, RWLock, Semaphore
from test_processes import passes

# A process that has opened a table has a thread that says so to the others.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

KINDS: dict[str, Callable[..., Any]] = {
    "Lock": Lock,
    "RLock": RLock,
    "writer": lambda **given: RWLock(**given).writer,
    "Semaphore": lambda **given: Semaphore(1, **given),
}


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    method: str = request.param
    return multiprocessing.get_context(method)


@pytest.fixture(params=list(KINDS))
def lock(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


def start(context: BaseContext, target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """A child that has one end of a pipe as its last argument."""
    ours, theirs = context.Pipe()
    child = context.Process(target=target, args=(*arguments, theirs), daemon=True)  # type: ignore[attr-defined]
    child.start()
    theirs.close()
    return child, ours


def kill(child: BaseProcess) -> None:
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL


def hold(lock: Any, pipe: Connection) -> None:
    with lock:
        pipe.send(("holds", lock.previous_holder_died))
        pipe.recv()
    pipe.send("released")


def count(lock: Any, number: Any, turns: int, pipe: Connection) -> None:
    for _ in range(turns):
        with lock:
            number.value += 1
    pipe.send("done")


@pytest.mark.parametrize("kind", list(KINDS))
def test_children_count(context: BaseContext, kind: str) -> None:
    lock, number = KINDS[kind](), context.RawValue("i", 0)
    children = [start(context, count, lock, number, 300) for _ in range(4)]
    for _ in range(300):
        with lock:
            number.value += 1
    assert [pipe.recv() for _, pipe in children] == ["done"] * 4
    for child, pipe in children:
        child.join()
        pipe.close()
    assert number.value == 1500
    assert not lock.locked()


def test_killed_holder_frees(context: BaseContext, lock: Any) -> None:
    child, pipe = start(context, hold, lock)
    assert pipe.recv() == ("holds", False)
    assert lock.locked()
    assert not lock.acquire(block=False)
    kill(child)
    assert lock.acquire(timeout=60)
    assert lock.previous_holder_died
    lock.release()
    assert not lock.previous_holder_died
    with lock:
        assert not lock.previous_holder_died
    pipe.close()


# What a request for the lock of that name waits for.
WAITED_FOR = {
    "Lock": [("lock", "")],
    "RLock": [("rlock", "")],
    "_Side": [("rwlock", "")],
    "Semaphore": [("semaphore", "line"), ("semaphore", "0")],
}


def waiting(lock: Any) -> int:
    """How many processes wait for it."""
    table = keylatch.SharedTable(lock._path)
    keys = [(kind, lock.name, part) if part else (kind, lock.name) for kind, part in WAITED_FOR[type(lock).__name__]]
    return sum(table.waiting(key) for key in keys)


def test_killed_waiter_frees(context: BaseContext, lock: Any) -> None:
    with lock:
        children = [start(context, hold, lock) for _ in range(3)]
        until(lambda: waiting(lock) == 3)
        kill(children[0][0])
    pipes = [pipe for _, pipe in children]
    for pipe in pipes[1:]:
        pipe.send("go on")
    for pipe in pipes[1:]:
        assert [pipe.recv(), pipe.recv()] == [("holds", False), "released"]
    for child, pipe in children:
        child.join()
        pipe.close()
    assert lock.acquire(timeout=60)
    lock.release()


def test_stopped_holder_keeps(lock: Any) -> None:
    child, pipe = start(multiprocessing.get_context("spawn"), hold, lock)
    pipe.recv()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    assert not lock.acquire(timeout=0.1)
    os.kill(child.pid, signal.SIGCONT)
    pipe.send("go on")
    assert lock.acquire(timeout=60)
    lock.release()
    assert pipe.recv() == "released"
    child.join()
    pipe.close()


def share(lock: RWLock, pipe: Connection) -> None:
    with lock.reader:
        pipe.send("reads")
        pipe.recv()


def test_readers_share_then_die(context: BaseContext) -> None:
    lock = RWLock()
    children = [start(context, share, lock) for _ in range(4)]
    for _, pipe in children:
        assert pipe.recv() == "reads"
    with lock.reader, lock.reader:
        assert lock.reader.locked()
        assert not lock.writer.acquire(block=False)
    assert not lock.writer.acquire(timeout=0.01)
    for child, pipe in children:
        kill(child)
        pipe.close()
    assert lock.writer.acquire(timeout=60)
    assert not lock.writer.previous_holder_died
    assert not lock.reader.acquire(block=False)
    lock.writer.release()
    assert repr(lock) == f"<keylatch.multiprocessing.RWLock {lock.name}>"


def sit(seats: Any, taken: Any, most: Any, turns: int, pipe: Connection) -> None:
    for _ in range(turns):
        with seats:
            with taken.get_lock():
                taken.value += 1
                most.value = max(most.value, taken.value)
            with taken.get_lock():
                taken.value -= 1
    pipe.send("done")


def test_semaphore_never_exceeded(context: BaseContext) -> None:
    seats, taken, most = Semaphore(3), context.Value("i", 0), context.RawValue("i", 0)
    children = [start(context, sit, seats, taken, most, 200) for _ in range(8)]
    for child, pipe in children:
        assert pipe.recv() == "done"
        child.join()
        pipe.close()
    assert (taken.value, most.value <= 3) == (0, True)
    assert seats.get_value() == 3


def test_semaphore_waits_for_any(context: BaseContext) -> None:
    seats = BoundedSemaphore(3)
    children = [start(context, hold, seats) for _ in range(3)]
    for _, pipe in children:
        assert pipe.recv() == ("holds", False)
    assert seats.locked()
    assert seats.get_value() == 0
    assert not seats.acquire(block=False)
    assert not seats.acquire(timeout=0.01)
    waits = Background(lambda: seats.acquire(timeout=60))
    # The one in the middle, by its death; the others by their release.
    kill(children[1][0])
    assert waits.finish() is True
    assert seats.previous_holder_died
    for child, pipe in (children[0], children[2]):
        waits = Background(lambda: seats.acquire(timeout=60))
        pipe.send("go on")
        assert waits.finish() is True
        assert pipe.recv() == "released"
        child.join()
    for _ in range(3):
        seats.release()
    with pytest.raises(ValueError, match="holds no permit"):
        seats.release()
    assert seats.get_value() == 3
    for _, pipe in children:
        pipe.close()


def test_semaphore_threads_all_served() -> None:
    seats, inside, most = Semaphore(2), 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(100):
            with seats:
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [Background(work) for _ in range(6)]
    assert [thread.finish() for thread in threads] == [None] * 6
    assert most <= 2
    assert seats.get_value() == 2


def test_rlock_counts_per_thread() -> None:
    lock = RLock()
    with lock, lock:
        assert lock.acquire()
        lock.release()
        other = Background(lambda: lock.acquire(block=False))
        assert other.finish() is False
        assert isinstance(Background(lock.release).finish(), AssertionError)
    with pytest.raises(AssertionError):
        lock.release()
    assert Background(lambda: lock.acquire(block=False)).finish() is True


def test_lock_released_by_another_thread() -> None:
    lock = Lock()
    with pytest.raises(ValueError, match="does not hold"):
        lock.release()
    assert lock.fence is None
    lock.acquire()
    first = lock.fence
    assert Background(lock.release).finish() is None
    with lock:
        assert first is not None
        assert lock.fence is not None
        assert lock.fence > first
        assert "held by this process" in repr(lock)
    assert "not held" in repr(lock)
    with pytest.raises(ValueError, match="does not hold"), lock:
        lock.release()
    with pytest.raises(KeyError), lock:
        raise KeyError


def test_arguments(lock: Any) -> None:
    assert lock.acquire(True, None)
    for call in (lambda: lock.acquire(False), lambda: lock.acquire(timeout=0), lambda: lock.acquire(True, -1.5)):
        assert Background(call).finish() is False
    lock.release()
    for wrong in ("soon", float("nan"), [1]):
        with pytest.raises((TypeError, ValueError)):
            lock.acquire(timeout=wrong)
    assert lock.acquire(timeout=float("inf"))
    lock.release()
    assert not lock.locked()


@pytest.mark.parametrize("value", [0, -1, 257, 2**70])
def test_semaphore_values(value: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 256"):
        Semaphore(value)
    with pytest.raises(TypeError):
        Semaphore("many")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", list(KINDS))
def test_names_are_shared_with_strangers(shared_table: str, kind: str) -> None:
    ours, again, other = (KINDS[kind](name=name) for name in ("report", "report", "other"))
    with ours, other:
        assert not again.acquire(block=False)
        made = {"writer": "RWLock('report').writer", "Semaphore": "Semaphore(1, 'report')"}.get(
            kind, f"{kind}('report')"
        )
        with Child(f"from keylatch.multiprocessing import *\nsay({made}.acquire(block=False))") as child:
            assert child.hear() == "False"
        found = [each for each in keylatch.SharedTable(shared_table).holders() if "report" in each.key]
        # A semaphore also says how many permits it has.
        sizes = [each.owner for each in found if "size" in each.key]
        assert sizes == ["1"] * 2 * (kind == "Semaphore")
        assert [each.pid for each in found] == [os.getpid()] * (1 + len(sizes))
    assert ours.name == "report"


def test_pickles_are_the_same_lock() -> None:
    for made in (Lock(), RLock(), Semaphore(2), BoundedSemaphore(1)):
        copied = pickle.loads(pickle.dumps(made))
        assert type(copied) is type(made)
        assert copied.name == made.name
    lock = RWLock()
    copied = pickle.loads(pickle.dumps(lock))
    with lock.writer:
        assert not copied.reader.acquire(block=False)


@pytest.mark.parametrize("made", ["Lock()", "RLock()", "RWLock().writer", "Semaphore(1)"])
def test_forked_child_holds_nothing(made: str) -> None:
    passes(f"""
        import os, warnings
        from keylatch.multiprocessing import *
        warnings.simplefilter("ignore", DeprecationWarning)
        lock = {made}
        lock.acquire()
        pid = os.fork()
        if pid == 0:
            ok = not lock.acquire(block=False) and lock.locked()
            try:
                lock.release()
            except (ValueError, AssertionError):
                os._exit(not ok)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        lock.release()
        pid = os.fork()
        if pid == 0:
            with lock:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        # The child left without releasing, which is a death.
        assert lock.acquire(timeout=60) and lock.previous_holder_died
    """)


@pytest.mark.parametrize("made", ["Lock('c')", "RLock('c')", "RWLock('c').reader", "Semaphore(1, 'c')"])
def test_ctrl_c_ends_a_wait(made: str) -> None:
    holder = {"R": RWLock("c").writer if "RW" in made else RLock("c"), "L": Lock("c"), "S": Semaphore(1, "c")}[made[0]]
    program = f"""
        import os, signal, threading
        from keylatch.multiprocessing import *
        signal.signal(signal.SIGINT, signal.default_int_handler)
        lock, main = {made}, threading.get_ident()
        def interrupt():
            hear()
            signal.pthread_kill(main, signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            with lock:
                pass
        except KeyboardInterrupt:
            say("interrupted")
        """
    with holder, Child(program) as child:
        until(lambda: waiting(holder) == 1)
        child.say()
        assert child.hear() == "interrupted"
        assert child.finish() == 0
    assert waiting(holder) == 0
    assert holder.acquire(timeout=60)
    holder.release()


def revoke_held(table: keylatch.SharedTable, lock: Any) -> None:
    held = [each for each in table.holders() if lock.name in each.key and "size" not in each.key]
    assert table.revoke(held[0])


@pytest.mark.parametrize("kind", ["Lock", "writer", "Semaphore"])
def test_revoked_hold_is_the_one_released(shared_table: str, kind: str) -> None:
    lock, table = KINDS[kind](name="taken"), keylatch.SharedTable(shared_table)
    lock.acquire()
    revoke_held(table, lock)
    taken, ends = threading.Event(), threading.Event()

    def next_holder() -> None:
        lock.acquire(timeout=60)
        taken.set()
        ends.wait(60)
        lock.release()

    holds = Background(next_holder)
    assert taken.wait(60)
    with pytest.raises(keylatch.NotHeld):
        lock.release()
    assert not KINDS[kind](name="taken").acquire(block=False)
    ends.set()
    assert holds.finish() is None
    with lock:
        pass


def test_revoked_rlock_is_acquired_anew(shared_table: str) -> None:
    lock, other = RLock("taken"), RLock("taken")
    lock.acquire()
    revoke_held(keylatch.SharedTable(shared_table), lock)
    with other:
        assert not lock.acquire(block=False)
    with lock:
        assert not other.acquire(block=False)
    with pytest.raises(keylatch.NotHeld):
        lock.release()


def test_semaphore_waiters_share_the_log(folder: Path) -> None:
    # Each of 256 permits takes a record, and one request in line as many again; that every request does is too much.
    path = str(folder / "locks")
    keylatch.SharedTable(path, keys=1024, members=4, holds=700)
    seats = Semaphore(256, path=path)
    for _ in range(256):
        assert seats.acquire(block=False)
    waits = [Background(lambda: seats.acquire(timeout=60)) for _ in range(8)]
    for thread in waits:
        until(lambda thread=thread: is_asleep(thread) or not thread.is_alive())  # type: ignore[misc]
    until(lambda: keylatch.SharedTable(path).waiting(("semaphore", seats.name, "255")) == 1)
    for _ in range(8):
        seats.release()
    assert [thread.finish() for thread in waits] == [True] * 8


def test_semaphore_of_another_size_refused(shared_table: str) -> None:
    seats = Semaphore(2, "seats")
    assert seats.get_value() == 2
    for call in (BoundedSemaphore.acquire, BoundedSemaphore.get_value):
        with pytest.raises(ValueError, match=rf"'seats' has 2 permits in process {os.getpid()} .* choose"):
            call(BoundedSemaphore(3, "seats"))
    del seats
    gc.collect()
    with Child(
        "from keylatch.multiprocessing import *\nlock = Semaphore(3, 'seats')\nsay(lock.get_value())\nhear()"
    ) as child:
        assert child.hear() == "3"
        with pytest.raises(ValueError, match=f"'seats' has 3 permits in process {child.pid}"):
            Semaphore(2, "seats").acquire()
        child.kill()
    assert Semaphore(2, "seats").acquire(timeout=60)


@pytest.mark.parametrize("given", ["path='locks'", "'environment'"])
def test_relative_path_is_meant_once(folder: Path, given: str) -> None:
    passes(f"""
        import os, pickle
        os.chdir({str(folder)!r})
        os.environ["KEYLATCH_SHARED_TABLE"] = "locks"
        from keylatch.multiprocessing import *
        made = [Lock({given}), RLock({given}), RWLock({given}).writer, Semaphore(1, {given})]
        os.mkdir("elsewhere")
        os.chdir("elsewhere")
        for lock in made:
            copied = pickle.loads(pickle.dumps(lock))
            assert lock._path == copied._path == os.path.join({str(folder)!r}, "locks"), lock._path
            with lock:
                assert not copied.acquire(block=False)
        assert os.listdir("..") == ["locks", "elsewhere"] or os.listdir("..") == ["elsewhere", "locks"]
    """)


@pytest.mark.parametrize("made", ["Lock('d')", "RLock('d')", "Semaphore(1, 'd')", "FileLock('d')"])
def test_python_code_may_ask_for_the_lock(folder: Path, made: str) -> None:
    # Exceptions are Python code, which is allowed to use the lock that raises them.
    passes(f"""
        import faulthandler, os
        faulthandler.dump_traceback_later(60, exit=True)
        os.chdir({str(folder)!r})
        os.environ["KEYLATCH_SHARED_TABLE"] = {str(folder / "table")!r}
        import keylatch
        from keylatch.multiprocessing import *
        from keylatch.filelock import FileLock
        lock, shown = {made}, []
        with lock:
            pass
        os.truncate("table", 4096)
        class Nosy(keylatch.SharedFileError):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                shown.append((repr(lock), lock.previous_holder_died))
        keylatch._exceptions.SharedFileError = keylatch.SharedFileError = Nosy
        try:
            lock.acquire()
        except OSError:
            assert shown or type(lock) is FileLock
        else:
            raise SystemExit("acquired")
    """)


def test_forgotten_lock_is_released() -> None:
    lock = Lock("forgotten")
    lock.acquire()
    del lock
    gc.collect()
    until(lambda: not Lock("forgotten").locked())


def test_bad_table_is_an_error(folder: Path) -> None:
    (folder / "text").write_text("no table\n" * 1000)
    for made in (Lock(path=str(folder / "text")), Semaphore(path=str(folder / "text"))):
        with pytest.raises(keylatch.SharedFileError, match="no table of this library"):
            made.acquire()
        with pytest.raises(keylatch.SharedFileError):
            made.locked()
    with (
        pytest.raises(keylatch.SharedFileError, match="create the folder first"),
        Lock(path=str(folder / "none" / "x")),
    ):
        pass
