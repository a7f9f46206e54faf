"""The client of the lock service, against a real one: threads and tasks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Background, Runner, until
from keylatch import Closed, Forked, InvalidKey, LeaseLost, Lost, NotHeld, WouldBlock
from keylatch.claims import (
    ClaimDone,
    ClaimFailed,
    ClaimGranted,
    ClaimLost,
    ClaimPolicy,
    ClaimReset,
    Done,
    Skipped,
    Yours,
)
from keylatch.remote import AsyncRemoteLocks, AsyncYours, RemoteError, RemoteLocks, Unauthorized, Unreachable
from keylatch.remote._backoff import Backoff
from keylatch.remote._belief import Belief
from remote_server import Server, free_port

CAT = ("photos", "cat.jpg")
LAYER = ("layers", "sha256:4711")


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """A server that has to be left as it came: nothing held, no request waiting."""
    yield shared_server
    gc.collect()
    until(lambda: shared_server.rows("locks") == [] == shared_server.rows("waiters"))


@pytest.fixture
def own_server() -> Iterator[Server]:
    server = Server(grace=2000)
    yield server
    server.close()


def test_remote_block_holds_until_its_end(server: Server) -> None:
    with RemoteLocks(server.url, owner="a") as a, RemoteLocks(server.url, owner="b") as b:
        with a.lock(CAT) as guard:
            assert (guard.key, guard.keys, str(guard.mode), guard.released) == (CAT, (CAT,), "exclusive", False)
            assert 0 < guard.remaining <= 10
            assert b.try_lock(CAT) is None
            with pytest.raises(WouldBlock, match="held by 'a'"):
                b.lock(CAT, wait=False)
            with pytest.raises(TimeoutError, match="held by 'a'") as raised:
                b.lock(CAT, timeout=0.01)
            assert [holder.owner for holder in raised.value.holders] == ["a"]  # type: ignore[attr-defined]
            assert server.rows("waiters") == []
        assert guard.released
        assert guard.remaining == 0
        with pytest.raises(NotHeld):
            guard.release()
        with pytest.raises(NotHeld):
            guard.check()
        with b.lock(CAT, shared=True) as first, a.lock(CAT, shared=True) as second:
            assert second.fence > first.fence > guard.fence
        many = a.lock_many([CAT, ("photos", "dog.jpg")], shared=[LAYER])
        assert {row["object"] for row in server.rows("locks")} == {"cat.jpg", "dog.jpg", "sha256:4711"}
        many.release()


def test_a_release_hands_over_to_the_next(server: Server) -> None:
    order: list[int] = []
    with RemoteLocks(server.url) as locks:
        first, threads = locks.lock(CAT), []

        def take(number: int) -> None:
            with locks.lock(CAT, timeout=60):
                order.append(number)

        for number in range(5):
            threads.append(Background(lambda number=number: take(number)))  # type: ignore[misc]
            until(lambda number=number: len(server.rows("waiters")) == number + 1)  # type: ignore[misc]
        first.release()
        assert [thread.finish() for thread in threads] == [None] * 5
    assert order == list(range(5))


def test_tasks_take_turns(server: Server, run: Runner) -> None:
    async def main() -> None:
        inside = 0

        async def turn(locks: AsyncRemoteLocks) -> None:
            nonlocal inside
            async with locks.alock(CAT, timeout=60) as guard:
                inside += 1
                await asyncio.sleep(0)
                assert (inside, guard.is_valid) == (1, True)
                inside -= 1

        async with AsyncRemoteLocks(server.url) as a, AsyncRemoteLocks(server.url) as b:
            await asyncio.gather(*(turn(locks) for locks in (a, b) for _ in range(10)))
            assert await a.try_lock(CAT) is not None
            gc.collect()

    run(main())


def test_a_cancelled_task_leaves_nothing(server: Server, run: Runner) -> None:
    async def main() -> None:
        async with AsyncRemoteLocks(server.url) as a, AsyncRemoteLocks(server.url) as b:
            for steps in range(30):
                guard = await a.alock(CAT)
                task = asyncio.ensure_future(b.alock(CAT))
                for _ in range(steps):
                    await asyncio.sleep(0)
                release = asyncio.ensure_future(guard.release())
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await (await task).release()
                await release
                await (await a.alock(CAT, timeout=60)).release()

    run(main())


def test_a_forgotten_guard_is_released(server: Server) -> None:
    with RemoteLocks(server.url) as a, RemoteLocks(server.url) as b:
        a.lock(CAT)
        gc.collect()
        b.lock(CAT, timeout=60).release()
        with pytest.raises(OSError, match="boom"), a.lock(CAT):
            raise OSError("boom")
        b.lock(CAT, timeout=60).release()


def test_a_forgotten_client_ends_its_session(server: Server) -> None:
    ways: list[Callable[[RemoteLocks], object]] = [RemoteLocks.close, lambda locks: locks._loop.call(locks._stop)]
    for collect in ways:
        locks = RemoteLocks(server.url)
        guard, thread = locks.lock(CAT), locks._loop._thread
        collect(locks)
        thread.join(60)
        assert not thread.is_alive()
        assert not guard.is_valid
        until(lambda: server.rows("locks") == [])
    locks = RemoteLocks(server.url)
    thread = locks._loop._thread
    locks.lock(CAT)
    del locks
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


def test_an_interrupted_wait_gives_the_place_up(server: Server) -> None:
    with RemoteLocks(server.url) as a, RemoteLocks(server.url) as b:
        guard = a.lock(CAT)
        thread = Background(lambda: b.lock(CAT))
        until(lambda: len(server.rows("waiters")) == 1)
        b.close()
        assert isinstance(thread.finish(), Closed)
        until(lambda: server.rows("waiters") == [])
        guard.release()
    with pytest.raises(Closed):
        a.lock(CAT)


@pytest.mark.once
def test_loss_is_noticed_before_the_server_frees(own_server: Server) -> None:
    lost: list[Lost] = []
    with RemoteLocks(own_server.url) as locks:
        with pytest.raises(LeaseLost, match="other hands"), locks.lock(CAT) as guard:
            guard.on_lost(lost.append)
            own_server.pause()
            until(lambda: guard.remaining == 0)
            assert lost == [Lost.EXPIRED]
            with pytest.raises(LeaseLost):
                guard.check()
            own_server.go_on()
            # Renewals succeed again; what was lost stays so.
            locks.lock(("photos", "dog.jpg"), timeout=60).release()
            assert not guard.is_valid
        guard.on_lost(lost.append)
        assert lost == [Lost.EXPIRED] * 2
        with locks.lock(CAT, timeout=60) as again:
            assert again.fence > guard.fence


def test_a_lock_that_is_taken_away_is_lost(server: Server, run: Runner) -> None:
    with RemoteLocks(server.url) as locks:
        guard = locks.lock(CAT)
        server.post("/v1/force-release", {"bucket": CAT[0], "object": CAT[1]})
        until(lambda: not guard.is_valid)
        with pytest.raises(LeaseLost):
            guard.release()

    async def main() -> None:
        async with AsyncRemoteLocks(server.url) as locks:
            guard = await locks.alock(CAT)
            waiting = asyncio.ensure_future(guard.lost())
            await asyncio.to_thread(server.post, "/v1/force-release", {"bucket": CAT[0], "object": CAT[1]})
            assert await waiting == Lost.FORCED
            assert guard.remaining == 0

    run(main())


@pytest.mark.once
def test_restart_loses_guards_keeps_requests() -> None:
    port = free_port()
    server = Server(port=port)
    with RemoteLocks(server.url, owner="a") as a, RemoteLocks(server.url, owner="b") as b:
        guard = a.lock(CAT)
        waiting = Background(lambda: b.lock(CAT, timeout=60))
        until(lambda: len(server.rows("waiters")) == 1)
        server.kill()
        server = Server(port=port)
        try:
            # It asks again in another session.
            taken: Any = waiting.finish()
            assert taken.is_valid, taken
            until(lambda: not guard.is_valid)
            with pytest.raises(LeaseLost):
                guard.release()
            taken.release()
            a.lock(CAT, timeout=60).release()
        finally:
            server.close()
        with RemoteLocks(server.url) as c, pytest.raises(Unreachable, match="is it running"):
            c.lock(CAT)


def test_a_claim_is_done_once(server: Server) -> None:
    done: list[int] = []

    def work(work: Yours) -> str:
        done.append(work.attempt)
        work.progress(5, 12, "http://node-1/x")
        work.renew(60)
        assert work.remaining is not None
        return "12 MiB"

    with RemoteLocks(server.url, owner="a") as a, RemoteLocks(server.url, owner="b") as b:
        threads = [Background(lambda locks=locks: locks.run_once(LAYER, work, timeout=60)) for locks in (a, b) * 4]  # type: ignore[misc]
        assert {thread.finish() for thread in threads} == {"12 MiB"}
        assert done == [1]
        assert isinstance(a.claim(LAYER), Done)
        snapshot = a.snapshot(LAYER)
        assert snapshot.outcome is not None
        assert (snapshot.outcome.text, snapshot.owner) == ("12 MiB", None)
        assert a.snapshot(("layers", "other")).outcome is None
        events = b.events(LAYER)
        reset = next(events)
        assert isinstance(reset, ClaimReset)
        assert reset.snapshot.outcome == snapshot.outcome


def test_a_failed_claim_passes_the_work_on(server: Server) -> None:
    layer = ("layers", "failing")
    with RemoteLocks(server.url, owner="a") as a, RemoteLocks(server.url, owner="b") as b:
        work = a.claim(layer)
        assert isinstance(work, Yours)
        assert b.try_claim(layer) == Skipped("a")
        with pytest.raises(TimeoutError):
            b.claim(layer, timeout=0.01)
        waiting = Background(lambda: b.claim(layer, timeout=60))
        until(lambda: any(row["waiting"] for row in server.rows("claims")))
        with pytest.raises(OSError, match="disk full"), work:
            raise OSError("disk full")
        second: Any = waiting.finish()
        assert (second.yours, second.attempt) == (True, 2)
        # The work is forgotten.
        waiting.outcome = None
        del second
        gc.collect()
        third = a.claim(layer, timeout=60, policy=ClaimPolicy(max_attempts=3))
        assert isinstance(third, Yours)
        with pytest.raises(RemoteError):
            third.complete("x" * 100_000)
        third.fail("broken")
        with pytest.raises(ClaimFailed, match="broken"):
            b.claim(layer).result()


@pytest.mark.once
def test_claimed_work_is_lost_with_its_session(own_server: Server) -> None:
    with RemoteLocks(own_server.url, owner="a") as a, RemoteLocks(own_server.url, owner="b") as b:
        with pytest.raises(ClaimLost), a.claim(LAYER) as work:
            assert isinstance(work, Yours)
            own_server.pause()
            until(lambda: work.remaining == 0)
            own_server.go_on()
            with pytest.raises(ClaimLost):
                work.progress(1)
        second = b.claim(LAYER, timeout=60)
        assert isinstance(second, Yours)
        second.complete("here")


def test_claims_in_tasks(server: Server, run: Runner) -> None:
    async def main() -> None:
        async with AsyncRemoteLocks(server.url) as a, AsyncRemoteLocks(server.url) as b:
            layer = ("layers", f"tasks-{id(a)}")
            events = a.events(layer)
            reset = await anext(events)
            done = 0

            async def work(work: AsyncYours) -> str:
                nonlocal done
                done += 1
                await work.progress(1, 2)
                return f"attempt {work.attempt}"

            notes = await asyncio.gather(*(locks.arun_once(layer, work) for locks in (a, b) for _ in range(5)))
            assert (set(notes), done) == ({"attempt 1"}, 1)
            granted, _, completed = [await anext(events) for _ in range(3)]
            assert isinstance(reset, ClaimReset)
            assert isinstance(granted, ClaimGranted)
            assert isinstance(completed, ClaimDone)
            assert completed.id.partition("-")[2] == str(int(reset.id.partition("-")[2]) + 3)
            await events.aclose()  # type: ignore[attr-defined]
            with pytest.raises(OSError, match="boom"):
                async with a.aclaim(("layers", f"boom-{id(a)}")):
                    raise OSError("boom")

    run(main())


@pytest.mark.once
def test_events_go_on_over_a_restart() -> None:
    port = free_port()
    server = Server(port=port)
    with RemoteLocks(server.url) as locks:
        events = locks.events(LAYER)
        assert isinstance(next(events), ClaimReset)
        with locks.claim(LAYER):
            pass
        assert [type(next(events)) for _ in range(2)] == [ClaimGranted, ClaimDone]
        server.kill()
        server = Server(port=port)
        try:
            again = next(events)
            assert isinstance(again, ClaimReset)
            assert again.snapshot.outcome is None
        finally:
            server.close()


@pytest.mark.once
def test_tokens_and_scopes(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(
        """
        [[token]]
        name = "builders"
        token = "sesame-sesame-sesame"
        [[token.scope]]
        verbs = ["lock"]
        bucket = "layers"
        """
    )
    server = Server("--tokens", str(tokens))
    try:
        with RemoteLocks(server.url, token="sesame-sesame-sesame") as locks:
            locks.lock(LAYER).release()
            with pytest.raises(Unauthorized) as raised:
                locks.lock(CAT)
            assert "sesame" not in str(raised.value) + repr(locks)
        for wrong in None, "open-open-open-open":
            with RemoteLocks(server.url, token=wrong) as locks, pytest.raises(Unauthorized):
                locks.lock(LAYER)
    finally:
        server.close()


def certificate_of(
    name: str, folder: Path, issuer: tuple[Path, Path] | None = None, *, ca: bool = False
) -> tuple[Path, Path]:
    """Return a certificate and its key: signed by itself, or by another one."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", f"basicConstraints=critical,CA:{'TRUE' if ca else 'FALSE'}"]
    # Python 3.13 asks for it.
    command += ["-addext", f"keyUsage=critical,{'keyCertSign' if ca else 'digitalSignature'}"]
    if issuer is not None:
        command += ["-CA", str(issuer[0]), "-CAkey", str(issuer[1])]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.mark.once
def test_client_certificates(tmp_path: Path) -> None:
    issuer, stranger = (certificate_of(name, tmp_path, ca=True) for name in ("issuer", "stranger"))
    own = certificate_of("server", tmp_path, issuer)
    arguments = ["--tls-certificate", str(own[0]), "--tls-key", str(own[1]), "--tls-client-roots", str(issuer[0])]
    server = Server(*arguments, scheme="https")

    def context(client: tuple[Path, Path] | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=issuer[0])
        if client is not None:
            made.load_cert_chain(*client)
        return made

    async def with_tasks(client: tuple[Path, Path]) -> None:
        async with AsyncRemoteLocks(server.url, tls=context(client)) as locks, locks.alock(CAT):
            pass

    try:
        client = certificate_of("client", tmp_path, issuer)
        with RemoteLocks(server.url, tls=context(client), owner="client") as locks, locks.lock(CAT) as guard:
            assert guard.is_valid
            other = certificate_of("other", tmp_path, issuer)
            with RemoteLocks(server.url, tls=context(other)) as others:
                assert others.try_lock(CAT) is None
        asyncio.run(with_tasks(client))
        for wrong in None, certificate_of("impostor", tmp_path, stranger):
            with RemoteLocks(server.url, tls=context(wrong)) as locks, pytest.raises(Unreachable):
                locks.lock(CAT, timeout=1)
    finally:
        server.close()


@pytest.mark.once
def test_tls(tmp_path: Path) -> None:
    certificate, key = certificate_of("localhost", tmp_path)
    server = Server("--tls-certificate", str(certificate), "--tls-key", str(key), scheme="https")
    try:
        with RemoteLocks(server.url, tls=str(certificate)) as locks:
            locks.lock(CAT).release()
        with RemoteLocks(server.url, tls=ssl.create_default_context(cafile=certificate)) as locks:
            locks.lock(CAT).release()
        with RemoteLocks(server.url) as locks, pytest.raises(Unreachable, match="give tls="):
            locks.lock(CAT)
        plain = server.url.replace("https", "http")
        with RemoteLocks(plain) as locks, pytest.raises((Unreachable, RemoteError)):
            locks.lock(CAT)
    finally:
        server.close()


def test_a_forked_child_is_refused(server: Server) -> None:
    with RemoteLocks(server.url) as locks, locks.lock(CAT):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                locks.lock(CAT)
            except Forked:
                status = 0
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.once
def test_wrong_arguments_say_what_is_right(server: Server) -> None:
    for url in (
        "localhost:7373",
        "ftp://localhost",
        "http://a/b",
        "http://me:secret@localhost",
        "http://localhost:99999",
    ):
        with pytest.raises(ValueError, match=r"server|port|URL"):
            RemoteLocks(url)
    with pytest.raises(ValueError, match="plain text"):
        RemoteLocks("http://192.0.2.1", token="sesame")
    with pytest.raises(ValueError, match="not shown"):
        RemoteLocks("https://localhost", token="one\r\ntwo")
    with pytest.raises(ValueError, match="ttl"):
        RemoteLocks(server.url, ttl=-1)
    with RemoteLocks(server.url) as locks:
        for key in "cat.jpg", ("", "cat.jpg"), ("photos", b"\xff"), ("photos", "\udc80"):
            with pytest.raises(InvalidKey):
                locks.lock(key)
        for other in 3, ("a",), ("a", 3):
            with pytest.raises(TypeError):
                locks.lock(other)  # type: ignore[arg-type]
        with pytest.raises(RemoteError, match="invalid request"):
            locks.lock(("photos", "x" * 5000))
        with pytest.raises(ValueError, match="timeout"):
            locks.lock(CAT, timeout=-1)
        with pytest.raises(TypeError, match="list"):
            locks.lock_many(CAT)
        with pytest.raises(ValueError, match="at least one"):
            locks.lock_many([])
        with pytest.raises(TypeError, match="ClaimPolicy"):
            locks.claim(LAYER, policy=3)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            pickle.dumps(locks)
    with pytest.raises(RemoteError, match="ttl"), RemoteLocks(server.url, ttl=1e6) as locks:
        locks.lock(CAT)


class Peer(threading.Thread):
    """Something on a port that is no lock service: it answers each connection with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(daemon=True)
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.recv(65536)
                connection.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join(60)


@pytest.mark.once
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a" * 200_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1, 2, 3]",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\noops!",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_what_is_no_lock_service_is_an_error(answer: bytes) -> None:
    peer = Peer(answer)
    try:
        with RemoteLocks(peer.url) as locks, pytest.raises(RemoteError):
            locks.lock(CAT)
    finally:
        peer.close()


@pytest.mark.once
def test_attempts_without_a_server_take_turns() -> None:
    longest = 0.01

    async def main() -> int:
        backoff = Backoff(time.monotonic, longest)
        began, attempts = time.monotonic(), 0

        async def attempt() -> None:
            nonlocal attempts
            for _ in range(10):
                await backoff.turn()
                attempts += 1
                backoff.failed()

        await asyncio.gather(*(attempt() for _ in range(10)))
        # Each of them but the first few, which all begin while no failure is known, after the longest pause.
        assert time.monotonic() - began >= (attempts - 20) * longest
        backoff.reached()
        await asyncio.wait_for(asyncio.gather(*(backoff.turn() for _ in range(1000))), 60)
        return attempts

    assert asyncio.run(main()) == 100


def test_a_server_that_is_back_is_noticed_by_all() -> None:
    async def main() -> None:
        backoff = Backoff(time.monotonic, 3600.0)
        for _ in range(30):
            backoff.failed()
        turns = [asyncio.ensure_future(backoff.turn()) for _ in range(10)]
        await asyncio.sleep(0)
        backoff.reached()
        await asyncio.wait_for(asyncio.gather(*turns), 60)

    asyncio.run(main())


def test_a_belief_counts_from_when_it_was_sent() -> None:
    clock = [100.0]
    belief = Belief(100.0 + 5, lambda: clock[0])
    number = belief.take_number()
    fate = belief.hold(number)
    assert belief.safe_for() == 5
    clock[0] = 104.0
    belief.extend(sent=101.0, valid=5)
    assert belief.safe_for() == 2
    belief.extend(sent=100.0, valid=1)
    assert belief.safe_for() == 2
    clock[0] = 106.0
    # Answered too late: what was held when the belief was over stays lost.
    belief.extend(sent=105.0, valid=5)
    assert (belief.safe_for(), fate.reason) == (4, "expired")
    assert belief.hold(belief.take_number()).reason == ""
    assert belief.standing() == {"next": 3, "open": [1, 2], "settled_below": 1}
    with belief._lock:
        # As a collector does that runs in the middle of a call.
        belief.forget(number)
    assert belief.standing() == {"next": 3, "open": [2], "settled_below": 2}
    belief.end()
    assert (belief.safe_for(), belief.hold(3).reason) == (0, "expired")


def test_events_are_read_however_they_are_cut() -> None:
    from keylatch.remote._http import _events, _lines

    text = b': hello\n\nevent: granted\r\nid: 1-2\ndata: {"a":\ndata: 1}\n\nevent: gone\ndata: {}\n\n'

    async def read(size: int) -> list[Any]:
        reader = asyncio.StreamReader()
        for begin in range(0, len(text), size):
            piece = text[begin : begin + size]
            reader.feed_data(b"%x\r\n%b\r\n" % (len(piece), piece))
        reader.feed_data(b"0\r\n\r\n")
        reader.feed_eof()
        return [event async for event in _events(_lines(reader, {"transfer-encoding": "chunked"}))]

    for size in range(1, len(text) + 1):
        assert asyncio.run(read(size)) == [("granted", {"a": 1}, "1-2"), ("gone", {}, None)]
