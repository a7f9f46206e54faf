# mypy: enable-error-code="unused-awaitable"
"""What type checkers have to understand, and what they have to notice. Checked, never run."""

from __future__ import annotations

import asyncio

from keylatch import Batch, Guard, LockManager

locks = LockManager(fairness="fifo", reentrancy="count", victim="youngest")
LockManager(fairness="fast")  # type: ignore[arg-type]


async def understood() -> None:
    task: asyncio.Task[Guard] = asyncio.create_task(locks.alock("a"))
    one, two = await asyncio.gather(locks.alock("b"), locks.alock("c"))
    three = await asyncio.wait_for(locks.alock("d"), 1)
    many: asyncio.Task[Batch] = asyncio.create_task(locks.alock_many(["e"]))
    four: Guard | None = await locks.try_alock("f")
    async with asyncio.TaskGroup() as group:
        group.create_task(locks.alock("g"))
    for guard in (await task, one, two, three, *await many, four):
        if guard is not None:
            guard.release()


async def noticed() -> None:
    locks.alock("a")  # type: ignore[unused-awaitable]
    locks.alock_many(["a"])  # type: ignore[unused-awaitable]


@locks.synchronized(lambda number: f"{number}")
def kept(number: int) -> str:
    return str(number)


length: int = len(kept(1))
kept("one")  # type: ignore[arg-type]
