"""Keys that stay in the table."""

import asyncio
import gc
import os
import pickle
import threading
import weakref

import pytest

from keylatch import (
    Closed,
    Forked,
    InvalidKey,
    LockManager,
    LockTimeout,
    Mode,
    NamedLockManager,
    NotHeld,
    PinnedKey,
    TableFull,
    WouldBlock,
)

INODE = ("inodes", "4711")


def test_block_and_key_are_one_lock() -> None:
    locks = LockManager()
    inode = locks.key(INODE)
    for _ in range(3):
        with inode as same:
            assert same is inode
            assert inode.locked()
            assert locks.try_lock(INODE, shared=True) is None
            with pytest.raises(LockTimeout):
                locks.lock(INODE, timeout=0.001)
            with pytest.raises(LockTimeout), inode.shared(timeout=0.001):
                pass
        assert not inode.locked()
        with locks.lock(INODE, shared=True), inode.shared() as guard:
            assert guard.mode is Mode.SHARED
            assert locks.try_lock(INODE) is None
    assert inode.key == INODE
    assert inode.locks is locks
    assert repr(inode) == f"<keylatch.PinnedKey {INODE!r}>"


def test_block_ends_with_its_exception() -> None:
    inode = LockManager().key("x")
    with pytest.raises(ZeroDivisionError), inode:
        raise ZeroDivisionError
    assert not inode.locked()
    with pytest.raises(NotHeld, match="no `with` block"):
        inode.__exit__(None, None, None)


def test_options() -> None:
    locks = LockManager()
    inode = locks.key(INODE)
    with inode.exclusive(owner="indexer", ttl=60.0, priority=3) as guard:
        assert guard.owner == "indexer"
        assert guard.remaining is not None
        with pytest.raises(WouldBlock, match="indexer"):
            locks.lock(INODE, wait=False)
    block = inode.shared()
    with block, pytest.raises(RuntimeError, match="for each"), block:
        pass
    assert not inode.locked()


def test_pins_take_places() -> None:
    locks = LockManager(max_locks=2)
    first, second = locks.key("a"), locks.key("b")
    with pytest.raises(TableFull):
        locks.key("c")
    with pytest.raises(TableFull):
        locks.lock("c")
    with first, second:
        pass
    del second
    gc.collect()
    with locks.lock("c"):
        pass
    with pytest.raises(InvalidKey):
        LockManager().key("x" * 100_000)
    with pytest.raises(TypeError, match="a key is str"):
        locks.key(4)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        PinnedKey("locks", "key")  # type: ignore[arg-type]


def test_closed_manager() -> None:
    locks = LockManager()
    inode = locks.key(INODE)
    with inode:
        locks.close()
    with pytest.raises(Closed), inode:
        pass
    with pytest.raises(Closed):
        locks.key(INODE)


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_end_after_force_leaves_the_next_holder(first_ends_first: bool) -> None:
    locks = LockManager()
    inode = locks.key(INODE)
    inside, go, errors = threading.Event(), threading.Event(), []

    def first() -> None:
        try:
            with inode:
                inside.set()
                go.wait()
        except NotHeld as error:
            errors.append(str(error))

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    assert len(locks.force_release(key=INODE)) == 1
    with inode:
        if first_ends_first:
            go.set()
            thread.join()
        assert inode.locked(), "the lock is the second one's"
    assert not inode.locked()
    go.set()
    thread.join()
    assert errors == [f"the lock on {INODE!r} was taken away by force"]


def test_blocks_exclude_threads() -> None:
    locks = LockManager()
    shared, count = locks.key(INODE), 0

    def work(mine: PinnedKey) -> None:
        nonlocal count
        for _ in range(2000):
            with mine:
                before = count
                if before % 97 == 0:
                    os.sched_yield()
                count = before + 1

    threads = [threading.Thread(target=work, args=(shared if n % 2 else locks.key(INODE),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == 8000


@pytest.mark.parametrize("reader_slots", [True, False])
def test_reader_slots_are_a_setting(reader_slots: bool) -> None:
    locks = LockManager(reader_slots=reader_slots)
    inode, count = locks.key(INODE), 0

    def look() -> None:
        before = count
        os.sched_yield()
        assert count == before

    def work() -> None:
        nonlocal count
        for turn in range(2000):
            if turn % 50 == 0:
                with locks.lock(INODE):
                    count += 1
            elif turn % 2:
                with inode.shared():
                    look()
            else:
                with locks.lock(INODE, shared=True):
                    look()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (count, locks.holders()) == (160, [])


def test_asyncio() -> None:
    async def main() -> None:
        locks = LockManager()
        inode = locks.key(INODE)
        async with inode.exclusive(owner="task") as guard:
            assert guard.mode is Mode.EXCLUSIVE
            with pytest.raises(LockTimeout, match="task"):
                async with inode.shared(timeout=0.001):
                    pass
        async with inode.shared(), inode.shared():
            pass
        with inode:
            waits = asyncio.create_task(inode.exclusive().__aenter__())
            while not locks.waiters():
                await asyncio.sleep(0)
        (await waits).release()

    asyncio.run(main())


def test_object_is_well_behaved() -> None:
    locks = LockManager()
    inode = locks.key(INODE)
    for thing in (inode, inode.shared()):
        with pytest.raises(TypeError, match="belongs to its process"):
            pickle.dumps(thing)
    del thing
    ref = weakref.ref(inode)
    inode.__enter__()
    del inode
    gc.collect()
    assert ref() is None
    with locks.lock(INODE, wait=False):
        pass
    assert NamedLockManager().key("x").key == "x"


def test_forked_child() -> None:
    inode = LockManager().key(INODE)
    with inode:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with inode:
                    status = 2
            except Forked:
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    assert not inode.locked()
