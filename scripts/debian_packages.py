#!/usr/bin/env python3
"""Programs of Debian packages, taken from the system or unpacked in target/debian: nothing of the system changes.

    scripts/debian_packages.py prometheus promtool redis-server    print where each of these programs is

A program that is on the PATH is used as it is. Others come from their package, with `apt-get download` and `dpkg -x`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / "target" / "debian"
ROOT = HOME / "root"

# Packages with each program, and with the libraries that a system may lack.
PACKAGES = {
    "prometheus": ["prometheus"],
    "promtool": ["prometheus"],
    "chromium": ["chromium", "libdouble-conversion3", "libminizip1"],
    "etcd": ["etcd-server"],
    "etcdctl": ["etcd-client"],
    "chromedriver": ["chromium-driver", "libdouble-conversion3", "libminizip1"],
    "redis-server": ["redis-server", "redis-tools", "libjemalloc2", "liblzf1"],
    # Their packages have the number of a release in their names, and many libraries: `apt-get` says which.
    "initdb": [],
    "postgres": [],
}
# Where Debian has the programs of PostgreSQL, which are not on the PATH.
SERVERS = "usr/lib/postgresql/*/bin"


class MissingProgramError(Exception):
    """A program that is neither here nor to be had."""


def program(name: str) -> Path:
    """Return where a program is, after unpacking it if need be."""
    found = shutil.which(name)
    if found:
        return Path(found)
    if not PACKAGES[name] and (found := in_servers(name, Path("/"))):
        return found
    wrapper = HOME / "bin" / name
    if not wrapper.exists():
        packages = PACKAGES[name] or missing_packages("postgresql")
        for package in packages:
            unpack(package)
        unpacked = (in_servers(name, ROOT) if not PACKAGES[name] else None) or ROOT / "usr" / "bin" / name
        if not unpacked.exists():
            raise MissingProgramError(f"{name} is not in the packages {', '.join(packages)}")
        libraries = ":".join(str(path) for path in sorted((ROOT / "usr" / "lib").glob("*-linux-gnu*")))
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        script = (
            f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}" exec "{unpacked}" "$@"\n'
        )
        fresh = wrapper.with_suffix(f".{os.getpid()}")
        fresh.write_text(script)
        fresh.chmod(0o755)
        fresh.replace(wrapper)
    return wrapper


def in_servers(name: str, root: Path) -> Path | None:
    """The program of the newest PostgreSQL below a root."""
    found = root.glob(f"{SERVERS}/{name}")
    return max(found, key=lambda path: int(path.parent.parent.name), default=None)


def missing_packages(package: str) -> list[str]:
    """A package and all that it needs and the system lacks."""
    if not shutil.which("apt-get"):
        raise MissingProgramError(f"install your system's package {package}: this is no Debian that could fetch it")
    # With the system's lists, or with our own where those are missing.
    for own in ([], own_lists()):
        command = ["apt-get", *own, "-qq", "--yes", "--no-install-recommends", "--print-uris", "install", package]
        planned = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        names = [line.split()[1].split("_")[0] for line in planned.stdout.splitlines() if line.startswith("'")]
        if names:
            return names
        if not own:
            run(["apt-get", *own_lists(), "update"], HOME, check=False)
    raise MissingProgramError(f"apt-get does not say what {package} needs:\n{planned.stderr.strip()}")


def own_lists() -> list[str]:
    """Options for lists of packages that are ours: the system's are not ours to change."""
    state, cache = HOME / "apt" / "state", HOME / "apt" / "cache"
    for path in (state / "lists" / "partial", cache / "archives" / "partial"):
        path.mkdir(parents=True, exist_ok=True)
    options = ("-o", f"Dir::State::lists={state / 'lists'}", "-o", f"Dir::Cache={cache}", "-o", "APT::Sandbox::User=")
    return [*options, "-o", "Debug::NoLocking=1"]


def unpack(package: str) -> None:
    folder = HOME / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob(f"{package}_*.deb")):
        download(package, folder)
    newest = max(folder.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
    run(["dpkg", "-x", str(newest), str(ROOT)], HOME)


def download(package: str, folder: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise MissingProgramError(f"install your system's package {package}: this is no Debian that could fetch it")
    if run(["apt-get", "download", package], folder, check=False) == 0:
        return
    # The system's lists may be missing or old.
    own = own_lists()
    run(["apt-get", *own, "update"], folder)
    run(["apt-get", *own, "download", package], folder)


def run(command: list[str], folder: Path, *, check: bool = True) -> int:
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if check and done.returncode != 0:
        said = done.stdout.decode(errors="replace").strip()
        raise MissingProgramError(f"{' '.join(command)} failed:\n{said}")
    return done.returncode


def main() -> int:
    names = sys.argv[1:]
    if not names or not set(names) <= set(PACKAGES):
        print(__doc__)
        return 2
    try:
        for name in names:
            print(program(name))
    except MissingProgramError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
