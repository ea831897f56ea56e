"""``/metrics``: what Prometheus reads (specification section 7.6).

What Traefik 1.7 has, has its name here, so that dashboards and alerts go on; what is kvproxy's own
begins with ``kvproxy_``. Everything is read at the moment of the question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

import kvproxy
from kvproxy.control.workers.breakers import STATES
from kvproxy.model.latency import LATENCY_BOUNDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvproxy.control.administration.overview import Overview
    from kvproxy.model.messages import Counters

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """All metrics of a supervisor."""

    def __init__(self, overview: Overview) -> None:
        """Nothing is counted here: workers do."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Traefik(overview))
        self._registry.register(_Own(overview))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return them in the text format of Prometheus."""
        return generate_latest(self._registry)


class _Traefik(Collector):
    """Metrics that Traefik 1.7 has, too."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    def collect(self) -> Iterator[Metric]:
        reloads = self._overview.reloads
        yield _counter("traefik_config_reloads", "Configurations applied", reloads.applied)
        yield _counter("traefik_config_reloads_failure", "Configurations refused", reloads.refused)
        yield _gauge(
            "traefik_config_last_reload_success",
            "When the last configuration was applied",
            reloads.applied_at,
        )
        yield _gauge(
            "traefik_config_last_reload_failure",
            "When the last configuration was refused",
            reloads.refused_at,
        )
        statistics = self._overview.statistics()
        points = [([each.name], each) for each in statistics.entry_points]
        yield from _requests("traefik_entrypoint", ["entrypoint"], points)
        connections = GaugeMetricFamily(
            "traefik_entrypoint_open_connections",
            "Open connections of clients",
            labels=["entrypoint"],
        )
        for names, counters in points:
            connections.add_metric(names, counters.connections)
        yield connections
        generation = self._overview.generation
        known = () if generation is None else generation.backends
        backends = [
            ([each.name, each.provider], each)
            for each in statistics.backends
            if (each.provider, each.name) in known
        ]
        yield from _requests("traefik_backend", ["backend", "provider"], backends)
        retries = CounterMetricFamily(
            "traefik_backend_retries",
            "Attempts at another server, because one could not be reached",
            labels=["backend", "provider"],
        )
        for names, each in backends:
            retries.add_metric(names, each.retries)
        yield retries
        yield self._servers()

    def _servers(self) -> Metric:
        up = GaugeMetricFamily(
            "traefik_backend_server_up",
            "Whether the health check of a server finds it well",
            labels=["backend", "provider", "url"],
        )
        for provider, backend, server in self._overview.checked_servers():
            up.add_metric([backend, provider, server.server], float(server.up))
        return up


class _Own(Collector):
    """Metrics that Traefik 1.7 has not."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    def collect(self) -> Iterator[Metric]:
        status = self._overview.status()
        version = GaugeMetricFamily("kvproxy_build_info", "The version", labels=["version"])
        version.add_metric([kvproxy.__version__], 1)
        yield version
        generation = status.generation
        if generation is not None:
            yield _gauge("kvproxy_generation", "Number of the generation", generation.number)
            yield _gauge(
                "kvproxy_generation_live",
                "Whether every worker serves the newest generation",
                float(generation.live),
            )
        yield _gauge("kvproxy_quarantined", "Entries in quarantine", len(status.quarantined))
        yield _gauge("kvproxy_problems", "Everything that is wrong now", len(status.problems))
        stale = GaugeMetricFamily(
            "kvproxy_provider_stale",
            "Whether the provider has not spoken since the start",
            labels=["provider"],
        )
        failing = GaugeMetricFamily(
            "kvproxy_provider_failing",
            "Whether the provider does not answer now",
            labels=["provider"],
        )
        fresh = GaugeMetricFamily(
            "kvproxy_provider_proven_timestamp_seconds",
            "When the provider last proved that it holds what is served",
            labels=["provider"],
        )
        for provider in status.providers:
            names = [provider.provider]
            stale.add_metric(names, float(provider.stale))
            failing.add_metric(names, float(provider.failed_since is not None))
            if provider.fresh_at:
                fresh.add_metric(names, provider.fresh_at)
        yield from (stale, failing, fresh)
        yield from self._breakers()
        restarts = CounterMetricFamily(
            "kvproxy_worker_restarts", "Workers that were replaced", labels=["slot"]
        )
        for worker in status.workers:
            restarts.add_metric([str(worker.slot)], worker.restarts)
        yield restarts

    def _breakers(self) -> Iterator[Metric]:
        labels = ["entrypoint", "provider", "frontend", "backend"]
        state = GaugeMetricFamily(
            "kvproxy_circuit_breaker_state",
            "1 for the state that a circuit breaker is in",
            labels=[*labels, "state"],
        )
        trips = CounterMetricFamily(
            "kvproxy_circuit_breaker_trips", "How often a circuit breaker tripped", labels=labels
        )
        for each in self._overview.breakers():
            names = [each.entry_point, each.provider, each.frontend, each.backend]
            for name in STATES.values():
                state.add_metric([*names, name], float(each.state == name))
            trips.add_metric(names, each.trips)
        yield from (state, trips)


def _requests(
    prefix: str, labels: list[str], rows: Sequence[tuple[list[str], Counters]]
) -> Iterator[Metric]:
    """Yield number and duration of requests. A label ``code`` is a class: ``2xx``."""
    total = CounterMetricFamily(f"{prefix}_requests", "Requests", labels=[*labels, "code"])
    duration = HistogramMetricFamily(
        f"{prefix}_request_duration_seconds", "How long requests took", labels=labels
    )
    for names, counters in rows:
        for digit, count in enumerate(counters.statuses):
            if count:
                total.add_metric([*names, f"{digit}xx"], count)
        buckets = []
        below = 0
        for bound, count in zip((*LATENCY_BOUNDS, "+Inf"), counters.latencies, strict=True):
            below += count
            buckets.append((str(bound), below))
        duration.add_metric(names, buckets, sum_value=counters.seconds)
    yield from (total, duration)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(name, help_text, value=value)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)
