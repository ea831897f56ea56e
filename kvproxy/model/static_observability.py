"""The static configuration of logs, metrics, traces and the API."""

from __future__ import annotations

from typing import Annotated

from msgspec import field

from kvproxy.model.dynamic import Auth
from kvproxy.model.kinds import Duration, Section, about


class Statistics(Section, frozen=True, rename="camel", kw_only=True):
    """Recent errors in the API."""

    recent_errors: Annotated[int, about("number of errors kept", least=0)] = 10


class Api(Section, frozen=True, rename="camel", kw_only=True):
    """The API and the dashboard."""

    entry_point: Annotated[str, about("entry point that serves it")] = "traefik"
    dashboard: Annotated[bool, about("serve the dashboard")] = True
    debug: Annotated[bool, about("always that of the global `debug`")] = False
    statistics: Annotated[Statistics, about("recent errors")] | None = None


class Prometheus(Section, frozen=True, rename="camel", kw_only=True):
    """Metrics for Prometheus."""

    buckets: Annotated[
        tuple[float, ...], about("upper bounds of the latency histogram", separators=",;")
    ] = (0.1, 0.3, 1.2, 5.0)
    entry_point: Annotated[str, about("entry point that serves `/metrics`")] = "traefik"


class Datadog(Section, frozen=True, rename="camel", kw_only=True):
    """Metrics for Datadog."""

    address: Annotated[str, about("host:port")] = "localhost:8125"
    push_interval: Annotated[Duration, about("time between sendings")] = 10.0


class Statsd(Section, frozen=True, rename="camel", kw_only=True):
    """Metrics for StatsD."""

    address: Annotated[str, about("host:port")] = "localhost:8125"
    push_interval: Annotated[Duration, about("time between sendings")] = 10.0


class Influxdb(Section, frozen=True, rename="camel", kw_only=True):
    """Metrics for InfluxDB."""

    address: Annotated[str, about("host:port or URL")] = "localhost:8089"
    protocol: Annotated[str, about("`udp` or `http`")] = "udp"
    push_interval: Annotated[Duration, about("time between sendings")] = 10.0
    database: Annotated[str, about("database")] = ""
    retention_policy: Annotated[str, about("retention policy")] = ""


class Metrics(Section, frozen=True, rename="camel", kw_only=True):
    """Metrics; each exporter is on when its section is present."""

    prometheus: Annotated[Prometheus, about("Prometheus")] | None = None
    datadog: Annotated[Datadog, about("Datadog")] | None = None
    statsd: Annotated[Statsd, about("StatsD")] | None = None
    influxdb: Annotated[Influxdb, about("InfluxDB")] | None = None


class Jaeger(Section, frozen=True, rename="camel", kw_only=True):
    """Traces for Jaeger."""

    sampling_server_url: Annotated[str, about("URL of the sampling server")] = field(
        default="http://localhost:5778/sampling", name="samplingServerURL"
    )
    sampling_type: Annotated[str, about("`const`, `probabilistic` or `rateLimiting`")] = "const"
    sampling_param: Annotated[float, about("parameter of the sampling")] = 1.0
    local_agent_host_port: Annotated[str, about("host:port of the agent")] = "127.0.0.1:6831"
    trace_context_header_name: Annotated[str, about("header that carries the context")] = (
        "uber-trace-id"
    )


class Zipkin(Section, frozen=True, rename="camel", kw_only=True):
    """Traces for Zipkin."""

    http_endpoint: Annotated[str, about("URL of the collector")] = field(
        default="http://localhost:9411/api/v1/spans", name="httpEndpoint"
    )
    same_span: Annotated[bool, about("client and server share a span")] = False
    id128_bit: Annotated[bool, about("trace ids of 128 bits")] = field(
        default=True, name="id128Bit"
    )
    debug: Annotated[bool, about("log the spans")] = False


class DatadogTracer(Section, frozen=True, rename="camel", kw_only=True):
    """Traces for Datadog."""

    local_agent_host_port: Annotated[str, about("host:port of the agent")] = "localhost:8126"
    global_tag: Annotated[str, about("`key:value` on every span")] = ""
    debug: Annotated[bool, about("log the spans")] = False
    priority_sampling: Annotated[bool, about("sampling by priority")] = False
    trace_id_header_name: Annotated[str, about("header of the trace id")] = field(
        default="", name="traceIDHeaderName"
    )
    parent_id_header_name: Annotated[str, about("header of the parent id")] = field(
        default="", name="parentIDHeaderName"
    )
    sampling_priority_header_name: Annotated[str, about("header of the priority")] = ""
    bagage_prefix_header_name: Annotated[str, about("prefix of baggage headers")] = ""


class Tracing(Section, frozen=True, rename="camel", kw_only=True):
    """Traces of requests."""

    backend: Annotated[str, about("`jaeger`, `zipkin` or `datadog`")] = "jaeger"
    service_name: Annotated[str, about("name of this service")] = "traefik"
    span_name_limit: Annotated[int, about("longest name of a span; 0 = no limit", least=0)] = 0
    jaeger: Annotated[Jaeger, about("Jaeger")] | None = None
    zipkin: Annotated[Zipkin, about("Zipkin")] | None = None
    datadog: Annotated[DatadogTracer, about("Datadog")] | None = None


class TraefikLog(Section, frozen=True, rename="camel", kw_only=True):
    """The log of the program."""

    file_path: Annotated[str, about("file", default="standard output")] = ""
    format: Annotated[str, about("`common` or `json`")] = "common"


class AccessLogFilters(Section, frozen=True, rename="camel", kw_only=True):
    """Which requests are logged; one that passes any filter is."""

    status_codes: Annotated[
        tuple[str, ...], about("statuses or ranges, such as `500-599`", separators=",;")
    ] = ()
    retry_attempts: Annotated[bool, about("requests that were tried again")] = False
    min_duration: Annotated[Duration, about("requests that took longer")] = 0.0


class FieldHeaders(Section, frozen=True, rename="camel", kw_only=True):
    """Which headers are logged."""

    default_mode: Annotated[str, about("`keep`, `drop` or `redact`")] = "keep"
    names: Annotated[dict[str, str], about("mode by header", separators=" ")] = field(
        default_factory=dict
    )


class AccessLogFields(Section, frozen=True, rename="camel", kw_only=True):
    """Which fields are logged."""

    default_mode: Annotated[str, about("`keep` or `drop`")] = "keep"
    names: Annotated[dict[str, str], about("mode by field", separators=" ")] = field(
        default_factory=dict
    )
    headers: Annotated[FieldHeaders, about("which headers are logged")] | None = None


class AccessLog(Section, frozen=True, rename="camel", kw_only=True):
    """One line for each request."""

    file_path: Annotated[str, about("file", default="standard output")] = ""
    format: Annotated[str, about("`common` or `json`")] = "common"
    buffering_size: Annotated[
        int, about("lines held back, for a second at most; 0 = written at once", least=0)
    ] = 0
    filters: Annotated[AccessLogFilters, about("which requests are logged")] | None = None
    fields: Annotated[AccessLogFields, about("which fields are logged")] | None = None


class Web(Section, frozen=True, rename="camel", kw_only=True):
    """Deprecated: API, ping and metrics on one address."""

    address: Annotated[str, about("address of the entry point `traefik`")] = ":8080"
    cert_file: Annotated[str, about("certificate")] = ""
    key_file: Annotated[str, about("key of the certificate", content=True)] = ""
    path: Annotated[str, about("prefix of all paths")] = ""
    auth: Annotated[Auth, about("authentication", flag=False)] | None = None
    statistics: Annotated[Statistics, about("recent errors")] | None = None
    metrics: Annotated[Metrics, about("metrics")] | None = None
    read_only: Annotated[bool, about("no effect")] = False
    debug: Annotated[bool, about("sets the global `debug`")] = False
