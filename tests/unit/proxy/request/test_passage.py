"""Single stories of requests that meet middlewares."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.http import head as heads
from kvproxy.http.answer import Answer, text_answer
from kvproxy.middleware.contract import AnswerFilter, Middleware, Request
from kvproxy.model.static import Retry
from kvproxy.proxy.downstream import http1 as client
from kvproxy.proxy.downstream.http1 import ClientConnection
from kvproxy.proxy.plan import plan
from kvproxy.proxy.request.attempts import MAXIMUM_REFUSALS
from kvproxy.proxy.request.chain import Chain
from kvproxy.proxy.request.passage import Passage
from kvproxy.proxy.request.stages import Stages
from kvproxy.proxy.upstream import http1 as upstream
from kvproxy.proxy.upstream.http1 import UpstreamConnection
from kvproxy.proxy.upstream.server import DialError, Server
from tests.unit.proxy.wires import FakeTransport, Wires
from tests.unit.proxy.worlds import World, backend, frontend, whole

if TYPE_CHECKING:
    from kvproxy.middleware.contract import Outcome

GET = b"GET /x?y=1 HTTP/1.1\r\nHost: a\r\n\r\n"
ALL = 10**6


class Recorder(Middleware):
    """A middleware that writes down what happens to it."""

    def __init__(self, name: str, log: list[Any], outcome: Outcome = None) -> None:
        self.name = name
        self.log = log
        self.outcome = outcome

    def request(self, request: Request) -> Outcome:
        self.log.append((self.name, "request"))
        return self.outcome

    def response(self, request: Request, head: bytes, status: int) -> bytes:
        self.log.append((self.name, "response", status))
        return heads.with_lines(head, b"X-%b: seen\r\n" % self.name.encode())

    def finished(self, request: Request, status: int, seconds: float) -> None:
        self.log.append((self.name, "finished", status))


class Check(Middleware):
    """A middleware that only asks; it notes what it saw of the request."""

    def __init__(
        self, log: list[Any], outcome: Outcome = None, filtered: AnswerFilter | None = None
    ) -> None:
        self.log = log
        self.outcome = outcome
        self.filter = filtered

    def request(self, request: Request) -> Outcome:
        self.log.append((request.uri, request.original_uri))
        request.set(b"x-checked", b"%d" % len(self.log))
        request.filter = self.filter or request.filter
        return self.outcome


class Tag(AnswerFilter):
    """Marks every answer, and leaves bodies alone."""

    def of_answer(self, request: Request, answer: Answer) -> Answer:
        return Answer(answer.status, answer.body, (*answer.headers, (b"X-Tag", b"own")))

    def of_head(
        self, request: Request, head: bytes, status: int, length: int | None
    ) -> tuple[bytes, None]:
        return heads.with_lines(head, b"X-Tag: server\r\n"), None


class Story:
    """A client in front of a staged frontend with one server, whose connections the test makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.wires = Wires()
        self.log: list[Any] = []
        self.dials: list[FakeTransport | DialError] = []
        for module in (client, upstream):
            monkeypatch.setattr(module, "send", self.wires.send)

        async def dial(server: Server, **_: Any) -> UpstreamConnection:
            if self.refusals:
                raise self.refusals.pop(0)
            connection = UpstreamConnection(server)
            self.dials.append(FakeTransport(self.wires, connection, ALL))
            return connection

        self.refusals: list[DialError] = []
        monkeypatch.setattr(Server, "dial", dial)

    async def start(
        self,
        stages: list[Middleware],
        limits: list[Middleware] | None = None,
        entry_point: list[Middleware] | None = None,
        **settings: Any,
    ) -> None:
        def chain(*arguments: Any, **options: Any) -> Chain:
            options |= {"stages": Stages(stages), "limits": Stages(limits or [])}
            return Chain(*arguments, **options)

        self.monkeypatch.setattr(plan, "Chain", chain)
        self.world = World(**settings)
        self.world.listeners["http"].stages = Stages(entry_point or [])
        await self.world.apply(
            whole(
                1,
                backend("b", {"http://s": 1}),
                frontend("f", "Host:a;PathPrefixStrip:/x", "b", pass_host_header=True),
            )
        )
        self.connection = ClientConnection(self.world.listeners["http"])
        self.client = FakeTransport(self.wires, self.connection, ALL)

    async def ask(self, data: bytes = GET) -> None:
        self.connection.data_received(data)
        await turns()

    def server(self) -> FakeTransport:
        dialled = self.dials[-1]
        assert isinstance(dialled, FakeTransport)
        return dialled

    def says(self, data: bytes) -> bytes:
        self.server().protocol.data_received(data)
        return self.client.read(ALL)


async def turns() -> None:
    """Let tasks that are ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    return Story(monkeypatch)


async def test_middlewares_are_met_in_order_and_left_in_reverse(story: Story) -> None:
    await story.start([Recorder("a", story.log), Recorder("b", story.log)])
    await story.ask()
    sent = story.server().read(ALL)
    assert sent.startswith(b"GET /?y=1 HTTP/1.1\r\n")
    assert sent.endswith(b"X-Forwarded-Prefix: /x\r\nHost: a\r\n\r\n")
    answer = story.says(b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nok")
    assert answer == (
        b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\nX-b: seen\r\nX-a: seen\r\n\r\nok"
    )
    assert story.log == [
        *(("a", "request"), ("b", "request")),
        *(("b", "response", 200), ("a", "response", 200)),
        *(("b", "finished", 200), ("a", "finished", 200)),
    ]


BEFORE, BEHIND = (b"/x?y=1", b"/x?y=1"), (b"/?y=1", b"/x?y=1")
"""URIs that a check sees on an entry point, and in a frontend whose rule strips a prefix."""


def passes(story: Story) -> bool:
    """Tell whether the request in progress has a passage of its own."""
    return isinstance(story.connection._upstream, Passage)


async def test_stages_that_only_ask_need_no_passage(story: Story) -> None:
    await story.start([Check(story.log), Check(story.log)], entry_point=[Check(story.log)])
    await story.ask()
    assert story.log == [BEFORE, BEHIND, BEHIND]
    assert not passes(story)
    sent = story.server().read(ALL)
    assert sent.startswith(b"GET /?y=1 HTTP/1.1\r\n")
    assert sent.count(b"X-Checked: 3\r\n") == sent.count(b"X-Checked") == 1
    assert sent.endswith(b"X-Forwarded-Prefix: /x\r\nHost: a\r\n\r\n")
    answer = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nok"
    assert story.says(answer) == answer
    await story.ask()
    assert story.server().read(ALL).startswith(b"GET /?y=1 HTTP/1.1\r\n"), "the pool is used"
    assert len(story.dials) == 1


@pytest.mark.parametrize("on_entry_point", [True, False])
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("refused", [True, False])
async def test_a_check_may_answer_and_take_its_time(
    story: Story, on_entry_point: bool, late: bool, refused: bool
) -> None:
    gate = asyncio.Event()
    answer = text_answer(401) if refused else None
    middle = Check(story.log, later(answer, gate) if late else answer)
    checks: list[Middleware] = [Check(story.log), middle, Check(story.log)]
    if on_entry_point:
        await story.start([Check(story.log)], entry_point=checks)
    else:
        await story.start(checks)
    await story.ask()
    assert passes(story) is late
    if late:
        assert len(story.log) == 2
        gate.set()
        await turns()
    place = BEFORE if on_entry_point else BEHIND
    if refused:
        assert story.client.read(ALL).startswith(b"HTTP/1.1 401 ")
        assert story.log == [place] * 2
        assert story.connection.idle
        return
    assert story.log == [place] * 3 + [BEHIND] * on_entry_point
    assert b" 204 " in story.says(b"HTTP/1.1 204 No Content\r\n\r\n")


async def test_a_filter_of_an_entry_point_sees_every_answer(story: Story) -> None:
    check = Check(story.log, filtered=Tag())
    await story.start([Check(story.log)], entry_point=[check])
    await story.ask()
    assert passes(story)
    assert b"X-Tag: server\r\n" in story.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    await story.ask(b"GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n")
    answer = story.client.read(ALL)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"X-Tag: own\r\n" in answer
    await story.start([Check(story.log, text_answer(403))], entry_point=[check])
    await story.ask()
    assert b"X-Tag: own\r\n" in story.client.read(ALL)


async def test_a_server_that_cannot_be_reached_after_checks_is_tried_again(story: Story) -> None:
    await story.start([Check(story.log)], retry=Retry(attempts=2))
    story.refusals = [DialError(502, "refused")]
    await story.ask()
    assert len(story.log) == 1
    assert story.server().read(ALL).startswith(b"GET /?y=1 HTTP/1.1\r\n")


async def test_an_answer_ends_the_way_and_only_who_let_pass_is_told(story: Story) -> None:
    refuser = Recorder("b", story.log, text_answer(403))
    await story.start([Recorder("a", story.log), refuser])
    await story.ask()
    assert story.client.read(ALL).startswith(b"HTTP/1.1 403 ")
    assert story.log == [("a", "request"), ("b", "request"), ("a", "finished", 403)]
    assert story.connection.idle


async def later(answer: Answer | None, gate: asyncio.Event) -> Answer | None:
    await gate.wait()
    return answer


@pytest.mark.parametrize("refused", [False, True])
async def test_a_middleware_may_take_its_time_while_a_body_comes(
    story: Story, refused: bool
) -> None:
    gate = asyncio.Event()
    slow = Recorder("slow", story.log, later(text_answer(401) if refused else None, gate))
    await story.start([slow])
    await story.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo")
    await story.ask(b"dy")
    assert not story.dials
    gate.set()
    await turns()
    if refused:
        assert story.client.read(ALL).startswith(b"HTTP/1.1 401 ")
        assert story.log == [("slow", "request")]
    else:
        assert story.server().read(ALL).endswith(b"\r\n\r\nbody")
        assert b" 204 " in story.says(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert story.log[-1] == ("slow", "finished", 204)


async def test_a_body_is_held_within_bounds(story: Story) -> None:
    gate = asyncio.Event()
    await story.start([Recorder("slow", story.log, later(None, gate))])
    await story.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")
    pieces = 0
    while story.client.reading:
        await story.ask(b"x" * 10_000)
        pieces += 1
        assert pieces < 40, "the client is read without bound"
    gate.set()
    await turns()
    assert story.client.reading
    assert story.server().read(ALL).count(b"x" * 10_000) == pieces


async def test_a_middleware_that_fails_is_500(story: Story, caplog: Any) -> None:
    async def fail() -> Answer | None:
        raise RuntimeError("broken")

    await story.start([Recorder("a", story.log, fail())])
    await story.ask()
    assert story.client.read(ALL).startswith(b"HTTP/1.1 500 ")
    assert "a middleware failed" in caplog.text


async def test_who_leaves_while_a_middleware_waits_is_forgotten(story: Story) -> None:
    gate = asyncio.Event()
    await story.start([Recorder("slow", story.log, later(None, gate))])
    await story.ask()
    story.client.reset()
    await turns()
    gate.set()
    await turns()
    assert not story.dials
    assert story.log == [("slow", "request"), ("slow", "finished", 499)]


async def test_who_leaves_before_the_answer_ends_the_request(story: Story) -> None:
    await story.start([Recorder("a", story.log)], [Recorder("limit", story.log)])
    await story.ask()
    story.client.reset()
    await turns()
    assert story.server().closing
    assert story.log[-2:] == [("limit", "finished", 499), ("a", "finished", 499)]


async def test_a_server_that_never_answers_is_504_to_all(story: Story) -> None:
    await story.start([Recorder("a", story.log)])
    await story.ask()
    story.connection.expire(story.world.clock.now)
    assert story.client.read(ALL).startswith(b"HTTP/1.1 504 ")
    assert story.log[-1] == ("a", "finished", 504)
    await turns()
    assert story.server().lost


async def test_limits_are_met_again_in_each_attempt(story: Story) -> None:
    await story.start(
        [Recorder("a", story.log)],
        [Recorder("limit", story.log)],
        retry=Retry(attempts=3),
    )
    story.refusals = [DialError(502, "refused"), DialError(504, "slow")]
    await story.ask()
    assert b" 200 " in story.says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    limit = [entry[1:] for entry in story.log if entry[0] == "limit"]
    assert limit == [
        *(("request",), ("finished", 502)),
        *(("request",), ("finished", 504)),
        *(("request",), ("finished", 200)),
    ]


@pytest.mark.parametrize(("attempts", "asked"), [(3, 3), (1 << 40, MAXIMUM_REFUSALS)])
async def test_a_refusal_by_a_limit_uses_up_an_attempt(
    story: Story, attempts: int, asked: int
) -> None:
    """However many there are: a worker must not ask for ever."""
    limit = Recorder("limit", story.log, text_answer(429))
    await story.start([], [limit], retry=Retry(attempts=attempts))
    await story.ask()
    assert story.client.read(ALL).startswith(b"HTTP/1.1 429 ")
    assert story.log == [("limit", "request")] * asked


async def test_the_last_failure_is_the_answer(story: Story) -> None:
    await story.start([Recorder("a", story.log)], [Recorder("limit", story.log)])
    story.refusals = [DialError(502, "refused")]
    await story.ask()
    assert story.client.read(ALL).startswith(b"HTTP/1.1 502 ")
    assert story.log[-2:] == [("limit", "finished", 502), ("a", "finished", 502)]


async def test_a_pooled_connection_that_died_is_replaced_once(story: Story) -> None:
    await story.start([Recorder("a", story.log)])
    await story.ask()
    story.says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    pooled = story.server()
    await story.ask()
    assert len(story.dials) == 1
    pooled.reset()
    await turns()
    assert len(story.dials) == 2
    assert story.server().read(ALL).startswith(b"GET /?y=1 ")
    assert b" 200 " in story.says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def test_chunked_answers_pass_as_they_come(story: Story) -> None:
    await story.start([Recorder("a", story.log)])
    await story.ask()
    first = story.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    assert first.endswith(b"X-a: seen\r\n\r\n3\r\nabc\r\n")
    assert story.log[-1] == ("a", "response", 200)
    assert story.says(b"0\r\n\r\n") == b"0\r\n\r\n"
    assert story.log[-1] == ("a", "finished", 200)
    assert story.connection.idle


async def test_a_tunnel_is_inside_until_it_ends(story: Story) -> None:
    await story.start([Recorder("a", story.log)])
    await story.ask(
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\nearly"
    )
    switching = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    answer = story.says(switching + b"first")
    assert answer.endswith(b"\r\n\r\nfirst")
    assert b"X-a" not in answer
    assert story.server().read(ALL).endswith(b"early")
    assert story.log == [("a", "request")]
    story.client.reset()
    await turns()
    assert story.log == [("a", "request"), ("a", "finished", 101)]
    assert story.server().closing


async def test_interim_answers_pass_untouched(story: Story) -> None:
    await story.start([Recorder("a", story.log)])
    await story.ask()
    hints = story.says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert hints == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert story.log == [("a", "request")]


async def test_an_entry_point_with_middlewares_asks_them_before_the_route(story: Story) -> None:
    await story.start([Recorder("inner", story.log)])
    listener = story.world.listeners["http"]
    listener.stages = Stages([Recorder("outer", story.log)])
    listener.install(listener.index, ())
    await story.ask(b"GET /x HTTP/1.1\r\nHost: nobody\r\n\r\n")
    assert story.client.read(ALL).startswith(b"HTTP/1.1 404 ")
    await story.ask()
    assert story.says(b"HTTP/1.1 204 No Content\r\n\r\n").count(b": seen\r\n") == 2
    assert story.log == [
        *(("outer", "request"), ("outer", "finished", 404)),
        *(("outer", "request"), ("inner", "request")),
        *(("inner", "response", 204), ("outer", "response", 204)),
        *(("inner", "finished", 204), ("outer", "finished", 204)),
    ]


async def test_a_forwarded_header_set_by_a_middleware_counts_as_sent(story: Story) -> None:
    class RealIp(Middleware):
        def request(self, request: Request) -> None:
            request.set(b"x-real-ip", b"192.0.2.77")

    await story.start([RealIp()])
    await story.ask()
    sent = story.server().read(ALL)
    assert sent.count(b"X-Real-Ip: ") == 1
    assert b"X-Real-Ip: 192.0.2.77\r\n" in sent
