"""The example examples/layers, run as it is."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from remote_server import ROOT, Server, binary

DEMO = ROOT / "examples" / "layers" / "demo.py"


@pytest.mark.once
def test_killed_worker_layers_are_sent_once() -> None:
    demo = subprocess.run([sys.executable, str(DEMO), str(binary())], capture_output=True, text=True, timeout=280)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "killed half-way" in demo.stdout
    # Each of the three that are left has seen each of the five layers.
    assert demo.stdout.count("fetched by") == 15, demo.stdout


def test_guide_example_runs_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "claims.md").read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 15
    server = Server()
    try:
        monkeypatch.setenv("KEYLATCH_SERVER", server.url)
        exec(compile(example, "claims.md", "exec"), {"__name__": "__main__"})
    finally:
        server.close()
    assert capsys.readouterr().out == "12 MiB 12 MiB 12 MiB\n"
