#!/usr/bin/env python3
"""Builds the wheels that PyPI takes, in target/wheels, and checks them.

    scripts/wheels.py [ARCHITECTURE...]    x86_64 and aarch64, or those that are named

Each is for every CPython from 3.11 on and for Linux with glibc 2.28 or later (manylinux_2_28). Zig links against that
glibc, on whatever system this runs, and for other machines; maturin, zig and auditwheel come from PyPI into
target/wheel-tools. An architecture that rustc has no standard library for is passed over, unless it was asked for by name:
`rustup target add` gets it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "target" / "wheel-tools"
WHEELS = ROOT / "target" / "wheels"
PACKAGES = ["maturin==1.16.0", "ziglang==0.15.2", "auditwheel==6.8.2"]
ARCHITECTURES = ("x86_64", "aarch64")
PLATFORM = "manylinux_2_28"
MOST_BYTES = 2_000_000


def run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


def tools() -> Path:
    """The folder of the programs, which come from PyPI the first time."""
    stamp, wanted = TOOLS / "packages", "\n".join(PACKAGES)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(TOOLS, with_pip=True, clear=True)
        run([str(TOOLS / "bin" / "pip"), "--disable-pip-version-check", "install", "--quiet", *PACKAGES])
        stamp.write_text(wanted)
    return TOOLS / "bin"


def has_standard_library(target: str) -> bool:
    folder = subprocess.run(
        ["rustc", "--print", "target-libdir", "--target", target], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return bool(folder) and any(Path(folder).glob("libstd-*"))


def build(programs: Path, architecture: str) -> Path:
    target = f"{architecture}-unknown-linux-gnu"
    out = WHEELS / architecture
    maturin = [str(programs / "maturin"), "build", "--release", "--locked", "--quiet", "--zig", "--target", target]
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.whl"):
        old.unlink()
    # Symbols are half of a wheel, and of no use without the debug information.
    run(
        [*maturin, "--compatibility", PLATFORM, "--out", str(out), "--interpreter", "3.11"],
        CARGO_PROFILE_RELEASE_STRIP="symbols",
        CARGO_PROFILE_RELEASE_DEBUG="false",
        CARGO_TARGET_DIR=str(ROOT / "target" / "wheel-build"),
        PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
    )
    (wheel,) = out.glob("*.whl")
    return wheel


def check(programs: Path, wheel: Path, architecture: str) -> None:
    if f"-cp311-abi3-{PLATFORM}_{architecture}.whl" not in wheel.name:
        sys.exit(f"{wheel.name} is not for {PLATFORM} of {architecture}")
    if wheel.stat().st_size > MOST_BYTES:
        sys.exit(f"{wheel.name} has {wheel.stat().st_size} bytes, and may have {MOST_BYTES}")
    verdict = run([str(programs / "auditwheel"), "show", str(wheel)], COLUMNS="200")
    if f'"{PLATFORM}_{architecture}"' not in verdict.replace("\n", " "):
        # It may be content with less.
        print(verdict)
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    for part in ("keylatch/py.typed", "keylatch/_keylatch.pyi", "keylatch/_keylatch.abi3.so", "LICENSE-MIT", "LICENSE-APACHE"):
        if not any(name.endswith(part) for name in names):
            sys.exit(f"{wheel.name} lacks {part}")
    print(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size:,} bytes; auditwheel: {' '.join(verdict.split())[:300]}")


USE = "import keylatch, sys\nwith keylatch.LockManager().lock('cat.jpg') as g: print('installed', keylatch.__version__, g)"


def use(wheel: Path) -> None:
    """Install it where nothing else is, and lock something."""
    empty = ROOT / "target" / "wheel-empty"
    venv.create(empty, with_pip=False, clear=True)
    python = str(empty / "bin" / "python")
    run([str(TOOLS / "bin" / "pip"), "--disable-pip-version-check", "--python", python, "install", "--quiet", str(wheel)])
    print(run([python, "-I", "-c", USE]), end="")


def main() -> int:
    named = sys.argv[1:]
    if any(name not in ARCHITECTURES for name in named):
        print(__doc__)
        return 2
    programs = tools()
    for architecture in named or ARCHITECTURES:
        target = f"{architecture}-unknown-linux-gnu"
        if not has_standard_library(target):
            message = f"{architecture}: rustc has no standard library for {target} here; `rustup target add {target}` gets it"
            if named:
                sys.exit(message)
            print(message)
            continue
        wheel = build(programs, architecture)
        check(programs, wheel, architecture)
        if architecture == os.uname().machine:
            use(wheel)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
