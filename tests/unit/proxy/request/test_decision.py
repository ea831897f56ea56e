"""What becomes of a request that does not take the direct way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvproxy.http.answer import BAD_HANDSHAKE, PLAIN_TEXT, Answer, text_answer
from kvproxy.http.scan import scan_request
from kvproxy.proxy.plan.internal import Inside, InternalPaths
from kvproxy.proxy.request.decision import Asked, route, understand
from tests.unit.proxy.worlds import World, backend, frontend, whole

RULES = {
    "plain": "Host:plain",
    "added": "Host:added;AddPrefix:/v1",
    "stripped": "Host:stripped;PathPrefixStrip:/api",
    "replaced": "Host:replaced;ReplacePath:/new",
    "slash": "Host:slash;Path:/dir/",
    "broken": "Host:broken;ReplacePathRegex:^/(.*) $1",
    "ping": "Host:plain;Path:/ping",
}


def decided(request: bytes, **settings: Any) -> Any:
    """Return the decision on a request, in front of one frontend of each kind."""
    world = World(**settings)
    listener = world.listeners["http"]
    listener.internal = InternalPaths(ping=lambda: (200, b"OK"))
    entries = [frontend(name, rule, "b") for name, rule in RULES.items()]
    asyncio.run(world.apply(whole(1, backend("b", {"http://s": 1}), *entries)))
    result = scan_request(request, 65536, 128)
    assert isinstance(result, tuple), result
    head, host, target, flags, _, end = result
    asked = understand(listener, request[:end], head, host, target, flags)
    if isinstance(asked, Inside):
        return asked.answer
    return route(listener, asked) or asked if isinstance(asked, Asked) else asked


def get(target: str, host: str, *lines: str, method: str = "GET") -> bytes:
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1")


TARGETS = [
    ("/a", "plain", b"/a"),
    ("/a?b=%zz&c", "plain", b"/a?b=%zz&c"),
    ("/a%20b", "plain", b"/a%20b"),
    ("/a?", "plain", b"/a"),
    ("//a", "plain", b"//a"),
    ("/a|b", "plain", b"/a%7Cb"),
    ("http://plain/x?y", "plain", b"/x?y"),
    ("/a", "added", b"/v1/a"),
    ("/a%20b?q=1", "added", b"/v1/a%20b?q=1"),
    ("/api/x?q", "stripped", b"/x?q"),
    ("/api", "stripped", b"/"),
    ("/a?q=1", "replaced", b"/new?q=1"),
]


@pytest.mark.parametrize(("target", "host", "sent"), TARGETS)
def test_target_that_is_sent(target: str, host: str, sent: bytes) -> None:
    decision = decided(get(target, host))
    assert isinstance(decision, Asked)
    assert decision.chain.name == host
    assert decision.outgoing.startswith(b"GET %b HTTP/1.1\r\n" % sent)
    assert decision.uri == sent


def lines_of(decision: Any) -> dict[bytes, list[bytes]]:
    assert isinstance(decision, Asked)
    lines: dict[bytes, list[bytes]] = {}
    for line in (decision.outgoing + decision.added).split(b"\r\n")[1:-1]:
        name, _, value = line.partition(b": ")
        lines.setdefault(name.lower(), []).append(value)
    return lines


def test_head_goes_on_without_host_and_forwarded_lines() -> None:
    request = get("/%41", "plain", "Accept: */*", "Connection: close", "X-Real-Ip: 192.0.2.1")
    assert lines_of(decided(request)) == {b"accept": [b"*/*"]}


def test_modifiers_add_their_lines_once() -> None:
    stripped = lines_of(decided(get("/api/x", "stripped", "X-Forwarded-Prefix: /evil")))
    assert stripped[b"x-forwarded-prefix"] == [b"/api"]
    replaced = lines_of(decided(get("/a", "replaced")))
    assert replaced[b"x-replaced-path"] == [b"/a"]


ANSWERS = [
    ("unknown host", get("/", "nobody"), text_answer(404)),
    ("bad escape", get("/%zz", "plain"), text_answer(400)),
    ("dot segment", get("/a/../b", "plain"), text_answer(400)),
    ("encoded slash", get("/a%2fb", "plain"), text_answer(400)),
    ("bad target of an unknown host", get("/%zz", "nobody"), text_answer(400)),
    ("star", get("*", "plain", method="OPTIONS"), Answer(200)),
    ("ping", get("/ping", "plain"), Answer(200, b"OK", (PLAIN_TEXT,))),
    ("ping of any host", get("/ping", "nobody"), Answer(200, b"OK", (PLAIN_TEXT,))),
    ("ping by another spelling", get("/p%69ng", "x"), Answer(200, b"OK", (PLAIN_TEXT,))),
    ("ping with a query", get("/ping?x", "x"), Answer(200, b"OK", (PLAIN_TEXT,))),
    ("posted ping of no frontend", get("/ping", "x", method="POST"), text_answer(404)),
]


@pytest.mark.parametrize(
    ("request_bytes", "answer"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
def test_answered_here(request_bytes: bytes, answer: Answer) -> None:
    assert decided(request_bytes) == answer


def test_posted_ping_belongs_to_the_frontends() -> None:
    assert decided(get("/ping", "plain", method="POST")).chain.name == "ping"


def test_unsafe_paths_pass_when_allowed() -> None:
    decision = decided(get("/a%2fb/../c", "plain"), allow_unsafe_paths=True)
    assert decision.outgoing.startswith(b"GET /a%2fb/../c HTTP/1.1\r\n")


REDIRECTS = [
    (get("/dir", "slash"), b"/dir/"),
    (get("/dir?a=b", "slash"), b"/dir/?a=b"),
    (get("http://slash/dir", "slash"), b"http://slash/dir/"),
]


@pytest.mark.parametrize(
    ("request_bytes", "location"), REDIRECTS, ids=["path", "query", "absolute"]
)
def test_trailing_slash(request_bytes: bytes, location: bytes) -> None:
    decision = decided(request_bytes)
    assert decision.status == 301
    assert dict(decision.headers)[b"Location"] == location


UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
HANDSHAKES = [
    (("Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"), True),
    (("sec-websocket-key: x", "sec-websocket-version:  13 "), True),
    (("Sec-WebSocket-Version: 13",), False),
    (("Sec-WebSocket-Key: x",), False),
    (("Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 8"), False),
    (("Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"), False),
]


@pytest.mark.parametrize(("lines", "good"), HANDSHAKES, ids=str)
def test_handshake(lines: tuple[str, ...], good: bool) -> None:
    decision = decided(get("/", "plain", *UPGRADE, *lines))
    if good:
        sent = lines_of(decision)
        assert sent[b"upgrade"] == [b"websocket"]
        assert sent[b"connection"] == [b"Upgrade"]
    else:
        assert decision == BAD_HANDSHAKE


def test_bad_handshake_of_an_unknown_host_is_404() -> None:
    assert decided(get("/", "nobody", *UPGRADE)) == text_answer(404)
