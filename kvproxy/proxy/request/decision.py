"""What becomes of a request that cannot take the direct way: a chain and a head, or an answer.

Knows nothing of connections, so that every protocol towards clients decides alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.http.answer import (
    BAD_HANDSHAKE,
    Answer,
    redirect_answer,
    text_answer,
)
from kvproxy.http.scan import ABSOLUTE, EXPECT, FORWARDED, OPTIONS_STAR, PLAIN_PATH, UPGRADE
from kvproxy.http.target import canonical_target, request_uri, spelling
from kvproxy.routing.redirect import redirect_location
from kvproxy.routing.request import RequestView

if TYPE_CHECKING:
    from kvproxy.middleware.contract import Request
    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.plan.internal import Inside
    from kvproxy.proxy.request.chain import Chain

DIRECT_MASK = PLAIN_PATH | UPGRADE | FORWARDED | OPTIONS_STAR | EXPECT
"""A request with exactly PLAIN_PATH of these can take the direct way."""


class Asked(RequestView):
    """A request whose target is understood; `route` fills in what becomes of it.

    ``raw_path``: the path as spelled where that matters; ``uri``: what a server is asked for;
    ``outgoing``: the outgoing head with that URI; ``flags``: of the head scan. After `route`:
    ``routed`` tells whether there is a ``chain``; ``path``, ``uri`` and ``outgoing`` are as the
    modifiers of the rule left them; ``original_uri``: as it was before them; ``added``: header
    lines that come behind the forwarded ones. ``request``: as middlewares see it, where any do.
    """

    __slots__ = (
        "added",
        "chain",
        "flags",
        "original_uri",
        "outgoing",
        "raw_path",
        "request",
        "routed",
        "uri",
    )

    chain: Chain

    def __init__(
        self,
        received: bytes,
        outgoing: bytes,
        host: bytes,
        flags: int,
        path: bytes,
        raw_path: bytes,
        query: bytes,
        uri: bytes,
    ) -> None:
        """``received``: the head as it came; see the class for the rest."""
        super().__init__(outgoing[: outgoing.index(b" ")], host, path, query, received)
        self.outgoing = outgoing
        self.flags = flags
        self.raw_path = raw_path
        self.uri = self.original_uri = uri
        self.added = b""
        self.request: Request | None = None
        self.routed = False


def understand(
    listener: Listener, received: bytes, outgoing: bytes, host: bytes, target: bytes, flags: int
) -> Asked | Answer | Inside:
    """Read the target of a scanned request (`kvproxy.http.scan.scan_request`).

    ``received``: the head as it came. An answer is that of the proxy itself, to a bad target.
    """
    if flags & PLAIN_PATH:
        path, _, query = target.partition(b"?")
        asked = Asked(received, outgoing, host, flags, path, b"", query, target)
    elif flags & OPTIONS_STAR:
        return Answer(200)
    else:
        canonical = canonical_target(target, listener.allow_unsafe_paths)
        if canonical is None:
            return text_answer(400)
        path, raw_path, query, uri = canonical
        head = with_uri(outgoing, target, uri)
        asked = Asked(received, head, host, flags, path, raw_path, query[1:], uri)
    if listener.internal is not None:
        return listener.internal.find(asked) or asked
    return asked


def route(listener: Listener, asked: Asked, final_host: bytes = b"") -> Answer | None:
    """Find the frontend and apply its modifiers to ``asked``; the answer where there is none.

    ``final_host``: see `kvproxy.middleware.contract.Request`.
    """
    if final_host:
        found = listener.index.find_either(asked, final_host)
    else:
        found = listener.index.find(asked)
    if found is None:
        return text_answer(404)
    if found.redirect:
        authority = asked.host if asked.flags & ABSOLUTE else b""
        return redirect_answer(redirect_location(asked, authority), asked.method)
    if asked.flags & UPGRADE and not valid_handshake(asked):
        return BAD_HANDSHAKE
    asked.chain = chain = found.payload
    asked.routed = True
    if not chain.modifies:
        return None
    raw_path = asked.raw_path
    if asked.flags & PLAIN_PATH:
        raw_path = spelling(asked.path)
    modified = chain.modifiers.apply(asked.path, raw_path)
    if modified is None:
        return text_answer(404)
    query = b"?" + asked.query if asked.query else b""
    old = asked.uri
    asked.path = modified.path
    asked.uri = uri = request_uri(modified.path, modified.raw_path, query)
    asked.outgoing = with_uri(asked.outgoing, old, uri)
    asked.added = b"".join([b"%b: %b\r\n" % header for header in modified.headers])
    return None


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
