"""What each option of a backend costs a request: all of them as hosts of one running kvproxy."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from bench import load, machine
from bench.peers import HOST
from bench.scenarios import LOAD_CORE, PROXY_CORE, backend, pinned, running, say

WORKERS = 2
"""With one worker nothing is shared, and no lock is needed."""

UNREACHED = 1_000_000_000
"""A limit that no benchmark reaches."""

BACKENDS = {
    "nothing": "",
    "two servers": "",
    "health check": '[backends."{name}".healthCheck]\npath = "/hello"',
    "drr": '[backends."{name}".loadBalancer]\nmethod = "drr"',
    "stickiness": '[backends."{name}".loadBalancer.stickiness]',
    "circuit breaker": '[backends."{name}".circuitBreaker]\n'
    'expression = "NetworkErrorRatio() > 0.5"',
    "connection limit": f'[backends."{{name}}".maxConn]\namount = {UNREACHED}\n'
    'extractorFunc = "client.ip"',
    "rate limit": "",
    "buffering": '[backends."{name}".buffering]',
}
"""Option to its TOML. All but the first two have one server more than they need."""

FRONTENDS = {
    "rate limit": '[frontends."{name}".ratelimit]\nextractorFunc = "client.ip"\n'
    f'[frontends."{{name}}".ratelimit.rateset.r]\nperiod = "1s"\n'
    f"average = {UNREACHED}\nburst = {UNREACHED}",
}


def host_of(name: str) -> str:
    """Return the host that leads to the backend with this option."""
    return HOST if name == "nothing" else name.replace(" ", "-") + ".localhost"


def configuration(port: int, servers: list[int]) -> str:
    """Write one frontend and one backend for each option."""
    parts = [f'[entryPoints.http]\naddress = "127.0.0.1:{port}"', "[file]"]
    for name, options in BACKENDS.items():
        used = servers[:1] if name == "nothing" else servers
        parts += [
            f'[backends."{name}".servers.s{number}]\nurl = "http://127.0.0.1:{server}"'
            for number, server in enumerate(used)
        ]
        parts.append(options.format(name=name))
        parts.append(f'[frontends."{name}"]\nbackend = "{name}"')
        parts.append(FRONTENDS.get(name, "").format(name=name))
        parts.append(f'[frontends."{name}".routes.r]\nrule = "Host:{host_of(name)}"')
    return "\n".join(parts) + "\n"


def prices(rounds: int, seconds: float) -> dict[str, float]:
    """Return the CPU microseconds of a request by option, medians of interleaved rounds."""
    samples: dict[str, list[float]] = {name: [] for name in BACKENDS}
    with tempfile.TemporaryDirectory() as temporary, backend(Path(temporary), 2) as servers:
        folder, port = Path(temporary), machine.free_port()
        path = folder / "kvproxy.toml"
        path.write_text(configuration(port, servers))
        command = [sys.executable, "-m", "kvproxy", "run", f"--configFile={path}"]
        command += [f"--workers={WORKERS}", f"--stateDir={folder / 'state'}", "--logLevel=ERROR"]
        with running(pinned(PROXY_CORE, command), {}, folder / "proxy.out") as process:
            load.wait_for_answer(port)
            for name in BACKENDS:
                load.wrk(port, 1, core=LOAD_CORE, host=host_of(name))
            tree = machine.process_tree(process.pid)
            for number in range(rounds):
                for name in BACKENDS:
                    began = machine.cpu_seconds(tree)
                    done = load.wrk(port, seconds, core=LOAD_CORE, host=host_of(name))
                    if done.errors:
                        raise RuntimeError(f"{name}: {done.errors} errors")
                    cost = (machine.cpu_seconds(tree) - began) / done.requests * 1e6
                    samples[name].append(cost)
                    say(f"  round {number + 1} {name:18} {cost:7.2f} us")
    return {name: statistics.median(each) for name, each in samples.items()}
