"""What each option costs a request: all as hosts and entry points of one running kvproxy, static
options in processes of their own beside it."""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
from base64 import b64encode
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from bench import load, machine
from bench.peers import HOST
from bench.scenarios import LOAD_CORE, PROXY_CORE, backend, pinned, running, say

WORKERS = 2
"""With one worker nothing is shared, and no lock is needed."""

UNREACHED = 1_000_000_000
"""A limit that no benchmark reaches."""

NOTHING = "nothing"
BCRYPT = "bench:" + bcrypt.hashpw(b"password", bcrypt.gensalt(10)).decode()
SHA1 = "bench:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="
CREDENTIALS = "Authorization: Basic " + b64encode(b"bench:password").decode()


@dataclass(frozen=True)
class Option:
    """An option by the TOML below its frontend, backend and entry point, and what clients send.

    ``static``: the TOML of a static option. ``servers``: how many; ``{asked}`` in the TOML stands
    for the address of a server, ``{folder}`` for a folder.
    """

    frontend: str = ""
    backend: str = ""
    entry_point: str = ""
    static: str = ""
    headers: tuple[str, ...] = ()
    servers: int = 1


OPTIONS: dict[str, Option] = {
    NOTHING: Option(),
    "two servers": Option(servers=2),
    "health check": Option(backend='[{backend}.healthCheck]\npath = "/hello"', servers=2),
    "drr": Option(backend='[{backend}.loadBalancer]\nmethod = "drr"', servers=2),
    "stickiness": Option(backend="[{backend}.loadBalancer.stickiness]", servers=2),
    "circuit breaker": Option(
        backend='[{backend}.circuitBreaker]\nexpression = "NetworkErrorRatio() > 0.5"', servers=2
    ),
    "connection limit": Option(
        backend=f'[{{backend}}.maxConn]\namount = {UNREACHED}\nextractorFunc = "client.ip"',
        servers=2,
    ),
    "rate limit": Option(
        '[{frontend}.ratelimit]\nextractorFunc = "client.ip"\n'
        f'[{{frontend}}.ratelimit.rateset.r]\nperiod = "1s"\n'
        f"average = {UNREACHED}\nburst = {UNREACHED}",
        servers=2,
    ),
    "buffering": Option(backend="[{backend}.buffering]", servers=2),
    "white list": Option('[{frontend}.whiteList]\nsourceRange = ["127.0.0.0/8", "::1"]'),
    "white list of an entry point": Option(entry_point='whiteListSourceRange = ["127.0.0.0/8"]'),
    "redirect, no match": Option(
        '[{frontend}.redirect]\nregex = "^http://other/(.*)$"\nreplacement = "http://x/$1"'
    ),
    "request header": Option('[{frontend}.headers.customRequestHeaders]\nX-Site = "blue"'),
    "response header": Option('[{frontend}.headers.customResponseHeaders]\nX-Site = "blue"'),
    "five security headers": Option(
        "[{frontend}.headers]\nframeDeny = true\ncontentTypeNosniff = true\n"
        "browserXSSFilter = true\nstsSeconds = 3600\nforceSTSHeader = true\n"
        'referrerPolicy = "no-referrer"'
    ),
    "policy with a nonce": Option(
        '[{frontend}.headers]\ncontentSecurityPolicy = "script-src $NONCE"'
    ),
    "basic auth, bcrypt": Option(
        f'[{{frontend}}.auth.basic]\nusers = ["{BCRYPT}"]', headers=(CREDENTIALS,)
    ),
    "basic auth, SHA-1": Option(
        "[{frontend}.auth.basic]\nusers = ['" + SHA1.replace("{", "{{").replace("}", "}}") + "']",
        headers=(CREDENTIALS,),
    ),
    "forward auth": Option('[{frontend}.auth.forward]\naddress = "http://{asked}/auth"'),
    "error pages, not needed": Option(
        '[{frontend}.errors.down]\nstatus = ["500-599"]\nbackend = "nothing"'
    ),
    "compression of 1 KB": Option(
        entry_point="compress = true", headers=("Accept-Encoding: gzip",)
    ),
    "compression, not taken": Option(entry_point="compress = true"),
    "access log": Option(static='[accessLog]\nfilePath = "{folder}/access.log"'),
    "access log, JSON": Option(
        static='[accessLog]\nfilePath = "{folder}/access.json"\nformat = "json"'
    ),
    "access log, held back": Option(
        static='[accessLog]\nfilePath = "{folder}/access.held"\nbufferingSize = 1000'
    ),
}


def host_of(name: str) -> str:
    """Return the host that leads to the backend with this option."""
    return HOST if name == NOTHING else re.sub(r"[^a-z0-9]+", "-", name.lower()) + ".localhost"


def processes() -> list[list[str]]:
    """Return the options of each process: those with the same static options share one."""
    groups: dict[str, list[str]] = {}
    for name, option in OPTIONS.items():
        groups.setdefault(option.static, []).append(name)
    return list(groups.values())


def configuration(names: list[str], ports: dict[str, int], servers: list[int], folder: Path) -> str:
    """Write one frontend, one backend, and where it needs one an entry point, for each option.

    ``ports``: of the entry points, by option; those without one share that of the first.
    """
    parts = [f'defaultEntryPoints = ["{names[0]}"]']
    for name in [name for name in names if name in ports]:
        parts.append(f'[entryPoints."{name}"]\naddress = "127.0.0.1:{ports[name]}"')
        parts.append(OPTIONS[name].entry_point)
    parts.append(OPTIONS[names[0]].static.format(folder=folder))
    parts.append("[file]")
    for name in names:
        option = OPTIONS[name]
        places = {
            "frontend": f'frontends."{name}"',
            "backend": f'backends."{name}"',
            "asked": f"127.0.0.1:{servers[0]}",
        }
        parts += [
            f'[backends."{name}".servers.s{number}]\nurl = "http://127.0.0.1:{server}"'
            for number, server in enumerate(servers[: option.servers])
        ]
        parts.append(option.backend.format(**places))
        parts.append(f'[frontends."{name}"]\nbackend = "{name}"')
        if name in ports:
            parts.append(f'entryPoints = ["{name}"]')
        parts.append(option.frontend.format(**places))
        parts.append(f'[frontends."{name}".routes.r]\nrule = "Host:{host_of(name)}"')
    return "\n".join(parts) + "\n"


def prices(rounds: int, seconds: float) -> dict[str, float]:
    """Return the CPU microseconds of a request by option, medians of interleaved rounds."""
    samples: dict[str, list[float]] = {name: [] for name in OPTIONS}
    groups = processes()
    apart = [name for name, option in OPTIONS.items() if option.entry_point]
    ports = {name: machine.free_port() for name in (*(group[0] for group in groups), *apart)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = stack.enter_context(backend(folder, 2))
        trees: dict[str, list[int]] = {}
        used: dict[str, int] = {}
        for number, group in enumerate(groups):
            path = folder / f"kvproxy-{number}.toml"
            path.write_text(configuration(group, ports, servers, folder))
            command = [sys.executable, "-m", "kvproxy", "run", f"--configFile={path}"]
            command += [f"--workers={WORKERS}", f"--stateDir={folder / f'state-{number}'}"]
            command += ["--logLevel=ERROR"]
            process = stack.enter_context(
                running(pinned(PROXY_CORE, command), {}, folder / f"proxy-{number}.out")
            )
            load.wait_for_answer(ports[group[0]], host=host_of(group[0]))
            for name in group:
                used[name] = ports.get(name, ports[group[0]])
                load_of(name, used[name], 1)
            trees |= dict.fromkeys(group, machine.process_tree(process.pid))
        for number in range(rounds):
            for name in OPTIONS:
                began = machine.cpu_seconds(trees[name])
                done = load_of(name, used[name], seconds)
                if done.errors:
                    raise RuntimeError(f"{name}: {done.errors} errors")
                cost = (machine.cpu_seconds(trees[name]) - began) / done.requests * 1e6
                samples[name].append(cost)
                say(f"  round {number + 1} {name:30} {cost:7.2f} us")
    return {name: statistics.median(each) for name, each in samples.items()}


def load_of(name: str, port: int, seconds: float) -> load.Load:
    """Ask for the host of an option."""
    headers = OPTIONS[name].headers
    return load.wrk(port, seconds, core=LOAD_CORE, host=host_of(name), headers=headers)
