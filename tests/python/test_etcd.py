"""Managers whose keys are shared between machines.

`make test-etcd-python` runs all of it, with the package keylatch-etcd and the servers of scripts/with_etcd.py. Without them,
what needs neither is tested.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from children import Child
from keylatch import EtcdOptions, InvalidConfig, LockManager, LockTimeout, TierFailed

ETCD = os.environ.get("KEYLATCH_ETCD", "")
FILES = Path(os.environ.get("KEYLATCH_ETCD_FILES", "/"))
CAT = ("photos", "cat.jpg")
HERE = "127.0.0.1:1"

with_server = pytest.mark.skipif(not ETCD, reason="scripts/with_etcd.py starts servers")
without_server = pytest.mark.skipif(bool(ETCD), reason="with them, keylatch-etcd is there")

HOLD = """
import os
from keylatch import EtcdOptions, LockManager
locks = LockManager(etcd=os.environ["KEYLATCH_ETCD"], etcd_options=EtcdOptions(namespace=sys.argv[1], ttl=5))
with locks.lock(("photos", "cat.jpg"), owner="indexer") as guard:
    say(str(guard.fence))
    hear()
say("keeps")
if hear() == "leave":
    raise SystemExit
"""
COUNT = """
import os
from pathlib import Path
from keylatch import EtcdOptions, LockManager
options = EtcdOptions(namespace=sys.argv[1], ttl=600)
locks, number = LockManager(etcd=os.environ["KEYLATCH_ETCD"], etcd_options=options), Path(sys.argv[2])
for _ in range(50):
    with locks.lock("number", timeout=120):
        number.write_text(str(int(number.read_text()) + 1))
say("counted")
"""


def manager(namespace: str, ttl: float = 60) -> LockManager:
    return LockManager(etcd=ETCD, etcd_options=EtcdOptions(namespace=namespace, ttl=ttl, label="pytest"))


@without_server
def test_without_package_says_what_to_install() -> None:
    with pytest.raises(InvalidConfig, match=r"pip install keylatch\[etcd\]"):
        LockManager(etcd=HERE)


def test_package_of_other_version_refused(tmp_path: Path) -> None:
    for package, version in (("keylatch", "0.1.0"), ("keylatch_etcd", "9.9.9")):
        info = tmp_path / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: {version}\n"
        )
    (tmp_path / "keylatch_etcd").mkdir()
    (tmp_path / "keylatch_etcd" / "__init__.py").write_text("")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", "import keylatch"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode != 0
    assert "ImportError: keylatch is of version 0.1.0, and keylatch-etcd of 9.9.9" in done.stderr
    assert "pip install keylatch[etcd]==0.1.0" in done.stderr


@pytest.mark.parametrize("etcd", [7, b"a:1", {"a:1"}, ["a:1", 7]])
def test_wrong_type_refused(etcd: Any) -> None:
    with pytest.raises(TypeError, match="etcd is a str with addresses"):
        LockManager(etcd=etcd)
    with pytest.raises(TypeError, match="etcd_options is an EtcdOptions or None, not dict"):
        LockManager(etcd=HERE, etcd_options={})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"namespace": 7}, "namespace is a str, not int"),
        ({"ttl": "7"}, "ttl is a number of seconds, not str"),
        ({"ca_file": 7}, "ca_file is a path or None, not int"),
    ],
)
def test_options_of_wrong_type_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        LockManager(etcd=HERE, etcd_options=EtcdOptions(**options))


def test_options_without_cluster_refused() -> None:
    with pytest.raises(InvalidConfig, match="give both"):
        LockManager(etcd_options=EtcdOptions())
    with pytest.raises(InvalidConfig, match="shared_memory is given, too"):
        LockManager(etcd=HERE, shared_memory="/dev/shm/keylatch-never-made")
    assert not Path("/dev/shm/keylatch-never-made").exists()


def test_password_is_not_shown() -> None:
    assert "secret" not in repr(EtcdOptions(user="locks", password="secret"))


@with_server
@pytest.mark.parametrize(
    ("etcd", "options", "problem"),
    [
        ("", {}, "an address is empty"),
        ([], {}, "an address is empty"),
        (["a:1", ""], {}, "an address is empty"),
        ("a", {}, "usually a:2379"),
        ("a:1\0b", {}, "etcd"),
        ("\ud800:1", {}, "not UTF-8"),
        ("x" * 3_000_000, {}, "bytes; at most"),
        ("ftp://a:1", {}, "http://"),
        ("https://a:1", {}, "ca_file"),
        (HERE, {"namespace": "a/b"}, "namespace"),
        (HERE, {"namespace": "a\0b"}, "namespace"),
        (HERE, {"namespace": "x" * 3_000_000}, "namespace"),
        (HERE, {"ttl": 1.5}, "ttl"),
        (HERE, {"ttl": 0}, "ttl"),
        (HERE, {"ttl": -1}, "ttl"),
        (HERE, {"ttl": float("inf")}, "ttl"),
        (HERE, {"connect_timeout": float("inf")}, "connect_timeout"),
        (HERE, {"ca_file": "/no/such/file"}, "/no/such/file"),
        (HERE, {"ca_file": "/etc/hostname"}, "PEM"),
        (HERE, {"certificate_file": Path("/etc/hostname")}, "key_file"),
        (HERE, {"key_file": "/etc/hostname"}, "certificate_file"),
        (HERE, {"user": "locks"}, "password"),
        (HERE, {"password": "secret"}, "user"),
        (HERE, {"label": "x" * 3_000_000}, "label"),
    ],
)
def test_wrong_setting_refused(etcd: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidConfig, match=problem):
        LockManager(etcd=etcd, etcd_options=EtcdOptions(**options))
    with pytest.raises(InvalidConfig, match="shards"):
        LockManager(etcd=HERE, shards=3)


@with_server
def test_no_answer_says_what_to_do() -> None:
    options = EtcdOptions(connect_timeout=0.2, ttl=2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = "{}:{}".format(*silent.getsockname())
        with pytest.raises(TierFailed, match="check addresses, network and servers") as raised:
            LockManager(etcd=address, etcd_options=options)
        assert (raised.value.kind, raised.value.code, raised.value.transient) == ("unavailable", -14, True)
    with pytest.raises(TierFailed, match="refused"):
        LockManager(etcd=[address, HERE], etcd_options=options)


@with_server
def test_managers_exclude_each_other() -> None:
    one, two = manager("py-two"), manager("py-two")
    with one.lock(CAT) as guard:
        fence = guard.fence
        assert two.try_lock(CAT) is None
        with pytest.raises(LockTimeout, match="another process"):
            two.lock(CAT, timeout=0.01)
        manager("py-apart").lock(CAT, timeout=60).release()
    with two.lock(CAT, timeout=60) as guard:
        assert guard.fence > fence

    async def waits() -> int:
        waiting = asyncio.create_task(first(two))
        held.release()
        return await waiting

    async def first(locks: LockManager) -> int:
        async with locks.alock(CAT, timeout=60) as guard:
            return guard.fence

    held = one.lock(CAT, timeout=60)
    fence = held.fence
    assert asyncio.run(waits()) > fence
    with two.lock_many([CAT, "dog.jpg"], timeout=60):
        assert one.try_lock("dog.jpg") is None


@with_server
def test_holds_of_both_managers_listed() -> None:
    one, two = manager("py-listed"), manager("py-listed")
    with ThreadPoolExecutor() as pool, one.lock(CAT, owner="indexer", timeout=60):
        assert two.holders() == []
        (seen,) = two.tier_holds(CAT)
        assert (seen.key, seen.mode, seen.owner, seen.waits, seen.own) == (CAT, "exclusive", "indexer", False, False)
        assert "pytest" in seen.process
        assert seen.since is None
        assert str(seen).startswith('"indexer" of ')
        (own,) = one.tier_holds()
        assert own.own
        assert two.tier_holds("dog.jpg") == []
        waiting = pool.submit(two.lock, CAT, shared=True, timeout=60)
        while not any(hold.waits for hold in one.tier_holds(CAT)):  # until the cluster has its request
            pass
        (waits,) = [hold for hold in one.tier_holds(CAT) if hold.waits]
        assert (waits.mode, waits.own) == ("shared", False)
    waiting.result().release()


@with_server
def test_waiter_of_other_process_is_next() -> None:
    locks = manager("py-handed")
    with Child(HOLD, "py-handed") as child:
        fence = int(child.hear())
        assert locks.try_lock(CAT) is None
        child.say("leave")
        assert child.hear() == "keeps"
        with locks.lock(CAT, timeout=60) as guard:
            assert guard.fence > fence


@with_server
def test_lock_of_killed_process_is_free() -> None:
    locks = manager("py-killed")
    with Child(HOLD, "py-killed") as child:
        fence = int(child.hear())
        child.kill()
        with locks.lock(CAT, timeout=60) as guard:
            assert guard.fence > fence


@with_server
def test_program_that_ends_leaves_nothing(tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("0")
    children = [Child(COUNT, "py-count", str(number)) for _ in range(4)]
    for child in children:
        with child:
            assert child.hear() == "counted"
            assert child.finish() == 0
    assert number.read_text() == "200"
    # One that left its lease would keep the others waiting.
    manager("py-count").lock("number", timeout=120).release()


@with_server
def test_forked_child_leaves_parents_locks() -> None:
    locks = manager("py-forked")
    guard = locks.lock(CAT, timeout=60)
    program = """
import os
from keylatch import EtcdOptions, LockManager
locks = LockManager(etcd=os.environ["KEYLATCH_ETCD"], etcd_options=EtcdOptions(namespace="py-forked", ttl=60))
guard = locks.lock("dog.jpg", timeout=60)
if (child := os.fork()) == 0:
    raise SystemExit
assert os.waitpid(child, 0)[1] == 0
guard.release()
locks.lock("dog.jpg", timeout=60).release()
say("fine")
"""
    with Child(program) as child:
        assert child.hear() == "fine"
        assert child.finish() == 0
    guard.release()


@with_server
def test_login_and_certificates() -> None:
    login, tls = os.environ["KEYLATCH_ETCD_LOGIN"], os.environ["KEYLATCH_ETCD_TLS"]
    own: dict[str, Any] = {"certificate_file": FILES / "mine.pem", "key_file": str(FILES / "mine.key")}
    for etcd, options, problem in (
        (login, EtcdOptions(), "give a user and a password"),
        (login, EtcdOptions(user="locks", password="wrong"), "the password of the user"),
        (tls, EtcdOptions(ca_file=FILES / "ca.pem"), "certificates do not fit"),
        (tls, EtcdOptions(ca_file=FILES / "other-ca.pem", **own), "certificates do not fit"),
    ):
        with pytest.raises(TierFailed, match=problem) as raised:
            LockManager(etcd=etcd, etcd_options=options)
        assert raised.value.kind == "not_permitted"
    for etcd, options in (
        (login, EtcdOptions(user="locks", password="secret")),
        (tls, EtcdOptions(ca_file=FILES / "ca.pem", **own)),
    ):
        LockManager(etcd=etcd, etcd_options=options).lock(CAT, timeout=60).release()
