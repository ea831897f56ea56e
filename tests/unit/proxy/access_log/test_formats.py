"""Lines: fourteen fields or one object, whatever a client says."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvproxy.http.answer import Answer
from kvproxy.http.scan import scan_request
from kvproxy.model.access_log import FIELDS
from kvproxy.model.static_observability import AccessLog as Options
from kvproxy.proxy.access_log.choice import Fields
from kvproxy.proxy.access_log.formats import CommonFormat, JsonFormat
from kvproxy.proxy.access_log.log import AccessLog
from kvproxy.proxy.access_log.record import Record
from kvproxy.proxy.downstream.peer import Peer
from kvproxy.proxy.request.decision import Asked, understand
from tests.support.access_log import parse_line
from tests.unit.proxy.worlds import World

if TYPE_CHECKING:
    from pathlib import Path

NOT_FOUND = Answer(404, b"404 page not found\n")


class Place:
    """A connected client and a log; records of requests on it."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.sockets = socket.socketpair()
        self.loop.run_until_complete(self._open(str(path)))

    async def _open(self, path: str) -> None:
        self.listener = World().listeners["http"]
        transport, _ = await self.loop.create_connection(asyncio.Protocol, sock=self.sockets[0])
        self.peer = Peer(self.listener, transport)
        self.log = AccessLog(Options(file_path=path, format="json"), 0, 1)

    def close(self) -> None:
        self.loop.run_until_complete(self._close())
        self.loop.close()
        self.sockets[1].close()

    async def _close(self) -> None:
        self.log.close()

    def record(self, request: bytes, answer: Answer = NOT_FOUND) -> Record | None:
        """Return the record of an answered request; None: the scan refuses it."""
        scanned = scan_request(request, 65536, 100)
        if not isinstance(scanned, tuple):
            return None
        head, host, target, flags, _, end = scanned
        asked = understand(self.listener, request[:end], head, host, target, flags)
        if not isinstance(asked, Asked):
            return None
        record = Record(self.log, self.peer, asked, b"HTTP/1.1", 7)
        record.answered(answer, head_only=False)
        return record


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("formats") / "log")
    yield made
    made.close()


def request(target: bytes = b"/", *lines: bytes) -> bytes:
    head = b"".join(line + b"\r\n" for line in (b"Host: h", *lines))
    return b"GET " + target + b" HTTP/1.1\r\n" + head + b"\r\n"


def common(place: Place, data: bytes) -> str:
    record = place.record(data)
    assert record is not None
    return CommonFormat(Fields(None)).line(record).decode("ascii")


def test_the_common_format(place: Place) -> None:
    line = common(place, request(b"/a?b=c", b"referer: r", b"USER-AGENT:  a b "))
    found = parse_line(line)
    assert (found.method, found.path, found.protocol) == ("GET", "/a?b=c", "HTTP/1.1")
    assert (found.status, found.size) == ("404", "19")
    assert (found.referer, found.agent, found.count) == ("r", "a b", "7")
    assert (found.user, found.frontend, found.url) == ("-", "backend not found", "/a?b=c")
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/20\d\d:\d\d:\d\d:\d\d \+0000", found.time)


def test_what_is_missing_is_a_dash(place: Place) -> None:
    found = parse_line(common(place, request(b"/", b"User-Agent:")))
    assert (found.referer, found.agent) == ("-", "-")


VALUES = st.binary(max_size=40).map(lambda value: re.sub(rb"[\r\n\x00]", b"", value).strip(b" \t"))


TARGETS = st.binary(max_size=30) | st.text("/[]?#:@%.ab", max_size=10).map(str.encode)


@settings(max_examples=300)
@given(VALUES, VALUES, TARGETS)
@example(b"", b"", b"/[")
def test_a_line_has_fourteen_fields_whatever_a_client_says(
    place: Place, referer: bytes, agent: bytes, target: bytes
) -> None:
    data = request(b"/" + target, b"Referer: " + referer, b"User-Agent: " + agent)
    record = place.record(data)
    if record is None:
        return
    line = CommonFormat(Fields(None)).line(record)
    found = parse_line(line.decode("ascii"))
    assert unescaped(found.referer) == (referer or b"-")
    assert unescaped(found.agent) == (agent or b"-")
    fields = json.loads(JsonFormat(Fields(None)).line(record))
    assert fields.get("request_User-Agent", "") == agent.decode("utf-8", "replace")
    assert fields["RequestPath"] == record.asked.original_uri.decode("utf-8", "replace")


def unescaped(text: str) -> bytes:
    return re.sub(rb"\\x([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())


def test_every_field_but_those_of_servers_is_in_json(place: Place) -> None:
    record = place.record(request(b"/", b"Content-Length: 3"))
    assert record is not None
    found = json.loads(JsonFormat(Fields(None)).line(record))
    assert set(FIELDS) - found.keys() == {"OriginDuration", "GzipRatio"}
    assert found["RequestContentSize"] == 3
    assert found["BackendName"] == "Traefik"


def test_a_chunked_request_has_no_size(place: Place) -> None:
    record = place.record(request(b"/", b"Transfer-Encoding: chunked"))
    assert record is not None
    assert "RequestContentSize" not in json.loads(JsonFormat(Fields(None)).line(record))


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        (b"a.test", "a.test", "-"),
        (b"a.test:80", "a.test", "80"),
        (b"[::1]", "::1", "-"),
        (b"[::1]:80", "::1", "80"),
    ],
)
def test_the_host_of_a_request(place: Place, host: bytes, name: str, port: str) -> None:
    record = place.record(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert record is not None
    found = json.loads(JsonFormat(Fields(None)).line(record))
    assert (found["RequestAddr"], found["RequestHost"], found["RequestPort"]) == (
        host.decode(),
        name,
        port,
    )
