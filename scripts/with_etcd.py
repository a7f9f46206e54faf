#!/usr/bin/env python3
"""Runs a command with real etcd servers beside it, which end with it.

    scripts/with_etcd.py COMMAND...

The command finds in its environment KEYLATCH_ETCD, the address of a plain server; KEYLATCH_ETCD_LOGIN, that of one that asks
for the user "locks" with the password "secret"; KEYLATCH_ETCD_TLS, that of one that asks for certificates; and
KEYLATCH_ETCD_FILES, a folder with ca.pem, mine.pem, mine.key, strange.pem, strange.key and other-ca.pem.

Without etcd it says so and is content. With CI set it fails: a test that does nothing must not pass there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import debian_packages

STARTS_WITHIN = 60


def free_port() -> int:
    """A port below those that the system gives to connections, so that none of them takes it before a server does."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def end_with_parent() -> None:
    """Has the kernel end a server when this script ends, however it does."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Server:
    """A server of its own, in a folder."""

    def __init__(self, etcd: Path, folder: Path, scheme: str = "http", flags: list[str] | None = None) -> None:
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        metrics, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        folder.mkdir()
        command = [str(etcd), "--data-dir", str(folder / "data"), "--unsafe-no-fsync", "--logger", "zap"]
        command += ["--listen-client-urls", f"{scheme}://{self.address}"]
        command += ["--advertise-client-urls", f"{scheme}://{self.address}"]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        command += ["--listen-metrics-urls", metrics, "--heartbeat-interval", "100", "--election-timeout", "1000"]
        with (folder / "log").open("wb") as log:
            command += flags or []
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent
            )
        self.wait_until_healthy(f"{metrics}/health")

    def wait_until_healthy(self, address: str) -> None:
        end = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(address, timeout=1) as answer:
                    if b'"true"' in answer.read():
                        return
            except OSError:
                pass
            time.sleep(0.05)
        self.end()
        sys.exit("etcd does not start:\n" + (self.folder / "log").read_text()[-2000:])

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def run(command: list[str], folder: Path, **environment: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}")


def certificates(folder: Path) -> None:
    """Two authorities, and certificates of each."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    for authority, issued in (("ca", ("server", "mine")), ("other-ca", ("strange",))):
        own = ["-x509", "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-subj", f"/CN={authority}", "-days", "2"]
        run(["openssl", "req", *key, *own], folder)
        for name in issued:
            wanted = ["-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", "-addext", names]
            run(["openssl", "req", *key, *wanted], folder)
            signed = ["-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-out", f"{name}.pem"]
            run(["openssl", "x509", "-req", "-copy_extensions", "copy", "-days", "2", *signed], folder)


def add_login(etcdctl: Path, server: Server) -> None:
    command = [str(etcdctl), "--endpoints", f"http://{server.address}"]
    for words in (
        ["user", "add", "root:root"],
        ["user", "grant-role", "root", "root"],
        ["role", "add", "locks"],
        ["role", "grant-permission", "locks", "readwrite", "--prefix", "keylatch/"],
        ["user", "add", "locks:secret"],
        ["user", "grant-role", "locks", "locks"],
        ["auth", "enable"],
    ):
        run([*command, *words], server.folder, ETCDCTL_API="3")


def main() -> int:
    command = sys.argv[1:]
    if not command:
        print(__doc__)
        return 2
    try:
        etcd, etcdctl = debian_packages.program("etcd"), debian_packages.program("etcdctl")
        if not shutil.which("openssl"):
            raise debian_packages.MissingProgramError("openssl is missing, which makes certificates")
    except debian_packages.MissingProgramError as error:
        print(f"SKIPPED, all tests with a server: {error}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    home = Path(tempfile.mkdtemp(prefix="keylatch-with-etcd-", dir=memory))
    servers: list[Server] = []
    # What ends this script ends the servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        certificates(home)
        servers.append(Server(etcd, home / "plain"))
        servers.append(Server(etcd, home / "login"))
        add_login(etcdctl, servers[-1])
        flags = ["--client-cert-auth", f"--trusted-ca-file={home}/ca.pem"]
        flags += [f"--cert-file={home}/server.pem", f"--key-file={home}/server.key"]
        servers.append(Server(etcd, home / "tls", "https", flags))
        plain, login, tls = (server.address for server in servers)
        found = {"KEYLATCH_ETCD": plain, "KEYLATCH_ETCD_LOGIN": login, "KEYLATCH_ETCD_TLS": tls}
        return subprocess.run(command, env={**os.environ, **found, "KEYLATCH_ETCD_FILES": str(home)}).returncode
    finally:
        for server in servers:
            server.end()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
