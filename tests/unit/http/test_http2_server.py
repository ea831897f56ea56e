"""Single stories of the sans-IO server: bodies, windows, priorities, draining, abuse."""

from __future__ import annotations

import pytest

from kvproxy.http.flags import CHUNKED, FORWARDED, UPGRADE
from kvproxy.http.http2 import CONNECTION_WINDOW, OUTPUT_LIMIT, Limits
from kvproxy.http.http2_stream import QUEUE_LIMIT, STREAM_WINDOW
from tests.support.http2_frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    GET,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    PING_FRAME,
    POST,
    PREFACE,
    PRIORITY_UPDATE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Ended,
    Fields,
    Frame,
    Goaway,
    Head,
    Reset,
    block,
    data,
    frame,
    headers,
    number,
    priority,
    rst_stream,
    settings,
    split,
    window_update,
)
from tests.unit.http.http2_service import BODY, Service

HELD: Fields = [*GET[:3], (b":path", b"/hold")]
HELD_POST: Fields = [*POST[:3], (b":path", b"/hold")]
CALM = Goaway((ENHANCE_YOUR_CALM,))
INITIAL_WINDOW_SIZE = 4


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def held(*priorities: bytes, window: int = 0, clock: Clock | None = None) -> Service:
    """A connection with one unanswered request for each priority, and these stream windows."""
    service = Service(clock=clock)
    service.send(settings((INITIAL_WINDOW_SIZE, window)))
    for index, value in enumerate(priorities):
        fields = [*HELD, (b"priority", value)] if value != b"-" else HELD
        service.send(headers(fields, 2 * index + 1))
    service.received.clear()
    return service


def body_streams(frames: list[Frame]) -> list[int]:
    return [each.stream for each in frames if each.kind == DATA]


def test_greeting() -> None:
    service = Service(handshake=False)
    first, second = service.take()
    values = [first.payload[i : i + 6] for i in range(0, len(first.payload), 6)]
    assert first.kind == SETTINGS
    assert {value[1]: int.from_bytes(value[2:], "big") for value in values} == {
        3: 128,
        4: STREAM_WINDOW,
        6: 65536,
        8: 1,
        9: 1,
    }
    assert second == Frame(WINDOW_UPDATE, 0, 0, number(CONNECTION_WINDOW - 65535))


def test_request_with_body_and_trailers() -> None:
    service = Service()
    service.send(headers([*POST, (b"x-forwarded-for", b"1.2.3.4")], flags=END_HEADERS))
    service.send(data(b"a" * 10, flags=0) + frame(DATA, PADDED, 1, b"\x03bb" + bytes(3)))
    stream = service.streams[1]
    assert stream.request.flags & (CHUNKED | FORWARDED) == CHUNKED | FORWARDED
    assert stream.request.cut == b"X-Forwarded-For: 1.2.3.4\r\n"
    assert not stream.ended
    service.send(headers([(b"x-sum", b"1"), (b"host", b"b.test")]))
    assert (stream.body, stream.trailers) == (b"a" * 10 + b"bb", b"X-Sum: 1\r\n")
    service.expect(Head())
    service.expect(Ended())
    assert not service.connection.streams


def test_padding_counts_against_the_windows_and_is_given_back() -> None:
    service = Service()
    service.send(headers(HELD_POST, flags=END_HEADERS))
    stream = service.streams[1]
    service.send(frame(DATA, PADDED, 1, b"\x05a" + bytes(5)))
    assert stream.unread == 1
    assert stream.receive_window == STREAM_WINDOW - 7
    assert stream.credit == 6


def test_window_of_a_stream_opens_when_the_body_is_consumed() -> None:
    service = Service()
    service.send(headers(HELD_POST, flags=END_HEADERS))
    stream = service.streams[1]
    for _ in range(STREAM_WINDOW // 16384):
        frames = service.send(data(b"a" * 16384, flags=0))
        assert not frames
    stream.consumed(STREAM_WINDOW // 2)
    assert service.take() == [Frame(WINDOW_UPDATE, 0, 1, number(STREAM_WINDOW // 2))]
    service.send(data(b"a" * 16384, flags=0) * 9)
    service.expect(Reset((FLOW_CONTROL_ERROR,)))
    assert stream.reset_code == FLOW_CONTROL_ERROR


def test_window_of_the_connection_opens_again_when_streams_end() -> None:
    service = Service()
    for index in range(4):
        service.send(headers(HELD_POST, 2 * index + 1, END_HEADERS))
        service.send(data(b"a" * 16384, 2 * index + 1, 0) * 16)
    assert service.connection._receive_window == 0
    frames = service.send(rst_stream(1) + rst_stream(3))
    assert frames == [Frame(WINDOW_UPDATE, 0, 0, number(CONNECTION_WINDOW // 2))]


def test_more_than_the_window_of_the_connection_ends_it() -> None:
    service = Service()
    for index in range(4):
        service.send(headers(HELD_POST, 2 * index + 1, END_HEADERS))
        service.send(data(b"a" * 16384, 2 * index + 1, 0) * 16)
    service.send(headers(HELD_POST, 9, END_HEADERS) + data(b"a", 9))
    service.expect(Goaway((FLOW_CONTROL_ERROR,)))


def test_late_body_of_a_stream_that_was_reset_is_given_back() -> None:
    service = Service()
    service.send(headers(HELD_POST, flags=END_HEADERS))
    service.streams[1].reset(CANCEL)
    for _ in range(4):
        service.send(data(b"a" * 16384, flags=0) * 8)
    assert service.failure is None
    service.expect(Reset((CANCEL,)))
    assert [each.kind for each in service.received] == [WINDOW_UPDATE]


def test_answer_within_the_windows_of_the_client() -> None:
    service = held(b"-", window=100)
    service.streams[1].answer(200, b"a" * 250)
    frames = service.take()
    assert [len(each.payload) for each in frames if each.kind == DATA] == [100]
    service.send(window_update(50, 1))
    service.send(settings((INITIAL_WINDOW_SIZE, 0)))
    service.send(window_update(20, 1))
    service.send(settings((INITIAL_WINDOW_SIZE, 100)))
    service.send(window_update(1000, 1))
    frames = [each for each in service.received if each.kind == DATA]
    assert b"".join(each.payload for each in frames) == b"a" * 250
    assert [len(each.payload) for each in frames] == [100, 50, 20, 80]
    assert [each.flags for each in frames] == [0, 0, 0, END_STREAM]


def test_answer_within_the_window_of_the_connection() -> None:
    service = held(b"-", b"-", window=1 << 20)
    for index in (1, 3):
        service.streams[index].answer(200, b"a" * 50_000)
    frames = [each for each in service.take() if each.kind == DATA]
    assert sum(len(each.payload) for each in frames) == 65_535
    frames = [each for each in service.send(window_update(100_000)) if each.kind == DATA]
    assert sum(len(each.payload) for each in frames) == 34_465
    assert not service.connection.streams


def test_large_frames_where_the_client_takes_them() -> None:
    service = held(b"-", window=1 << 20)
    service.send(settings((5, 1 << 20)))
    service.streams[1].answer(200, b"a" * 60_000)
    frames = [each for each in service.take() if each.kind == DATA]
    assert [len(each.payload) for each in frames] == [60_000]


def test_large_head_is_split_into_continuations() -> None:
    service = held(b"-")
    service.streams[1].send_head(b"\x88" + b"a" * 40_000)
    frames = service.take()
    assert [(each.kind, each.flags) for each in frames] == [
        (HEADERS, 0),
        (CONTINUATION, 0),
        (CONTINUATION, END_HEADERS),
    ]
    assert sum(len(each.payload) for each in frames) == 40_001


def test_trailers_wait_for_the_body() -> None:
    service = held(b"-", window=10)
    stream = service.streams[1]
    stream.send_head(b"\x88")
    stream.send_data(b"a" * 15)
    stream.send_trailers(b"\x88")
    assert [each.kind for each in service.take()] == [HEADERS, DATA]
    frames = service.send(window_update(5, 1))
    assert [(each.kind, each.flags) for each in frames] == [(DATA, 0), (HEADERS, END)]


def test_first_block_tells_a_client_that_sizes_our_table() -> None:
    service = held(b"-", b"-", window=100)
    service.send(settings((1, 0)))
    service.streams[1].answer(200)
    service.streams[3].answer(200)
    blocks = [each.payload for each in service.take() if each.kind == HEADERS]
    assert blocks[0] == b"\x20" + blocks[1]


def test_early_answer_tells_that_the_rest_of_the_request_is_not_wanted() -> None:
    service = Service()
    service.send(headers(HELD_POST, flags=END_HEADERS))
    service.streams[1].answer(200)
    service.take()
    service.expect(Ended())
    service.expect(Reset((NO_ERROR,)))
    service.send(data(b"a" * 100, flags=0))
    assert service.failure is None


# id: (priorities of the requests, streams in the order in which their frames are sent)
ORDERS: dict[str, tuple[list[bytes], list[int]]] = {
    "no wish: turns": ([b"-", b"-"], [1, 3, 1, 3]),
    "default: one after the other": ([b"u=3", b"u=3"], [1, 1, 3, 3]),
    "incremental: turns": ([b"i", b"i", b"i"], [1, 3, 5, 1, 3, 5]),
    "urgency": ([b"u=5", b"u=1", b"u=3"], [3, 3, 5, 5, 1, 1]),
    "urgency before turns": ([b"u=3, i", b"u=0", b"u=3, i"], [3, 3, 1, 5, 1, 5]),
    "not incremental before incremental": ([b"u=2,i", b"u=2"], [3, 3, 1, 1]),
    "not understood: default": ([b"u=9, i=?0", b"x;y, u=a"], [1, 1, 3, 3]),
    "parameters": ([b"u=6;a=b", b"i=?1;c, u=6"], [1, 1, 3, 3]),
}


@pytest.mark.parametrize(("priorities", "order"), ORDERS.values(), ids=ORDERS.keys())
def test_order_of_sending(priorities: list[bytes], order: list[int]) -> None:
    service = held(*priorities, window=1 << 20)
    service.connection.pause(True)
    for index in range(len(priorities)):
        service.streams[2 * index + 1].answer(200, b"a" * 20_000)
    assert not body_streams(service.take())
    service.send(window_update(1 << 20))
    service.connection.pause(False)
    assert body_streams(service.take()) == order


def test_streams_that_wait_late_are_sent_in_order() -> None:
    service = held(b"u=3", b"u=3", b"u=3", window=1 << 20)
    service.connection.pause(True)
    for index in (5, 1, 3):
        service.streams[index].answer(200, b"a" * 1000)
    service.take()
    service.connection.pause(False)
    assert body_streams(service.take()) == [1, 3, 5]


def test_priority_update_before_and_after_the_request() -> None:
    service = Service()
    service.send(settings((INITIAL_WINDOW_SIZE, 1 << 20)))
    service.send(frame(PRIORITY_UPDATE, 0, 0, number(5) + b"u=0"))
    for index in (1, 3, 5):
        service.send(headers([*HELD, (b"priority", b"u=4")], index))
    service.connection.pause(True)
    for index in (1, 3, 5):
        service.streams[index].answer(200, b"a" * 1000)
    service.send(frame(PRIORITY_UPDATE, 0, 0, number(3) + b"u=1"))
    service.take()
    service.connection.pause(False)
    assert body_streams(service.take()) == [5, 3, 1]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (frame(PRIORITY_UPDATE, 0, 1, number(1)), PROTOCOL_ERROR),
        (frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0"), 6),
        (frame(PRIORITY_UPDATE, 0, 0, number(0) + b"i"), PROTOCOL_ERROR),
        (frame(PRIORITY_UPDATE, 0, 0, number(2) + b"i"), PROTOCOL_ERROR),
    ],
    ids=["on a stream", "too short", "of stream 0", "of a stream of ours"],
)
def test_bad_priority_update(sent: bytes, expected: int) -> None:
    service = Service()
    service.send(sent)
    service.expect(Goaway((expected,)))


def test_what_waits_is_put_in_order_again_between_two_writes() -> None:
    service = held(b"u=5", b"u=0", window=1 << 20)
    service.send(window_update(1 << 20))
    service.streams[1].answer(200, b"a" * (OUTPUT_LIMIT * 2))
    service.ready = False
    first = body_streams(split(service.connection.take_output())[0])
    service.streams[3].answer(200, b"a" * 1000)
    service.connection.pump()
    rest = body_streams(service.take())
    assert first == [1] * (OUTPUT_LIMIT // 16384 + 1)
    assert rest[0] == 3


def test_source_is_paused_while_much_waits() -> None:
    service = held(b"-", window=1000)
    stream = service.streams[1]
    stream.send_head(b"\x88")
    stream.send_data(b"a" * QUEUE_LIMIT)
    assert stream.pauses == []
    stream.send_data(b"a" * 2000)
    assert stream.pauses == [True]
    stream.send_data(b"a" * 2000)
    service.send(settings((INITIAL_WINDOW_SIZE, 1 << 20)))
    service.send(window_update(1 << 20))
    assert stream.pauses == [True, False]
    assert service.connection.held == 0


def test_all_sources_are_paused_while_much_waits_on_the_connection() -> None:
    service = held(*[b"-"] * 100)
    for stream in service.streams.values():
        stream.send_data(b"a" * 60_000)
    pauses = [bool(stream.pauses) for stream in service.streams.values()]
    assert pauses.index(True) == 4 * 1024 * 1024 // 60_000
    assert all(pauses[pauses.index(True) :])


def test_a_stream_that_would_hold_too_much_is_reset() -> None:
    service = Service(Limits(held_bytes=100_000))
    service.send(settings((INITIAL_WINDOW_SIZE, 0)) + headers(HELD) + headers(HELD, 3))
    service.streams[1].send_data(b"a" * 60_000)
    service.streams[3].send_data(b"a" * 60_000)
    service.take()
    service.expect(Reset((ENHANCE_YOUR_CALM,), 3))
    assert service.streams[3].reset_code == ENHANCE_YOUR_CALM
    assert service.connection.held == 60_000


def test_reset_stream_leaves_nothing_behind() -> None:
    service = held(b"-", window=10)
    stream = service.streams[1]
    stream.send_head(b"\x88")
    stream.send_data(b"a" * 100)
    service.send(rst_stream(1))
    assert stream.reset_code == CANCEL
    assert (service.connection.held, bool(service.connection.schedule)) == (0, False)
    stream.send_head(b"\x88")
    stream.reset(CANCEL)


def test_drain_in_two_steps() -> None:
    service = Service()
    service.send(headers(HELD))
    service.connection.drain()
    first, question = service.take()[-2:]
    assert (first.kind, first.payload[:4]) == (GOAWAY, number((1 << 31) - 1))
    assert (question.kind, question.flags) == (PING, 0)
    service.send(headers(HELD, 3))
    service.send(frame(PING, ACK, 0, question.payload))
    assert service.received[-1] == Frame(GOAWAY, 0, 0, number(3) + number(NO_ERROR))
    service.send(headers(GET, 5) + headers(GET, 7, END_HEADERS) + data(b"a", 7))
    assert 5 not in service.streams
    assert not service.done
    service.streams[1].answer(200)
    assert not service.done
    service.streams[3].answer(200)
    assert service.done
    service.take()
    service.expect(Ended(3))


def test_drain_without_streams_is_done_when_the_client_answers() -> None:
    service = Service()
    service.connection.drain()
    service.connection.drain()
    kinds = [each.kind for each in service.take()]
    assert kinds == [GOAWAY, PING]
    service.connection.finish()
    service.connection.finish()
    assert service.done
    assert [each.kind for each in service.take()] == [GOAWAY]


def test_equal_blocks_are_the_same_request_while_the_table_is_the_same() -> None:
    service = Service()
    plain = block(HELD)
    service.send(frame(HEADERS, END, 1, plain) + frame(HEADERS, END, 3, plain))
    assert service.streams[1].request is service.streams[3].request
    service.send(frame(HEADERS, END_HEADERS, 5, plain))
    assert service.streams[5].request.flags & CHUNKED
    service.send(frame(HEADERS, END, 7, plain + b"\x40\x01x\x01y"))
    service.send(frame(HEADERS, END, 9, plain) + frame(HEADERS, END, 11, plain + b"\xbe"))
    assert service.streams[9].request is not service.streams[1].request
    assert b"X: y\r\n" in service.streams[11].request.head
    service.send(frame(HEADERS, END, 13, plain + b"\x40\x01x\x01z" + b"\xbe"))
    service.send(frame(HEADERS, END, 15, plain + b"\xbe"))
    assert b"X: z\r\n" in service.streams[15].request.head


def test_trailers_may_change_the_table() -> None:
    service = Service()
    plain = block(HELD) + b"\xbe"
    service.send(frame(HEADERS, END, 1, block(HELD) + b"\x40\x01x\x01y"))
    service.send(frame(HEADERS, END, 3, plain))
    service.send(headers(HELD_POST, 5, END_HEADERS) + frame(HEADERS, END, 5, b"\x40\x01x\x01z"))
    service.send(frame(HEADERS, END, 7, plain))
    assert b"X: y\r\n" in service.streams[3].request.head
    assert b"X: z\r\n" in service.streams[7].request.head


def test_late_headers_of_a_reset_stream_may_change_the_table() -> None:
    service = Service()
    service.send(headers(HELD_POST, flags=END_HEADERS))
    service.streams[1].reset(CANCEL)
    service.send(frame(HEADERS, END, 1, b"\x40\x01x\x01y"))
    service.send(frame(HEADERS, END, 3, block(HELD) + b"\xbe"))
    assert b"X: y\r\n" in service.streams[3].request.head


# id: (fields, status)
REFUSED: dict[str, tuple[Fields, int]] = {
    "large head": ([*GET, *[(b"x", b"a" * 1000)] * 70], 431),
    "many fields": ([*GET, *[(b"x", b"")] * 130], 431),
    "CONNECT": ([(b":method", b"CONNECT"), GET[2]], 405),
    "expectation": ([*GET, (b"expect", b"x")], 417),
}


@pytest.mark.parametrize(("fields", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_a_status(fields: Fields, status: int) -> None:
    service = Service()
    whole = block(fields)
    pieces = [whole[i : i + 16000] for i in range(0, len(whole), 16000)]
    service.send(frame(HEADERS, END_STREAM | END_HEADERS * (len(pieces) == 1), 1, pieces[0]))
    for index, piece in enumerate(pieces[1:], 2):
        service.send(frame(CONTINUATION, END_HEADERS * (index == len(pieces)), 1, piece))
    assert service.streams[1].request.status == status
    service.expect(Ended())
    service.send(headers(GET, 3))
    service.expect(Ended(3))


def test_tunnel() -> None:
    service = Service()
    tunnel = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *HELD[1:]]
    service.send(headers(tunnel, flags=END_HEADERS))
    stream = service.streams[1]
    assert stream.request.flags & UPGRADE
    stream.send_head(b"\x88")
    service.send(data(b"to the server", flags=0))
    stream.send_data(b"to the client")
    assert stream.body == b"to the server"
    assert service.take()[-1] == Frame(DATA, 0, 1, b"to the client")


# What costs us and brings nothing. id: (frames, what they are sent behind)
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "PING": (PING_FRAME, b""),
    "PING with ACK": (frame(PING, ACK, 0, b"8 octets"), b""),
    "SETTINGS": (settings(), b""),
    "SETTINGS with ACK": (settings(flags=ACK), b""),
    "PRIORITY": (priority(1), b""),
    "PRIORITY_UPDATE": (frame(PRIORITY_UPDATE, 0, 0, number(1) + b"i"), b""),
    "GOAWAY": (frame(GOAWAY, 0, 0, bytes(8)), b""),
    "unknown frames": (frame(0xFF), b""),
    "WINDOW_UPDATE": (window_update(1), b""),
    "WINDOW_UPDATE of a stream": (window_update(1, 1), headers(HELD)),
    "empty DATA": (data(b"", flags=0), headers(HELD_POST, flags=END_HEADERS)),
    "padding alone": (frame(DATA, PADDED, 1, b"\x00"), headers(HELD_POST, flags=END_HEADERS)),
    "RST_STREAM of a closed stream": (rst_stream(1), headers(GET)),
}


@pytest.mark.parametrize(("flood", "before"), FLOODS.values(), ids=FLOODS.keys())
def test_flood(flood: bytes, before: bytes) -> None:
    clock = Clock()
    service = Service(clock=clock)
    service.send(before)
    service.send(flood * 90)
    assert service.failure is None
    service.send(flood * 2000)
    service.expect(CALM)


@pytest.mark.parametrize("stream", [0, 1])
def test_windows_may_not_be_opened_byte_by_byte(stream: int) -> None:
    service = held(b"-", window=1 << 20 if stream == 0 else 0, clock=Clock())
    service.connection.send_window = 0 if stream == 0 else 1 << 20
    service.streams[1].send_data(b"a" * 100_000)
    service.send(window_update(1, stream) * 900)
    assert service.failure is None
    service.send(window_update(1, stream) * 900)
    service.expect(CALM)


def test_windows_may_be_small() -> None:
    service = held(b"-", window=0)
    service.connection.send_window = 1 << 20
    service.streams[1].send_data(b"a" * 300_000, ended=True)
    for _ in range(3000):
        service.send(window_update(100, 1))
    assert service.failure is None
    service.expect(Ended())


def test_settings_may_not_bring_values_without_end() -> None:
    """Each value is work for every stream, so a large frame must not cost what a small one does."""
    service = Service(clock=Clock())
    service.send(settings(*[(4, 65_535)] * 50) * 5)
    assert service.failure is None
    service.send(settings(*[(4, 65_535)] * 2730))
    service.expect(CALM)


def test_what_is_sent_slowly_is_no_flood() -> None:
    clock = Clock()
    service = Service(clock=clock)
    for _ in range(5000):
        clock.now += 0.02
        service.send(PING_FRAME)
    assert service.failure is None


def test_answers_make_up_for_frames() -> None:
    service = Service(clock=Clock())
    for index in range(5000):
        service.send(headers(GET, 2 * index + 1) + window_update(len(BODY)))
    assert service.failure is None


def test_rapid_reset() -> None:
    service = Service(clock=Clock())
    for index in range(300):
        service.send(headers(HELD, 2 * index + 1) + rst_stream(2 * index + 1))
    service.expect(CALM)
    assert len(service.streams) == 251


def test_rapid_reset_that_makes_us_reset() -> None:
    service = Service(clock=Clock())
    for index in range(300):
        stream = 2 * index + 1
        service.send(headers(HELD_POST, stream, END_HEADERS) + window_update(0, stream))
    service.expect(CALM)


def test_malformed_requests_without_end() -> None:
    service = Service(clock=Clock())
    for index in range(300):
        service.send(headers(GET[1:], 2 * index + 1))
    service.expect(CALM)


def test_streams_beyond_the_limit_without_end() -> None:
    service = Service(clock=Clock())
    for index in range(500):
        service.send(headers(HELD, 2 * index + 1))
    service.expect(Reset((REFUSED_STREAM,), 257))
    service.expect(CALM)


def test_continuations_without_end() -> None:
    service = Service()
    service.send(frame(HEADERS, END_STREAM, 1, block(GET)))
    service.send(frame(CONTINUATION, 0, 1, b"") * 100)
    service.expect(CALM)


def test_header_block_without_end() -> None:
    service = Service()
    service.send(frame(HEADERS, END_STREAM, 1, block(GET)))
    for _ in range(9):
        service.send(frame(CONTINUATION, 0, 1, b"\x82" * 16384))
    service.expect(CALM)


def test_bomb() -> None:
    service = Service()
    service.send(frame(HEADERS, END, 1, block(HELD) + b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000))
    service.send(frame(HEADERS, END, 3, block(HELD) + b"\xbe" * 15000))
    service.expect(CALM)


def test_trailers_behind_an_incomplete_body() -> None:
    service = Service()
    service.send(headers([*POST, (b"content-length", b"5")], flags=END_HEADERS))
    service.send(data(b"abc", flags=0) + headers([(b"x", b"y")]))
    service.expect(Reset((PROTOCOL_ERROR,)))


def test_end_of_the_connection_is_told_to_streams() -> None:
    service = held(b"-", b"-", window=10)
    service.streams[1].send_data(b"a" * 100)
    service.take()
    service.connection.abandon()
    assert [stream.reset_code for stream in service.streams.values()] == [CANCEL, CANCEL]
    assert not service.take()
    service.streams[3].answer(200)
    assert not service.take()


def test_nothing_is_read_behind_the_end() -> None:
    service = Service()
    service.send(frame(PING, 0, 1, b"8 octets") + headers(GET))
    assert not service.streams
    assert service.send(headers(GET)) == []


def test_preface_in_pieces() -> None:
    service = Service(handshake=False)
    for byte in PREFACE + settings() + headers(GET):
        service.send(bytes((byte,)))
    service.expect(Ended())
