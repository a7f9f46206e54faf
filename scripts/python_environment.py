#!/usr/bin/env python3
"""Builds the Python package and runs a command with it: in an environment of its own for each interpreter found.

    scripts/python_environment.py test          every check, on every CPython from 3.11 on
    scripts/python_environment.py sdist         build the source package, install it where nothing else is, and use it
    scripts/python_environment.py etcd ARG...   the tests of locks between machines, with the package keylatch-etcd, on it
    scripts/python_environment.py run ARG...    `python ARG...` with the package, on the newest of them

Everything lies in target/python. Nothing is asked, and nothing outside the project is changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "python"
REQUIREMENTS = ROOT / "tests" / "python" / "requirements.txt"
OLDEST, NEWEST = 11, 16

PROBE = """
import json, platform, sys, sysconfig
print(json.dumps([platform.python_implementation(), sys.version_info[:3], bool(sysconfig.get_config_var("Py_GIL_DISABLED"))]))
"""


class Interpreter:
    """A CPython on this machine, and the environment for it."""

    def __init__(self, program: str, version: tuple[int, int, int], free_threaded: bool) -> None:
        """Describe an interpreter that was found."""
        self.program, self.version, self.free_threaded = program, version, free_threaded
        self.name = ".".join(map(str, version[:2])) + ("t" if free_threaded else "")
        self.folder = HOME / self.name
        self.python = self.folder / "bin" / "python"

    def prepare(self) -> None:
        """Make the environment, with what the tests need."""
        wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + repr((self.program, self.version)).encode()).hexdigest()
        stamp = self.folder / "requirements.sha256"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        run([self.program, "-m", "venv", "--without-pip", str(self.folder)])
        pip("--python", str(self.python), "install", "--quiet", "--requirement", str(REQUIREMENTS))
        stamp.write_text(wanted)

    def install(self, wheel: Path) -> None:
        """Put the package into the environment."""
        pip("--python", str(self.python), "install", "--quiet", "--force-reinstall", "--no-deps", str(wheel))


def run(command: list[str], **environment: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, **environment}, stdin=subprocess.DEVNULL)


def pip(*arguments: str, **environment: str) -> None:
    """Run a pip of our own: interpreters may come without one."""
    tools = HOME / "tools"
    if not (tools / "bin" / "pip").exists():
        venv.create(tools, with_pip=True, clear=True)
    run([str(tools / "bin" / "pip"), "--disable-pip-version-check", *arguments], **environment)


def find_interpreters() -> list[Interpreter]:
    """One of each minor version, the newest of it."""
    programs = [sys.executable]
    for minor in range(OLDEST, NEWEST):
        programs += filter(None, (shutil.which(f"python3.{minor}{kind}") for kind in ("", "t")))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    programs += [str(path) for path in sorted(pyenv.glob("3.*/bin/python3"))]
    found: dict[str, Interpreter] = {}
    for program in programs:
        probe = subprocess.run([program, "-c", PROBE], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if probe.returncode != 0:
            continue
        kind, version, free_threaded = json.loads(probe.stdout)
        if kind != "CPython" or version < [3, OLDEST]:
            continue
        interpreter = Interpreter(program, tuple(version), free_threaded)
        known = found.get(interpreter.name)
        if known is None or known.version < interpreter.version:
            found[interpreter.name] = interpreter
    if not found:
        sys.exit(f"CPython 3.{OLDEST} or newer is missing: install your system's package of that name")
    return sorted(found.values(), key=lambda interpreter: (interpreter.free_threaded, interpreter.version))


def build(interpreter: Interpreter) -> Path:
    """Build the wheel; those with a lock around the interpreter share one."""
    wheels = HOME / ("wheels-" + interpreter.name if interpreter.free_threaded else "wheels")
    shutil.rmtree(wheels, ignore_errors=True)
    maturin = [str(interpreter.python), "-m", "maturin", "build", "--release", "--locked", "--quiet"]
    run([*maturin, "--out", str(wheels), "--interpreter", str(interpreter.python)])
    (wheel,) = wheels.glob("*.whl")
    return checked(wheel, interpreter)


def checked(wheel: Path, interpreter: Interpreter) -> Path:
    """One wheel serves every version with a lock around the interpreter; those without have no stable interface yet."""
    kind = f"cp{interpreter.name.replace('.', '')}" if interpreter.free_threaded else "cp311-abi3"
    if not wheel.name.startswith(f"keylatch-{version()}-{kind}-"):
        sys.exit(f"{wheel.name} should be for {kind} and of version {version()}")
    return wheel


def version() -> str:
    """The version of the workspace, which is that of everything."""
    found = re.search(r'^version = "(.*?)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    return found[1] if found else sys.exit("Cargo.toml has no version")


USE = """
import keylatch
with keylatch.LockManager().lock("cat.jpg", owner="installed from source") as guard:
    print(guard, guard.owner, keylatch.__version__)
"""


def build_from_source_package(interpreter: Interpreter) -> Path:
    """Build the wheel as a user does, with the source package, Rust, and nothing of ours."""
    packages = HOME / "sdist"
    shutil.rmtree(packages, ignore_errors=True)
    run([str(interpreter.python), "-m", "maturin", "sdist", "--out", str(packages)])
    (package,) = packages.glob("*.tar.gz")
    # What is compiled for others is good for this one, too; it makes no difference but to the time it takes.
    target = str(ROOT / "target")
    python = ["--python", str(interpreter.python)]
    pip(*python, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(packages), str(package), CARGO_TARGET_DIR=target)
    (wheel,) = packages.glob("*.whl")
    return checked(wheel, interpreter)


def sdist() -> None:
    """Install the source package where nothing else is, and use it."""
    interpreter = with_lock(find_interpreters())
    interpreter.prepare()
    wheel = build_from_source_package(interpreter)
    say(f"Installing {wheel.name} in an empty environment of CPython {interpreter.name}")
    empty = HOME / "from-source"
    shutil.rmtree(empty, ignore_errors=True)
    run([interpreter.program, "-m", "venv", "--without-pip", str(empty)])
    python = str(empty / "bin" / "python")
    pip("--python", python, "install", "--quiet", str(wheel))
    said = subprocess.run([python, "-I", "-c", USE], cwd=HOME, check=True, capture_output=True, text=True).stdout
    if said.split()[-1] != version():
        sys.exit(f"what was installed says {said!r}")
    print(said, end="")


def with_lock(found: list[Interpreter]) -> Interpreter:
    """The newest that has a lock around the interpreter, or the newest."""
    return ([interpreter for interpreter in found if not interpreter.free_threaded] or found)[-1]


def test(arguments: list[str]) -> None:
    found = find_interpreters()
    newest = with_lock(found)
    wheel = None
    for interpreter in found:
        free = " without the GIL" if interpreter.free_threaded else ""
        say(f"CPython {'.'.join(map(str, interpreter.version))}{free}")
        interpreter.prepare()
        if wheel is None or interpreter.free_threaded:
            # Where every change is checked it is checked that the source package has all that it takes.
            from_source = bool(os.environ.get("CI")) and not interpreter.free_threaded
            wheel = build_from_source_package(interpreter) if from_source else build(interpreter)
        interpreter.install(wheel)
        # What takes long, and depends little on the interpreter, is for one of them.
        selected = [] if interpreter is newest or arguments else ["-m", "not once"]
        run([str(interpreter.python), "-m", "pytest", *selected, *arguments])
    if not arguments:
        check(str(newest.python))
        if not any(interpreter.free_threaded for interpreter in found):
            check_without_lock()


# As an interpreter without the lock would describe itself.
FREE_THREADED = """\
implementation=CPython
version=3.14
shared=true
abi3=false
build_flags=Py_GIL_DISABLED
suppress_build_script_link_lines=true
pointer_width=64
"""


def check_without_lock() -> None:
    """What can be said of the build for interpreters without the GIL where there is none: that it compiles."""
    say("No CPython without the GIL is on this machine: its build is compiled, and not tested")
    config = HOME / "free-threaded.txt"
    config.write_text(FREE_THREADED)
    target = str(HOME / "free-threaded")
    run(
        ["cargo", "check", "--quiet", "--locked", "-p", "keylatch-python"],
        PYO3_CONFIG_FILE=str(config),
        CARGO_TARGET_DIR=target,
    )


def check(python: str) -> None:
    """Check what one interpreter is enough for: style, types, stubs against what they describe."""
    say("Style, types and stubs")
    run([python, "-m", "ruff", "check", "--quiet", "python", "tests/python", "scripts/python_environment.py"])
    run(
        [
            python,
            "-m",
            "ruff",
            "format",
            "--quiet",
            "--check",
            "python",
            "tests/python",
            "scripts/python_environment.py",
        ]
    )
    run([python, "-m", "mypy"])
    # The oldest Python, for which typeshed describes asyncio otherwise.
    run([python, "-m", "mypy", "--python-version", "3.11", "tests/python/typed_asyncio.py"])
    allowed = str(ROOT / "tests" / "python" / "stubtest.txt")
    run([python, "-m", "mypy.stubtest", "keylatch", "--allowlist", allowed], MYPYPATH="")


def run_with(arguments: list[str]) -> None:
    interpreter = with_lock(find_interpreters())
    interpreter.prepare()
    interpreter.install(build(interpreter))
    run([str(interpreter.python), *arguments])


def test_etcd(arguments: list[str]) -> None:
    """Test the source tree with the compiled half of keylatch-etcd, which no other test is to find."""
    if f'etcd = ["keylatch-etcd=={version()}"]' not in (ROOT / "pyproject.toml").read_text():
        sys.exit(f"pyproject.toml should ask for keylatch-etcd of version {version()}")
    interpreter = with_lock(find_interpreters())
    interpreter.prepare()
    packages, site = HOME / "etcd-wheels", HOME / "etcd-site"
    for folder in (packages, site):
        shutil.rmtree(folder, ignore_errors=True)
    python = str(interpreter.python)
    # Fast to build; what is optimized is what scripts/wheels.py builds.
    maturin = [python, "-m", "maturin", "build", "--locked", "--quiet", "--out", str(packages), "--interpreter", python]
    # With the settings of tests, so that what they have built is not built again.
    settings = {**os.environ, "CARGO_PROFILE_DEV_OPT_LEVEL": "1"}
    subprocess.run(maturin, cwd=ROOT / "python" / "etcd", check=True, stdin=subprocess.DEVNULL, env=settings)
    (wheel,) = packages.glob("*.whl")
    pip("--python", python, "install", "--quiet", "--no-deps", "--target", str(site), str(wheel))
    path = os.pathsep.join((str(site), str(ROOT / "python")))
    tests = [python, "-m", "pytest", "tests/python/test_etcd.py", *arguments]
    run([python, str(ROOT / "scripts" / "with_etcd.py"), *tests], PYTHONPATH=path)


def say(what: str) -> None:
    print(f"\n-- Python: {what}", flush=True)


def main() -> int:
    try:
        match sys.argv[1:]:
            case ["test", *arguments]:
                test(arguments)
            case ["sdist"]:
                sdist()
            case ["etcd", *arguments]:
                test_etcd(arguments)
            case ["run", *arguments]:
                run_with(arguments)
            case _:
                print(__doc__)
                return 2
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(map(str, error.cmd))} ended with status {error.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
