from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvloop
from msgspec import Struct

from kvproxy import channel
from kvproxy.channel import Channel, ChannelClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    Pair = tuple[Channel["Message"], Channel["Message"]]
    Scenario = Callable[[], Coroutine[Any, Any, None]]


class Text(Struct, frozen=True, tag=True):
    text: str


class Number(Struct, frozen=True, tag=True):
    number: int


Message = Text | Number


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Run a scenario on either event loop, with a deadline and a check for lost descriptors."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    # uvloop opens descriptors with the first loop of a process and keeps them.
    factory().close()

    def runner(scenario: Scenario) -> None:
        before = open_descriptors()
        with asyncio.Runner(loop_factory=factory) as event_loop:
            event_loop.run(asyncio.wait_for(scenario(), 10))
        assert open_descriptors() <= before

    return runner


def pair() -> Pair:
    left, right = socket.socketpair()
    return Channel(left, Message), Channel(right, Message)


def test_messages_arrive_whole_and_in_order(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        left, right = pair()
        left.send(Text("first"))
        left.send(Number(2))
        right.send(Text("back"))
        assert await right.receive() == (Text("first"), [])
        assert await right.receive() == (Number(2), [])
        assert await left.receive() == (Text("back"), [])
        left.close()
        right.close()

    run(scenario)


def test_sending_never_blocks_and_a_large_queue_arrives(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        left, right = pair()
        texts = [str(number) * 300_000 for number in range(10)]
        for text in texts:
            left.send(Text(text))
        assert left.queued_bytes > 1_000_000
        received = [(await right.receive())[0] for _ in texts]
        assert received == [Text(text) for text in texts]
        await left.drain()
        assert left.queued_bytes == 0
        left.close()
        right.close()

    run(scenario)


def test_a_reader_that_does_not_read_bounds_what_waits(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        left, right = pair()
        for number in range(50_000):
            left.send(Number(number))
        queued = -1
        while queued != left.queued_bytes:
            queued = left.queued_bytes
            for _ in range(100):
                await asyncio.sleep(0)
        assert left.queued_bytes > 0, "the receiving side read without end"
        for number in range(50_000):
            assert (await right.receive())[0] == Number(number)
        left.close()
        right.close()

    run(scenario)


def test_descriptors_belong_to_their_message(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        left, right = pair()
        pipes = [os.pipe() for _ in range(3)]
        left.send(Text("x" * 1_000_000))
        left.send(Text("one"), [pipes[0][1]])
        left.send(Text("none"))
        left.send(Text("two"), [pipes[1][1], pipes[2][1]])
        for _, writer in pipes:
            os.close(writer)
        await right.receive()
        (one, fds_one), (_, fds_none), (_, fds_two) = [await right.receive() for _ in range(3)]
        assert one == Text("one")
        assert [len(fds_one), fds_none, len(fds_two)] == [1, [], 2]
        for (reader, _), writer in zip(pipes, [*fds_one, *fds_two], strict=True):
            assert not os.get_inheritable(writer)
            os.write(writer, b"through")
            os.close(writer)
            assert os.read(reader, 100) == b"through"
            assert os.read(reader, 100) == b"", "a duplicate of the descriptor was left open"
            os.close(reader)
        left.close()
        right.close()

    run(scenario)


def test_many_descriptors_in_one_message(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        left, right = pair()
        reader, writer = os.pipe()
        left.send(Text("many"), [writer] * channel.MAX_DESCRIPTORS)
        _, fds = await right.receive()
        assert len(fds) == channel.MAX_DESCRIPTORS
        with pytest.raises(ValueError, match="descriptors"):
            left.send(Text("too many"), [writer] * (channel.MAX_DESCRIPTORS + 1))
        for fd in [reader, writer, *fds]:
            os.close(fd)
        left.close()
        right.close()

    run(scenario)


def test_last_words_are_read_after_the_end(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        left, right = pair()
        for number in range(200):
            left.send(Number(number))
        await left.drain()
        left.close()
        right.send(Text("into the void"))
        right.send(Text("and again"))
        for number in range(200):
            assert (await right.receive())[0] == Number(number)
        for _ in range(2):
            with pytest.raises(ChannelClosed):
                await right.receive()
        assert right.closed
        right.send(Text("dropped"))
        right.close()

    run(scenario)


def test_closing_wakes_who_waits(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        left, right = pair()
        left.send(Text("x" * 10_000_000))
        receiving = asyncio.create_task(left.receive())
        draining = asyncio.create_task(left.drain())
        await asyncio.sleep(0)
        left.close()
        for task in (receiving, draining):
            with pytest.raises(ChannelClosed):
                await task
        right.close()

    run(scenario)


def test_a_cancelled_receive_loses_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        left, right = pair()
        receiving = asyncio.create_task(right.receive())
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        left.send(Number(7))
        assert (await right.receive())[0] == Number(7)
        left.close()
        right.close()

    run(scenario)


def header(length: int, descriptors: int = 0) -> bytes:
    return struct.pack("!IB", length, descriptors)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(header(channel.MAX_FRAME_BYTES + 1), id="frame-too-large"),
        pytest.param(header(5, 251), id="too-many-descriptors"),
        pytest.param(header(1, 1) + b"\xc0", id="descriptors-missing"),
        pytest.param(header(3) + b"\xc1\xc1\xc1", id="no-messagepack"),
        pytest.param(header(1) + b"\xc0", id="no-message-of-ours"),
        pytest.param(header(0), id="empty-body"),
    ],
)
def test_what_is_no_message_ends_the_channel(run: Callable[[Scenario], None], data: bytes) -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        receiver: Channel[Message] = Channel(right, Message)
        left.sendall(data)
        with pytest.raises(ChannelClosed):
            await receiver.receive()
        assert receiver.closed
        left.close()
        receiver.close()

    run(scenario)


def test_a_frame_in_single_bytes(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        receiver: Channel[Message] = Channel(right, Message)
        body = channel.encode(Number(300))
        for byte in header(len(body)) + body:
            left.sendall(bytes([byte]))
            await asyncio.sleep(0)
        assert await receiver.receive() == (Number(300), [])
        left.close()
        receiver.close()

    run(scenario)


def test_a_message_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_FRAME_BYTES", 1000)
    with pytest.raises(ValueError, match="1000"):
        channel.encode(Text("x" * 1000))
