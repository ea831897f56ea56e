"""Client and server connections under random orders of events.

Each seed is a story: clients pipeline requests of many kinds and read, stall, half-close or leave;
servers answer in pieces, early, wrongly or not at all. Whatever happens, every request gets exactly
one answer, its own, or its connection ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.balance.shared_memory import SharedMemory
from kvproxy.http import head as heads
from kvproxy.http.answer import text_answer
from kvproxy.middleware.contract import Middleware
from kvproxy.middleware.contract import Request as MiddlewareRequest
from kvproxy.model.dynamic import Backend, Frontend, Route
from kvproxy.model.dynamic import Server as ConfiguredServer
from kvproxy.model.messages import Apply, BackendEntry, FrontendEntry
from kvproxy.model.static import EntryPoint, Retry, StaticConfiguration
from kvproxy.proxy.clock import Clock
from kvproxy.proxy.downstream import http1 as client
from kvproxy.proxy.downstream.http1 import ClientConnection
from kvproxy.proxy.downstream.listener import Listener
from kvproxy.proxy.plan import plan
from kvproxy.proxy.plan.plan import Plan
from kvproxy.proxy.request import passage
from kvproxy.proxy.request.chain import SECONDS_CELL, Chain
from kvproxy.proxy.request.stages import Stages
from kvproxy.proxy.upstream import dial
from kvproxy.proxy.upstream import http1 as upstream
from kvproxy.proxy.upstream.http1 import UpstreamConnection
from kvproxy.proxy.upstream.server import DialError, Server
from kvproxy.proxy.upstream.transport import TransportSettings
from tests.unit.proxy.wires import FakeTransport, Wires

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvproxy.http.answer import Answer
    from kvproxy.middleware.contract import Outcome

SEEDS = int(os.environ.get("KVPROXY_STORIES", "150"))
STEPS = 250
LIMIT = 400
PIECE = 300
LARGE = 3000
QUEUED = LIMIT + 4 * PIECE
"""What may wait in a transport: a body that waited for its connection, a head, a read."""

OWN_STATUSES = {400, 403, 404, 408, 429, 500, 502, 504}
KINDS = (
    *("length", "length", "length", "chunked", "close", "204", "hints", "continue"),
    *("malformed", "silent", "cut", "cut-chunked", "early", "extra", "flood", "odd"),
)


class Request:
    """What a client asked; ``marker`` is in the request and in every answer to it."""

    def __init__(self, number: int, random: Random) -> None:
        self.marker = b"<%d>" % number
        self.kind = random.choice(KINDS)
        self.method = random.choice((b"GET", b"GET", b"GET", b"HEAD", b"POST", b"POST"))
        self.host = random.choice(
            (b"direct", b"direct", b"direct", b"modified", b"nobody", b"two", b"staged", b"staged")
        )
        self.version = b"1.0" if random.random() < 0.05 else b"1.1"
        self.close = random.random() < 0.05
        self.asks = 0
        body = b""
        if self.method == b"POST" or (self.method == b"GET" and random.random() < 0.1):
            body = self.marker * random.choice((0, 1, 5, LARGE // 4, LARGE))
        lines = [b"%b /%b/%d HTTP/%b" % (self.method, self.kind.encode(), number, self.version)]
        lines += [b"Host: " + self.host, b"Marker: " + self.marker]
        if self.close:
            lines.append(b"Connection: close")
        chunked = self.version == b"1.1" and random.random() < 0.4
        if body and chunked:
            lines.append(b"Transfer-Encoding: chunked")
            half = len(body) // 2 or 1
            parts = [part for part in (body[:half], body[half:]) if part]
            sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            sent = body
            if body or self.method == b"POST":
                lines.append(b"Content-Length: %d" % len(body))
        if body and self.version == b"1.1" and random.random() < 0.2:
            lines.append(b"Expect: 100-continue")
        self.idempotent = self.method in (b"GET", b"HEAD") and not body
        self.bytes = b"\r\n".join(lines) + b"\r\n\r\n" + sent
        self.body = body
        self.answer_body = self.marker * random.choice((1, 3, LARGE // 4))


class Guard(Middleware):
    """A middleware that does everything a middleware can do, by chance; it counts who is inside."""

    def __init__(self, story: Story, refusal: int, *, waits: bool) -> None:
        self.story = story
        self.refusal = refusal
        self.waits = waits
        self.inside = 0

    def request(self, request: MiddlewareRequest) -> Outcome:
        chance = self.story.random.random()
        if chance < 0.1:
            return text_answer(self.refusal)
        if self.waits and chance < 0.5:
            return self.later(text_answer(self.refusal) if chance < 0.15 else None)
        self.inside += 1
        request.set(b"guard", b"passed")
        return None

    async def later(self, answer: Answer | None) -> Answer | None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.story.dialling.append(gate)
        await gate
        if answer is None:
            self.inside += 1
        return answer

    def response(self, request: MiddlewareRequest, head: bytes, status: int) -> bytes:
        assert status >= 200
        assert b"\r\nMarker: " in head
        return heads.with_lines(head, b"Guarded: %d\r\n" % self.refusal)

    def finished(self, request: MiddlewareRequest, status: int, seconds: float) -> None:
        self.inside -= 1
        assert self.inside >= 0, "a request has ended twice"
        assert status >= 100
        assert seconds >= 0


class Peer:
    """The server at the other end of an upstream connection."""

    def __init__(self, story: Story, transport: FakeTransport) -> None:
        self.story = story
        self.transport = transport
        self.received = bytearray()
        self.request: Request | None = None
        self.pieces: list[bytes] = []
        self.after = "keep"
        self.body_left: int | None = None

    def step(self) -> bool:
        """Read, or send one piece; False when there is nothing to do."""
        data = self.transport.read(self.story.random.choice((7, 50, LARGE)))
        self.received += data
        if self.request is None:
            self._take_head()
        if self.request is not None:
            self._take_body()
            if self.body_left == 0 or self.request.kind == "early":
                return self._answer() or bool(data)
        return bool(data)

    def _take_head(self) -> None:
        head, mark, rest = bytes(self.received).partition(b"\r\n\r\n")
        if not mark:
            return
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        assert head.count(b"\r\nMarker: ") == 1, "two requests were mixed"
        request = self.story.by_marker[fields[b"Marker"]]
        request.asks += 1
        self.request = request
        self.received[:] = rest
        length = fields.get(b"Content-Length", b"0")
        self.body_left = None if b"Transfer-Encoding" in fields else int(length)
        self.body = b""
        self.pieces = self._script(request)

    def _take_body(self) -> None:
        assert self.request is not None
        if self.body_left is None:
            self.body += bytes(self.received)
            self.received.clear()
            if self.body.endswith(b"0\r\n\r\n"):
                content = b""
                rest = self.body
                while not rest.startswith(b"0\r\n"):
                    size, _, rest = rest.partition(b"\r\n")
                    content += rest[: int(size, 16)]
                    rest = rest[int(size, 16) + 2 :]
                assert content == self.request.body
                self.body_left = 0
        elif self.body_left:
            part = bytes(self.received[: self.body_left])
            del self.received[: len(part)]
            self.body += part
            self.body_left -= len(part)
            if not self.body_left:
                assert self.body == self.request.body

    def _script(self, request: Request) -> list[bytes]:
        kind, body = request.kind, request.answer_body
        marker = b"Marker: " + request.marker + b"\r\n"
        self.after = "keep"
        hidden = request.method == b"HEAD"
        plain = b"HTTP/1.1 200 OK\r\n" + marker + b"Content-Length: %d\r\n\r\n" % len(body)
        whole = plain + (b"" if hidden else body)
        if kind == "chunked":
            half = len(body) // 2
            coded = b"%x\r\n%b\r\n%x;e=1\r\n%b\r\n0\r\n\r\n" % (
                *(half, body[:half]),
                *(len(body) - half, body[half:]),
            )
            head = b"HTTP/1.1 200 OK\r\n" + marker + b"Transfer-Encoding: chunked\r\n\r\n"
            whole = head + (b"" if hidden else coded)
        elif kind == "close":
            whole = b"HTTP/1.1 200 OK\r\n" + marker + b"\r\n" + (b"" if hidden else body)
            self.after = "close"
        elif kind == "204":
            whole = b"HTTP/1.1 204 No Content\r\n" + marker + b"\r\n"
        elif kind == "hints":
            whole = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + whole
        elif kind == "continue":
            whole = b"HTTP/1.1 100 Continue\r\n\r\n" + whole
        elif kind == "malformed":
            whole, self.after = b"HTTP/1.1 two hundred\r\n\r\n", "hang"
        elif kind == "silent":
            whole, self.after = b"", "close"
        elif kind == "cut":
            whole, self.after = (
                whole[: len(whole) - 2],
                self.story.random.choice(("close", "reset")),
            )
        elif kind == "cut-chunked":
            whole = (
                b"HTTP/1.1 200 OK\r\n"
                + marker
                + b"Transfer-Encoding: chunked\r\n\r\n5\r\n"
                + body[:2]
            )
            self.after = "close"
        elif kind == "extra":
            whole += b"HTTP/1.1 200 OK\r\nMarker: <poison>\r\nContent-Length: 0\r\n\r\n"
        elif kind == "flood":
            whole = b"HTTP/1.1 102 Processing\r\n\r\n" * 40 + whole
        elif kind == "odd":
            whole = whole.replace(b"200 OK", b"799 Odd")
        size = self.story.random.choice((1 if len(whole) < 400 else 90, 40, PIECE))
        return [whole[start : start + size] for start in range(0, len(whole), size)]

    def _answer(self) -> bool:
        assert self.request is not None
        if self.pieces:
            self.transport.coming.append(self.pieces.pop(0))
            return True
        if self.after == "close":
            self.transport.eof_coming = True
            self.after = "hang"
            return True
        if self.after == "reset":
            self.transport.reset()
            self.after = "hang"
            return True
        if self.after == "keep" and self.body_left == 0:
            self.request = None
            return True
        return False


class Asker:
    """A client: its requests, what it has sent of them, what it has read."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.requests: list[Request] = []
        self.unsent = b""
        self.read = bytearray()
        self.left = False
        self.answered = 0
        self.transport = FakeTransport(
            story.wires,
            ClientConnection(story.listener),
            story.random.choice((60, 500, 10**6)),
            plain=story.random.random() < 0.8,
        )

    def step(self) -> None:
        random = self.story.random
        what = random.random()
        transport = self.transport
        if what < 0.25 and not self.left and len(self.requests) < 12:
            request = self.story.new_request()
            self.requests.append(request)
            self.unsent += request.bytes
        elif what < 0.5 and self.unsent:
            size = random.choice((1, 30, 200, LARGE))
            transport.coming.append(self.unsent[:size])
            self.unsent = self.unsent[size:]
        elif what < 0.75:
            self.read += transport.read(random.choice((20, 200, LARGE)))
        elif what < 0.76 and not self.left:
            self.left = True
            self.unsent = b""
            if random.random() < 0.6:
                transport.eof_coming = True
            else:
                transport.reset()
        elif what < 0.763 and not transport.lost:
            transport.protocol.expire(self.story.clock.now)
        else:
            transport.deliver(random.choice((1, 40, PIECE)))


class Story:
    """One run."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random = Random(seed)
        self.wires = Wires()
        self.clock = Clock()
        self.by_marker: dict[bytes, Request] = {}
        self.peers: list[Peer] = []
        self.askers: list[Asker] = []
        self.dialling: list[asyncio.Future[None]] = []
        self.guards = [Guard(self, 403, waits=True), Guard(self, 429, waits=False)]
        for module in (client, upstream):
            monkeypatch.setattr(module, "send", self.wires.send)
        monkeypatch.setattr(dial, "BODY_LIMIT", LIMIT)
        monkeypatch.setattr(passage, "BODY_LIMIT", LIMIT)
        monkeypatch.setattr(client, "PIPELINE_LIMIT", LIMIT)
        monkeypatch.setattr(client, "EXPECT_SECONDS", self.random.choice((0.0, 1000.0)))
        monkeypatch.setattr(Server, "dial", self._dial_of())
        monkeypatch.setattr(plan, "Chain", self._chain)

    def _chain(self, name: str, *arguments: Any, **options: Any) -> Chain:
        """Make a chain, with guards for the frontend `staged`."""
        if name == "staged":
            options |= {"stages": Stages(self.guards[:1]), "limits": Stages(self.guards[1:])}
        return Chain(name, *arguments, **options)

    def _dial_of(self) -> Any:
        async def dial(server: Server, **_: Any) -> UpstreamConnection:
            gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.dialling.append(gate)
            await gate
            if self.random.random() < 0.1:
                raise DialError(502, "refused")
            connection = UpstreamConnection(server)
            transport = FakeTransport(self.wires, connection, self.random.choice((30, 300, 10**6)))
            self.peers.append(Peer(self, transport))
            return connection

        return dial

    def new_request(self) -> Request:
        request = Request(len(self.by_marker), self.random)
        self.by_marker[request.marker] = request
        return request

    async def run(self) -> None:
        settings = StaticConfiguration(
            entry_points={"http": EntryPoint(address=":0")},
            default_entry_points=("http",),
            retry=Retry(attempts=2) if self.random.random() < 0.5 else None,
        )
        self.listener = Listener(
            "http", settings.entry_points["http"], settings, clock=self.clock, server_name=b"edge"
        )
        self.plan = Plan(
            settings,
            TransportSettings(settings),
            {"http": self.listener},
            SharedMemory.alone(),
            self.clock,
        )
        await self.plan.apply([_configuration()])
        for _ in range(STEPS):
            if len(self.askers) < 4 and self.random.random() < 0.05:
                self.askers.append(Asker(self))
            await self._step()
        await self._settle()
        for asker in self.askers:
            _check_answers(asker)
        self._check_rest()

    async def _step(self) -> None:
        random = self.random
        what = random.random()
        if what < 0.5 and self.askers:
            random.choice(self.askers).step()
        elif what < 0.95 and self.peers:
            peer = random.choice(self.peers[-6:])
            if not peer.transport.lost:
                if random.random() < 0.5:
                    peer.step()
                else:
                    peer.transport.deliver(random.choice((1, 40, PIECE)))
                if peer.request is None and random.random() < 0.02:
                    peer.transport.eof_coming = True
        elif self.dialling:
            gate = self.dialling.pop(random.randrange(len(self.dialling)))
            gate.set_result(None)
        if random.random() < 0.6:
            await asyncio.sleep(0)
        for asker in self.askers:
            held = asker.transport.protocol._buffer
            assert len(held) <= 2 * LARGE, "a client's requests are held without bound"

    async def _settle(self) -> None:
        """Let everything that can still happen happen."""
        idle_rounds = 0
        while idle_rounds < 5:
            moved = False
            for asker in self.askers:
                if asker.unsent:
                    asker.transport.coming.append(asker.unsent)
                    asker.unsent = b""
                while asker.transport.deliver(PIECE):
                    moved = True
                if data := asker.transport.read(10**6):
                    asker.read += data
                    moved = True
            for peer in self.peers:
                if not peer.transport.lost:
                    while peer.step() or peer.transport.deliver(PIECE):
                        moved = True
            while self.dialling:
                self.dialling.pop().set_result(None)
                moved = True
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            idle_rounds = 0 if moved else idle_rounds + 1

    def _check_rest(self) -> None:
        ends: list[Asker | Peer] = [*self.askers, *self.peers]
        for end in ends:
            assert end.transport.most_queued <= QUEUED, "a queue grows without bound"
        for request in self.by_marker.values():
            assert request.asks <= (2 if request.idempotent else 1), "a request was doubled"
        waiting = [server for server in self.plan.servers if server.idle]
        for server in waiting:
            for connection in server.idle:
                transport: Any = connection.transport
                assert transport.reading, "an idle connection would not notice its end"
                assert not transport.closing
                assert connection.exchange is None
        assert [guard.inside for guard in self.guards] == [0, 0], "a middleware was not told"
        counters = [
            cells for each in self.plan.backends.values() for cells in each.counters.values()
        ]
        assert all(cell >= 0 for cells in counters for cell in cells)
        counted = sum(sum(cells[:SECONDS_CELL]) for cells in counters) + sum(self.listener.statuses)
        answered = sum(asker.answered for asker in self.askers)
        started = len(self.by_marker)
        assert counted >= answered, "an answer was not counted"
        assert counted <= started + len(self.askers), "an answer was counted twice"


def _configuration() -> Apply:
    rules = {
        "direct": ("Host:direct", "one"),
        "modified": ("Host:modified;AddPrefix:/v1", "one"),
        "two": ("Host:two", "pair"),
        "staged": ("Host:staged", "pair"),
    }
    servers = {"one": ("http://one",), "pair": ("http://p1", "http://p2")}
    return Apply(
        1,
        -1,
        "",
        frontends=[
            FrontendEntry(
                "p", name, name.encode(), Frontend(backend=to, routes={"r": Route(rule=rule)})
            )
            for name, (rule, to) in rules.items()
        ],
        backends=[
            BackendEntry(
                "p",
                name,
                name.encode(),
                Backend(servers={url: ConfiguredServer(url=url) for url in urls}),
            )
            for name, urls in servers.items()
        ],
    )


def _check_answers(asker: Asker) -> None:
    """Read the client's answers one by one and hold them against its requests."""
    stream = bytes(asker.read)
    ended = asker.transport.closing or asker.transport.shut
    for request in asker.requests:
        answer = _take_answer(stream, request)
        while answer is not None and answer[0] in (100, 102, 103):
            stream = stream[answer[3] :]
            answer = _take_answer(stream, request)
        if answer is None:
            assert ended or asker.left, f"{request.marker!r} ({request.kind}) was never answered"
            assert b"<poison>" not in stream
            return
        status, fields, body, end = answer
        if status in (200, 204, 799):
            assert fields[b"marker"] == request.marker, "an answer of another request"
            assert fields.get(b"guarded") == (b"403" if request.host == b"staged" else None)
            if status != 204 and request.method != b"HEAD":
                whole = body == request.answer_body
                assert whole or (ended and request.answer_body.startswith(body))
            assert request.host != b"nobody"
        else:
            assert status in OWN_STATUSES
            assert b"marker" not in fields
        asker.answered += 1
        stream = stream[end:]
        if fields.get(b"connection") == b"close":
            assert not stream, "bytes after the last answer"
            assert ended, "a connection was to be closed and is not"
            return
    assert not stream, "an answer that nobody asked for"
    if not ended and not asker.left:
        assert asker.transport.reading, "a client is never read again"
        assert asker.transport.protocol.idle


def _take_answer(
    stream: bytes, request: Request
) -> tuple[int, dict[bytes, bytes], bytes, int] | None:
    """Return status, fields, body and length of the first answer, None when it is incomplete."""
    head, mark, rest = stream.partition(b"\r\n\r\n")
    if not mark:
        return None
    lines = head.split(b"\r\n")
    status = int(lines[0].split(b" ")[1])
    pairs = [line.split(b": ", 1) for line in lines[1:]]
    fields = {name.lower(): value for name, value in pairs}
    assert len(fields) == len(pairs)
    start = len(head) + 4
    # A head that did not come in time is refused before its method is known.
    hidden = request.method == b"HEAD" and status != 408
    if status < 200 or status == 204 or hidden:
        return status, fields, b"", start
    if b"content-length" in fields:
        length = int(fields[b"content-length"])
        return (status, fields, rest[:length], start + length) if len(rest) >= length else None
    if fields.get(b"transfer-encoding") == b"chunked":
        body = b""
        while True:
            size, mark, rest = rest.partition(b"\r\n")
            if not mark:
                return None
            start += len(size) + 2
            length = int(size.partition(b";")[0], 16)
            if len(rest) < length + 2:
                return None
            body += rest[:length]
            assert rest[length : length + 2] == b"\r\n"
            rest = rest[length + 2 :]
            start += length + 2
            if not length:
                return status, fields, body, start
    assert fields[b"connection"] == b"close"
    return status, fields, rest, len(stream)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which the proxy met an error that it had not foreseen."""
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("block", range(10))
def test_every_request_gets_its_own_answer_or_an_end(
    block: int, monkeypatch: pytest.MonkeyPatch, quiet: None
) -> None:
    for seed in range(block * SEEDS // 10, (block + 1) * SEEDS // 10):
        _tell(seed, monkeypatch)


def _tell(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    unhandled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    try:
        loop.run_until_complete(Story(seed, monkeypatch).run())
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert not unhandled, f"seed {seed}: {unhandled}"
