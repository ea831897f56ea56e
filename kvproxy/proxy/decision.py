"""What becomes of a request that cannot take the direct way: a chain and a head, or an answer.

Knows nothing of connections, so that every protocol towards clients decides alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvproxy.http.answer import (
    BAD_HANDSHAKE,
    PLAIN_TEXT,
    Answer,
    redirect_answer,
    text_answer,
)
from kvproxy.http.scan import ABSOLUTE, OPTIONS_STAR, PLAIN_PATH, UPGRADE
from kvproxy.http.target import canonical_target, request_uri
from kvproxy.routing.redirect import redirect_location
from kvproxy.routing.request import RequestView

if TYPE_CHECKING:
    from kvproxy.proxy.chain import Chain
    from kvproxy.proxy.listener import Listener


class RequestHead(NamedTuple):
    """A scanned request head (`kvproxy.http.scan.scan_request`) and the bytes it came in."""

    received: bytes
    outgoing: bytes
    host: bytes
    target: bytes
    flags: int


class Asked(NamedTuple):
    """A request whose target is understood.

    ``view``: what rules see; ``raw_path``: the path as spelled where that matters; ``uri``: what
    a server is asked for; ``head``: the outgoing head with that URI.
    """

    view: RequestView
    raw_path: bytes
    uri: bytes
    head: bytes
    flags: int


class Forwarding(NamedTuple):
    """The request is forwarded: by which chain, and what the modifiers of its rule left.

    ``added``: header lines that come behind the forwarded ones.
    """

    chain: Chain
    path: bytes
    uri: bytes
    head: bytes
    added: bytes


def understand(listener: Listener, request: RequestHead) -> Asked | Answer:
    """Read the target; the answer is that of the proxy itself (internal paths, bad targets)."""
    flags, target = request.flags, request.target
    if flags & OPTIONS_STAR:
        return Answer(200)
    uri = target
    path, _, query = target.partition(b"?")
    raw_path = b""
    if not flags & PLAIN_PATH:
        canonical = canonical_target(target, listener.allow_unsafe_paths)
        if canonical is None:
            return text_answer(400)
        path, query, uri = canonical.path, canonical.query[1:], canonical.uri
        raw_path = canonical.raw_path
    head = request.outgoing
    method = head[: head.index(b" ")]
    internal = listener.internal.get(path)
    if internal is not None and method in (b"GET", b"HEAD"):
        status, body = internal()
        return Answer(status, body, (PLAIN_TEXT,))
    view = RequestView(method, request.host, path, query, request.received)
    return Asked(view, raw_path, uri, with_uri(head, target, uri), flags)


def route(listener: Listener, asked: Asked) -> Forwarding | Answer:
    """Find the frontend and apply its modifiers."""
    view = asked.view
    found = listener.index.find(view)
    if found is None:
        return text_answer(404)
    if found.redirect:
        authority = view.host if asked.flags & ABSOLUTE else b""
        return redirect_answer(redirect_location(view, authority), view.method)
    if asked.flags & UPGRADE and not valid_handshake(view):
        return BAD_HANDSHAKE
    chain = found.payload
    if not chain.modifiers:
        return Forwarding(chain, view.path, asked.uri, asked.head, b"")
    raw_path = asked.raw_path
    if asked.flags & PLAIN_PATH:
        canonical = canonical_target(asked.uri, listener.allow_unsafe_paths)
        raw_path = canonical.raw_path if canonical else b""
    modified = chain.modifiers.apply(view.path, raw_path)
    if modified is None:
        return text_answer(404)
    query = b"?" + view.query if view.query else b""
    uri = request_uri(modified.path, modified.raw_path, query)
    added = b"".join([b"%b: %b\r\n" % header for header in modified.headers])
    return Forwarding(chain, modified.path, uri, with_uri(asked.head, asked.uri, uri), added)


def with_uri(head: bytes, old: bytes, new: bytes) -> bytes:
    """Return the head with another target in its request line."""
    if new == old:
        return head
    start = head.index(b" ") + 1
    return head[:start] + new + head[start + len(old) :]


def valid_handshake(view: RequestView) -> bool:
    """Check a WebSocket handshake (RFC 6455 section 4.2.1)."""
    headers = view.headers
    version = headers.get(b"sec-websocket-version")
    return bool(headers.get(b"sec-websocket-key")) and version == [b"13"]
