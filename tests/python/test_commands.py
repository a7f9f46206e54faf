"""`python -m keylatch`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import keylatch
from keylatch.__main__ import main

pytestmark = pytest.mark.once


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-W", "error", "-m", "keylatch", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=120)


def test_help() -> None:
    output = command("--help")
    assert output.returncode == 0
    assert "demo" in output.stdout
    assert "bench" in output.stdout
    for name in ("demo", "bench"):
        output = command(name, "--help")
        assert output.returncode == 0
        assert "--" in output.stdout
    assert command("--version").stdout == f"keylatch {keylatch.__version__}\n"
    for wrong in ((), ("dance",), ("demo", "--threads", "0", "--tasks", "0"), ("bench", "--only", "nothing")):
        output = command(*wrong)
        assert output.returncode != 0
        assert output.stderr
        assert "Traceback" not in output.stderr


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("demo", "--seconds", ["nan", "inf", "-inf", "-1", "0", "1e400", "x", ""]),
        ("demo", "--threads", ["-1", "1.5", "nan", "x"]),
        ("demo", "--tasks", ["-1", "1.5", "inf", "x"]),
        ("demo", "--keys", ["0", "-1", "nan", "x"]),
        ("demo", "--readers", ["-0.1", "1.1", "nan", "inf", "x"]),
        ("bench", "--rounds", ["0", "-1", "1.5", "nan", "x"]),
    ],
)
def test_numbers_that_cannot_be(
    name: str, option: str, values: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (keylatch._demo, keylatch._bench):
        monkeypatch.setattr(module, "run", lambda _: pytest.fail("it was begun"))
    for value in values:
        with pytest.raises(SystemExit) as caught:
            main([name, f"{option}={value}"])
        assert caught.value.code == 2
        assert f"argument {option}: {value!r} is no" in capsys.readouterr().err


def test_the_demonstration() -> None:
    output = command("demo", "--seconds", "0.5")
    assert (output.returncode, output.stderr) == (0, ""), output.stdout
    for part in (
        "locks/s",
        "locks taken by threads",
        "locks taken by tasks",
        "waits: half",
        "health",
        "no thread or task ever met",
    ):
        assert part in output.stdout


def test_demo_notices_missing_lock() -> None:
    output = command("demo", "--seconds", "3", "--sabotage", "--readers", "0", "--keys", "1")
    assert output.returncode == 1
    assert "times a thread or task met a writer" in output.stderr


def test_the_bench(tmp_path: Path) -> None:
    file = tmp_path / "figures" / "bench.json"
    output = command("bench", "--quick", "--json", str(file))
    assert (output.returncode, output.stderr) == (0, ""), output.stdout
    for part in (
        "threading.Lock",
        "asyncio.Lock",
        "dict of locks",
        "readerwriterlock",
        "fasteners",
        "filelock",
        "multiprocessing.Lock",
        "goal",
        "Ctrl-C",
    ):
        assert part in output.stdout
    figures = json.loads(file.read_text())
    assert {row["name"] for row in figures["rows"]} >= {"with block", "method pair", "async with"}
    for row in figures["rows"]:
        for times in row["nanoseconds"].values():
            assert len(times) == 3
            assert min(times) > 0


def test_the_bench_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("readerwriterlock.rwlock", "fasteners", "filelock"):
        monkeypatch.setitem(sys.modules, module, None)
    assert main(["bench", "--quick", "--only", "with block"]) == 0
    output = capsys.readouterr().out
    for package in ("readerwriterlock", "fasteners", "filelock"):
        assert f"{package} is not installed and was left out: pip install {package}" in output
