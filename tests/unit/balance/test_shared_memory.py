"""Real processes that share limits: exact, and whole again after kill -9."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.balance.circuit_breaker import TRIPPED, CircuitBreaker, parse_condition
from kvproxy.balance.shared_lock import DISTRUST_FACTOR, PATIENCE_SECONDS, RecordLocks
from kvproxy.balance.shared_memory import SharedMemory
from kvproxy.balance.token_bucket import Rate
from tests.support.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORK = multiprocessing.get_context("fork")
WORKERS = 4
OWNER = b"a limit"
SECONDS = 30.0


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """The memory as the supervisor has it."""
    held = SharedMemory.create(WORKERS)
    yield held
    held.close()


class Child:
    """A process that has attached itself and runs a function of the memory and a pipe."""

    def __init__(
        self, memory: SharedMemory, slot: int, run: Callable[[SharedMemory, Any], None]
    ) -> None:
        self.pipe, other = FORK.Pipe()
        arguments = (memory.descriptor, slot, run, other)
        self.process = FORK.Process(target=attach, args=arguments, daemon=True)
        self.process.start()
        other.close()

    def ask(self, *what: Any) -> Any:
        self.pipe.send(what)
        return self.answer()

    def answer(self) -> Any:
        assert self.pipe.poll(SECONDS), "no answer in time"
        return self.pipe.recv()

    def end(self) -> None:
        self.process.kill()
        self.process.join(SECONDS)


def attach(descriptor: int, slot: int, run: Callable[[SharedMemory, Any], None], pipe: Any) -> None:
    run(SharedMemory(descriptor, slot, WORKERS), pipe)


@contextmanager
def children(
    memory: SharedMemory, run: Callable[[SharedMemory, Any], None], count: int = WORKERS
) -> Iterator[list[Child]]:
    started = [Child(memory, slot, run) for slot in range(count)]
    try:
        yield started
    finally:
        for child in started:
            child.end()


def limited(memory: SharedMemory, pipe: Any) -> None:
    """Hold as asked: (how often, at what time) -> how many were let through; () gives all back."""
    tag = memory.tag(OWNER, b"client")
    held: list[int] = []
    while True:
        order = pipe.recv()
        if order:
            times, when = order
            while time.monotonic() < when:
                pass
            got = [memory.in_progress.hold(tag, 10) for _ in range(times)]
            held += [entry for entry in got if entry >= 0]
            pipe.send(len(held))
        else:
            while held:
                memory.in_progress.release(held.pop())
            pipe.send(0)


def test_ten_pass_of_twenty_that_come_at_once(memory: SharedMemory) -> None:
    tag = memory.tag(OWNER, b"client")
    with children(memory, limited) as workers:
        for _ in range(100):
            when = time.monotonic() + 0.002
            for worker in workers:
                worker.pipe.send((5, when))
            assert sum(worker.answer() for worker in workers) == 10
            assert memory.in_progress.held(tag) == 10
            for worker in workers:
                worker.ask()
            assert memory.in_progress.held(tag) == 0


def test_a_killed_worker_leaves_no_count(memory: SharedMemory) -> None:
    tag = memory.tag(OWNER, b"client")
    with children(memory, limited, 2) as (first, second):
        assert first.ask(7, 0.0) == 7
        assert second.ask(5, 0.0) == 3
        first.process.kill()
        first.process.join(SECONDS)
        memory.worker_died(0)
        assert memory.in_progress.held(tag) == 3
        assert second.ask(9, 0.0) == 10


def spend(memory: SharedMemory, pipe: Any) -> None:
    """Take tokens as fast as possible from a bucket that refills in hours."""
    tag = memory.tag(OWNER, b"client", 15)
    rates = [Rate(10**15, 1000)]
    while True:
        tries, when = pipe.recv()
        while time.monotonic() < when:
            pass
        now = time.monotonic_ns()
        pipe.send(sum(not memory.levels.take(tag, 1, rates, 10**16, now) for _ in range(tries)))


def test_tokens_are_never_given_out_twice(memory: SharedMemory) -> None:
    with children(memory, spend) as workers:
        when = time.monotonic() + 0.01
        for worker in workers:
            worker.pipe.send((600, when))
        assert sum(worker.answer() for worker in workers) == 1000


def breaking(memory: SharedMemory, pipe: Any) -> None:
    """A breaker on the block of a claim: (status,) records, () tells the state."""
    claim = memory.claims.hold(memory.tag(OWNER, b"breaker"), 10**6)
    breaker = CircuitBreaker(
        parse_condition("NetworkErrorRatio() > 0.5"),
        [memory.block(claim)],
        memory.block_lock(claim),
        slot=memory.slot,
        slots=memory.slots,
    )
    while True:
        order = pipe.recv()
        for status in order:
            breaker.record(status, 0.0, time.monotonic_ns())
        pipe.send(breaker.state)


def test_a_breaker_trips_for_all(memory: SharedMemory) -> None:
    with children(memory, breaking, 2) as (first, second):
        assert second.ask() != TRIPPED
        assert first.ask(502) == TRIPPED
        assert second.ask() == TRIPPED


def lock_and_stay(memory: SharedMemory, pipe: Any) -> None:
    memory.locks.take(5)
    pipe.send(True)
    signal.pause()


def test_a_killed_holder_gives_the_lock_back(memory: SharedMemory) -> None:
    with children(memory, lock_and_stay, 1) as (holder,):
        holder.answer()
        with pytest.raises(OSError, match="Resource temporarily unavailable"):
            fcntl.lockf(memory.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5)
        holder.end()
        fcntl.lockf(memory.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5)
        fcntl.lockf(memory.descriptor, fcntl.LOCK_UN, 1, 5)


@pytest.mark.serial
def test_a_stopped_holder_delays_others_once(memory: SharedMemory) -> None:
    locks = RecordLocks(memory.descriptor)
    with children(memory, lock_and_stay, 1) as (holder,):
        holder.answer()
        os.kill(holder.process.pid, signal.SIGSTOP)  # type: ignore[arg-type]
        began = time.monotonic()
        locks.take(5)
        assert time.monotonic() - began >= PATIENCE_SECONDS
        began = time.monotonic()
        for _ in range(100):
            locks.take(5)
        assert time.monotonic() - began < DISTRUST_FACTOR * PATIENCE_SECONDS


def lock_for_a_while(memory: SharedMemory, pipe: Any) -> None:
    memory.locks.take(5)
    pipe.send(True)
    time.sleep(4 * PATIENCE_SECONDS)
    memory.block(0)[0] = 1
    memory.locks.give(5)
    signal.pause()


@pytest.mark.serial
def test_a_holder_that_is_slow_is_waited_for(memory: SharedMemory) -> None:
    locks = RecordLocks(memory.descriptor)
    with children(memory, lock_for_a_while, 1) as (holder,):
        holder.answer()
        locks.take(5)
        assert memory.block(0)[0] == 1
        locks.give(5)


def count_in(memory: SharedMemory, pipe: Any) -> None:
    """Add to a cell under a lock, as often as asked."""
    cells = memory.block(0)
    while True:
        (times,) = pipe.recv()
        for _ in range(times):
            memory.locks.take(9)
            value = cells[0]
            cells[0] = value + 1
            memory.locks.give(9)
        pipe.send(True)


def test_locks_exclude_even_when_a_holder_is_killed(memory: SharedMemory) -> None:
    with children(memory, count_in) as workers:
        for worker in workers[1:]:
            worker.pipe.send((3000,))
        workers[0].pipe.send((10**9,))
        cells = memory.block(0)
        wait_until(lambda: cells[0] > 2000, "the workers count", SECONDS)
        workers[0].end()
        for worker in workers[1:]:
            worker.answer()
        total = cells[0]
        for worker in workers[1:]:
            worker.ask(1000)
        assert cells[0] == total + 3000


def test_tags_depend_on_the_owner_the_key_and_the_memory(memory: SharedMemory) -> None:
    other = SharedMemory.alone()
    tags = [
        memory.tag(b"a", b"1"),
        memory.tag(b"a", b"2"),
        memory.tag(b"b", b"1"),
        other.tag(b"a", b"1"),
    ]
    assert len(set(tags)) == 4
