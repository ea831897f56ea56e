"""Keys of limits (specification section 7.6)."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from kvproxy.balance.source import SourceError, parse_source


class Client(NamedTuple):
    address: str


class Request(NamedTuple):
    client: Client
    host: bytes
    headers: dict[bytes, bytes]

    def first(self, name: bytes) -> bytes:
        return self.headers.get(name, b"")


REQUEST = Request(Client("2001:db8::1"), b"Example.com:8080", {b"x-key": b"v"})

KEYS = {
    "client.ip": b"2001:db8::1",
    "request.host": b"Example.com:8080",
    "request.header.X-Key": b"v",
    "request.header.x-key": b"v",
    "request.header.Absent": b"",
    "request.header.Host": b"Example.com:8080",
}


@pytest.mark.parametrize(("text", "key"), KEYS.items(), ids=KEYS)
def test_key(text: str, key: bytes) -> None:
    assert parse_source(text)(REQUEST) == key


REFUSED = {
    "": "",
    "request.header.": "",
    "client.id": "client.ip",
    "Client.IP": "client.ip",
    "request.hosts": "request.host",
    "foo": "",
}


@pytest.mark.parametrize(("text", "nearest"), REFUSED.items(), ids=REFUSED)
def test_refused_with_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(text)
    assert caught.value.nearest == nearest
