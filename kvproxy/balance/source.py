"""The key of a request by which connections and rates are limited (specification section 7.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kvproxy.model.problem import nearest_name

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT_IP = "client.ip"
REQUEST_HOST = "request.host"
REQUEST_HEADER = "request.header."
EXPECTED = "client.ip, request.host or request.header.NAME"


class SourceError(ValueError):
    """A text that names no extractor; ``nearest`` is the one that was probably meant."""

    def __init__(self, message: str, nearest: str = "") -> None:
        """``message``: what is wrong, without the text's place."""
        super().__init__(message)
        self.nearest = nearest


class _Client(Protocol):
    @property
    def address(self) -> str: ...


class _Request(Protocol):
    @property
    def client(self) -> _Client: ...
    @property
    def host(self) -> bytes: ...
    def first(self, name: bytes) -> bytes: ...


def parse_source(text: str) -> Callable[[_Request], bytes]:
    """Return what takes the key from a request; raises `SourceError`.

    The whole address of a client counts, IPv6 too. Forwarded headers are never looked at.
    """
    if text == CLIENT_IP:
        return lambda request: request.client.address.encode()
    if text == REQUEST_HOST:
        return lambda request: request.host
    if text.startswith(REQUEST_HEADER):
        name = text.removeprefix(REQUEST_HEADER).lower().encode()
        if not name:
            raise SourceError("`request.header.` names no header")
        if name == b"host":
            return lambda request: request.host
        return lambda request: request.first(name)
    if not text:
        raise SourceError("no extractor function is set")
    nearest = nearest_name(text, (CLIENT_IP, REQUEST_HOST, REQUEST_HEADER + "NAME"))
    raise SourceError(f"`{text}` is no extractor function", nearest)
