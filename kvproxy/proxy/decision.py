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
from kvproxy.http.scan import ABSOLUTE, FORWARDED, OPTIONS_STAR, PLAIN_PATH, UPGRADE
from kvproxy.http.target import canonical_target, request_uri
from kvproxy.routing.redirect import redirect_location
from kvproxy.routing.request import RequestView

if TYPE_CHECKING:
    from kvproxy.proxy.chain import Chain
    from kvproxy.proxy.forwarded import ForwardedLines
    from kvproxy.proxy.listener import Listener


class Forwarding(NamedTuple):
    """The request is forwarded: by which chain, and its outgoing head up to ``Host``."""

    chain: Chain
    prefix: bytes


class RequestHead(NamedTuple):
    """A scanned request head (`kvproxy.http.scan.scan_request`) and the bytes it came in."""

    received: bytes
    outgoing: bytes
    host: bytes
    target: bytes
    flags: int


def decide(
    listener: Listener, request: RequestHead, lines: ForwardedLines, trusted: bool
) -> Forwarding | Answer:
    """Find the frontend, apply its modifiers, merge forwarded headers.

    ``lines`` are the client's; ``trusted``: whether its forwarded headers are believed.
    """
    flags, host, target = request.flags, request.host, request.target
    if flags & OPTIONS_STAR:
        return Answer(200)
    uri = target
    path, _, query = target.partition(b"?")
    canonical = None
    if not flags & PLAIN_PATH:
        canonical = canonical_target(target, listener.allow_unsafe_paths)
        if canonical is None:
            return text_answer(400)
        path, query, uri = canonical.path, canonical.query[1:], canonical.uri
    method = request.outgoing[: request.outgoing.index(b" ")]
    internal = listener.internal.get(path)
    if internal is not None and method in (b"GET", b"HEAD"):
        status, body = internal()
        return Answer(status, body, (PLAIN_TEXT,))

    view = RequestView(method, host, path, query, request.received)
    found = listener.index.find(view)
    if found is None:
        return text_answer(404)
    if found.redirect:
        authority = host if flags & ABSOLUTE else b""
        return redirect_answer(redirect_location(view, authority), method)
    if flags & UPGRADE and not valid_handshake(view):
        return BAD_HANDSHAKE

    chain = found.payload
    forwarded = lines.plain(host)
    if flags & FORWARDED:
        forwarded = lines.merged(host, view.headers, trusted)
    if chain.modifiers:
        canonical = canonical or canonical_target(target, listener.allow_unsafe_paths)
        modified = chain.modifiers.apply(path, canonical.raw_path if canonical else b"")
        if modified is None:
            return text_answer(404)
        uri = request_uri(modified.path, modified.raw_path, b"?" + query if query else b"")
        forwarded += b"".join([b"%b: %b\r\n" % header for header in modified.headers])
    head = request.outgoing
    if uri != target:
        start = len(method) + 1
        head = head[:start] + uri + head[start + len(target) :]
    return Forwarding(chain, head + forwarded)


def valid_handshake(view: RequestView) -> bool:
    """Check a WebSocket handshake (RFC 6455 section 4.2.1)."""
    headers = view.headers
    version = headers.get(b"sec-websocket-version")
    return bool(headers.get(b"sec-websocket-key")) and version == [b"13"]
