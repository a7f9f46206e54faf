"""The scenarios that make sense with a server, through the client for threads and that for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import claim_scenario
import scenario
from claim_scenario import Wrong
from conftest import until
from keylatch import KeylatchError
from keylatch.claims import Answer, ClaimEvent, ClaimGrant, ClaimPolicy, ClaimReset, Ended, Lost, Yours
from keylatch.remote import AsyncGuard, AsyncRemoteLocks, RemoteGuard, RemoteLocks
from keylatch.remote._errors import of_claim
from keylatch.remote._http import Http
from keylatch.remote._session import Session, open_session
from keylatch.remote._threads import _Loop
from keylatch.remote._wire import claim_answer, policy_fields, resource_of
from remote_server import Server

pytestmark = pytest.mark.once
FOLDER = Path(__file__).parents[1] / "scenarios"
FIELDS = {"do", "as", "key", "mode", "owner", "priority", "timeout_ms", "took_ms", "expect", "grant", "wait", "ms"}
FIELDS |= {"greater_than", "equal_to"}
STEPS = {"try", "acquire", "start", "finish", "waits", "cancel", "release", "metrics", "holds", "fence", "sleep"}
# How the service is, whatever a story's manager says.
SETTINGS: tuple[Any, ...] = (None, {"fairness": "fifo"}, {"reentrancy": "count"})
# What a server answers otherwise, and why.
OTHERWISE = {
    "long_keys": "the service takes keys of at most a kilobyte",
    "any_bytes_are_a_key": "JSON has text alone",
    "fences_grow": "each grant has a fence of its own, a shared one too",
    "many_timeouts_are_unhealthy": "health is the server's",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def stories() -> list[Path]:
    """Those of verbs and fields that the service has."""
    return [file for file in sorted(FOLDER.glob("*.json")) if makes_sense(file)]


def makes_sense(file: Path) -> bool:
    story = json.loads(file.read_text())
    if story.get("manager") not in SETTINGS or file.stem in OTHERWISE:
        return False
    for step in story["steps"]:
        texts = all(isinstance(part, str) and part for part in step.get("key", ()))
        owner = isinstance(step.get("owner", ""), str)
        figures = step["do"] != "metrics" or step["expect"].keys() <= {"holders", "waiters"}
        if step["do"] not in STEPS or not step.keys() <= FIELDS or not (texts and owner and figures):
            return False
    return True


class Remote:
    """A server's locks as the runner of scenarios uses a manager: one client for each owner."""

    def __init__(self, server: Server, way: str) -> None:
        self.server = server
        self._way = way
        self._clients: dict[str, RemoteLocks] = {}
        self._tasks: dict[str, AsyncRemoteLocks] = {}

    def lock(self, key: Any, *, owner: str | None = None, ttl: None = None, **asked: Any) -> RemoteGuard:
        name = owner or ""
        if name not in self._clients:
            self._clients[name] = RemoteLocks(self.server.url, owner=name)
        return self._clients[name].lock(key, **asked)

    async def alock(self, key: Any, *, owner: str | None = None, ttl: None = None, **asked: Any) -> AsyncGuard:
        name = owner or ""
        if name not in self._tasks:
            self._tasks[name] = AsyncRemoteLocks(self.server.url, owner=name)
        return await self._tasks[name].alock(key, **asked)

    async def aclose(self) -> None:
        for client in self._tasks.values():
            await client.close()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


class Background(scenario.Background):
    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


class RemoteScenario(scenario.Scenario):
    """As a scenario of this process; a request is in line when the server lists it."""

    _background: Background

    def do_start(self, fields: scenario.Fields, expected: Any) -> None:
        remote: Any = self._locks
        before = len(remote.server.rows("waiters"))
        name, asked = fields.take("as"), self._timeout(fields)
        wanted, request = self._request(fields)
        task = self._background.start(remote.alock(wanted, **request, **asked))
        until(lambda: task.done() or len(remote.server.rows("waiters")) > before)
        if expected == "granted":
            self._grants[name] = task.result()
        elif expected == "ok":
            if task.done() and task.exception() is None:
                raise Wrong(f"it came to {task}")
            self._waits[name] = task, None
        else:
            until(task.done)
            scenario.compare(expected, task.result)

    def do_release(self, fields: scenario.Fields, expected: Any) -> None:
        held: Any = self._held(fields.need("grant"))
        if isinstance(held, AsyncGuard):
            scenario.compare(expected, lambda: self._background.run(held.release()))
        else:
            scenario.compare(expected, held.release)

    def _guard(self, fields: scenario.Fields) -> Any:
        return self._held(fields.need("grant"))

    def do_metrics(self, fields: scenario.Fields, expected: Any) -> None:
        remote: Any = self._locks
        rows = {"holders": "locks", "waiters": "waiters"}
        for name, figure in expected.items():
            scenario.check_equal(figure, len(remote.server.rows(rows[name])))

    def do_cancel(self, fields: scenario.Fields, expected: Any) -> None:
        remote: Any = self._locks
        before = len(remote.server.rows("waiters"))
        super().do_cancel(fields, expected)
        until(lambda: not expected or len(remote.server.rows("waiters")) < before)

    def release_everything(self) -> None:
        for held in self._grants.values():
            with contextlib.suppress(KeylatchError):
                if isinstance(held, AsyncGuard):
                    self._background.run(held.release())
                else:
                    held.release()  # type: ignore[union-attr]


@pytest.mark.parametrize("file", stories(), ids=lambda file: file.stem)
def test_remote_scenario(file: Path, server: Server) -> None:
    story = json.loads(file.read_text())
    background = Background(asyncio.new_event_loop)
    remote: Any = Remote(server, "threads")
    run = RemoteScenario(remote, background)
    try:
        for number, step in enumerate(story["steps"], 1):
            try:
                run.step(dict(step))
            except Wrong as problem:
                raise Wrong(f"step {number} {step}: {problem}") from problem
        left = story.get("left", {})
        # What ended by its timeout may be granted in that moment; its client gives it back.
        until(lambda: len(server.rows("locks")) == left.get("holders", 0))
        until(lambda: len(server.rows("waiters")) == left.get("waiters", 0))
        run.release_everything()
    finally:
        background.run(remote.aclose())
        background.stop()
        remote.close()
    until(lambda: not server.rows("locks"))


def test_enough_scenarios_make_sense_remotely() -> None:
    assert len(stories()) >= 15, [file.stem for file in stories()]


class RemoteVerbs:
    """The verbs of one numbered claim."""

    def __init__(self, front: RemoteFront, session: Session, number: int) -> None:
        self._front, self._session, self._number = front, session, number

    def complete(self, fence: int, succeeded: bool, text: str) -> Answer:
        try:
            body = self._post("/v1/complete", {"grant": self._grant(fence), "note" if succeeded else "error": text})
        except KeylatchError as error:
            if reason := getattr(error, "reason", ""):
                return Lost(reason)
            raise
        answer = claim_answer(body)
        assert isinstance(answer, Ended)
        return answer

    def progress(self, fence: int, done: int, total: int, address: str) -> None:
        self._post("/v1/progress", {"grant": self._grant(fence), "done": done, "total": total, "address": address})

    def renew(self, fence: int, ttl: float) -> None:
        self._post("/v1/progress", {"grant": self._grant(fence), "lease_ms": int(ttl * 1000)})

    def remaining(self, fence: int) -> float | None:
        return None

    def give_up(self) -> None:
        pass

    def _grant(self, fence: int) -> str:
        return f"{self._session.name.partition('.')[0]}.{fence}"

    def _post(self, path: str, fields: dict[str, Any]) -> Any:
        try:
            return self._front.post(self._session, path, {"request_id": self._number, **fields})
        except KeylatchError as error:
            raise of_claim(error) from error


class RemoteFront:
    """Claims of a server: a session for each claimant, and the numbers of the story."""

    def __init__(self, server: Server, bucket: str) -> None:
        self._bucket = bucket
        self._loop = _Loop()
        self._locks = RemoteLocks(server.url)
        self._sessions: dict[str, Session] = {}
        self._below: dict[str, int] = {}
        self._server = server
        self._events = self._locks.events((bucket, "x"))
        assert isinstance(next(self._events), ClaimReset)
        self._head = 0

    def _session(self, by: str) -> Session:
        if by not in self._sessions:
            self._sessions[by] = self._locks._loop.run(self._open(by))
        return self._sessions[by]

    async def _open(self, by: str) -> Session:
        http: Http = self._locks._locks._http
        session = await open_session(http, by, 30.0)
        # The story counts the numbers; a renewal must not give them up.
        session.belief.standing = dict  # type: ignore[method-assign]
        return session

    def post(self, session: Session, path: str, fields: dict[str, Any]) -> Any:
        return self._locks._loop.run(session.post(path, fields))

    def end(self, by: str) -> None:
        self._locks._loop.run(self._sessions.pop(by).end())

    def _ask(self, by: str, number: int, resource: str, policy: ClaimPolicy, wait: int) -> Answer:
        session = self._session(by)
        fields = {"request_id": number, "wait_ms": wait, "settled_below": self._below.get(by, 0)}
        asked = {"resource": resource_of((self._bucket, resource)), **policy_fields(policy), **fields}
        try:
            answer = claim_answer(self.post(session, "/v1/claim", asked))
        except KeylatchError as error:
            return stored(error)
        if isinstance(answer, ClaimGrant):
            verbs = RemoteVerbs(self, session, number)
            return Yours(verbs, (self._bucket, resource), number, answer, True)
        return answer

    def claim(self, by: str, number: int, resource: str, policy: ClaimPolicy) -> Answer:
        return self._ask(by, number, resource, policy, 0)

    def wait(self, by: str, number: int, resource: str, policy: ClaimPolicy) -> Answer:
        return self._ask(by, number, resource, policy, 25_000)

    def adopt(self, by: str, number: int, resource: str, fence: int) -> Yours:
        verbs = RemoteVerbs(self, self._session(by), number)
        return Yours(verbs, (self._bucket, resource), number, ClaimGrant(0, fence, 0, False), True)

    def cancel(self, by: str, number: int) -> Answer:
        return claim_answer(self.post(self._session(by), "/v1/cancel", {"request_id": number}))  # type: ignore[return-value]

    def settle_below(self, by: str, number: int) -> None:
        self._below[by] = number

    def force_release(self, resource: str) -> bool:
        key = {"bucket": self._bucket, "object": resource, "kind": "claims"}
        return bool(self._server.post("/v1/force-release", key).get("claims"))

    def forget(self, resource: str) -> bool:
        raise NotImplementedError

    def events(self) -> list[ClaimEvent]:
        # An event of another resource's cannot say when all are there: a snapshot can.
        head = self._locks.events((self._bucket, "x"))
        last = int(next(head).id.partition("-")[2])
        head.close()  # type: ignore[attr-defined]
        came: list[ClaimEvent] = []
        while self._head < last:
            came.append(next(self._events))
            self._head = int(came[-1].id.partition("-")[2])
        return came

    def close(self) -> None:
        self._events.close()  # type: ignore[attr-defined]
        for session in self._sessions.values():
            self._locks._loop.run(session.end())
        self._locks.close()


def stored(error: KeylatchError) -> Answer:
    """Return the stored answer that the service tells as a problem."""
    from keylatch import Cancelled as RequestCancelled
    from keylatch.claims import Cancelled, ClaimLost

    if isinstance(error, RequestCancelled):
        return Cancelled()
    if isinstance(error, ClaimLost):
        return Lost(error.reason)
    raise error


def claim_stories() -> list[Path]:
    """Those without settings, which are the server's, and without forget, which it does not have."""

    def makes_sense(story: dict[str, Any]) -> bool:
        return not story.get("claims") and all(step["do"] != "forget" for step in story["steps"])

    files = sorted((FOLDER / "claims").glob("*.json"))
    return [file for file in files if makes_sense(json.loads(file.read_text()))]


@pytest.mark.parametrize("file", claim_stories(), ids=lambda file: file.stem)
def test_remote_claim_scenario(file: Path, server: Server) -> None:
    fronts: list[RemoteFront] = []

    def make(_: dict[str, int]) -> RemoteFront:
        fronts.append(RemoteFront(server, file.stem))
        return fronts[-1]

    try:
        claim_scenario.run(json.loads(file.read_text()), make)
    finally:
        for front in fronts:
            front.close()


def test_enough_claim_scenarios_run_remotely() -> None:
    assert len(claim_stories()) >= 13
