#!/usr/bin/env python3
"""What other locks take on the etcd cluster that is given, and Redis's on this machine: a part of `make bench-etcd`.

    scripts/bench_etcd_peers.py http://127.0.0.1:2379 ROUNDS [--redis]

It prints a line of JSON for each: what it is, and the median in microseconds. etcdctl and redis-server come from the PATH or
from Debian's packages; python-etcd3 and redis-py are installed in target/etcd-peers. What is not to be had is left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_service import UNLOCK, Redis, free_port, until
from debian_packages import MissingProgramError, program

PEERS = Path(__file__).resolve().parent.parent / "target" / "etcd-peers"
# python-etcd3 does not go with newer releases of protobuf and tenacity.
VERSIONS = ["etcd3==0.12.0", "protobuf==3.20.3", "tenacity==6.3.1", "redis==6.4.0"]
PATIENCE = 60.0


def report(what: str, times: list[float], members: str) -> None:
    print(json.dumps({"what": what, "kind": members, "us": statistics.median(times) * 1e6}), flush=True)


def timed(rounds: int, work: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return times


def hand_overs(rounds: int, first: Any, second: Any) -> list[float]:
    """Two callers take turns; the time is from the release to the waiter's return."""
    times = []
    locks = [first, second]
    locks[0].acquire()
    for turn in range(rounds):
        holder, waiter = locks[turn % 2], locks[1 - turn % 2]
        answered: list[float] = []
        thread = threading.Thread(target=lambda at=waiter, to=answered: (at.acquire(), to.append(time.perf_counter())))
        thread.start()
        # Where in the waiter's period of polling the release comes is by chance.
        time.sleep(0.05 + 0.1 * ((turn * 0.6180339887) % 1))
        released = time.perf_counter()
        holder.release()
        thread.join()
        times.append(answered[0] - released)
    locks[rounds % 2].release()
    return times


def etcdctl(endpoint: str, rounds: int) -> None:
    try:
        command = [str(program("etcdctl")), "--endpoints", endpoint]
    except MissingProgramError as error:
        print(f"no etcdctl to compare with: {error}", file=sys.stderr)
        return
    environment = {**os.environ, "ETCDCTL_API": "3"}
    run = lambda *words: subprocess.run([*command, *words], env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: E731
    report("etcdctl lock NAME true", timed(rounds, lambda: run("lock", "peers/etcdctl", "true")), "pair")
    report("etcdctl get, for its start alone", timed(rounds, lambda: run("get", "peers/none")), "pair")


def install() -> bool:
    stamp = PEERS / "versions"
    if not (stamp.exists() and stamp.read_text() == repr(VERSIONS)):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action", "ignore", "--upgrade", "--target", str(PEERS), *VERSIONS]
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            print("python-etcd3 and redis-py cannot be installed; they are left out", file=sys.stderr)
            return False
        stamp.write_text(repr(VERSIONS))
    sys.path.insert(0, str(PEERS))
    return True


def python_etcd3(endpoint: str, rounds: int) -> None:
    os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
    import etcd3  # type: ignore[import-not-found]  # noqa: PLC0415

    host, port = endpoint.rsplit("/", 1)[1].split(":")
    clients = [etcd3.client(host=host, port=int(port), timeout=PATIENCE) for _ in range(2)]
    client, at = clients[0], clients[0].transactions

    def raw() -> None:
        key = "peers/raw"
        put = client.transactions.put(key, "owner")
        client.transaction(compare=[at.create(key) == 0], success=[put], failure=[])
        client.delete(key)

    report("python-etcd3: raw transaction and deletion", timed(rounds, raw), "pair")
    locks = [client.lock("peers/python", ttl=60) for client in clients]
    report("python-etcd3 Lock", timed(rounds, lambda: (locks[0].acquire(), locks[0].release())), "pair")
    report("python-etcd3 Lock", hand_overs(max(rounds // 10, 3), *locks), "hand-over")


def redis(rounds: int) -> None:
    try:
        server_program = program("redis-server")
    except MissingProgramError as error:
        print(f"no Redis to compare with: {error}", file=sys.stderr)
        return
    import redis as library  # type: ignore[import-not-found]  # noqa: PLC0415

    port = free_port()
    # As etcd does, it has a write in a file before it answers, and the bench has etcd's files in memory.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        command = [str(server_program), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        server = subprocess.Popen([*command, "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL)
        try:
            plain = until("Redis answers", lambda: Redis(port))
            take = (b"SET", b"x", b"1", b"NX", b"PX", b"30000")
            pair = lambda: (plain.call(*take), plain.call(b"EVAL", UNLOCK, b"1", b"x", b"1"))  # noqa: E731
            report("Redis: SET NX PX and EVAL on a socket", timed(rounds, pair), "pair")
            locks = [library.Redis(port=port).lock("y", timeout=60, thread_local=False) for _ in range(2)]
            report("redis-py Lock", timed(rounds, lambda: (locks[0].acquire(), locks[0].release())), "pair")
            report("redis-py Lock", hand_overs(max(rounds // 10, 3), *locks), "hand-over")
        finally:
            server.terminate()
            server.wait(PATIENCE)


def main() -> int:
    if len(sys.argv) not in (3, 4):
        print(__doc__)
        return 2
    endpoint, rounds = sys.argv[1], int(sys.argv[2])
    etcdctl(endpoint, max(rounds // 10, 3))
    if install():
        python_etcd3(endpoint, rounds)
        if "--redis" in sys.argv:
            redis(rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
