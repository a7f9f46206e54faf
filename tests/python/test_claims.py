"""Claims from threads and tasks."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
from collections.abc import Iterator

import pytest

from conftest import Background, Runner, until
from keylatch import Closed, Forked, InvalidConfig, InvalidKey
from keylatch.claims import (
    Answer,
    Cancelled,
    Claimant,
    ClaimDone,
    ClaimEvents,
    ClaimFailed,
    ClaimFailure,
    ClaimGranted,
    ClaimLost,
    ClaimPolicy,
    ClaimProgressed,
    ClaimReset,
    Claims,
    ClaimTimeout,
    Done,
    Ended,
    Lost,
    NotYours,
    SessionGone,
    Skipped,
    TextTooLong,
    TooManyClaimants,
    Waiting,
    Yours,
)

LAYER = ("layers", "sha256:4711")


@pytest.fixture
def claims() -> Iterator[Claims]:
    """Claims that have to be left as they came: nothing owned, no request waiting."""
    claims = Claims()
    yield claims
    gc.collect()
    figures = claims.figures()
    assert (figures.claimants, figures.waiting, figures.owned) == (0, 0, 0)


def owned(claims: Claims, owner: str | Claimant = "a", resource: tuple[str, str] = LAYER) -> Yours:
    answer = claims.claim(resource, owner=owner, timeout=60)
    assert isinstance(answer, Yours)
    return answer


def until_in_line(claims: Claims, number: int) -> None:
    until(lambda: claims.figures().waiting == number)


def test_threads_do_the_work_once(claims: Claims) -> None:
    done: list[str] = []

    def work(work: Yours) -> str:
        done.append(threading.current_thread().name)
        return "12 MiB"

    threads = [Background(lambda: claims.run_once(LAYER, work, owner="node", timeout=60)) for _ in range(8)]
    assert {thread.finish() for thread in threads} == {"12 MiB"}
    assert len(done) == 1


def test_failures_pass_the_work_on_in_order(claims: Claims) -> None:
    attempts: list[int] = []
    first = owned(claims, "first")

    def work(work: Yours) -> str:
        attempts.append(work.attempt)
        if work.attempt < 4:
            raise OSError("disk full")
        return "here"

    threads = []
    for number in range(5):
        threads.append(Background(lambda: claims.run_once(LAYER, work, owner="node", timeout=60)))
        until_in_line(claims, number + 1)
    first.fail("no")
    came = [thread.finish() for thread in threads]
    assert [type(each) for each in came] == [OSError, OSError, str, str, str]
    assert attempts == [2, 3, 4]


def test_tasks_do_the_work_once(claims: Claims, run: Runner) -> None:
    async def main() -> None:
        done = 0

        async def work(work: Yours) -> str:
            nonlocal done
            done += 1
            await asyncio.sleep(0)
            work.progress(done, 1)
            return f"attempt {work.attempt}"

        notes = await asyncio.gather(*(claims.arun_once(LAYER, work, owner=f"node-{n}") for n in range(8)))
        assert set(notes) == {"attempt 1"}
        assert done == 1

    run(main())


def test_a_task_that_is_cancelled_leaves_the_line(claims: Claims, run: Runner) -> None:
    async def main() -> None:
        work = owned(claims)
        second = asyncio.ensure_future(claims.aclaim(LAYER, owner="b"))
        third = asyncio.ensure_future(claims.aclaim(LAYER, owner="c"))
        while claims.figures().waiting < 2:
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        work.fail("no")
        answer = await third
        assert isinstance(answer, Yours)
        assert (answer.attempt, answer.resource) == (2, LAYER)
        answer.complete()

    run(main())


def test_cancel_at_grant_loses_no_work(claims: Claims, run: Runner) -> None:
    async def main() -> None:
        for _ in range(200):
            work = owned(claims, resource=("layers", "race"))
            second = asyncio.ensure_future(claims.aclaim(("layers", "race"), owner="b"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            thread = Background(lambda work=work: work.fail("no"))  # type: ignore[misc]
            second.cancel()
            try:
                (await second).__exit__(None, None, None)
            except asyncio.CancelledError:
                owned(claims, resource=("layers", "race")).complete()
            assert thread.finish() is None
            assert claims.forget(("layers", "race"))

    run(main())


def test_an_exception_in_the_block_fails_the_work(claims: Claims) -> None:
    events = claims.watch(LAYER)
    assert isinstance(events.try_next(), ClaimReset)
    with pytest.raises(OSError, match="disk full"), owned(claims):
        raise OSError("disk full")
    failures = [event for event in iter(events.try_next, None) if isinstance(event, ClaimFailure)]
    assert [(event.why, event.reason, event.next) for event in failures] == [("reported", "OSError: disk full", None)]
    with owned(claims) as work:
        assert work.attempt == 2
    assert claims.snapshot(LAYER).outcome is not None


def test_the_end_of_the_block_completes_the_work(claims: Claims) -> None:
    with owned(claims) as work:
        assert work.ended is None
        with pytest.raises(ClaimFailed, match="no outcome"):
            work.result()
    assert work.ended == Ended(True, "")
    assert work.result() == ""
    with claims.claim(LAYER) as answer:
        assert isinstance(answer, Done)
        assert not answer.yours
    assert answer.result() == ""
    assert answer.outcome.owner == "a"


def test_work_is_completed_once(claims: Claims) -> None:
    work = owned(claims)
    work.fail("broken")
    work.fail("again")
    with pytest.raises(ClaimFailed, match="broken"):
        work.complete("late")
    assert work.ended == Ended(False, "broken")
    with pytest.raises(NotYours):
        work.progress(1)
    with pytest.raises(NotYours):
        _ = work.remaining
    with pytest.raises(NotYours) as raised:
        work.renew(1)
    assert (raised.value.code, raised.value.transient) == (-6, False)


def test_used_up_attempts_are_a_failure_for_all(claims: Claims) -> None:
    policy = ClaimPolicy(max_attempts=1)

    def work(work: Yours) -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        claims.run_once(LAYER, work, owner="a", policy=policy)
    with pytest.raises(ClaimFailed, match="OSError: broken"):
        claims.run_once(LAYER, work, owner="b", policy=policy)


def test_forgotten_work_is_given_up(claims: Claims) -> None:
    claimant = claims.claimant("a")
    for owner in "b", claimant:
        work = owned(claims, owner)
        del work
        gc.collect()
        assert claims.snapshot(LAYER).owner is None
    work = owned(claims, claimant)
    assert work.attempt == 3
    claimant.end()
    with pytest.raises(SessionGone):
        work.complete()
    # The exception of the block goes on although the work cannot be failed any more.
    with pytest.raises(OSError, match="boom"), work:
        raise OSError("boom")


def test_work_collected_during_call(claims: Claims) -> None:
    with claims.claimant("a") as claimant:
        work = owned(claims, claimant)
        with claimant._numbers._lock:
            del work
            gc.collect()
        assert claims.snapshot(LAYER).owner is None
        assert owned(claims, claimant).attempt == 2
        assert claimant._numbers._open == {1, 2}
        owned(claims, claimant, ("layers", "other")).complete()
        gc.collect()
        assert claimant._numbers.settle(3) == 4


def test_lost_lease_raises_at_block_end(claims: Claims) -> None:
    with pytest.raises(ClaimLost, match="by force") as raised, owned(claims) as work:
        assert claims.force_release(LAYER)
    assert raised.value.reason == "force_released"
    assert isinstance(work.ended, Lost)
    policy = ClaimPolicy(ttl=0.02)
    late = claims.claim(LAYER, owner="b", policy=policy)
    assert isinstance(late, Yours)
    with owned(claims, "c") as work:
        assert work.attempt == 3
        assert work.remaining is None
    with pytest.raises(ClaimLost) as raised:
        late.complete()
    assert raised.value.reason == "lease_expired"


def test_a_lease_is_renewed(claims: Claims) -> None:
    work = claims.claim(LAYER, policy=ClaimPolicy(ttl=60))
    assert isinstance(work, Yours)
    work.renew(600)
    assert work.remaining is not None
    assert 60 < work.remaining <= 600
    with pytest.raises(InvalidConfig):
        work.renew(0)
    work.complete()


def test_a_timeout_leaves_the_line(claims: Claims) -> None:
    with owned(claims):
        with pytest.raises(TimeoutError) as raised:
            claims.claim(LAYER, owner="b", timeout=0.01)
        assert isinstance(raised.value, ClaimTimeout)
        assert raised.value.transient
        assert 0.01 <= raised.value.waited < 60
        assert claims.figures().waiting == 0


def test_a_claim_that_does_not_wait(claims: Claims) -> None:
    work = claims.try_claim(LAYER, owner="a")
    assert isinstance(work, Yours)
    assert claims.try_claim(LAYER, owner="b") == Skipped("a")
    assert claims.claim(LAYER, owner="b", policy=ClaimPolicy(skip_if_claimed=True)) == Skipped("a")
    assert claims.figures().waiting == 0
    with claims.claimant("c") as claimant:
        assert claims.try_claim(LAYER, owner=claimant, request_id=7) == Waiting(0)
        assert claimant.cancel(7) == Cancelled()
    work.complete()


def test_a_claimant_makes_any_number_of_requests() -> None:
    claims = Claims(max_open=2)
    with claims.claimant("a") as claimant:
        for number in range(20):
            with owned(claims, claimant, ("layers", str(number))) as work:
                assert work.request_id == number + 1
        first = owned(claims, claimant, ("layers", "x"))
        owned(claims, claimant, ("layers", "y")).complete()
        first.complete()
        with pytest.raises(InvalidConfig, match="second claimant"):
            claims.claim(LAYER, owner=claimant, request_id=40)
    with claims.claimant("b") as claimant:
        assert isinstance(claims.claim(LAYER, owner=claimant, request_id=40), Yours)
        # The caller keeps the number, and not the object.
        again = claims.claim(LAYER, owner=claimant, request_id=40)
        assert isinstance(again, Yours)
        assert claimant.adopt(LAYER, 40, again.fence).fence == again.fence
        with pytest.raises(InvalidConfig):
            claims.claim(LAYER, owner=claimant)


def test_events_are_numbered_without_gaps(claims: Claims) -> None:
    events = claims.watch(LAYER)
    reset = events.try_next()
    assert isinstance(reset, ClaimReset)
    assert reset.snapshot.owner is None
    assert events.try_next() is None
    assert events.next(timeout=0.001) is None
    with owned(claims, "node-1") as work:
        work.progress(5, 9, "http://node-1/x")
    came = [events.next(timeout=60) for _ in range(3)]
    assert [type(event) for event in came] == [ClaimGranted, ClaimProgressed, ClaimDone]
    epoch, _, first = reset.id.partition("-")
    assert [event.id for event in came if event] == [f"{epoch}-{int(first) + n}" for n in (1, 2, 3)]
    granted, progressed, done = came
    assert isinstance(granted, ClaimGranted)
    assert (granted.owner, granted.grant) == ("node-1", work.grant)
    assert isinstance(progressed, ClaimProgressed)
    assert (progressed.progress.done, progressed.progress.total) == (5, 9)
    assert isinstance(done, ClaimDone)
    assert done.outcome.succeeded
    assert events.last == done.id
    later = claims.watch(LAYER, after=progressed.id)
    assert later.try_next() == done
    with pytest.raises(ValueError, match="no event id"):
        claims.watch(LAYER, after="-3")


def test_a_slow_subscriber_gets_one_reset() -> None:
    claims = Claims(ring=2)
    events = claims.watch(LAYER)
    events.try_next()
    work = owned(claims)
    for done in range(5):
        work.progress(done)
    reset = events.try_next()
    assert isinstance(reset, ClaimReset)
    assert reset.snapshot.owner is not None
    assert reset.snapshot.owner.progress.done == 4
    assert events.try_next() is None


def test_events_in_a_task(claims: Claims, run: Runner) -> None:
    async def main() -> None:
        events = claims.watch(LAYER)
        seen = []

        async def read(events: ClaimEvents) -> None:
            async for event in events:
                seen.append(type(event))

        reader = asyncio.ensure_future(read(events))
        while not seen:
            await asyncio.sleep(0)
        owned(claims).complete()
        while len(seen) < 3:
            await asyncio.sleep(0)
        events.close()
        await reader
        assert seen == [ClaimReset, ClaimGranted, ClaimDone]
        assert events.closed

    run(main())


def test_one_reader_waits_for_events(claims: Claims) -> None:
    events = claims.watch(LAYER)
    events.try_next()
    reader = Background(events.next)

    def is_read() -> bool:
        try:
            return events.next(timeout=0) is not None
        except RuntimeError:
            return True

    until(is_read)
    events.close()
    assert reader.finish() is None


def test_closing_ends_every_wait() -> None:
    claims = Claims()
    work, events = owned(claims), claims.watch(LAYER)
    waiting = Background(lambda: claims.claim(LAYER, owner="b"))
    until_in_line(claims, 1)
    claims.close()
    assert isinstance(waiting.finish(), Closed)
    assert claims.closed
    assert isinstance(events.try_next(), ClaimReset | None)
    assert events.next() is None
    with pytest.raises(Closed):
        claims.claim(LAYER)
    with pytest.raises(Closed):
        work.complete()


def test_wrong_arguments_say_what_is_right(claims: Claims) -> None:
    with pytest.raises(InvalidConfig) as raised:
        Claims(ring=0)
    assert (raised.value.setting, raised.value.code) == ("ring", -10)
    for settings in {"max_open": -1}, {"retain_for": -1.0}, {"ring": 2**70}:
        with pytest.raises(ValueError, match=next(iter(settings))):
            Claims(**settings)
    with pytest.raises(TypeError, match="ring is an int"):
        Claims(ring="many")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="policy is a ClaimPolicy"):
        claims.claim(LAYER, policy={"ttl": 3})  # type: ignore[arg-type]
    for policy in ClaimPolicy(max_attempts=0), ClaimPolicy(max_waiting=-1), ClaimPolicy(ttl=-1.0):
        with pytest.raises(ValueError, match=r"max_|ttl"):
            claims.claim(LAYER, policy=policy)
    with pytest.raises(ValueError, match="request_id"):
        claims.claim(LAYER, owner="a", request_id=3)
    with pytest.raises(ValueError, match="other claims"):
        claims.claim(LAYER, owner=Claims().claimant("a"))
    with pytest.raises(TypeError, match="a key is"):
        claims.claim(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidKey):
        claims.claim("x" * 10_000)
    with pytest.raises(TextTooLong):
        claims.claimant("x" * 10_000)
    with pytest.raises(TooManyClaimants) as few, claims_of_one() as one:
        one.claim(LAYER, owner="another")
    assert few.value.limit == 1
    with owned(claims) as work, pytest.raises(TextTooLong):
        work.complete("x" * 10_000)
    for thing in claims, work, claims.watch(LAYER):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
    with pytest.warns(RuntimeWarning, match="never awaited"):
        claims.aclaim(LAYER)


class claims_of_one:
    def __enter__(self) -> Claims:
        self.claims = Claims(max_claimants=1)
        self.claimant = self.claims.claimant("the one")
        return self.claims

    def __exit__(self, *_: object) -> None:
        self.claimant.end()


def test_surrogates_name_things(claims: Claims) -> None:
    work = claims.claim(("layers", "\udc80"), owner="\udc81")
    assert isinstance(work, Yours)
    work.complete("\udc82")
    assert claims.claim(("layers", "\udc80")).result() == "\ufffd" * 3


def test_a_forked_child_is_refused(claims: Claims) -> None:
    with owned(claims) as work:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work.complete()
            except Forked:
                try:
                    claims.claim(LAYER)
                except Forked:
                    status = 0
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0


def test_answer_without_outcome_has_no_result() -> None:
    answers: list[Answer] = [Waiting(0), Skipped("a"), Cancelled()]
    for answer in answers:
        with pytest.raises(ClaimFailed):
            answer.result()
    with pytest.raises(ClaimLost):
        Lost("closed").result()
