"""A lock service of the tests' own, on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def binary() -> Path:
    """Return the program, which `cargo build -p keylatch-service` makes."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
    program = Path(os.environ.get("KEYLATCH_BINARY", folder / "keylatch"))
    assert program.exists(), f"{program} is not there: build it with `cargo build -p keylatch-service`"
    return program


class Server:
    """`keylatch serve` with a port that the system chooses."""

    def __init__(self, *arguments: str, port: int = 0, scheme: str = "http", grace: int = 10_000) -> None:
        # Long enough for renewals to be in time on a busy machine, but where a loss is to be seen.
        command = [str(binary()), "serve", "--listen", f"127.0.0.1:{port}", "--grace-ms", str(grace), *arguments]
        if "--state" not in arguments:
            command += ["--state", "none"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "listens on" in line:
                break
        else:
            raise AssertionError(f"the server did not start: {''.join(lines)}")
        self.port = int(lines[-1].split()[-1].rpartition(":")[2])
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)

    def rows(self, what: str) -> list[Any]:
        """Return the rows of a listing: locks, waiters or claims."""
        rows: list[Any] = self.get(f"/v1/{what}")["rows"]
        return rows

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.go_on()
        self.kill()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
