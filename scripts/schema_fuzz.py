#!/usr/bin/env python3
"""Hostile requests to the service: schemathesis on the served OpenAPI document, slow, half-open and oversized clients.

    scripts/schema_fuzz.py PROGRAM --examples 20      PROGRAM is a build of `keylatch`

Nothing may be answered with 5xx but what the document names, nothing may be answered in a way that the document does not
have, and afterwards the server has no more connections, sessions, waiters and little more memory than before.
schemathesis is installed in target/schemathesis (a virtual environment) if it is not there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
HOME = PROJECT / "target" / "schemathesis"
VERSION = "schemathesis==4.32.5"
PATIENCE = 60.0
# Streams do not end, and the answer of a closing server is no fault.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
]
LEFT_OUT = ["/v1/events", "/v1/sessions/{session}/attach"]


def schemathesis() -> Path:
    tool = HOME / "bin" / "schemathesis"
    if not tool.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
        subprocess.run([str(HOME / "bin" / "pip"), "install", "--quiet", VERSION], check=True)
    return tool


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    def __init__(self, keylatch: str, folder: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [keylatch, "serve", "--listen", f"127.0.0.1:{self.port}", "--state", f"{folder}/state"]
        # Leases are short, so that what a fuzzer opens ends soon.
        command += ["--max-ttl-ms", "2000", "--grace-ms", "500", "--drain-ms", "1", "--log", "error"]
        self.process = subprocess.Popen(command)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.health()
                return
            time.sleep(0.02)
        raise AssertionError("the server does not answer")

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + "/healthz", timeout=PATIENCE) as answer:
            return dict(json.loads(answer.read()))

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def memory_kib(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/status").read_text().split("VmRSS:")[1].split()[0])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


def fuzz(server: Server, examples: int) -> int:
    command = [str(schemathesis()), "run", server.url + "/openapi.json", "--max-examples", str(examples)]
    command += ["--seed", "1", "--no-color", "--request-timeout", "40", "--workers", "8", "--phases", "examples,coverage,fuzzing"]
    command += ["--continue-on-failure", "--suppress-health-check", "all", "--checks", ",".join(CHECKS)]
    for path in LEFT_OUT:
        command += ["--exclude-path", path]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, env=environment, cwd=HOME).returncode


def status_of(answer: bytes) -> int:
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") else 0


def hostile(server: Server) -> None:
    """Send what no client sends. Each is answered below 500, or cut."""
    head = b"POST /v1/lock HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    big = b"x" * (1 << 20)
    requests = {
        "a body of 1 MiB": head + b"content-length: 1048576\r\n\r\n" + big,
        "a length beyond 64 bits": head + b"content-length: 99999999999999999999\r\n\r\n{}",
        "a negative length": head + b"content-length: -1\r\n\r\n{}",
        "two lengths": head + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        "a header of 1 MiB": b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + big + b"\r\n\r\n",
        "10,000 headers": b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 10_000 + b"\r\n",
        "a path of 1 MiB": b"GET /" + big + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "bytes that are no HTTP": bytes(range(256)) * 16,
        "deep JSON": head + b"content-length: 200000\r\n\r\n" + b"[" * 200_000,
        "JSON that is no UTF-8": head + b"content-length: 4\r\n\r\n\"\xff\xfe\"",
        "a chunk that lies": head + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a foreign host": b"GET /v1/locks HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    }
    for what, request in requests.items():
        with server.connect() as client:
            client.settimeout(15)
            answer = b""
            with contextlib.suppress(OSError):
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                answer = client.recv(4096)
        status = status_of(answer)
        assert status < 500 and (status >= 400 or not answer), f"{what}: {answer[:80]!r}"
        print(f"  {what}: {status or 'cut'}")


def slow(server: Server) -> None:
    """Open connections that never finish a request; others are served meanwhile, and these are cut."""
    begun = time.monotonic()
    clients = []
    for number in range(200):
        client = server.connect()
        half = [b"", b"GET /healthz HT", b"POST /v1/lock HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n"
                b"content-type: application/json\r\n\r\n{"][number % 3]
        client.sendall(half)
        clients.append(client)
    assert server.health()["status"] == "ok"
    for client in clients:
        client.settimeout(30)
        with contextlib.suppress(OSError):
            while client.recv(4096):
                pass
        client.close()
    print(f"  200 half-open connections: all ended by the server within {time.monotonic() - begun:.1f} s")


def quiet(server: Server, descriptors: int) -> None:
    """Wait until what the fuzzer left is gone."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        health = server.health()
        left = {name: health[name] for name in ("sessions", "holders", "waiters", "claims", "claim_waiters")}
        if not any(left.values()) and server.descriptors() <= descriptors + 2:
            print(f"  afterwards: {left}, {server.descriptors()} descriptors (before: {descriptors})")
            return
        time.sleep(0.1)
    raise AssertionError(f"left behind: {left}, {server.descriptors()} descriptors (before: {descriptors})")


def main() -> int:
    parser = argparse.ArgumentParser(description="Hostile requests to the service.")
    parser.add_argument("program", help="a build of keylatch")
    parser.add_argument("--examples", type=int, default=20, help="requests that schemathesis makes up for each call")
    parser.add_argument("--only-hostile", action="store_true", help="leave schemathesis out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options.program, folder)
        try:
            descriptors = server.descriptors()
            hostile(server)
            slow(server)
            before = server.memory_kib()
            failed = 0 if options.only_hostile else fuzz(server, options.examples)
            quiet(server, descriptors)
            grown = server.memory_kib() - before
            print(f"  memory grew by {grown} KiB")
            assert grown < 64 * 1024, "it grew"
            return failed
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
