"""What happens to locks when signals arrive, a process forks, and the interpreter ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

# Python installs no handler for Ctrl-C where it was started with SIGINT ignored, as shells start background commands.
LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"

# Interrupts the main thread in a wait that nothing else tells of: a moment after it is about to begin.
INTERRUPTED = """
import signal, threading, time

def interrupted(wait):
    begins, main = threading.Event(), threading.get_ident()
    def interrupt():
        begins.wait()
        time.sleep(0.005)
        signal.pthread_kill(main, signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        begins.set()
        wait()
    except KeyboardInterrupt:
        thread.join()
    else:
        raise SystemExit("not interrupted")
"""


def command(program: str) -> list[str]:
    return [sys.executable, "-W", "error", "-c", LISTEN + textwrap.dedent(program)]


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(program), capture_output=True, text=True, timeout=120)


def passes(program: str) -> None:
    ended = python(program)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout


@pytest.mark.parametrize(
    "wait",
    ["locks.lock('a')", "locks.lock('a', timeout=3600)", "locks.lock_many(['a', 'b'])", "reader.upgrade()"],
)
@pytest.mark.parametrize("receiver", ["the thread that waits", "another thread"])
def test_ctrl_c_ends_a_wait_and_leaves_nothing(wait: str, receiver: str) -> None:
    passes(f"""
        import os, signal, threading, time
        from keylatch import LockManager
        locks = LockManager()
        if "upgrade" in {wait!r}:
            reader, held = locks.lock("a", shared=True), locks.lock("a", shared=True)
        else:
            reader, held = locks.lock("r"), locks.lock("a")
        main = threading.get_ident()
        for turn in range(5):
            def interrupt():
                while locks.get_metrics().shard_metrics.waiters != 1:
                    time.sleep(0.001)
                # To another thread: the one that waits is not woken by the signal, and has to look for it by itself.
                thread = main if {receiver!r} == "the thread that waits" else threading.get_ident()
                signal.pthread_kill(thread, signal.SIGINT)
            thread = threading.Thread(target=interrupt)
            thread.start()
            try:
                {wait}
            except KeyboardInterrupt:
                pass
            else:
                raise SystemExit("not interrupted")
            thread.join()
            assert locks.get_metrics().shard_metrics.waiters == 0
        held.release()
        reader.release()
        figures = locks.get_metrics().shard_metrics
        assert (figures.holders, figures.waiters) == (0, 0), figures
    """)


def test_ctrl_c_ends_wait_for_same_request() -> None:
    passes(
        INTERRUPTED
        + textwrap.dedent("""
        from keylatch import LockManager
        locks = LockManager()
        session, held = locks.session("upload"), locks.lock("a")
        first = threading.Thread(target=lambda: locks.grant("a", owner=session, request_id=7))
        first.start()
        while not locks.waiters():
            time.sleep(0.001)
        for _ in range(5):
            interrupted(lambda: locks.grant("a", owner=session, request_id=7))
        held.release()
        first.join()
        locks.release(locks.grant("a", owner=session, request_id=7, wait=False))
        assert locks.holders() == []
    """)
    )


def test_ctrl_c_ends_a_wait_for_events() -> None:
    passes(
        INTERRUPTED
        + textwrap.dedent("""
        from keylatch import LockManager
        heard = LockManager().subscribe()
        for _ in range(10):
            interrupted(heard.next)
            # No thread counts as a reader any more.
            assert heard.next(0) is None
    """)
    )


def test_a_forked_child_has_callbacks_of_its_own() -> None:
    passes("""
        import os, threading
        import keylatch
        def check():
            locks, heard = keylatch.LockManager(), threading.Event()
            guard = locks.lock("a")
            guard.on_lost(lambda why: heard.set())
            locks.force_release(all=True)
            assert heard.wait(10)
        check()
        child = os.fork()
        if child == 0:
            check()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        check()
    """)


def test_harmless_signal_does_not_end_wait() -> None:
    passes("""
        import signal, threading, time
        from keylatch import LockManager, LockTimeout
        locks = LockManager()
        seen = []
        signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        with locks.lock("a"):
            # Signals that come while nothing runs are one.
            while len(seen) <= 10:
                try:
                    locks.lock("a", timeout=0.2)
                except LockTimeout as error:
                    assert error.waited >= 0.2, error
        signal.setitimer(signal.ITIMER_REAL, 0)
    """)


def test_forked_child_gets_an_error() -> None:
    passes("""
        import asyncio, os
        import keylatch
        locks = keylatch.LockManager(adaptive=keylatch.AdaptiveTimeout())
        guard, session, grant, heard = locks.lock("a"), locks.session("txn"), locks.grant("c"), locks.subscribe()
        owner, batch, released = locks.owner("me"), locks.lock_many(["d", "e"]), locks.lock("f")
        released.release()
        child = os.fork()
        if child == 0:
            async def each(awaitable):
                await awaitable()
            async def block():
                async with locks.alock("b"):
                    pass
            async def many():
                async with locks.alock_many([]):
                    pass
            waits = [block, many, lambda: locks.alock("b"), lambda: locks.alock_many(["b"]), lambda: guard.aupgrade(),
                     lambda: guard.lost(), heard.anext]
            calls = [
                lambda: locks.lock("b"), lambda: locks.lock("a", timeout=1), lambda: locks.try_lock("b"),
                lambda: locks.lock("b", owner=owner), lambda: locks.lock("b", owner="you"),
                lambda: locks.lock("b", owner=session), lambda: locks.lock("b", ttl=1, priority=3),
                lambda: locks.lock_many(["b"]), lambda: locks.lock_many([]), lambda: locks.grant("b"),
                lambda: locks.owner("new"), lambda: locks.session("new"), session.release_all,
                lambda: locks.release(grant), lambda: locks.release(0), lambda: locks.adopt(grant),
                lambda: locks.renew(grant, 1), lambda: locks.remaining(grant), lambda: locks.is_current("a", 1),
                lambda: guard.renew(1), guard.downgrade, guard.try_upgrade, guard.upgrade, guard.into_grant,
                lambda: guard.on_lost(print), lambda: guard.mode, lambda: guard.fence, guard.__enter__,
                released.__enter__, released.release,
                locks.holders, locks.waiters, lambda: locks.force_release(all=True), lambda: locks.expire(all=True), locks.top, locks.recent_deadlocks,
                locks.lock_order_reports, lambda: locks.blocking_chain("a"), locks.get_metrics, locks.health,
                locks.openmetrics, locks.default_timeout, locks.adaptive_timeout, locks.subscribe, heard.try_next,
                heard.next, lambda: next(iter(heard)),
                # Once for the guard to have it, and once more.
                guard.release, guard.release, batch.release,
            ] + [lambda wait=wait: asyncio.run(each(wait)) for wait in waits]
            for number, call in enumerate(calls):
                try:
                    call()
                except keylatch.Forked as error:
                    assert "make a new manager after fork" in str(error)
                else:
                    os._exit(1 + number)
            # What they are made of is known, and what does not hold says so.
            assert (guard.key, guard.owner, owner.name, session.name) == ("a", None, "me", "txn")
            assert (guard.is_valid, guard.remaining, locks.is_valid(grant)) == (False, 0.0, False)
            assert (locks.closed, heard.closed, heard.dropped) == (False, True, 0)
            assert "Guard" in repr(guard) and "Batch" in repr(batch) and "open" in repr(locks)
            heard.close()
            locks.close()
            del guard, heard, session, batch
            with keylatch.LockManager().lock("a", wait=False):
                pass
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, os.waitstatus_to_exitcode(status)
        assert not locks.closed
        assert locks.try_lock("a") is None
        guard.release()
        batch.release()
        locks.release(grant)
        assert locks.holders() == []
    """)


def test_a_forked_child_leaves_blocks_in_peace() -> None:
    """And lets go of nothing: the blocks of the parent, whose locks they are, have not ended."""
    passes("""
        import asyncio, os, sys
        import keylatch
        locks = keylatch.LockManager()
        child = None

        def main(leave):
            global child
            with (
                locks.session("txn") as session, locks.lock("a"), locks.lock("b", shared=True, ttl=60),
                locks.lock("c", owner=session), locks.lock_many(["d", "e"]), locks.subscribe()
            ):
                asyncio.run(tasks(leave))
                if child != 0:
                    check()

        async def tasks(leave):
            global child
            async with locks.alock("f"), locks.alock_many(["g", "h"]):
                child = os.fork()
                if child == 0:
                    return leave()
                check()

        def check():
            status = os.waitpid(child, 0)[1] if not checked else 0
            checked.append(status)
            assert status == 0, status
            held = {holder.key for holder in locks.holders()}
            assert held >= {"a", "b", "c", "d", "e"}, held

        def raises():
            raise KeyError("of the block's own")

        for leave in (lambda: None, raises, sys.exit):
            checked = []
            try:
                main(leave)
            except KeyError:
                assert child == 0
            if child == 0:
                # As multiprocessing ends its children.
                os._exit(0)
            assert locks.holders() == []
    """)


def test_multiprocessing_child_gets_an_error() -> None:
    passes("""
        import multiprocessing
        import keylatch
        locks = keylatch.LockManager()

        def work(answers):
            try:
                locks.lock("a", timeout=10)
            except keylatch.Forked:
                with keylatch.LockManager().lock("a"):
                    answers.put("forked")

        context = multiprocessing.get_context("fork")
        with locks.lock("a"):
            answers = context.SimpleQueue()
            process = context.Process(target=work, args=(answers,))
            process.start()
            assert answers.get() == "forked"
            process.join()
            assert process.exitcode == 0
            assert locks.try_lock("a") is None
    """)


def test_forked_child_exports_its_own_figures() -> None:
    passes("""
        import os
        from prometheus_client import CollectorRegistry, generate_latest
        from keylatch import LockManager
        from keylatch.prometheus import LockCollector
        registry, managers = CollectorRegistry(), {"parent": LockManager()}
        collector = LockCollector(managers, registry=registry)
        child = os.fork()
        if child == 0:
            assert generate_latest(registry) == b""
            own = CollectorRegistry()
            LockCollector({**managers, "child": LockManager()}, registry=own)
            shown = generate_latest(own).decode()
            assert 'manager="child"' in shown and "parent" not in shown
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert 'manager="parent"' in generate_latest(registry).decode()
    """)


def test_little_address_space_holds_fewer_locks() -> None:
    passes("""
        import resource
        import keylatch
        resource.setrlimit(resource.RLIMIT_AS, (1_000_000 * 1024, 1_000_000 * 1024))
        for settings in ({}, {"max_locks": None}, {"fairness": "fifo", "shards": 64}):
            locks = keylatch.LockManager(**settings)
            with locks.lock_many(range_of := [str(number) for number in range(1000)]) as batch:
                assert len(batch) == len(range_of)
        # A caller that wants too many gets an error that says so.
        try:
            keylatch.LockManager(max_locks=8_388_608)
        except keylatch.InvalidConfig as error:
            assert error.setting == "max_locks", error.setting
        else:
            raise SystemExit("there was room")
    """)


def test_second_interpreter_has_no_module() -> None:
    passes("""
        import asyncio, gc, sys
        import keylatch
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        execute = getattr(interpreters, "exec", interpreters.run_string)
        attempt = "try: import keylatch\\nexcept ImportError: pass\\nelse: raise SystemExit(1)"
        locks = keylatch.LockManager()
        before = locks.lock("before")

        async def block():
            async with locks.alock("a") as guard:
                assert type(guard) is keylatch.Guard

        def check():
            with locks.lock("a") as guard:
                assert type(guard) is keylatch.Guard
            asyncio.run(block())

        for kind in ("legacy", "isolated"):
            if sys.version_info >= (3, 13):
                other = interpreters.create(kind)
            else:
                other = interpreters.create(isolated=kind == "isolated")
            problem = execute(other, attempt)
            assert problem is None, problem
            check()
            interpreters.destroy(other)
            gc.collect()
            check()
        before.release()
        # Once more in the same one is no other.
        for name in [name for name in sys.modules if name.startswith("keylatch")]:
            del sys.modules[name]
        import keylatch as again
        with again.LockManager().lock("a") as guard:
            assert type(guard) is again.Guard is keylatch.Guard
    """)


def test_an_exit_with_threads_that_wait_is_clean() -> None:
    passes(
        """
        import threading, time
        from keylatch import LockManager
        locks = LockManager()
        guard = locks.lock("a")
        guard.on_lost(print)
        events = locks.subscribe()
        threading.Thread(target=lambda: list(events), daemon=True).start()
        for _ in range(20):
            threading.Thread(target=lambda: locks.lock("a").release(), daemon=True).start()
        while locks.get_metrics().shard_metrics.waiters < 20:
            time.sleep(0.001)
    """.replace("locks = LockManager()", "import warnings; warnings.simplefilter('ignore'); locks = LockManager()")
    )


def test_exit_during_hand_over_is_clean() -> None:
    for _ in range(5):
        passes("""
            import threading, time
            from keylatch import LockManager
            locks = LockManager()
            def work():
                while True:
                    with locks.lock("a"):
                        time.sleep(0)
            for _ in range(8):
                threading.Thread(target=work, daemon=True).start()
            time.sleep(0.05)
        """)


def test_terminal_interrupt_ends_waiting_program() -> None:
    process = subprocess.Popen(
        command("""
            from keylatch import LockManager
            locks = LockManager()
            with locks.lock("a"):
                print("waiting", flush=True)
                locks.lock("a")
        """),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT
