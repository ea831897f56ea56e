"""Both ends against the library h2: it judges each frame that we send, and its windows are kept."""

from __future__ import annotations

import random

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from kvproxy.http.blocks import encode_request, encode_response
from tests.support.http2_frames import GET, PREFACE
from tests.unit.http.http2_service import Service
from tests.unit.http.test_http2_client import Asked, Client

SETTINGS = h2.settings.SettingCodes


def library(client_side: bool) -> h2.connection.H2Connection:
    config = h2.config.H2Configuration(client_side=client_side, header_encoding=None)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    return connection


def receive(connection: h2.connection.H2Connection, data: bytes) -> list[h2.events.Event]:
    """Give the library one frame after the other: it looks at its own new frame size in between."""
    events = []
    while data:
        start = data.startswith(PREFACE) * len(PREFACE)
        end = start + 9 + int.from_bytes(data[start : start + 3], "big")
        events += connection.receive_data(data[:end])
        data = data[end:]
    return events


def send_within_windows(
    connection: h2.connection.H2Connection, bodies: dict[int, bytes], rng: random.Random
) -> None:
    """Let the library send some of what is left of each body; ends those that are sent."""
    for stream, body in list(bodies.items()):
        window = connection.local_flow_control_window(stream)
        window = max(0, min(window, connection.max_outbound_frame_size))
        size = min(window, len(body))
        size = rng.randrange(size + 1) if rng.random() < 0.5 else size
        padding = rng.choice([None, None, 0, 9]) if window > size + 20 else None
        if size or not body:
            connection.send_data(
                stream, body[:size], end_stream=size == len(body), pad_length=padding
            )
        if size == len(body):
            del bodies[stream]
        else:
            bodies[stream] = body[size:]


def change_windows(connection: h2.connection.H2Connection, rng: random.Random) -> None:
    """Let the library change its windows and its table for a while."""
    if rng.random() < 0.02:
        connection.update_settings(
            {
                SETTINGS.INITIAL_WINDOW_SIZE: rng.choice([100, 10_000, 65_535]),
                SETTINGS.HEADER_TABLE_SIZE: rng.choice([0, 100, 4096]),
                SETTINGS.MAX_FRAME_SIZE: rng.choice([16_384, 60_000]),
            }
        )


@pytest.mark.parametrize("seed", range(8))
def test_server(seed: int) -> None:
    rng = random.Random(seed)
    client = library(client_side=True)
    service = Service(handshake=False)
    sent: dict[int, bytes] = {}
    left: dict[int, bytes] = {}
    ended: set[int] = set()
    names = [b"x-%d" % i for i in range(5)]
    for turn in range(3000):
        if turn < 60:
            stream = client.get_next_available_stream_id()
            fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a.test")]
            fields += [(b":path", b"/hold/%d" % stream), (b"content-type", b"text/plain")]
            fields += [(rng.choice(names), rng.randbytes(8).hex().encode()) for _ in range(3)]
            client.send_headers(stream, fields)
            sent[stream] = left[stream] = rng.randbytes(rng.choice([0, 10, 5000, 100_000]))
        send_within_windows(client, left, rng)
        change_windows(client, rng)
        service.connection.receive(client.data_to_send())
        for number, request in service.streams.items():
            if request.unread:
                request.consumed(rng.randrange(request.unread + 1))
            if request.ended and request.local_open and request.outbox is None:
                assert request.body == sent[number]
                assert request.request.target == b"/hold/%d" % number
                request.answer(200, request.body)
        service.ready = False
        output = service.connection.take_output()
        service.connection.pump()
        for event in receive(client, output):
            assert not isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated)
            if isinstance(event, h2.events.DataReceived):
                stream = event.stream_id
                sent[stream] = sent[stream].removeprefix(event.data)
                client.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.StreamEnded):
                ended.add(event.stream_id)
                assert not sent[event.stream_id]
        if len(ended) == 60:
            break
    assert len(ended) == 60
    assert service.failure is None
    assert not service.connection.streams
    assert service.connection.held == 0


@pytest.mark.parametrize("seed", range(8))
def test_client(seed: int) -> None:
    rng = random.Random(seed)
    server = library(client_side=False)
    client = Client()
    client.connection.receive(server.data_to_send())
    server.receive_data(client.greeting)
    requests: list[Asked] = []
    bodies: dict[int, bytes] = {}
    received: dict[int, bytes] = {}
    answers: dict[int, bytes] = {}
    left: dict[int, bytes] = {}
    for turn in range(3000):
        if turn < 60 and client.connection.room:
            request = Asked(client.connection)
            head = b"POST /%d HTTP/1.1\r\nX-A: %d\r\nHost: a.test\r\n\r\n" % (turn, turn % 7)
            client.connection.open(request, encode_request(head, b"http"), ended=False)
            bodies[request.number] = rng.randbytes(rng.choice([0, 10, 5000, 100_000]))
            request.send_data(bodies[request.number], ended=rng.random() < 0.5)
            if request.local_open and (request.outbox is None or not request.outbox.ended):
                request.send_trailers(b"\0\1x\1y")
            requests.append(request)
        client.ready = False
        output = client.connection.take_output()
        client.connection.pump()
        for event in receive(server, output):
            assert not isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated)
            if isinstance(event, h2.events.RequestReceived):
                assert dict(event.headers)[b":authority"] == b"a.test"
                received[event.stream_id] = b""
            elif isinstance(event, h2.events.DataReceived):
                received[event.stream_id] += event.data
                server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                stream = event.stream_id
                assert received[stream] == bodies[stream]
                server.send_headers(stream, [(b":status", b"200"), (b"x-b", b"%d" % stream)])
                answers[stream] = left[stream] = rng.randbytes(rng.choice([0, 10, 100_000]))
        send_within_windows(server, left, rng)
        change_windows(server, rng)
        client.connection.receive(server.data_to_send())
        if len(requests) == 60 and all(request.ended for request in requests):
            break
    assert client.failure is None
    for request in requests:
        assert request.ended
        assert request.body == answers[request.number]
        assert request.heads == [(200, b"X-B: %d\r\n" % request.number, -1, False)]


def test_answers_are_heads_to_the_library() -> None:
    client = library(client_side=True)
    service = Service(handshake=False)
    client.send_headers(1, [*GET[:3], (b":path", b"/hold")], end_stream=True)
    service.send(client.data_to_send())
    service.received.clear()
    block, _ = encode_response(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Long: "
        + b"a" * 30_000
        + b"\r\n"
    )
    service.streams[1].send_head(block)
    service.streams[1].send_trailers(b"\0\1x\1y")
    service.ready = False
    events = client.receive_data(service.connection.take_output())
    kinds = [type(event) for event in events]
    assert h2.events.ResponseReceived in kinds
    assert h2.events.TrailersReceived in kinds
