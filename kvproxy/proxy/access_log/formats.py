"""From a record to a line: the common format and JSON (specification sections 8.2 and 8.3)."""

from __future__ import annotations

import datetime
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec

from kvproxy.http.answer import reason
from kvproxy.http.head import fields as fields_of
from kvproxy.http.scan import FORWARDED
from kvproxy.model.access_log import DOWNSTREAM, DROP, FIELDS, ORIGIN, REDACT, REQUEST
from kvproxy.proxy.access_log.choice import REDACTED, HeaderFields
from kvproxy.rules.matchers import host_name

if TYPE_CHECKING:
    from kvproxy.proxy.access_log.choice import Fields
    from kvproxy.proxy.access_log.record import Record

_UNSAFE = re.compile(rb"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_SAFE = bytes(each for each in range(0x20, 0x7F) if each not in b'"\\')

MISSING = b"-"

_URL_PARTS = {
    "Scheme": "",
    "Opaque": "",
    "User": None,
    "Host": "",
    "Path": "",
    "RawPath": "",
    "ForceQuery": False,
    "RawQuery": "",
    "Fragment": "",
}

COMMON_FIELDS = {
    0: "ClientHost",
    1: "ClientUsername",
    3: "RequestMethod",
    4: "RequestPath",
    5: "RequestProtocol",
    6: "OriginStatus",
    7: "OriginContentSize",
    10: "RequestCount",
    11: "FrontendName",
    12: "BackendURL",
    13: "Duration",
}
"""Places in a line of the common format to names; the time is always there, the others are headers
of the request."""


class Format(Protocol):
    """Makes lines."""

    wants_heads: bool
    """Whether the heads of answers are needed."""

    def line(self, record: Record) -> bytes:
        """Return the line of a request that has ended, its end included."""
        ...


class CommonFormat:
    """One line of fourteen fields; what is dropped is a ``-``."""

    wants_heads = False

    def __init__(self, fields: Fields) -> None:
        """``fields``: which are logged."""
        self._referer, self._agent = fields.mode(b"Referer"), fields.mode(b"User-Agent")
        self._utc = "StartUTC" in fields.kept
        self._second = -1
        self._time = b""
        self._dropped = [place for place, name in COMMON_FIELDS.items() if name not in fields.kept]

    def line(self, record: Record) -> bytes:
        """Return the line."""
        asked = record.asked
        head = asked.head
        folded = head.lower()
        server = record.server
        path = _escaped(asked.original_uri)
        values = [
            _client_host(record),
            _word(record.user) if record.user else MISSING,
            self._start(record.began_at),
            asked.method,
            path,
            record.protocol,
            b"%d" % record.status,
            b"%d" % record.origin_size,
            _header(head, folded, b"\r\nreferer:", self._referer),
            _header(head, folded, b"\r\nuser-agent:", self._agent),
            b"%d" % record.number,
            _escaped(record.frontend.encode()) or MISSING,
            path if server is None else server.url.encode(),
            b"%dms" % (record.seconds * 1000),
        ]
        for place in self._dropped:
            values[place] = MISSING
        return b'%b - %b [%b] "%b %b %b" %b %b "%b" "%b" %b "%b" "%b" %b\n' % tuple(values)

    def _start(self, at: float) -> bytes:
        second = int(at)
        if second != self._second:
            self._second = second
            moment = time.gmtime(second) if self._utc else time.localtime(second)
            zone = "+0000" if self._utc else time.strftime("%z", moment)
            self._time = f"{time.strftime('%d/%b/%Y:%H:%M:%S', moment)} {zone}".encode()
        return self._time


class JsonFormat:
    """One object on each line."""

    def __init__(self, fields: Fields) -> None:
        """``fields``: which are logged."""
        self._fields = fields
        self._encoder = msgspec.json.Encoder()
        self.wants_heads = fields.headers
        self._request = HeaderFields(REQUEST, fields)
        self._origin = HeaderFields(ORIGIN, fields)
        self._downstream = HeaderFields(DOWNSTREAM, fields)

    def line(self, record: Record) -> bytes:
        """Return the line."""
        facts, kept = _facts(record), self._fields.kept
        if len(kept) < len(FIELDS):
            facts = {name: value for name, value in facts.items() if name in kept}
        if self._fields.headers:
            believed = record.peer.believed(record.asked).items()
            self._request.add(facts, [(name, values[0]) for name, values in believed])
            answer = fields_of(record.head)
            if not record.own:
                self._origin.add(facts, answer)
            self._downstream.add(facts, answer)
        facts["level"] = "info"
        facts["msg"] = ""
        facts["time"] = _time_text(int(record.began_at + record.seconds))
        return self._encoder.encode(facts) + b"\n"


def _facts(record: Record) -> dict[str, Any]:
    asked, peer, server = record.asked, record.peer, record.server
    start = datetime.datetime.fromtimestamp(record.began_at, datetime.UTC)
    duration = _nanoseconds(record.seconds)
    host, port = _split(asked.host)
    path = _text(asked.original_uri)
    method, protocol = _text(asked.method), _text(record.protocol)
    status = _status_line(record.status)
    url = _url_asked(path) if server is None else _url_of(server.url)
    facts: dict[str, Any] = {
        "StartUTC": start,
        "StartLocal": start.astimezone(),
        "Duration": duration,
        "FrontendName": record.frontend or "-",
        "BackendName": record.backend,
        "BackendURL": url,
        "BackendAddr": url["Host"],
        "ClientAddr": f"{_bracketed(peer.address)}:{peer.port}",
        "ClientHost": _text(_client_host(record)),
        "ClientPort": str(peer.port),
        "ClientUsername": record.user.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        or "-",
        "RequestAddr": _text(asked.host),
        "RequestHost": host,
        "RequestPort": port or "-",
        "RequestMethod": method,
        "RequestPath": path,
        "RequestProtocol": protocol,
        "RequestLine": f"{method} {path} {protocol}",
        "RequestCount": record.number,
        "OriginContentSize": record.origin_size,
        "OriginStatus": record.status,
        "OriginStatusLine": status,
        "DownstreamStatus": record.status,
        "DownstreamStatusLine": status,
        "DownstreamContentSize": record.size,
        "Overhead": duration,
        "RetryAttempts": record.retries,
        "Generation": record.generation,
    }
    length = _request_size(record)
    if length is not None:
        facts["RequestContentSize"] = length
    if record.origin_seconds >= 0:
        origin = _nanoseconds(record.origin_seconds)
        facts["OriginDuration"] = origin
        facts["Overhead"] = duration - origin
    if record.size and record.size != record.origin_size:
        facts["GzipRatio"] = record.origin_size / record.size
    return facts


def _client_host(record: Record) -> bytes:
    """Return whom the request came from: what a believed ``X-Forwarded-For`` says, or the peer."""
    if record.asked.flags & FORWARDED:
        forwarded = record.peer.believed(record.asked).get(b"x-forwarded-for")
        if forwarded and forwarded[0]:
            return _escaped(forwarded[0])
    return record.peer.address.encode() or MISSING


def _request_size(record: Record) -> int | None:
    """Return the length of the request's body; None: it was not said beforehand."""
    headers = record.asked.headers
    if b"transfer-encoding" in headers:
        return None
    length = headers.get(b"content-length")
    return int(length[0]) if length else 0


@lru_cache(256)
def _url_of(server: str) -> dict[str, Any]:
    """Return the parts of a server's URL as Go writes them in JSON."""
    parts = urlsplit(server)
    return _URL_PARTS | {"Scheme": parts.scheme, "Host": parts.netloc, "Path": parts.path}


def _url_asked(target: str) -> dict[str, Any]:
    """Return the parts of what was asked of the proxy itself."""
    path, _, query = target.partition("?")
    return _URL_PARTS | {"Path": path, "RawQuery": query}


@lru_cache(256)
def _status_line(status: int) -> str:
    return f"{status} {_text(reason(status))}"


@lru_cache(2)
def _time_text(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def _split(host: bytes) -> tuple[str, str]:
    """Return host and port of a ``Host`` value."""
    name = host_name(host)
    rest = host[len(name) :] if host.startswith(name) else host.rpartition(b"]")[2]
    return _text(name), _text(rest.removeprefix(b":"))


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _header(head: bytes, folded: bytes, mark: bytes, mode: str) -> bytes:
    """Return what the common format says of a header; ``mark``: how its line begins in ``folded``,
    the head in lower case."""
    at = folded.find(mark)
    if at < 0 or mode == DROP:
        return MISSING
    if mode == REDACT:
        return REDACTED
    start = at + len(mark)
    return _escaped(head[start : head.find(b"\r\n", start)].strip(b" \t")) or MISSING


def _word(text: str) -> bytes:
    """Return a text that stands in a line without quotes."""
    return _escaped(text.encode("utf-8", "surrogateescape")).replace(b" ", b"\\x20")


def _escaped(value: bytes) -> bytes:
    """Return a value that can stand in a line: quotes, backslashes and what is no visible ASCII are
    written ``\\xHH``, so that nobody can write lines of their own."""
    if not value.translate(None, _SAFE):
        return value
    return _UNSAFE.sub(lambda found: b"\\x%02X" % found[0][0], value)
