"""Carries out the scenarios that every language has to pass; tests/scenarios/README.md says what they are made of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import keylatch
from conftest import until
from keylatch import Guard, KeylatchError, LockManager, Lost, Session, events

FEATURES = {"sessions", "leases", "listing", "request_ids", "lock_delay", "events", "on_lost", "fork"}

ERRORS = {
    "timeout": keylatch.LockTimeout,
    "would_block": keylatch.WouldBlock,
    "deadlock": keylatch.LockDeadlock,
    "cancelled": asyncio.CancelledError,
    "closed": keylatch.Closed,
    "not_held": keylatch.NotHeld,
    "lease_lost": keylatch.LeaseLost,
    "table_full": keylatch.TableFull,
    "invalid_key": keylatch.InvalidKey,
    "invalid_config": keylatch.InvalidConfig,
    "forked": keylatch.Forked,
    "upgrade_conflict": keylatch.UpgradeConflict,
    "too_many_waiters": keylatch.TooManyWaiters,
}

SETTINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "fairness": ("fairness", str),
    "fairness_after_us": ("eventual_after", lambda after: after / 1e6),
    "shards": ("shards", int),
    "default_timeout_ms": ("default_timeout", lambda time: time / 1e3),
    "max_locks": ("max_locks", int),
    "max_waiters": ("max_waiters", int),
    "max_key_bytes": ("max_key_bytes", int),
    "overtake_limit": ("overtake_limit", int),
    "reentrancy": ("reentrancy", str),
    "deadlock_delay_ms": ("deadlock_delay", lambda delay: None if delay is None else delay / 1e3),
    "victim": ("victim", str),
    "lock_delay_ms": ("lock_delay", lambda delay: delay / 1e3),
}


EVENTS = {
    "slow_wait": events.SlowWait,
    "slow_hold": events.SlowHold,
    "timeout": events.Timeout,
    "deadlock": events.Deadlock,
    "expired": events.Expired,
    "forced": events.Forced,
}


class Wrong(AssertionError):
    """A scenario went otherwise, or is none."""


class Fields(dict[str, Any]):
    """The fields of an object, each of which has to be taken."""

    def take(self, name: str, default: Any = None) -> Any:
        return self.pop(name, default)

    def need(self, name: str) -> Any:
        if name not in self:
            raise Wrong(f"there is no {name}")
        return self.pop(name)

    def done(self) -> None:
        if self:
            raise Wrong(f"{', '.join(self)} is not known")


def part(given: Any) -> str | bytes:
    match given:
        case str():
            return given
        case {"hex": text, **others} if not others:
            return bytes.fromhex(text)
        case {"repeat": text, "times": times, **others} if not others:
            return str(text) * int(times)
    raise Wrong(f"{given} is no part of a key")


def key(given: Any) -> Any:
    if not isinstance(given, list) or len(given) not in (2, 3):
        raise Wrong(f"{given} is no key")
    return tuple(map(part, given))


def shown(given: Any) -> Any:
    """A key as the package shows it: text where it can be, alone in the unnamed bucket."""

    def text(given: str | bytes) -> str | bytes:
        try:
            return given if isinstance(given, str) else given.decode()
        except UnicodeDecodeError:
            return given

    parts = tuple(map(text, key(given)))
    return parts[1] if len(parts) == 2 and not parts[0] else parts


def is_shared(mode: Any) -> bool:
    return {"shared": True, "exclusive": False}[mode]


def seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3


def compare(expected: Any, call: Callable[[], Any]) -> tuple[bool, Any]:
    """Whether a call was to succeed, and what it returned then; the error that was expected is none."""
    try:
        result = call()
    except (KeylatchError, asyncio.CancelledError) as error:
        check_error(expected, error)
        return False, None
    if expected != "ok":
        raise Wrong(f"it came to {result}")
    return True, result


def check_error(expected: Any, error: BaseException) -> None:
    if not isinstance(expected, dict) or "error" not in expected:
        raise Wrong(f"it came to {error!r}") from error
    fields = Fields(expected)
    wanted = ERRORS[fields.need("error")]
    if type(error) is not wanted:
        raise Wrong(f"it came to {error!r}") from error
    seen: Any = error
    for name in list(fields):
        value = fields.take(name)
        match name:
            case "holders":
                owners = [holder.owner for holder in seen.holders]
                right = all(owner in owners for owner in value)
            case "key":
                right = seen.key == shown(value)
            case "transient":
                # asyncio's CancelledError knows nothing of that.
                right = getattr(seen, "transient", False) == value
            case "text":
                right = value in str(error)
            case "cycle":
                right = sorted(link.session for link in seen.cycle) == sorted(value)
            case _:
                raise Wrong(f"{name} is nothing that an error has")
        if not right:
            raise Wrong(f"{name} of {error!r}: {vars(error)}") from error


class Background:
    """An event loop in a thread, for requests that wait in the background."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop = factory()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)

    def start(self, awaitable: Any) -> asyncio.Task[Any]:
        async def run() -> Any:
            return await awaitable

        task: asyncio.Task[Any] = self.call(lambda: self._loop.create_task(run()))
        # Tasks take turns. After one more turn it has asked for what it is to ask for, and is in line.
        self.call(lambda: None)
        return task

    def stop(self) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()


class Scenario:
    """One scenario under way."""

    def __init__(self, locks: LockManager, background: Background) -> None:
        self._locks = locks
        self._background = background
        self._grants: dict[str, Guard | int] = {}
        self._waits: dict[str, tuple[asyncio.Task[Any], Guard | None]] = {}
        self._sessions: dict[str, Session] = {}
        self._fences: dict[str, int] = {}
        self._events: events.Events | None = None
        self._losses: dict[str, queue.SimpleQueue[Lost]] = {}

    def step(self, step: dict[str, Any]) -> None:
        fields = Fields(step)
        verb = fields.need("do")
        action: Callable[[Fields, Any], None] | None = getattr(self, f"do_{verb}", None)
        if action is None:
            raise Wrong(f"{verb} is no step")
        action(fields, fields.take("expect", "ok"))
        fields.done()

    def release_what_is_left(self) -> None:
        for held in self._grants.values():
            with contextlib.suppress(KeylatchError):
                held.release() if isinstance(held, Guard) else self._locks.release(held)

    def _guard(self, fields: Fields) -> Guard:
        held = self._held(fields.need("grant"))
        if not isinstance(held, Guard):
            raise Wrong("a lock that is a number has no guard")
        return held

    def _held(self, name: str) -> Guard | int:
        if name not in self._grants:
            raise Wrong(f"nothing was granted as {name}")
        return self._grants[name]

    def _owner(self, fields: Fields) -> Any:
        session, owner = fields.take("session"), fields.take("owner")
        if session is not None:
            return self._sessions[session]
        match owner:
            case None | str():
                return owner or None
            case {"name": name, "source": source, **others} if not others:
                return self._locks.owner(name, source=source)
        raise Wrong(f"{owner} is no owner")

    def _request(self, fields: Fields) -> tuple[Any, dict[str, Any]]:
        asked = {
            "shared": is_shared(fields.need("mode")),
            "owner": self._owner(fields),
            "priority": fields.take("priority", 0),
            "ttl": seconds(fields.take("ttl_ms")),
        }
        return key(fields.need("key")), asked

    def _timeout(self, fields: Fields) -> dict[str, Any]:
        if "timeout_ms" not in fields:
            return {}
        timeout = fields.take("timeout_ms")
        return {"timeout": float("inf") if timeout is None else timeout / 1e3}

    def _name(self, name: str | None, held: Any) -> None:
        if name is not None:
            self._grants[name] = held
        elif isinstance(held, Guard):
            held.into_grant()

    def _take(self, fields: Fields, expected: Any, asked: dict[str, Any]) -> None:
        name, took, number = fields.take("as"), fields.take("took_ms"), fields.take("request_id")
        wanted, request = self._request(fields)
        began = time.monotonic()
        if number is None:
            well, held = compare(expected, lambda: self._locks.lock(wanted, **request, **asked))
        else:
            numbered = {**request, **asked, "request_id": number}
            well, held = compare(expected, lambda: self._locks.grant(wanted, **numbered))
        if took is not None:
            check_range(took, (time.monotonic() - began) * 1e3)
        if well:
            self._name(name, held)

    def do_try(self, fields: Fields, expected: Any) -> None:
        self._take(fields, expected, {"wait": False})

    def do_acquire(self, fields: Fields, expected: Any) -> None:
        self._take(fields, expected, self._timeout(fields))

    def do_start(self, fields: Fields, expected: Any) -> None:
        name = fields.take("as")
        asked = self._timeout(fields)
        wanted, request = self._request(fields)
        task = self._background.start(self._locks.alock(wanted, **request, **asked))
        if expected == "granted":
            self._grants[name] = self._background.call(task.result)
        elif expected == "ok":
            # Its wait may have ended already, as a deadlock's does that is found immediately; `finish` will tell.
            if task.done() and task.exception() is None:
                raise Wrong(f"it came to {task}")
            self._waits[name] = task, None
        else:
            until(task.done)
            compare(expected, task.result)

    def do_start_upgrade(self, fields: Fields, expected: Any) -> None:
        guard, name, asked = self._guard(fields), fields.need("as"), self._timeout(fields)
        self._waits[name] = self._background.start(guard.aupgrade(**asked)), guard

    def _wait(self, fields: Fields) -> tuple[str, asyncio.Task[Any], Guard | None]:
        name = fields.need("wait")
        if name not in self._waits:
            raise Wrong(f"nothing waits as {name}")
        return name, *self._waits[name]

    def do_finish(self, fields: Fields, expected: Any) -> None:
        name, task, guard = self._wait(fields)
        until(task.done)
        well, held = compare(expected, task.result)
        if well:
            self._grants[name] = held if guard is None else guard

    def do_waits(self, fields: Fields, expected: Any) -> None:
        _, task, _ = self._wait(fields)
        time.sleep(0.02)
        if task.done():
            raise Wrong(f"it has ended: {task}")

    def do_cancel(self, fields: Fields, expected: Any) -> None:
        _, task, _ = self._wait(fields)
        asked = self._background.call(task.cancel)
        until(task.done)
        check_equal(expected, asked and task.cancelled())

    def do_release(self, fields: Fields, expected: Any) -> None:
        held = self._held(fields.need("grant"))
        compare(expected, held.release if isinstance(held, Guard) else lambda: self._locks.release(held))

    def do_downgrade(self, fields: Fields, expected: Any) -> None:
        compare(expected, self._guard(fields).downgrade)

    def do_try_upgrade(self, fields: Fields, expected: Any) -> None:
        guard = self._guard(fields)
        if isinstance(expected, dict) and expected.get("error") == "would_block":
            # What is no answer but an error elsewhere.
            check_equal(False, guard.try_upgrade())
        else:
            well, upgraded = compare(expected, guard.try_upgrade)
            check_equal(well, bool(upgraded))

    def do_upgrade(self, fields: Fields, expected: Any) -> None:
        guard, asked = self._guard(fields), self._timeout(fields)
        compare(expected, lambda: guard.upgrade(**asked))

    def do_fence(self, fields: Fields, expected: Any) -> None:
        guard, name = self._guard(fields), fields.take("as")
        greater, equal = fields.take("greater_than"), fields.take("equal_to")
        well, fence = compare(expected, lambda: guard.fence)
        if not well:
            return
        if greater is not None and fence <= self._fences[greater]:
            raise Wrong(f"{fence} is not greater than {self._fences[greater]}")
        if equal is not None:
            check_equal(self._fences[equal], fence)
        if name is not None:
            self._fences[name] = fence

    def do_holds(self, fields: Fields, expected: Any) -> None:
        guard = self._guard(fields)
        mode, wanted = fields.take("mode"), fields.take("key")
        if mode is not None:
            check_equal(mode, guard.mode)
        if wanted is not None:
            check_equal(key(wanted), guard.key)

    def do_batch(self, fields: Fields, expected: Any) -> None:
        names, wanted = fields.take("as", []), [Fields(each) for each in fields.need("keys")]
        keys = [(key(each.need("key")), is_shared(each.need("mode"))) for each in wanted]
        for each in wanted:
            each.done()
        asked = {
            "shared": [each for each, shared in keys if shared],
            "owner": self._owner(fields),
            "priority": fields.take("priority", 0),
            "ttl": seconds(fields.take("ttl_ms")),
            "best_effort": fields.take("best_effort", False),
            **self._timeout(fields),
        }
        missing = expected["missing"] if isinstance(expected, dict) and "missing" in expected else None
        exclusive = [each for each, shared in keys if not shared]
        well, batch = compare(expected if missing is None else "ok", lambda: self._locks.lock_many(exclusive, **asked))
        if not well:
            return
        check_equal(sorted(map(shown, missing or [])), sorted(each for each, _ in batch.missing))
        if len(names) != len(keys):
            raise Wrong("as names not every key")
        for guard in batch:
            position = [each for each, _ in keys].index(guard.key)
            self._grants[names[position]] = guard

    def do_fill(self, fields: Fields, expected: Any) -> None:
        bucket, held, full = fields.need("bucket"), list[Guard](), False
        while not full:
            try:
                held.append(self._locks.lock((bucket, str(len(held))), wait=False))
            except KeylatchError as error:
                check_error(expected, error)
                full = True
        check_range(fields.need("count"), len(held))
        for guard in held:
            guard.release()

    def do_metrics(self, fields: Fields, expected: Any) -> None:
        figures = self._locks.get_metrics().shard_metrics
        for name, figure in expected.items():
            known = ["holders", "waiters", "acquisitions", "releases", "waits", "timeouts", "cancelled", "refused"]
            if name not in known:
                raise Wrong(f"{name} is no figure")
            if getattr(figures, name) != figure:
                raise Wrong(f"{name} is {getattr(figures, name)}")

    def do_health(self, fields: Fields, expected: Any) -> None:
        check_equal(expected, self._locks.health().healthy)

    def do_openmetrics(self, fields: Fields, expected: Any) -> None:
        text = self._locks.openmetrics()
        if not text.endswith("\n# EOF\n"):
            raise Wrong("it does not end with # EOF")
        for line in fields.take("contains", []):
            if line not in text.splitlines():
                raise Wrong(f"there is no line {line} in:\n{text}")

    def do_sleep(self, fields: Fields, expected: Any) -> None:
        time.sleep(fields.need("ms") / 1e3)

    def do_close(self, fields: Fields, expected: Any) -> None:
        self._locks.close()

    def do_subscribe(self, fields: Fields, expected: Any) -> None:
        self._events = self._locks.subscribe(wait_above=seconds(fields.take("wait_above_ms")))

    def do_events(self, fields: Fields, expected: Any) -> None:
        if self._events is None:
            raise Wrong("there is no subscription")
        for each in map(Fields, expected):
            event = self._events.next(60)
            kind = each.need("kind")
            if type(event) is not EVENTS[kind]:
                raise Wrong(f"{kind} was expected, and there is {event!r}")
            about: Any = event.hold if isinstance(event, events.Expired | events.Forced) else event
            if "key" in each:
                check_equal(shown(each.need("key")), about.key)
            if "owner" in each:
                owner = event.cycle[0].session if isinstance(event, events.Deadlock) else about.owner
                check_equal(each.need("owner"), owner)
            each.done()
        check_equal(None, self._events.try_next())

    def do_on_lost(self, fields: Fields, expected: Any) -> None:
        guard, name = self._guard(fields), fields.need("as")
        self._losses[name] = queue.SimpleQueue()
        guard.on_lost(self._losses[name].put)

    def do_lost(self, fields: Fields, expected: Any) -> None:
        check_equal(Lost(expected), self._losses[fields.need("of")].get(timeout=60))

    def do_forked(self, fields: Fields, expected: Any) -> None:
        steps = fields.need("steps")
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            child = os.fork()
        if child == 0:
            try:
                for step in steps:
                    self.step(step)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        check_equal(0, os.waitstatus_to_exitcode(status))

    def do_renew(self, fields: Fields, expected: Any) -> None:
        guard, ttl = self._guard(fields), fields.need("ttl_ms") / 1e3
        compare(expected, lambda: guard.renew(ttl))

    def do_remaining(self, fields: Fields, expected: Any) -> None:
        remaining = self._guard(fields).remaining
        if expected is None or remaining is None:
            check_equal(expected, remaining)
        else:
            check_range(expected, remaining * 1e3)

    def do_is_valid(self, fields: Fields, expected: Any) -> None:
        check_equal(expected, self._guard(fields).is_valid)

    def do_is_current(self, fields: Fields, expected: Any) -> None:
        fence = self._fences[fields.need("fence")]
        check_equal(expected, self._locks.is_current(key(fields.need("key")), fence))

    def do_expire(self, fields: Fields, expected: Any) -> None:
        self._compare_listed(expected, self._locks.expire(**self._filter(fields)))

    def do_session(self, fields: Fields, expected: Any) -> None:
        source = fields.take("source", "")
        self._sessions[fields.need("as")] = self._locks.session(fields.need("name"), source=source)

    def do_release_all(self, fields: Fields, expected: Any) -> None:
        check_equal(expected, self._sessions[fields.need("session")].release_all())

    def do_end_session(self, fields: Fields, expected: Any) -> None:
        del self._sessions[fields.need("session")]

    def do_same_grant(self, fields: Fields, expected: Any) -> None:
        check_equal(self._held(fields.need("grant")), self._held(fields.need("as_grant")))

    def _filter(self, fields: Fields) -> dict[str, Any]:
        asked = Fields(fields.take("filter", {}))
        said: dict[str, Any] = {}
        for name in list(asked):
            value = asked.take(name)
            match name:
                case "bucket" | "prefix":
                    said[name] = part(value)
                case "key":
                    said[name] = key(value)
                case "owner" | "source" | "mode":
                    said[name] = value
                case "session":
                    said |= {"owner": value, "sessions": True}
                case "all":
                    said["all"] = True
                case "older_than_ms":
                    said["older_than"] = value / 1e3
                case _:
                    raise Wrong(f"{name} is nothing to look for")
        return said

    def _is_like(self, expected: dict[str, Any], seen: Any) -> bool:
        for name, value in expected.items():
            match name:
                case "key":
                    right = seen.key == shown(value)
                case "lease":
                    right = (seen.lease is not None) == value
                case "fence":
                    right = seen.fence == self._fences[value]
                case "mode" | "owner" | "source" | "session" | "priority" | "upgrade":
                    right = getattr(seen, name) == value
                case _:
                    raise Wrong(f"{name} is nothing that is listed")
            if not right:
                return False
        return True

    def _compare_listed(self, expected: list[dict[str, Any]], seen: list[Any], in_order: bool = False) -> None:
        left = list(seen)
        for each in expected:
            found = [one for one in left if self._is_like(each, one)]
            if not found:
                raise Wrong(f"{each} is not among {left}")
            if in_order and any(one.key == found[0].key for one in left[: left.index(found[0])]):
                raise Wrong(f"{each} is not the next of its line in {left}")
            left.remove(found[0])
        if left:
            raise Wrong(f"{left} is there too")

    def do_holders(self, fields: Fields, expected: Any) -> None:
        self._compare_listed(expected, self._locks.holders(**self._filter(fields)))

    def do_waiters(self, fields: Fields, expected: Any) -> None:
        self._compare_listed(expected, self._locks.waiters(**self._filter(fields)), in_order=True)

    def do_force_release(self, fields: Fields, expected: Any) -> None:
        self._compare_listed(expected, self._locks.force_release(**self._filter(fields)))

    def do_blocking_chain(self, fields: Fields, expected: Any) -> None:
        chain = self._locks.blocking_chain(key(fields.need("key")))
        check_equal(expected, [holder.owner for link in chain.links for holder in link.holders])

    def do_top(self, fields: Fields, expected: Any) -> None:
        top = self._locks.top(fields.need("n"), by=fields.need("by"))
        check_equal([shown(each) for each in expected], [each.key for each in top])


def check_equal(expected: Any, seen: Any) -> None:
    if expected != seen:
        raise Wrong(f"it came to {seen}")


def check_range(bounds: Any, figure: float) -> None:
    least, most = bounds
    if not least <= figure <= most:
        raise Wrong(f"{figure} is not in {bounds}")


def manager_of(settings: Fields) -> LockManager | None:
    expected = settings.take("expect", "ok")
    given = {}
    for name in list(settings):
        if name not in SETTINGS:
            raise Wrong(f"{name} is no setting")
        parameter, convert = SETTINGS[name]
        given[parameter] = convert(settings.take(name))
    manager: LockManager | None = compare(expected, lambda: LockManager(**given))[1]
    return manager


def run(scenario: dict[str, Any], factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    fields = Fields(scenario)
    fields.need("name")
    fields.take("needs")
    settings, steps, left = Fields(fields.take("manager", {})), fields.need("steps"), Fields(fields.take("left", {}))
    fields.done()
    locks = manager_of(settings)
    if locks is None:
        check_equal([], steps)
        return
    background = Background(factory)
    under_way = Scenario(locks, background)
    try:
        for number, step in enumerate(steps, 1):
            try:
                under_way.step(step)
            except Exception as error:
                raise Wrong(f"step {number} {step}: {error}") from error
        figures = locks.get_metrics().shard_metrics
        check_equal((left.take("holders", 0), left.take("waiters", 0)), (figures.holders, figures.waiters))
        left.done()
    finally:
        under_way.release_what_is_left()
        background.stop()
