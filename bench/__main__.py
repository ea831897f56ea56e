"""Run the benchmarks: ``scripts/bench [--quick] [--only NAME ...]``."""

from __future__ import annotations

import argparse
import datetime
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import certificates, health, http2, idle, impact, machine, options, scenarios
from bench.certificates import CertificateTimes
from bench.load import BROWSER_HEADERS
from bench.origins import EmbeddedOrigin, FileOrigin, ServerOrigin
from bench.scenarios import ChangeTimes, Sample, say

if TYPE_CHECKING:
    from bench.peers import Peer

REPORT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
ALL = (
    "requests",
    "tls",
    "http2",
    "certificates",
    "options",
    "routes",
    "changes",
    "files",
    "impact",
    "errors",
    "memory",
    "health",
)
QUICK = ("requests", "routes", "changes", "errors")
"""What a quick run measures when nothing is named: one proxy after the other, under two minutes."""


def table(header: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def requests_table(samples: dict[str, Sample]) -> str:
    """One row a proxy; the last column is kvproxy's CPU divided by the row's."""
    own = samples["kvproxy"].microseconds
    rows = [
        [
            name,
            f"{each.microseconds:.1f}",
            f"{each.requests_per_second:,.0f}",
            f"{each.p50 * 1e3:.2f}",
            f"{each.p99 * 1e3:.2f}",
            f"{each.memory / 1e6:.0f}",
            str(each.errors),
            f"{own / each.microseconds:.2f}x",
        ]
        for name, each in samples.items()
    ]
    header = ["proxy", "CPU us a request", "requests/s", "p50 ms", "p99 ms", "memory MB", "errors"]
    return table([*header, "kvproxy's CPU / this"], rows)


def handshakes_table(measured: dict[str, dict[str, float]]) -> str:
    """One row a proxy; how many a core does a second, and kvproxy's number divided by the row's."""
    own = measured["kvproxy"]
    rows = []
    for name, each in measured.items():
        row = [name]
        for kind in ("full", "resumed"):
            row += [f"{each[kind]:.0f}", f"{1e6 / each[kind]:,.0f}"]
            row.append(f"{each[kind] / own[kind]:.2f}x")
        rows.append(row)
    header = ["proxy"]
    for kind in ("full", "resumed"):
        header += [f"{kind}: CPU us", "a second and core", "kvproxy's / this"]
    return table(header, rows)


def certificates_table(count: int, times: CertificateTimes) -> str:
    """One row."""
    header = ["certificates", "start s", "its CPU s", "replaced p50 ms", "p99 ms", "replacements"]
    row = [f"{count:,}", f"{times.start:.1f}", f"{times.start_cpu:.1f}"]
    row += [f"{times.p50 * 1e3:.0f}", f"{times.p99 * 1e3:.0f}", str(times.replacements)]
    row += [f"{each / 1e6:.1f}" for each in (times.memory_early, times.memory_at_end)]
    return table([*header, "workers' MB early", "MB at end"], [row])


def routes_table(samples: dict[int, Sample]) -> str:
    """One row a number of hosts."""
    first = next(iter(samples.values())).microseconds
    rows = [
        [
            f"{count:,}",
            f"{each.microseconds:.2f}",
            f"{each.microseconds - first:+.2f}",
            f"{each.memory / 1e6:.0f}",
        ]
        for count, each in samples.items()
    ]
    return table(
        ["host routes", "CPU us a request", "more than the first", "worker memory MB"], rows
    )


def options_table(prices: dict[str, float]) -> str:
    """One row an option, with what it costs more than the row before all options."""
    first = prices["nothing"]
    return table(
        ["option", "CPU us a request", "more"],
        [[name, f"{each:.1f}", f"{each - first:+.1f}"] for name, each in prices.items()],
    )


def changes_table(first: str, measured: dict[str, dict[int, ChangeTimes]]) -> str:
    """One row an origin and number of frontends; ``first``: what the origins are called."""
    rows = [
        [
            name,
            f"{count:,}",
            f"{each.p50 * 1e3:.1f}",
            f"{each.p99 * 1e3:.1f}",
            str(each.samples),
        ]
        for name, times in measured.items()
        for count, each in times.items()
    ]
    return table([first, "frontends", "p50 ms", "p99 ms", "changes"], rows)


def rounds_table(what: str, samples: dict[str, dict[str, list[float]]]) -> str:
    """One row a kind of requests and proxy: the middle of its rounds and the lowest, and kvproxy's
    divided by it."""
    rows = []
    for kind, by_peer in samples.items():
        for name, values in by_peer.items():
            row = [kind, name]
            for figure in (statistics.median, min):
                own, each = figure(by_peer["kvproxy"]), figure(values)
                row += [f"{each:.1f}", f"{own / each:.2f}x"]
            rows.append(row)
    header = [what, "proxy"]
    for figure in ("CPU us, middle round", "CPU us, lowest round"):
        header += [figure, "kvproxy's / this"]
    return table(header, rows)


def http2_parts(peers: list[Peer], rounds: int, seconds: float) -> list[str]:
    """Measure requests over TLS by kind, and gRPC calls in clear."""
    with_http2 = [peer for peer in peers if peer.http2_command is not None]
    asked = http2.requests(with_http2, rounds, seconds)
    with_grpc = [peer for peer in peers if peer.grpc_command is not None]
    called = http2.grpc(with_grpc, rounds, seconds)
    return [
        "## HTTP/2 over TLS\n",
        f"{http2.CONNECTIONS} connections; h2load, and a client of our own where every request "
        "is different (path and two headers that enter the dynamic table). The proxies run side by "
        f"side and take turns: {rounds} rounds of {seconds:g} s.\n",
        rounds_table("requests", asked),
        "## gRPC\n",
        f"Unary calls with messages of 5 bytes, {http2.CONNECTIONS} connections with 32 streams, "
        "HTTP/2 in clear on both sides.\n",
        rounds_table("calls", {"unary": called}),
    ]


def changes(quick: bool) -> list[str]:
    """Measure changes of keys, and starts."""
    number = 30 if quick else 200
    keys = {}
    say("changed key to served: embedded store")
    counts = [1, 1_000] if quick else [1, 1_000, 10_000, 100_000]
    keys["embedded"] = scenarios.change_to_served(EmbeddedOrigin, counts, number)
    for kind in () if quick else ServerOrigin.NAMES:
        say(f"changed key to served: {kind}")
        keys[kind] = scenarios.change_to_served(
            partial(ServerOrigin, kind), [1_000, 10_000], number
        )
    say("starts")
    rounds = 1 if quick else 9
    started = {
        "embedded": scenarios.start(EmbeddedOrigin, 1_000, rounds),
        "file": scenarios.start(FileOrigin, 1_000, rounds),
    }
    if not quick:
        etcd = partial(ServerOrigin, "etcd")
        started["etcd"] = scenarios.start(etcd, 1_000, rounds)
        killed = scenarios.start_without_store("etcd", 1_000, rounds)
        started["etcd, its server killed"] = killed
    return [
        "## A changed key, served by every worker\n",
        "From the start of the write of one key to the first new answer of the slowest of two "
        "workers. Servers of the stores, proxy, clients and servers share the cores.\n",
        changes_table("store", keys),
        "## A start with 1,000 frontends\n",
        "From the start of the program to the first answer of a route, two workers. With the "
        "server killed it is the last known good configuration that is served; otherwise the state "
        "directory is empty. Traefik 1.7 was measured on another day, on a machine of this kind: "
        "each configuration that it makes costs 44 reads for each frontend and takes 15 to 17 s.\n",
        table(
            ["proxy", "origin", "seconds", "reads of the store"],
            [
                *(
                    ["kvproxy", name, f"{each.seconds:.2f}", f"{each.reads or '-'}"]
                    for name, each in started.items()
                ),
                ["Traefik 1.7", "etcd", "15-17", "44,000"],
            ],
        ),
    ]


def files(quick: bool) -> list[str]:
    """Measure changes of a file."""
    say("changed file to served")
    counts = [1_000] if quick else [1_000, 10_000, 100_000]
    times = scenarios.change_to_served(FileOrigin, counts, 10 if quick else 50)
    return [
        "## A changed file, served by every worker\n",
        "All frontends stand in one file, which is replaced as a whole; one of them has changed.\n",
        changes_table("origin", {"file": times}),
    ]


def health_checks(quick: bool) -> list[str]:
    """Measure what health checks cost the supervisor."""
    say("health checks")
    servers, interval = (1_000, 3.0) if quick else (10_000, 30.0)
    cost = health.measure(servers, interval, interval)
    return [
        "## Health checks\n",
        "Every check is a connection of its own; the servers are one process on the same machine, "
        "so what the kernel does for both ends is in here.\n",
        table(
            ["servers", "interval s", "checks/s", "CPU us a check", "of a core", "supervisor MB"],
            [
                [
                    f"{servers:,}",
                    f"{interval:g}",
                    f"{cost.checks_per_second:.0f}",
                    f"{cost.microseconds:.0f}",
                    f"{cost.core:.1%}",
                    f"{cost.memory / 1e6:.0f}",
                ]
            ],
        ),
    ]


def change_impact(quick: bool, pairs: int | None, seconds: float | None) -> list[str]:
    """Measure everybody's latency during changes."""
    say("latency of everybody else during changes")
    pairs = pairs or (6 if quick else 40)
    seconds = seconds or 1.0
    counts = [1_000] if quick else [1_000, 10_000, 100_000]
    rows = []
    for own_backends in (False, True):
        found = impact.measure(
            counts if not own_backends else counts[-1:], pairs, seconds, own_backends=own_backends
        )
        rows += [
            [
                f"{count:,}",
                "one each" if own_backends else "2",
                f"{each.quiet * 1e3:.2f}",
                f"{each.changing * 1e3:.2f}",
                f"{each.ratio:.2f}x",
                f"{each.ratio_low:.2f}x to {each.ratio_high:.2f}x",
                str(each.changes),
            ]
            for count, each in found.items()
        ]
    return [
        "## Everybody else's latency during changes\n",
        "A steady load of 500 requests a second on two workers; ten changes of one entry a "
        f"second, or none, in turns: {pairs} pairs of windows of {seconds:g} s. The ratio is the "
        "middle of the pairs' own; half of the pairs are in the range beside it.\n",
        table(
            [
                "frontends",
                "backends",
                "p99 ms without changes",
                "p99 ms with changes",
                "ratio",
                "middle half",
                "changes",
            ],
            rows,
        ),
    ]


def main() -> None:
    """Run what was asked for and write the report."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and sizes: under two minutes"
    )
    parser.add_argument("--only", nargs="+", choices=ALL)
    parser.add_argument(
        "--peers", nargs="+", help="only these proxies (kvproxy is always measured)"
    )
    parser.add_argument("--rounds", type=int, help="of `impact`: pairs of windows")
    parser.add_argument("--seconds", type=float, help="length of one measured round")
    parser.add_argument(
        "--report", type=Path, help="file for the tables (a whole run: docs/benchmarks.md)"
    )
    arguments = parser.parse_args()
    quick = arguments.quick
    chosen = arguments.only or (QUICK if quick else ALL)
    rounds = arguments.rounds or (1 if quick else 5)
    seconds = arguments.seconds or (2 if quick else 6)
    names = ["kvproxy", *arguments.peers] if arguments.peers else None
    peers = scenarios.chosen_peers(names)

    now = datetime.datetime.now(datetime.UTC)
    versions = {peer.name: peer.version_text() for peer in peers}
    parts = [
        "# Benchmarks\n",
        "Written by `scripts/bench`" + (" --quick" if quick else "") + f" on {now:%Y-%m-%d}.\n",
        f"Machine: {machine.description()}. The proxy is pinned to one core, the load generator "
        "(wrk, 64 keep-alive connections, 1 KB answers) and the server (nginx) to another.\n",
        "CPU is user plus system time of the proxy's whole process tree, divided by requests; "
        f"medians of {rounds} interleaved round(s) of {seconds:g} s. Compare ratios, not "
        "absolutes.\n",
        table(["proxy", "version"], [[name, text] for name, text in versions.items()]),
    ]
    if "requests" in chosen:
        say("plain requests")
        parts += [
            "## Plain requests\n",
            requests_table(scenarios.requests(peers, rounds, seconds, ())),
        ]
        say("requests with browser-like headers")
        measured = scenarios.requests(peers, rounds, seconds, BROWSER_HEADERS)
        parts += ["## Requests with ten browser-like headers\n", requests_table(measured)]
    if "tls" in chosen:
        with_tls = [peer for peer in peers if peer.tls_command is not None]
        say("requests over TLS 1.3")
        measured = scenarios.requests(with_tls, rounds, seconds, (), tls=True)
        parts += ["## Requests over TLS 1.3\n", requests_table(measured)]
        say("TLS 1.3 handshakes")
        parts += [
            "## TLS 1.3 handshakes\n",
            "CPU of the proxy for a connection with a handshake and no request (ECDSA P-256); "
            "resumed with a ticket.\n",
            handshakes_table(scenarios.handshakes(with_tls, rounds, seconds)),
        ]
    if "http2" in chosen:
        say("HTTP/2")
        parts += http2_parts(peers, rounds, seconds)
    if "options" in chosen:
        say("options")
        parts += [
            "## Options\n",
            f"{options.WORKERS} workers on one core. An option that is off costs nothing: the "
            "first row is the way without any. Those of backends have two servers; limits and "
            "pages are not reached, passwords are right, the client of a redirect is not meant.\n",
            options_table(options.prices(rounds, seconds)),
        ]
    if "certificates" in chosen:
        say("many certificates")
        times = certificates.measure(1_000 if quick else 10_000, 20 if quick else 200)
        parts += [
            "## Many certificates\n",
            "In the embedded store, two workers. A start ends with the first handshake for the "
            "last name; a replacement with the new certificate on every worker.\n",
            certificates_table(1_000 if quick else 10_000, times),
        ]
    if "routes" in chosen:
        say("many host routes")
        counts = [1, 10_000] if quick else [1, 100, 10_000, 100_000]
        parts += [
            "## Many host routes\n",
            "Requests go to all hosts in a random order; one worker, the supervisor not counted.\n",
            routes_table(scenarios.many_routes(counts, seconds)),
        ]
    if "changes" in chosen:
        parts += changes(quick)
    if "files" in chosen:
        parts += files(quick)
    if "impact" in chosen:
        parts += change_impact(quick, arguments.rounds, arguments.seconds)
    if "errors" in chosen:
        say("errors over reloads")
        counted = scenarios.reload_errors(*((100, 5) if quick else (1_000, 30)))
        parts += [
            "## Reloads under load\n",
            "Two workers, 1,000 frontends, 64 keep-alive connections at full speed and open "
            "WebSockets.\n",
            table(
                [
                    "changes",
                    "requests",
                    "failed",
                    "WebSockets",
                    "dropped",
                    "MB after 100",
                    "MB at end",
                ],
                [
                    [
                        f"{counted.changes:,}",
                        f"{counted.requests:,}",
                        str(counted.failed),
                        str(counted.tunnels),
                        str(counted.dropped),
                        f"{counted.memory_after_100 / 1e6:.1f}",
                        f"{counted.memory_at_end / 1e6:.1f}",
                    ]
                ],
            ),
        ]
    if "memory" in chosen:
        say("memory of an idle connection")
        count = 500 if quick else 2_000
        rows = [
            [kind, name, f"{each / 1024:.1f}"]
            for kind, by_peer in idle.memory(peers, 1 if quick else 3, count).items()
            for name, each in by_peer.items()
        ]
        parts += [
            "## Idle connections\n",
            f"Memory that one of {count:,} connections takes, {idle.QUIET_SECONDS:.0f} s after its "
            "one request with the headers of a browser.\n",
            table(["clients", "proxy", "KB"], rows),
        ]
    if "health" in chosen:
        parts += health_checks(quick)
    whole = chosen == ALL and names is None and not quick
    report = arguments.report or (REPORT if whole else None)
    if report is None:
        say("\n".join(parts))
    else:
        report.write_text("\n".join(parts))
        say(f"written: {report}")


if __name__ == "__main__":
    main()
