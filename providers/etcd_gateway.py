"""etcd's v3 interface as JSON over HTTP (its gRPC gateway): requests, answers, log-in, errors.

Fields are named as in etcd's own protocol (`rpc.proto`). The gateway writes 64-bit numbers as
strings and bytes in base64, and leaves out what is zero or empty.
"""

from __future__ import annotations

from base64 import b64decode
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct, field

from kvproxy.provider import StoreError
from providers.json_place import entry_at
from providers.store_http import Answer, StoreHttp

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from providers.store_http import Stream

DEFAULT_PORT = 2379

ANSWER_SECONDS = 10.0
"""How long a read of a large tree or a write may take."""
PROBE_SECONDS = 4.0
"""How long a question that costs etcd nothing may take, over all servers together."""

_TOKEN_IS_OLD = (
    "invalid auth token",
    "revision of auth store is old",
    "user name is empty",
    "auth token is not provided",
)
"""What etcd says when the token died (with the server, or unused for five minutes)."""

_Shape = TypeVar("_Shape")


class Header(Struct):
    """What every answer says of the whole store."""

    revision: int = 0
    raft_term: int = 0
    cluster_id: int = 0


class KeyValue(Struct):
    """A key as it is, or in a deletion without a value."""

    key: bytes = b""
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0


class RangeResponse(Struct):
    """Some keys; ``more`` that the limit cut off others."""

    header: Header = field(default_factory=Header)
    kvs: list[KeyValue] = []
    more: bool = False


class ResponseOperation(Struct):
    """The answer to one operation of a transaction."""

    response_range: RangeResponse = field(default_factory=RangeResponse)


class TransactionResponse(Struct):
    """Whether the comparisons held, and the answers of the operations that were done then."""

    header: Header = field(default_factory=Header)
    succeeded: bool = False
    responses: list[ResponseOperation] = []


class Event(Struct):
    """One change; puts have no type."""

    kv: KeyValue
    type: str = "PUT"


class WatchResponse(Struct):
    """One message of a watch."""

    header: Header = field(default_factory=Header)
    created: bool = False
    canceled: bool = False
    cancel_reason: str = ""
    compact_revision: int = 0
    events: list[Event] = []


class GatewayError(Struct):
    """Why the gateway or etcd refused; the text is in either field."""

    error: str = ""
    message: str = ""


class WatchMessage(Struct):
    """One line of a watch."""

    result: WatchResponse | None = None
    error: GatewayError | None = None


class LeaseResponse(Struct):
    """A lease that was made; ``ID`` is etcd's spelling."""

    ID: int = 0
    error: str = ""


class LeaseKeptAlive(Struct):
    """What is left of a lease: nothing when it is gone."""

    TTL: int = 0


class LeaseMessage(Struct):
    """One line of the keep-alive stream."""

    result: LeaseKeptAlive = field(default_factory=LeaseKeptAlive)


class HeaderResponse(Struct):
    """An answer of which only the header matters."""

    header: Header = field(default_factory=Header)


class _TokenResponse(Struct):
    token: str = ""


class EtcdRefused(StoreError):  # noqa: N818 - an answer, not a fault
    """etcd answered that it will not; ``reason`` is its own text."""

    def __init__(self, where: str, reason: str) -> None:
        """``where`` is the server that said so."""
        super().__init__(f"etcd at {where}: {reason}")
        self.reason = reason


class EtcdGateway:
    """Questions to etcd, with a log-in when there is a user."""

    def __init__(
        self, endpoints: str, context: ssl.SSLContext | None, username: str, password: str
    ) -> None:
        """Ask nothing yet. ``endpoints`` as in `StoreHttp`."""
        self._http = StoreHttp("etcd", endpoints, DEFAULT_PORT, context)
        self._username = username
        self._password = password
        self._token = ""
        self._logged_in = not username
        self.probe_seconds = PROBE_SECONDS / len(self._http.bases)

    async def call(
        self,
        path: str,
        body: Any,
        shape: type[_Shape],
        *,
        seconds: float = ANSWER_SECONDS,
        repeatable: bool = True,
    ) -> _Shape:
        """Return the answer to ``body``; raises `EtcdRefused` and `StoreError`.

        ``repeatable``: asking twice does no harm.
        """
        content = msgspec.json.encode(body)
        await self._log_in(seconds)
        for attempt in (1, 2):
            answer = await self._http.ask(
                "POST",
                f"/v3/{path}",
                body=content,
                headers=self._headers(),
                seconds=seconds,
                repeatable=repeatable,
            )
            if answer.status == 200:
                return self._decoded(answer.body, shape, answer.endpoint)
            refusal = self._refusal(answer)
            if attempt == 2 or not self._token_is_old(refusal):
                break
            self.forget_token()
            await self._log_in(seconds)
        raise refusal

    @asynccontextmanager
    async def watch(self, body: Any) -> AsyncIterator[WatchMessages]:
        """Open a watch."""
        await self._log_in(ANSWER_SECONDS)
        content = msgspec.json.encode(body)
        async with self._http.stream(
            "POST", "/v3/watch", body=content, headers=self._headers()
        ) as stream:
            if stream.status != 200:
                body = await stream.piece()
                refusal = self._refusal(Answer(stream.endpoint, stream.status, {}, body))
                if self._token_is_old(refusal):
                    self.forget_token()
                raise refusal
            yield WatchMessages(stream)

    def forget_token(self) -> None:
        """Log in anew before the next question."""
        self._logged_in = not self._username
        self._token = ""

    async def close(self) -> None:
        """Close every connection; running watches end."""
        await self._http.close()

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = self._token
        return headers

    async def _log_in(self, seconds: float) -> None:
        if self._logged_in:
            return
        body = {"name": self._username, "password": self._password}
        answer = await self._http.ask(
            "POST", "/v3/auth/authenticate", body=msgspec.json.encode(body), seconds=seconds
        )
        if answer.status == 200:
            self._token = self._decoded(answer.body, _TokenResponse, answer.endpoint).token
        else:
            refusal = self._refusal(answer)
            if "authentication is not enabled" not in refusal.reason:
                raise refusal
        self._logged_in = True

    def _token_is_old(self, refusal: EtcdRefused) -> bool:
        return bool(self._username) and any(each in refusal.reason for each in _TOKEN_IS_OLD)

    def _decoded(self, content: bytes, shape: type[_Shape], endpoint: str) -> _Shape:
        try:
            return msgspec.json.decode(content, type=shape, strict=False)
        except msgspec.DecodeError as error:
            raise _spoilt(endpoint, error, content, "an answer of etcd") from None

    def _refusal(self, answer: Answer) -> EtcdRefused:
        try:
            found = msgspec.json.decode(answer.body, type=GatewayError, strict=False)
            reason = found.message or found.error
        except msgspec.DecodeError:
            reason = answer.body[:200].decode(errors="replace").strip()
        reason = reason.removeprefix("etcdserver: ")
        if answer.status == 404:
            reason = "there is no v3 gateway at /v3 (etcd before 3.4, or not etcd at all)"
        return EtcdRefused(answer.endpoint, reason or f"HTTP status {answer.status}")


class WatchMessages:
    """The messages of a watch: one a line of JSON, however long and however it arrives."""

    def __init__(self, stream: Stream) -> None:
        """``stream`` has just been opened."""
        self.endpoint = stream.endpoint
        self._stream = stream
        self._decoder = msgspec.json.Decoder(WatchMessage, strict=False)
        self._parts: list[bytes] = []

    async def arrived(self) -> list[WatchResponse]:
        """Wait for more and return the messages that are complete; raises `StoreError`."""
        piece = await self._stream.piece()
        if not piece:
            if self._parts:
                return [self._message()]
            raise StoreError(f"etcd at {self.endpoint}: the watch was closed")
        *ends, rest = piece.split(b"\n")
        messages = []
        for end in ends:
            self._parts.append(end)
            if any(self._parts):
                messages.append(self._message())
        self._parts.append(rest)
        return messages

    def _message(self) -> WatchResponse:
        line = b"".join(self._parts)
        self._parts.clear()
        try:
            message = self._decoder.decode(line)
        except msgspec.DecodeError as error:
            raise _spoilt(self.endpoint, error, line, "a message of a watch") from None
        if message.result is None:
            found = message.error or GatewayError()
            raise EtcdRefused(self.endpoint, found.message or found.error or "the watch failed")
        return message.result


def _spoilt(endpoint: str, error: msgspec.DecodeError, content: bytes, expected: str) -> StoreError:
    """Return the error for ``content`` that is not what was ``expected``; it names the key."""
    key = entry_at(error, content).get("key")
    what = f"not {expected}"
    if isinstance(key, str):
        with suppress(ValueError):
            what = f"key `{b64decode(key, validate=True).decode()}`"
    return StoreError(f"etcd at {endpoint}: {what} ({error})")
