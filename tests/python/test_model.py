"""Random programs against a dict of locks: whatever the model says is free is free, and whatever it says is held is not."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from keylatch import Guard, Key, LockManager, LockTimeout, Mode, NotHeld, WouldBlock

KEYS: list[Key] = ["a", b"\xff", ("b", "a"), ("b", "a", ""), ("b", "a", "v"), "x" * 200]


@dataclass
class Modelled:
    """A lock of the model: an exclusive guard alone, or any number of shared ones."""

    guards: list[Guard] = field(default_factory=list)
    exclusive: bool = False
    fence: int = 0

    def lets_in(self, shared: bool) -> bool:
        return not self.guards or (shared and not self.exclusive)

    def leave(self, guard: Guard) -> bool:
        """Whether the guard had the lock, and had not lost it."""
        if guard not in self.guards:
            return False
        self.guards.remove(guard)
        self.exclusive = self.exclusive and bool(self.guards)
        return True


class Locks(RuleBasedStateMachine):
    """One thread, which tries, or waits for no time: what would have it wait is refused, and so is decided without waiting."""

    guards = Bundle("guards")
    numbers = Bundle("numbers")

    @initialize(
        fairness=st.sampled_from(["eventual", "fifo", "writer_first", "reader_first"]), shards=st.sampled_from([1, 64])
    )
    def make(self, fairness: Any, shards: int) -> None:
        self.locks = LockManager(fairness=fairness, shards=shards)
        self.model = {key: Modelled() for key in KEYS}
        # Kept, so that what they do when they are dropped is not what is tested.
        self.lost: list[Guard] = []

    def entered(self, guard: Guard, shared: bool) -> Guard:
        lock = self.model[guard.key]
        assert lock.lets_in(shared)
        assert guard.mode is (Mode.SHARED if shared else Mode.EXCLUSIVE)
        # It may be more: keys without holders have one number together.
        assert guard.fence >= lock.fence + (not shared)
        lock.fence = guard.fence
        lock.guards.append(guard)
        lock.exclusive = not shared
        return guard

    @rule(
        target=guards,
        key=st.sampled_from(KEYS),
        shared=st.booleans(),
        how=st.integers(0, 3),
        priority=st.integers(0, 255),
    )
    def take(self, key: Key, shared: bool, how: int, priority: int) -> object:
        free = self.model[key].lets_in(shared)
        guard: Guard | None = None
        if how == 0:
            guard = self.locks.try_lock(key, shared=shared, priority=priority)
        elif how == 1 and not free:
            with pytest.raises(WouldBlock):
                self.locks.lock(key, shared=shared, wait=False)
        elif how == 2 and not free:
            with pytest.raises(LockTimeout):
                self.locks.lock(key, shared=shared, timeout=0, priority=priority)
        elif free:
            guard = self.locks.lock(key, shared=shared, ttl=3600 if how == 3 else None, owner="model")
        assert (guard is not None) == free or how == 3
        return multiple() if guard is None else self.entered(guard, shared)

    @rule(target=guards, exclusive=st.sets(st.sampled_from(KEYS)), shared=st.sets(st.sampled_from(KEYS)))
    def take_many(self, exclusive: set[Key], shared: set[Key]) -> object:
        shared = shared - exclusive
        wanted = [(key, False) for key in exclusive] + [(key, True) for key in shared]
        if all(self.model[key].lets_in(is_shared) for key, is_shared in wanted):
            batch = self.locks.lock_many(exclusive, shared=shared, timeout=0)
            return multiple(*(self.entered(guard, guard.mode is Mode.SHARED) for guard in batch))
        with pytest.raises(LockTimeout):
            self.locks.lock_many(exclusive, shared=shared, timeout=0)
        return multiple()

    @rule(guard=consumes(guards), way=st.sampled_from(["release", "exit", "twice"]))
    def release(self, guard: Guard, way: str) -> None:
        if not self.model[guard.key].leave(guard):
            assert not guard.is_valid
            with pytest.raises(NotHeld, match="by force"):
                guard.release()
            return
        if way == "exit":
            with guard:
                pass
        else:
            guard.release()
        assert guard.released
        if way == "twice":
            with pytest.raises(NotHeld):
                guard.release()

    @rule(guard=guards)
    def downgrade(self, guard: Guard) -> None:
        if guard not in self.model[guard.key].guards:
            return
        guard.downgrade()
        self.model[guard.key].exclusive = False
        assert guard.mode is Mode.SHARED

    @rule(guard=guards, waits=st.booleans())
    def upgrade(self, guard: Guard, waits: bool) -> None:
        lock = self.model[guard.key]
        if guard not in lock.guards:
            return
        alone = len(lock.guards) == 1
        if not waits:
            assert guard.try_upgrade() == alone
        elif alone:
            guard.upgrade()
        else:
            with pytest.raises(LockTimeout):
                guard.upgrade(timeout=0)
        if alone:
            if not lock.exclusive:
                assert guard.fence > lock.fence
            lock.exclusive, lock.fence = True, guard.fence
        assert guard.mode is (Mode.EXCLUSIVE if lock.exclusive else Mode.SHARED)

    @rule(target=numbers, guard=consumes(guards))
    def into_number(self, guard: Guard) -> object:
        if guard not in self.model[guard.key].guards:
            return multiple()
        grant = guard.into_grant()
        assert guard.released
        return guard, grant

    @rule(target=guards, number=consumes(numbers))
    def out_of_number(self, number: tuple[Guard, int]) -> object:
        old, grant = number
        lock = self.model[old.key]
        if old not in lock.guards:
            with pytest.raises(NotHeld):
                self.locks.adopt(grant)
            return multiple()
        guard = self.locks.adopt(grant)
        with pytest.raises(NotHeld):
            self.locks.release(grant)
        lock.guards[lock.guards.index(old)] = guard
        # It tells the key in the form that it tells keys in, of which the model's are some.
        assert guard.key == old.key
        return guard

    @rule(key=st.sampled_from(KEYS))
    def force(self, key: Key) -> None:
        lock = self.model[key]
        taken = self.locks.force_release(key=key)
        assert len(taken) == len(lock.guards)
        self.lost += lock.guards
        lock.guards, lock.exclusive = [], False

    @invariant()
    def as_the_model_says(self) -> None:
        held = {key: lock for key, lock in self.model.items() if lock.guards}
        figures = self.locks.get_metrics().shard_metrics
        assert (figures.holders, figures.waiters) == (sum(len(lock.guards) for lock in held.values()), 0)
        listed = sorted((repr(holder.key), holder.mode) for holder in self.locks.holders())
        modes = (
            (repr(key), Mode.EXCLUSIVE if lock.exclusive else Mode.SHARED)
            for key, lock in held.items()
            for _ in lock.guards
        )
        assert listed == sorted(modes)

    def teardown(self) -> None:
        for guard in itertools.chain.from_iterable(lock.guards for lock in getattr(self, "model", {}).values()):
            if not guard.released:
                guard.release()
            # Those that are numbers go with the manager.


TestLocks = Locks.TestCase
TestLocks.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
