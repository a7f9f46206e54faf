#!/usr/bin/env python3
"""The service's figures in one run: beside an empty request, beside Redis, beside flock(1), after kill -9, in a crowd.

    scripts/bench_service.py PROGRAM [--quick] [--only PART]      PROGRAM is a release build of `keylatch`

Everything listens on loopback and ends with this script. redis-server comes from the PATH or from Debian's package, and
redis-py is installed in target/redis-py; a Redis that is not to be had is left out. `--quick` is for checking the script:
its figures mean little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from debian_packages import MissingProgramError, program

PATIENCE = 60.0
REDIS_PY = Path(__file__).resolve().parent.parent / "target" / "redis-py"
REDIS_PY_VERSION = "redis==6.4.0"
UNLOCK = b"if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quantile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def line(what: str, times: list[float], *, more: str = "") -> None:
    p50, p99 = (quantile(times, share) * 1e3 for share in (0.5, 0.99))
    print(f"{what:<52} p50 {p50:9.3f} ms   p99 {p99:9.3f} ms   ({len(times)}){more}", flush=True)


def until(what: str, look: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, urllib.error.URLError):
            if found := look():
                return found
        time.sleep(0.001)
    raise AssertionError(f"not in time: {what}")


class Service:
    def __init__(self, keylatch: str, folder: str) -> None:
        self.keylatch = keylatch
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [keylatch, "serve", "--listen", f"127.0.0.1:{port}", "--state", f"{folder}/state"]
        options = ["--drain-ms", "1", "--log", "error"]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
        until("the server answers", lambda: self.call("GET", "/healthz"))

    def call(self, method: str, path: str, body: object | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def memory(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def bench(self, *more: str, processors: set[int] | None = None) -> list[dict[str, Any]]:
        command = [self.keylatch, "bench", "--json", "--server", self.url, *more]
        where = processors or os.sched_getaffinity(0)
        benched = subprocess.run(command, check=True, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, where))
        return list(json.loads(benched.stdout))

    def stay_on(self, processors: set[int]) -> None:
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), processors)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


def beside_an_empty_request(service: Service, seconds: str) -> None:
    """Twice: a client on the server's processor pays for work alone, one on another processor for waking it, too."""
    everywhere = os.sched_getaffinity(0)
    here, *others = sorted(everywhere)
    service.stay_on({here})
    print("client and server on one processor:")
    free_lock(service.bench("--seconds", seconds, processors={here}))
    if others:
        print("client and server on two processors:")
        free_lock(service.bench("--seconds", seconds, processors={others[0]}))
    service.stay_on(everywhere)


def free_lock(benched: list[dict[str, Any]]) -> None:
    rows = {row["what"]: row for row in benched}
    empty, lock, pair, hand = rows.values()
    for row in rows.values():
        print(f"{row['what']:<44} {row['per_second']:9.0f} /s   p50 {row['p50_us']:8.1f} us   p99 {row['p99_us']:8.1f} us")
    ratio = [lock[field] / empty[field] for field in ("p50_us", "p99_us")]
    print(f"  free lock: p50 {ratio[0]:.2f} (at most 1.3) and p99 {ratio[1]:.2f} (at most 2) of an empty request")
    share = pair["per_second"] / empty["per_second"]
    print(f"  pairs: {share:.3f} of the rate of empty requests (at least 0.4)")
    print(f"  release to the waiter's answer: p50 {hand['p50_us'] / empty['p50_us']:.2f} empty requests (at most 3)")


def crowd_of_waiters(service: Service, waiters: int) -> None:
    before = service.memory()
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, service.memory())

    watching = threading.Thread(target=watch)
    watching.start()
    (row,) = service.bench("--waiters", str(waiters))
    done.set()
    watching.join()
    print(f"{waiters} waiters: release to the next answer p50 {row['p50_us'] / 1e3:.3f} ms, p99 {row['p99_us'] / 1e3:.3f} ms (at most 5)")
    print(f"  memory: {(most - before) / waiters / 1024:.1f} KiB each, connections and all (at most 16)")


class Redis:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = self.socket.makefile("rb")

    def call(self, *words: bytes) -> bytes:
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(b"*%d\r\n%s" % (len(words), parts))
        answer = self.read.readline()
        if answer.startswith(b"$") and answer != b"$-1\r\n":
            return self.read.read(int(answer[1:]) + 2)
        return answer


class Latch:
    """The service, as directly spoken to from Python as Redis is."""

    def __init__(self, service: Service) -> None:
        port = int(service.url.rsplit(":", 1)[1])
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = self.socket.makefile("rb")
        self.number = 0
        self.session = self.post("/v1/sessions", {"owner": "bench", "ttl_ms": 120_000})["session"]

    def post(self, path: str, body: object) -> Any:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        self.socket.sendall(head.encode() + data)
        length = 0
        while (header := self.read.readline()) != b"\r\n":
            if header.lower().startswith(b"content-length:"):
                length = int(header[15:])
        return json.loads(self.read.read(length))

    def lock(self, wait_ms: int = 0) -> Any:
        self.number += 1
        body = {"session": self.session, "request_id": self.number, "settled_below": self.number, "wait_ms": wait_ms}
        return self.post("/v1/lock", {**body, "items": [{"bucket": "b", "object": "x"}]})

    def unlock(self) -> None:
        self.post("/v1/unlock", {"session": self.session, "request_id": self.number})


def timed(seconds: float, work: Callable[[], None]) -> list[float]:
    times = []
    end = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        work()
        times.append(time.perf_counter() - begun)
    return times


def hand_offs(rounds: int, lock: list[Callable[[], object]], unlock: list[Callable[[], object]]) -> list[float]:
    """Two callers take turns; the time is from the release to the waiter's return."""
    times: list[float] = []
    released = 0.0
    lock[0]()
    for turn in range(rounds):
        holder, waiter = turn % 2, 1 - turn % 2
        answered: list[float] = []
        thread = threading.Thread(target=lambda at=waiter, to=answered: (lock[at](), to.append(time.perf_counter())))
        thread.start()
        # Where in the waiter's period of polling the release comes is by chance.
        time.sleep(0.02 + 0.1 * ((turn * 0.6180339887) % 1))
        released = time.perf_counter()
        unlock[holder]()
        thread.join()
        times.append(answered[0] - released)
    unlock[rounds % 2]()
    return times


def beside_redis(service: Service, seconds: float, rounds: int) -> None:
    latch = Latch(service)
    pairs = timed(seconds, lambda: (latch.lock(), latch.unlock()) and None)
    line("keylatch: lock + unlock, Python socket", pairs, more=f"  {len(pairs) / seconds:.0f} pairs a second")
    two = [Latch(service), Latch(service)]
    line("keylatch: release to the waiter's return", hand_offs(rounds, [lambda: two[0].lock(20_000), lambda: two[1].lock(20_000)], [two[0].unlock, two[1].unlock]))
    try:
        redis_server = program("redis-server")
    except MissingProgramError as error:
        print(f"no Redis to compare with: {error}")
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(redis_server), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            redis = until("Redis answers", lambda: Redis(port))
            pair = lambda: (redis.call(b"SET", b"x", b"1", b"NX", b"PX", b"30000"), redis.call(b"EVAL", UNLOCK, b"1", b"x", b"1")) and None  # noqa: E731
            pairs = timed(seconds, pair)
            line("Redis: SET NX PX + EVAL, Python socket", pairs, more=f"  {len(pairs) / seconds:.0f} pairs a second")
            library(port, seconds, rounds)
        finally:
            server.terminate()
            server.wait(PATIENCE)


def library(port: int, seconds: float, rounds: int) -> None:
    if not REDIS_PY.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(REDIS_PY), REDIS_PY_VERSION]
        if subprocess.run(command).returncode != 0:
            print("redis-py cannot be installed; its Lock is left out")
            return
    sys.path.insert(0, str(REDIS_PY))
    import redis  # type: ignore[import-not-found]  # noqa: PLC0415

    clients = [redis.Redis(port=port) for _ in range(2)]
    locks = [client.lock("y", timeout=30, thread_local=False) for client in clients]
    pairs = timed(seconds, lambda: (locks[0].acquire(), locks[0].release()) and None)
    line("redis-py Lock: acquire + release", pairs, more=f"  {len(pairs) / seconds:.0f} pairs a second")
    line("redis-py Lock: release to the waiter's return", hand_offs(rounds, [lock.acquire for lock in locks], [lock.release for lock in locks]))


def beside_flock(service: Service, rounds: int) -> None:
    environment = {**os.environ, "KEYLATCH_SERVER": service.url}
    commands = {
        "keylatch hold b/x -- true": [service.keylatch, "hold", "b/x", "--", "true"],
        "keylatch claim ... -- true (work done already)": [service.keylatch, "claim", "b/y", "--", "true"],
        "flock FILE true": ["flock", "/tmp/keylatch-bench.lock", "true"],
    }
    for _ in range(2):  # the first round warms caches up
        times: dict[str, list[float]] = {what: [] for what in commands}
        for _ in range(rounds):
            for what, command in commands.items():
                begun = time.perf_counter()
                subprocess.run(command, env=environment, check=True)
                times[what].append(time.perf_counter() - begun)
    for what, spent in times.items():
        line(what, spent)
    hold, _, flock = (quantile(spent, 0.5) for spent in times.values())
    print(f"  hold is {1e3 * (hold - flock):.1f} ms slower than flock (at most 5)")


def after_kill(service: Service, rounds: int) -> None:
    grace = 5.0
    times = []
    for _ in range(rounds):
        command = [service.keylatch, "hold", "kill/attached", "--", "sleep", "600"]
        holder = subprocess.Popen(command, env={**os.environ, "KEYLATCH_SERVER": service.url}, stderr=subprocess.DEVNULL)
        until("it is held", lambda: service.call("GET", "/v1/locks?bucket=kill")["rows"])
        session = service.call("POST", "/v1/sessions", {"owner": "next", "ttl_ms": 60_000})["session"]
        holder.send_signal(signal.SIGKILL)
        killed = time.perf_counter()
        item = {"bucket": "kill", "object": "attached"}
        got = service.call("POST", "/v1/lock", {"session": session, "items": [item], "wait_ms": 20_000})
        times.append(time.perf_counter() - killed - grace)
        assert got["state"] == "granted", got
        service.call("DELETE", f"/v1/sessions/{session}")
        holder.wait()
    line("kill -9, attached: free this long after the grace", times, more="  at most 50 ms")
    times = []
    for _ in range(rounds * 3):
        ttl = 0.5
        item = {"bucket": "kill", "object": "detached"}
        gone = service.call("POST", "/v1/sessions", {"owner": "gone", "ttl_ms": int(ttl * 1000)})["session"]
        begun = time.perf_counter()
        service.call("POST", "/v1/lock", {"session": gone, "items": [item]})
        session = service.call("POST", "/v1/sessions", {"owner": "next", "ttl_ms": 60_000})["session"]
        got = service.call("POST", "/v1/lock", {"session": session, "items": [item], "wait_ms": 20_000})
        times.append(time.perf_counter() - begun - ttl)
        assert got["state"] == "granted", got
        service.call("DELETE", f"/v1/sessions/{session}")
    line("silent, detached: free this long after its TTL", times, more="  at most 100 ms")


def crowd_of_clients(service: Service, clients: int, seconds: str) -> None:
    (row,) = service.bench("--crowd", "--clients", str(clients), "--seconds", seconds)
    print(f"{clients} clients at 16 keys: {row['calls']} grants, 0 violations, fences grew at each key; {row['per_second']:.0f} grants a second")


def parts(quick: bool, hard: int) -> dict[str, Callable[[Service], None]]:
    waiters = min(100 if quick else 10_000, hard - 200)
    return {
        "requests": lambda service: beside_an_empty_request(service, "0.2" if quick else "3"),
        "waiters": lambda service: crowd_of_waiters(service, waiters),
        "clients": lambda service: crowd_of_clients(service, 50 if quick else 2_000, "1" if quick else "10"),
        "redis": lambda service: beside_redis(service, 0.2 if quick else 3, 4 if quick else 60),
        "flock": lambda service: beside_flock(service, 3 if quick else 100),
        "kill": lambda service: after_kill(service, 1 if quick else 4),
    }


def main() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parser = argparse.ArgumentParser(description="Measures the service.")
    parser.add_argument("program", help="a release build of keylatch")
    parser.add_argument("--quick", action="store_true", help="check the script; figures mean little")
    parser.add_argument("--only", action="append", choices=list(parts(True, hard)), help="this part (repeatable)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = Service(options.program, folder)
        try:
            for name, part in parts(options.quick, hard).items():
                if not options.only or name in options.only:
                    part(service)
        finally:
            service.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
