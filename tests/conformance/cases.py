"""The form of a row of the case tables, and the proxies that all rows of a table share.

Each row gets an entry point of its own, so that its rules stand exactly as the table gives them and
no row sees the frontends of another. Rows that need the same static options share one process.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from tests.support.backend import Backend, LoopThread, ReservedPort, ServerRequest, echoed
from tests.support.http_client import RawConnection, Response, build_request
from tests.support.proxy_process import ProxyProcess
from tests.support.tls_client import trusting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from tests.support.backend import Behaviour

_SERVER = re.compile(r"\{[a-z-]+\}")

NOT_FOUND_BODY = b"404 page not found\n"
HOST = "case.test"

DEFAULT: Mapping[str, Any] = {}
"""Static options as they are when nobody sets any."""

COMPATIBLE: Mapping[str, Any] = {"allowUnsafePaths": True}
"""The named switch for strict compatibility: encoded separators and dot segments pass."""

KEEP_TRAILING_SLASH: Mapping[str, Any] = {"keepTrailingSlash": True}


@dataclass(frozen=True)
class Ask:
    """One request. ``host`` None leaves Host out."""

    target: str | bytes = "/"
    host: str | None = HOST
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes of the request."""
        return build_request(
            self.target,
            host=self.host,
            method=self.method,
            headers=self.headers,
            body=self.body,
        )


@dataclass(frozen=True)
class Forwarded:
    """The request reaches a server.

    ``uri``: the request target there (None: as it was sent). ``headers``: name to the values there;
    an empty tuple means absent. ``server``: the name of the scripted server; ``{NAME}`` in a value
    stands for its authority. ``method``: as it arrives.
    """

    uri: str | None = None
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    server: str | None = None
    method: str | None = None


@dataclass(frozen=True)
class Answered:
    """The proxy answers by itself (or a server's answer is looked at, not its request).

    ``headers``: name to values; an empty tuple means absent; ``{NAME}`` in a value stands for the
    URL of a scripted server. ``body`` None: not looked at.
    """

    status: int
    body: bytes | None = None
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


NOT_FOUND = Answered(
    404,
    NOT_FOUND_BODY,
    {
        "Content-Type": ("text/plain; charset=utf-8",),
        "X-Content-Type-Options": ("nosniff",),
        "Content-Length": ("19",),
    },
)
"""The default 404."""


def text_reply(status: int, body: str) -> Answered:
    """Return the reply whose body is the reason phrase, with no header beyond its type."""
    headers = {"Content-Type": ("text/plain; charset=utf-8",), "X-Content-Type-Options": ()}
    return Answered(status, body.encode(), headers)


@dataclass(frozen=True)
class CutShort:
    """The client gets the head of an answer and ``wire`` of its body, then the connection ends."""

    status: int
    wire: bytes


Outcome = Forwarded | Answered | CutShort


@dataclass(frozen=True)
class Case:
    """One row: a set-up, requests in order, and what becomes of each.

    ``frontends`` and ``backends`` are as in TOML (entry points are filled in; ``{NAME}`` in a
    server URL or an ``address`` stands for the URL of a scripted server, ``{dead}`` for one that
    refuses).
    ``announced``: what a load balancer says of the client first. An entry point with ``tls`` is
    asked over TLS.
    ``script``: ``PATH`` or ``NAME:PATH`` to what the server (``echo``, or NAME) does with requests
    for PATH. ``difference``: where and why kvproxy differs from the reference on purpose.
    ``skip``: the feature that the row waits for.
    """

    identity: str
    frontends: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    exchanges: tuple[tuple[Ask, Outcome], ...] = ()
    backends: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    script: Mapping[str, Behaviour] = field(default_factory=dict)
    static: Mapping[str, Any] = field(default_factory=dict)
    entry_point: Mapping[str, Any] = field(default_factory=dict)
    announced: bytes = b""
    difference: str = ""
    skip: str = ""


def frontend(*rules: str, backend: str = "echo", **options: Any) -> dict[str, Any]:
    """Return a frontend with one route a rule."""
    routes = {f"route{number}": {"rule": rule} for number, rule in enumerate(rules)}
    return {"backend": backend, "routes": routes, **options}


def rule_case(identity: str, rule: str, *exchanges: tuple[Ask, Outcome], **options: Any) -> Case:
    """Return the row of one frontend with one rule."""
    return Case(identity, {"frontend": frontend(rule)}, exchanges, **options)


def waits_for(feature: str, *identities: str) -> list[Case]:
    """Return rows that are skipped until kvproxy has ``feature``."""
    return [Case(identity, skip=feature) for identity in identities]


def parameters(cases: Iterable[Case]) -> list[Any]:
    """Return the rows as pytest parameters: the row's id is the test's, skips are marked."""
    return [
        pytest.param(
            case, id=case.identity, marks=[pytest.mark.skip(reason=case.skip)] if case.skip else []
        )
        for case in cases
    ]


class Servers:
    """Scripted servers by name, made when first named."""

    def __init__(self, loop_thread: LoopThread) -> None:
        """Make none yet, but for a port that refuses connections.

        ``addresses`` holds URLs by name that are no scripted servers.
        """
        self._loop_thread = loop_thread
        self._dead = ReservedPort()
        self._by_name: dict[str, Backend] = {}
        self.addresses: dict[str, str] = {"dead": f"http://127.0.0.1:{self._dead.port}"}

    def __getitem__(self, name: str) -> Backend:
        """Return the server ``name``."""
        if name not in self._by_name:
            self._by_name[name] = Backend(self._loop_thread, name)
        return self._by_name[name]

    def add(self, name: str, backend: Backend) -> None:
        """Give a server that is already there a name."""
        self._by_name[name] = backend

    def resolve(self, url: str) -> str:
        """Replace ``{NAME}`` by the server's URL."""
        if not url.startswith("{"):
            return url
        name, _, rest = url[1:].partition("}")
        return (self.addresses.get(name) or self[name].url) + rest

    def with_addresses(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options with the URLs of servers in the place of ``{NAME}`` in ``address``."""
        return {
            key: self.with_addresses(value)
            if isinstance(value, dict)
            else self.resolve(value)
            if key == "address"
            else value
            for key, value in options.items()
        }

    def stop(self) -> None:
        """Stop every server."""
        self._dead.close()
        for backend in self._by_name.values():
            backend.stop()


class CaseTable:
    """The running set-ups of a table: a process for each set of static options, started lazily."""

    def __init__(self, cases: Iterable[Case], servers: Servers) -> None:
        """Group the rows."""
        self.servers = servers
        self._groups: defaultdict[str, list[Case]] = defaultdict(list)
        self._proxies: dict[str, ProxyProcess] = {}
        self._entry_points: dict[str, str] = {}
        for number, case in enumerate(cases):
            self._entry_points[case.identity] = f"row{number}"
            if case.skip:
                continue
            for key, behaviour in case.script.items():
                name, _, path = key.rpartition(":")
                servers[name or "echo"].on(path, behaviour)
            self._groups[repr(sorted(case.static.items()))].append(case)

    def proxy_of(self, case: Case) -> ProxyProcess:
        """Return the process that serves the row."""
        key = repr(sorted(case.static.items()))
        if key not in self._proxies:
            group = self._groups[key]
            proxy = ProxyProcess(
                self._routes(group),
                entry_points={
                    self._entry_points[each.identity]: self.servers.with_addresses(each.entry_point)
                    for each in group
                },
                static=case.static,
            )
            proxy.start()
            self._proxies[key] = proxy
        return self._proxies[key]

    def port_of(self, case: Case) -> int:
        """Return the port of the row's entry point."""
        return self.proxy_of(case).ports[self._entry_points[case.identity]]

    def _routes(self, group: list[Case]) -> dict[str, Any]:
        frontends: dict[str, Any] = {}
        backends: dict[str, Any] = {"echo": {"servers": {"one": {"url": self.servers["echo"].url}}}}
        for case in group:
            own = {name: f"{case.identity}-{name}" for name in case.backends}
            for name, backend in case.backends.items():
                described = {
                    key: {**server, "url": self.servers.resolve(server["url"])}
                    for key, server in backend.get("servers", {}).items()
                }
                backends[own[name]] = {**backend, "servers": described}
            for name, options in case.frontends.items():
                wanted = options["backend"]
                pages = options.get("errors", {})
                named = {
                    key: {**page, "backend": own.get(page["backend"], page["backend"])}
                    for key, page in pages.items()
                }
                frontends[f"{case.identity}-{name}"] = {
                    **self.servers.with_addresses(options),
                    **({"errors": named} if named else {}),
                    "backend": own.get(wanted, wanted),
                    "entryPoints": [self._entry_points[case.identity]],
                }
        return {"frontends": frontends, "backends": backends}

    def run(self, case: Case) -> None:
        """Send the row's requests and compare what becomes of them."""
        port = self.port_of(case)
        for ask, outcome in case.exchanges:
            if isinstance(outcome, CutShort):
                self._run_cut_short(port, ask, outcome)
            else:
                with self._connect(case, port) as connection:
                    self.compare(ask, outcome, connection.request(self._encode(ask)))

    def _encode(self, ask: Ask) -> bytes:
        headers = tuple((name, self._with_urls(value)) for name, value in ask.headers)
        return replace(ask, headers=headers).encode()

    def _with_urls(self, text: str) -> str:
        """Replace each ``{NAME}`` by the URL of the server of that name."""
        return _SERVER.sub(lambda found: self.servers.resolve(found[0]), text)

    @staticmethod
    def _connect(case: Case, port: int) -> RawConnection:
        connection = RawConnection(port)
        connection.send(case.announced)
        if "tls" in case.entry_point:
            connection = RawConnection.over(trusting().wrap_socket(connection.socket))
        return connection

    @staticmethod
    def _run_cut_short(port: int, ask: Ask, outcome: CutShort) -> None:
        with RawConnection(port) as connection:
            connection.send(ask.encode())
            assert connection.read_head().status == outcome.status
            assert connection.read_to_end() == outcome.wire, ask

    def compare(self, ask: Ask, outcome: Forwarded | Answered, response: Response) -> None:
        """Fail unless ``response`` is the ``outcome`` of ``ask``."""
        if isinstance(outcome, Answered):
            assert response.status == outcome.status, (ask, response.raw)
            if outcome.body is not None:
                assert response.body == outcome.body, ask
            for name, values in outcome.headers.items():
                wanted = tuple(self._with_urls(value) for value in values)
                assert _text(response.values(name)) == wanted, (ask, name)
            return
        assert response.status == 200, (ask, response.raw)
        if outcome.server is not None:
            assert response.value("X-Server") == outcome.server.encode(), ask
        if ask.method == "HEAD":
            return
        self._compare_request(ask, outcome, echoed(response))

    def _compare_request(self, ask: Ask, outcome: Forwarded, seen: ServerRequest) -> None:
        if outcome.uri is not None:
            assert seen.target == outcome.uri.encode("latin-1"), ask
        elif ask.target[:4] not in ("http", b"http"):
            sent = ask.target if isinstance(ask.target, bytes) else ask.target.encode("latin-1")
            assert seen.target == sent, ask
        assert seen.method.decode() == (outcome.method or ask.method)
        assert seen.body == ask.body
        for name, values in outcome.headers.items():
            wanted = tuple(
                self.servers[value[1:-1]].authority if value.startswith("{") else value
                for value in values
            )
            assert _text(seen.values(name)) == wanted, (ask, name, seen.head)

    def stop(self) -> None:
        """Stop every process."""
        for proxy in self._proxies.values():
            proxy.stop()


def _text(values: list[bytes]) -> tuple[str, ...]:
    return tuple(value.decode("latin-1") for value in values)
