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


def command(program: str) -> list[str]:
    return [sys.executable, "-W", "error", "-c", LISTEN + textwrap.dedent(program)]


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(program), capture_output=True, text=True, timeout=60)


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


def test_ctrl_c_ends_a_wait_for_events() -> None:
    passes("""
        import signal, threading, time
        from keylatch import LockManager
        heard, main = LockManager().subscribe(), threading.get_ident()
        for _ in range(10):
            begins = threading.Event()
            def interrupt():
                begins.wait()
                time.sleep(0.005)
                signal.pthread_kill(main, signal.SIGINT)
            thread = threading.Thread(target=interrupt)
            thread.start()
            try:
                begins.set()
                heard.next()
            except KeyboardInterrupt:
                thread.join()
            else:
                raise SystemExit("not interrupted")
            # Nobody is taken for a reader any more.
            assert heard.next(0) is None
    """)


def test_a_forked_child_has_callbacks_of_its_own() -> None:
    passes("""
        import os, threading
        import keylatch
        def told():
            locks, heard = keylatch.LockManager(), threading.Event()
            guard = locks.lock("a")
            guard.on_lost(lambda why: heard.set())
            locks.force_release()
            assert heard.wait(10)
        told()
        child = os.fork()
        if child == 0:
            told()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        told()
    """)


def test_a_signal_that_raises_nothing_does_not_end_a_wait() -> None:
    passes("""
        import signal, threading, time
        from keylatch import LockManager, LockTimeout
        locks = LockManager()
        seen = []
        signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        with locks.lock("a"):
            try:
                locks.lock("a", timeout=0.2)
            except LockTimeout as error:
                assert error.waited >= 0.2, error
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(seen) > 10, seen
    """)


def test_a_forked_child_is_told_so() -> None:
    passes("""
        import asyncio, os
        import keylatch
        locks = keylatch.LockManager()
        guard, session, grant, heard = locks.lock("a"), locks.session("txn"), locks.grant("c"), locks.subscribe()
        child = os.fork()
        if child == 0:
            async def wait():
                await locks.alock("b")
            calls = [
                lambda: locks.lock("b"), lambda: locks.lock("a", timeout=1), lambda: locks.try_lock("b"),
                lambda: locks.lock_many(["b"]), lambda: asyncio.run(wait()), lambda: locks.grant("b"),
                lambda: locks.lock("b", owner=locks.session("txn")), lambda: locks.lock("b", owner=session),
                lambda: locks.release(grant), lambda: locks.adopt(grant), lambda: locks.renew(grant, 1),
                lambda: guard.renew(1), lambda: locks.is_current("a", 1),
            ]
            for call in calls:
                try:
                    call()
                except keylatch.Forked as error:
                    assert "make a new manager after fork" in str(error)
                else:
                    os._exit(1)
            # What only looks sees nothing, and does not wait.
            assert locks.holders() == locks.waiters() == locks.force_release() == locks.top() == []
            assert not locks.blocking_chain("a") and session.release_all() == 0
            assert locks.subscribe().next() is None and heard.try_next() is None
            assert not guard.is_valid and not locks.is_valid(grant)
            guard.on_lost(print)
            heard.close()
            del guard, heard, session
            with keylatch.LockManager().lock("a", wait=False):
                pass
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        assert locks.try_lock("a") is None
        guard.release()
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


def test_an_exit_while_locks_change_hands_is_clean() -> None:
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


def test_a_terminal_interrupt_ends_a_program_that_waits() -> None:
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
        _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT
