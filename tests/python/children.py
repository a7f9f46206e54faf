"""Processes that a test starts, talks to, stops and kills."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

# What every such program begins with. `say` tells the test a line; `hear` waits for one.
PRELUDE = """
import sys, time
def say(text="ready"):
    print(text, flush=True)
def hear():
    line = sys.stdin.readline()
    if not line:
        raise SystemExit("the test has ended")
    return line.rstrip()
path = sys.argv[1] if sys.argv[1:] else ""
"""


class Child:
    """A Python program in a process of its own, which ends with the test."""

    def __init__(self, program: str, *arguments: str) -> None:
        code = PRELUDE + textwrap.dedent(program)
        command = [sys.executable, "-W", "error", "-c", code, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            pytest.fail(f"the child has ended with {self._close()}")
        return line.rstrip()

    def say(self, text: str = "go on") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._close()

    def finish(self) -> int:
        """Wait for the end; the exit code."""
        self._process.wait(60)
        return self._close()

    def _close(self) -> int:
        code = self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                end.close()
        return code

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._close()
