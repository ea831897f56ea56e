"""What the supervisor sees of the breakers that workers have."""

from __future__ import annotations

from time import monotonic_ns

from kvproxy.balance.chain_identity import ChainIdentity
from kvproxy.balance.shared_memory import SharedMemory
from kvproxy.control.generations.generation import EMPTY
from kvproxy.control.workers.breakers import breakers
from kvproxy.middleware.circuit_breaker import CircuitBreakerStage
from kvproxy.model.dynamic import Backend, CircuitBreaker
from kvproxy.model.messages import BackendEntry, FrontendEntry
from kvproxy.proxy.plan.backend_options import breaker_stages
from tests.unit.control.entries import frontend


def test_states_are_those_of_the_workers() -> None:
    memory = SharedMemory.create(2)
    guarded = Backend(circuit_breaker=CircuitBreaker(expression="NetworkErrorRatio() > 0.5"))
    content = frontend("guarded", entry_points=("http", "https"))
    plain = frontend("plain", entry_points=("http",))
    generation = type(EMPTY)(
        number=1,
        digest="",
        revisions={},
        frontends={
            ("p", name): FrontendEntry("p", name, b"", each)
            for name, each in (("f", content), ("plain", plain))
        },
        backends={
            ("p", name): BackendEntry("p", name, b"", each)
            for name, each in (("guarded", guarded), ("plain", Backend()))
        },
        created_at=0.0,
        base=0,
        changes=EMPTY.changes,
    )
    assert list(breakers(generation, memory)) == []

    worker = SharedMemory(memory.descriptor, 1, 2)
    identity = ChainIdentity("http", "p", content)
    (stage,) = breaker_stages("guarded", guarded, identity, worker)
    assert isinstance(stage, CircuitBreakerStage)
    (seen,) = breakers(generation, memory)
    assert (seen.entry_point, seen.frontend, seen.state, seen.trips) == ("http", "f", "standby", 0)

    stage.breaker.record(502, 0.0, monotonic_ns())
    (seen,) = breakers(generation, memory)
    assert (seen.backend, seen.state, seen.trips) == ("guarded", "tripped", 1)

    del stage
    assert list(breakers(generation, memory)) == []
    memory.close()
