"""A request on its way through the middlewares of its entry point and its frontend.

Only requests that meet a middleware have a passage; all others go from client to server directly
(`kvproxy.proxy.downstream.http1`). A passage is the upstream of the client's exchange and the
exchange of the server's connection, so neither of them knows that anything stands between.

The way: stages of the entry point, route, stages of the frontend, then the attempts to get an
answer (`kvproxy.proxy.request.attempts`). An answer goes back through the stages, or a page is
fetched in its place (`kvproxy.proxy.request.error_page`); at the end, whatever it was, everything
that let the request pass is told.
"""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from kvproxy.http.answer import Answer, text_answer
from kvproxy.http.chunked import ChunkedReader
from kvproxy.http.scan import CHUNKED, CHUNKED_BODY, FORWARDED, HTTP10, SPLIT, UPGRADE
from kvproxy.middleware.contract import Request
from kvproxy.proxy.request.attempts import CLIENT_LEFT, Attempts
from kvproxy.proxy.request.buffered import Buffered
from kvproxy.proxy.request.decision import Asked, route, with_uri
from kvproxy.proxy.request.error_page import PageRequest
from kvproxy.proxy.request.filtered_body import FilteredBody, chunked_head, content_length
from kvproxy.proxy.request.link import Link
from kvproxy.proxy.upstream.dial import BODY_LIMIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.downstream.peer import Peer
    from kvproxy.proxy.exchange import Exchange
    from kvproxy.proxy.plan.internal import Inside
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.request.stages import Ask, Finish, Stages

logger = logging.getLogger("kvproxy.proxy")


def begin(
    exchange: Exchange, listener: Listener, peer: Peer, asked: Asked | Answer | Inside
) -> tuple[Chain, bytes] | None:
    """Decide what becomes of a request that cannot take the direct way.

    ``asked``: see `kvproxy.proxy.request.decision.understand`. Returns the chain and the outgoing
    head without its ``Host`` line where nothing is to be done but forwarding. None: the exchange
    has been given an answer, or a passage as its upstream.
    """
    if not isinstance(asked, Asked):
        if isinstance(asked, Answer):
            exchange.answer(asked)
            return None
        return _inside(exchange, listener, peer, asked)
    request: Request | None = None
    if listener.stages:
        request = request_of(peer, asked)
        if listener.stages.checks is None:
            Passage(exchange, listener, peer, asked, request).enter()
            return None
        if not _checked(exchange, listener, peer, asked, request, listener.stages.checks):
            return None
    answer = route(listener, asked, b"" if request is None else request.final_host)
    if answer is not None:
        exchange.answer(_changed(request, answer))
        return None
    chain = asked.chain
    setting = None if asked.flags & CHUNKED else chain.request_lines
    if request is None and (chain.checks == () or setting is not None):
        lines = (
            peer.lines(asked.host, peer.believed(asked))
            if asked.flags & FORWARDED
            else peer.plain_lines(asked.host)
        )
        outgoing = asked.outgoing if setting is None else setting.apply(asked.outgoing)
        return chain, outgoing + lines + asked.added
    request = request or request_of(peer, asked)
    return _followed(exchange, listener, peer, asked, request)


def _inside(
    exchange: Exchange, listener: Listener, peer: Peer, inside: Inside
) -> tuple[Chain, bytes] | None:
    """Answer a request for the proxy itself, or go on to the supervisor: the stages of its own way,
    and no others."""
    asked = inside.asked
    if inside.answer is not None:
        exchange.routed(inside.chain)
        exchange.answer(inside.answer)
        return None
    asked.chain = inside.chain
    asked.routed = True
    return _followed(exchange, listener, peer, asked, request_of(peer, asked))


def _followed(
    exchange: Exchange, listener: Listener, peer: Peer, asked: Asked, request: Request
) -> tuple[Chain, bytes] | None:
    """Go on behind the route. Where the stages only ask, they are asked here, and the request takes
    the short way."""
    chain = asked.chain
    names = listener.stages.names or chain.stages.names
    if chain.checks is None or request.filter is not None or (names and asked.flags & CHUNKED):
        Passage(exchange, listener, peer, asked, request).follow()
        return None
    modify(request, asked)
    exchange.routed(chain)
    if not _checked(exchange, listener, peer, asked, request, chain.checks):
        return None
    return chain, request.head + forwarded_lines(peer, asked, request) + asked.added


def _checked(
    exchange: Exchange,
    listener: Listener,
    peer: Peer,
    asked: Asked,
    request: Request,
    checks: tuple[Ask, ...],
) -> bool:
    """Ask stages; False when the request has ended, or waits in a passage of its own."""
    for position, ask in enumerate(checks):
        outcome = ask(request)
        if outcome is None:
            continue
        request.answered_by = ask
        if isinstance(outcome, Answer):
            exchange.answer(_changed(request, outcome))
        else:
            Passage(exchange, listener, peer, asked, request).wait(outcome, position + 1)
        return False
    return True


def _changed(request: Request | None, answer: Answer) -> Answer:
    """Return an answer of the proxy's own as the middlewares of the entry point want it."""
    if request is None or request.filter is None:
        return answer
    return request.filter.of_answer(request, answer)


def request_of(peer: Peer, asked: Asked) -> Request:
    """Return a request as middlewares see it."""
    asked.request = request = Request(
        peer,
        method=asked.method,
        host=asked.host,
        path=asked.path,
        uri=asked.uri,
        headers=partial(peer.believed, asked),
        head=asked.outgoing,
        original_uri=asked.original_uri,
    )
    return request


def modify(request: Request, asked: Asked) -> None:
    """Let the request be as the modifiers of the frontend's rule left it."""
    if request.uri != asked.uri:
        request.head = with_uri(request.head, request.uri, asked.uri)
        request.path, request.uri = asked.path, asked.uri


def forwarded_lines(peer: Peer, asked: Asked, request: Request) -> bytes:
    """Return the forwarded headers of a request that has passed its middlewares."""
    if asked.flags & FORWARDED or request.forwarded:
        return peer.lines(request.host, request.headers)
    return peer.plain_lines(request.host)


class Passage(Link):
    """One request. `enter`, `follow` or `wait` is called once; each may end the passage at once."""

    __slots__ = (
        "_asked",
        "_body",
        "_chain",
        "_ended",
        "_entered",
        "_held",
        "_held_bytes",
        "_listener",
        "_paged",
        "_peer",
        "_position",
        "_request",
        "_stages",
        "_status",
        "_then",
        "_trailers",
    )

    def __init__(
        self, exchange: Exchange, listener: Listener, peer: Peer, asked: Asked, request: Request
    ) -> None:
        """Take the place of the exchange's upstream."""
        super().__init__(exchange)
        self._listener = listener
        self._peer = peer
        self._asked = asked
        self._request = request
        self._body: FilteredBody | None = None
        self._chain: Chain | None = None
        self._ended = False
        self._entered: list[tuple[Finish, float]] = []
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._paged = False
        self._position = 0
        self._stages: Stages = listener.stages
        self._status = 0
        self._then: Callable[[], None] = self._route
        self._trailers: ChunkedReader | None = None
        exchange.connected(self)

    # The way in.

    def enter(self) -> None:
        """Begin with the stages of the entry point."""
        self._advance()

    def follow(self) -> None:
        """Begin, or go on, with the stages of the frontend that was found."""
        modify(self._request, self._asked)
        self.exchange.routed(self._asked.chain)
        self._behind_the_route()
        self._advance()

    def wait(self, outcome: Awaitable[Answer | None], position: int) -> None:
        """Begin with the outcome of a stage before ``position``, of the frontend's stages where it
        is known which one takes the request."""
        if self._asked.routed:
            self._behind_the_route()
        self._position = position
        self._listener.start(self._wait(outcome, None))

    def _behind_the_route(self) -> None:
        self._chain = chain = self._asked.chain
        self._stages, self._position, self._then = chain.stages, 0, self._forward

    def _route(self) -> None:
        answer = route(self._listener, self._asked, self._request.final_host)
        if answer is not None:
            self._answer(answer)
        else:
            self.follow()

    def _advance(self) -> None:
        """Pass the stages from the present one on."""
        steps = self._stages.steps
        for position in range(self._position, len(steps)):
            ask, finish = steps[position]
            outcome = None if ask is None else ask(self._request)
            if outcome is not None:
                self._request.answered_by = ask
            if isinstance(outcome, Answer):
                self._answer(outcome)
                return
            if outcome is not None:
                self._position = position + 1
                self._listener.start(self._wait(outcome, finish))
                return
            if finish is not None:
                self._entered.append((finish, monotonic()))
        self._then()

    async def _wait(self, outcome: Awaitable[Answer | None], finish: Finish | None) -> None:
        try:
            answer = await outcome
            if self._ended:
                if answer is None and finish is not None:
                    finish(self._request, CLIENT_LEFT, 0.0)
            elif answer is not None:
                self._answer(answer)
            else:
                self._request.answered_by = None
                if finish is not None:
                    self._entered.append((finish, monotonic()))
                self._advance()
        except Exception:
            logger.exception("a middleware failed")
            if not self._ended:
                self._answer(text_answer(500))

    def _forward(self) -> None:
        request, chain, listener = self._request, self._chain, self._listener
        assert chain is not None
        head = request.head + forwarded_lines(self._peer, self._asked, request) + self._asked.added
        attempts: Attempts | Buffered
        if chain.buffering is not None and not self._asked.flags & UPGRADE:
            attempts = Buffered(self, listener, chain, request, head, chain.buffering)
        else:
            attempts = Attempts(self, listener, chain, request, head)
        self.connected(attempts)
        held, self._held = self._held, []
        names = listener.stages.names | chain.stages.names
        if names and self._asked.flags & CHUNKED:
            # What a server believes of a header it may believe of a trailer (CVE-2026-88004).
            self._trailers = ChunkedReader(forbidden=names)
            held = [self._trailers.feed(data)[0] for data in held]
        attempts.start(held)

    # What the exchange asks of its upstream.

    @property
    def writable(self) -> bool:
        """Whether more of the request may come."""
        if self._upstream is not None:
            return self._upstream.writable
        return self._held_bytes <= BODY_LIMIT

    def send_request(self, data: bytes) -> None:
        """Pass body bytes on, or keep them until the stages are passed."""
        if self._trailers is not None:
            data, _ = self._trailers.feed(data)
        if self._upstream is not None:
            self._upstream.send_request(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if not self.writable:
            self.exchange.server_writable(False)

    def time_out(self) -> None:
        """Give up what is waited for, a server or a middleware."""
        if self._upstream is not None:
            self._upstream.time_out()
        else:
            self.response_failed(504, "no answer in time")

    def close(self) -> None:
        """End after everything sent has been taken."""
        super().close()
        self._end(self._status or CLIENT_LEFT)

    def abort(self) -> None:
        """End at once."""
        self._end(self._status or CLIENT_LEFT)

    # What the server's connection tells its exchange.

    @property
    def flags(self) -> int:
        """The client's flags; heads are wanted open, for there may be lines to add."""
        return self.exchange.flags | SPLIT

    @flags.setter
    def flags(self, value: int) -> None:
        self.exchange.flags = value & ~SPLIT | self.exchange.flags & SPLIT

    def answer(self, answer: Answer) -> None:
        """Take an answer of the proxy's own."""
        self._answer(answer)

    def response_informational(self, data: bytes, status: int) -> None:
        """Pass a 1xx answer on."""
        self.exchange.response_informational(self._closed(data), status)

    def response_head(
        self, head: bytes, status: int, kind: int, length: int, piece: bytes, ended: bool
    ) -> None:
        """Take an answer back through the stages."""
        exchange, chain = self.exchange, self._chain
        assert chain is not None
        if not self._paged:
            if self._fetch_page(status, text_answer(status)):
                return
            for change in chain.stages.changes:
                head = change(self._request, head, status)
        self._status = status
        for change in self._listener.stages.changes:
            head = change(self._request, head, status)
        if self._request.filter is not None and not self.flags & HTTP10:
            head, kind, piece = self._filter(head, status, kind, length, piece, ended)
        if ended:
            self._upstream = None
            self._end(status)
        if exchange.flags & SPLIT:
            exchange.response_head(head, status, kind, length, piece, ended)
        elif ended:
            exchange.response_whole(head + b"\r\n" + piece)
        else:
            exchange.response_started(head + b"\r\n" + piece, status)

    def _filter(
        self, head: bytes, status: int, kind: int, length: int, piece: bytes, ended: bool
    ) -> tuple[bytes, int, bytes]:
        """Let the body pass through what a middleware has set; returns head, kind and piece."""
        framed = not self.decodes
        known = content_length(kind, length, piece, framed=framed, ended=ended)
        assert self._request.filter is not None
        head, changes = self._request.filter.of_head(self._request, head, status, known)
        if changes is None:
            return head, kind, piece
        body = FilteredBody(changes, chunked=framed and kind == CHUNKED_BODY, frames=framed)
        piece = body.feed(piece)
        if ended:
            piece += body.finish()
            self._request.unfiltered_bytes = body.received
        else:
            self._body = body
        return chunked_head(head), CHUNKED_BODY, piece

    def response_data(self, data: bytes) -> None:
        """Pass more of the body on."""
        if self._body is not None:
            data = self._body.feed(data)
            if not data:
                return
        self.exchange.response_data(data)

    def response_ended(self) -> None:
        """Pass on that the answer is complete."""
        if self._body is not None:
            rest = self._body.finish()
            if rest:
                self.exchange.response_data(rest)
        self._upstream = None
        self._end(self._status)
        self.exchange.response_ended()

    def response_failed(self, status: int, reason: str) -> None:
        """Make an answer of it, or break an answer that has begun."""
        self._upstream = None
        if self._status:
            self._end(self._status)
            self.exchange.response_failed(status, reason)
        else:
            self._answer(text_answer(status), reason)

    def switched(self, data: bytes) -> None:
        """Pass on that bytes flow both ways from now on."""
        self._status = 101
        self.exchange.switched(self._closed(data))

    # The end.

    def _closed(self, head: bytes) -> bytes:
        """Return an open head in the form that the exchange wants."""
        return head if self.exchange.flags & SPLIT else head + b"\r\n"

    def _answer(self, answer: Answer, reason: str = "") -> None:
        """End with an answer of the proxy's own, or a page in its place; ``reason``: what failed,
        for the log."""
        if reason:
            self._listener.failure("", answer.status, reason)
        if self._fetch_page(answer.status, answer):
            return
        self._end(answer.status)
        self.exchange.answer(_changed(self._request, answer))

    def _fetch_page(self, status: int, instead: Answer) -> bool:
        """Ask for the page that the frontend has for this status; False: it has none."""
        chain = self._chain
        if chain is None or self._paged or self._ended:
            return False
        way = next((each for each in chain.pages if each.page.takes(status)), None)
        if way is None:
            return False
        self._paged = True
        self._leave(status)
        page = PageRequest(self, status, instead)
        self.connected(page)
        lines = forwarded_lines(self._peer, self._asked, self._request)
        page.start(way, self._listener, self._request, lines)
        return True

    def _end(self, status: int) -> None:
        """Tell, once, everything that let the request pass."""
        if self._ended:
            return
        self._ended = True
        self._leave(status)

    def _leave(self, status: int) -> None:
        """Give up what was on its way, and tell all stages."""
        if self._body is not None:
            self._request.unfiltered_bytes = self._body.received
        self._held = []
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        entered, self._entered = self._entered, []
        now = monotonic()
        for finish, since in reversed(entered):
            finish(self._request, status, now - since)
