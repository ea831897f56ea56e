from __future__ import annotations

from typing import Protocol, cast

import pytest

from kvproxy.http import blocks_pure, scan_pure

Request = int | tuple[bytes, bytes, bytes, int, int, int] | None
Response = int | bytes | tuple[bytes, int, int, int, int, int] | None


class Scanner(Protocol):
    """What both implementations of the head scanner offer."""

    def scan_request(self, data: bytes, max_bytes: int, max_headers: int, /) -> Request: ...
    def scan_response(self, data: bytes, request_flags: int, date: bytes, /) -> Response: ...
    def send(self, fd: int, data: bytes, /) -> int | None: ...


@pytest.fixture(params=["c", "python"])
def scanner(request: pytest.FixtureRequest) -> Scanner:
    """Each implementation of the head scanner in turn."""
    if request.param == "python":
        return cast("Scanner", scan_pure)
    return cast("Scanner", pytest.importorskip("kvproxy.http._scan", reason="not compiled"))


DecodedRequest = int | tuple[bytes, bytes, bytes, int, int, bytes]


class BlockDecoder(Protocol):
    """What both decoders of header blocks offer."""

    changes: int

    def request(
        self, block: bytes, max_bytes: int, max_headers: int, ended: bool, /
    ) -> DecodedRequest: ...
    def response(
        self, block: bytes, max_bytes: int, max_headers: int, /
    ) -> int | tuple[int, bytes, int]: ...
    def trailers(self, block: bytes, max_bytes: int, max_headers: int, /) -> int | bytes: ...


class BlockCodec(Protocol):
    """What both implementations of the codec of header blocks offer."""

    BlockDecoder: type[BlockDecoder]

    def request_block(self, data: bytes, position: int, stream: int, /) -> bytes | None: ...
    def encode_response(self, data: bytes, /) -> tuple[bytes, int]: ...
    def encode_answer(self, data: bytes, stream: int, room: int, /) -> tuple[bytes, int] | None: ...
    def encode_request(self, data: bytes, scheme: bytes, /) -> bytes: ...
    def encode_trailers(self, lines: bytes, /) -> bytes: ...


@pytest.fixture(params=["c", "python"])
def codec(request: pytest.FixtureRequest) -> BlockCodec:
    """Each implementation of the codec of header blocks in turn."""
    if request.param == "python":
        return cast("BlockCodec", blocks_pure)
    return cast("BlockCodec", pytest.importorskip("kvproxy.http._http2", reason="not compiled"))
