"""Case tables of scan_request. The sources are RFC 9110, RFC 9112 and Traefik 1.7's behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvproxy.http.scan import (
    ABSOLUTE,
    CHUNKED,
    EXPECT,
    FORWARDED,
    HEAD,
    HTTP10,
    IDEMPOTENT,
    KEEP_ALIVE,
    OPTIONS_STAR,
    PLAIN_PATH,
    UPGRADE,
)

if TYPE_CHECKING:
    from tests.unit.http.conftest import Scanner

MAX_BYTES = 4096
MAX_HEADERS = 100
PLAIN_GET = KEEP_ALIVE | IDEMPOTENT | PLAIN_PATH
PLAIN_POST = KEEP_ALIVE | PLAIN_PATH


def head_of(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


def get(*fields: bytes) -> bytes:
    """A GET request with a Host and these header lines."""
    return head_of(b"GET / HTTP/1.1", b"Host: a.test", *fields, b"")


def post(*fields: bytes) -> bytes:
    return head_of(b"POST / HTTP/1.1", b"Host: a.test", *fields, b"")


def target(spelled: bytes, method: bytes = b"GET") -> bytes:
    return head_of(b"%b %b HTTP/1.1" % (method, spelled), b"Host: a.test", b"")


def host(value: bytes) -> bytes:
    return head_of(b"GET / HTTP/1.1", b"Host: " + value, b"")


# id: (request, status)
REFUSED: dict[str, tuple[bytes, int]] = {
    # Request line: RFC 9112, section 3.
    "empty-method": (b" / HTTP/1.1\r\n", 400),
    "method-with-colon": (b"GE:T / HTTP/1.1\r\n", 400),
    "method-with-NUL": (b"GE\0T / HTTP/1.1\r\n", 400),
    "method-with-high-byte": (b"G\xcbT / HTTP/1.1\r\n", 400),
    "TLS-client-hello": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "tab-after-method": (b"GET\t/ HTTP/1.1\r\n", 400),
    "two-spaces-after-method": (b"GET  / HTTP/1.1\r\n", 400),
    "two-spaces-after-target": (b"GET /  HTTP/1.1\r\n", 400),
    "space-in-target": (b"GET /a b HTTP/1.1\r\n", 400),
    "tab-in-target": (b"GET /a\tb HTTP/1.1\r\n", 400),
    "NUL-in-target": (b"GET /a\0b HTTP/1.1\r\n", 400),
    "DEL-in-target": (b"GET /a\x7fb HTTP/1.1\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n", 400),
    "space-behind-version": (b"GET / HTTP/1.1 \r\n", 400),
    "lower-case-version": (b"GET / http/1.1\r\n", 400),
    "version-1.32": (b"GET / HTTP/1.32\r\n", 400),
    "version-1.1.1": (b"GET / HTTP/1.1.1\r\n", 400),
    "version-11": (b"GET / HTTP/11\r\n", 400),
    "version-01.1": (b"GET / HTTP/01.1\r\n", 400),
    "version-257.1": (b"GET / HTTP/257.1\r\n", 400),
    "version-1.x": (b"GET / HTTP/1.x\r\n", 400),
    "version-1.superscript": (b"GET / HTTP/1.\xb2\r\n", 400),
    "other-protocol": (b"GET / ICAP/1.0\r\n", 400),
    "version-1.2": (b"GET / HTTP/1.2\r\n", 505),
    "version-0.9": (b"GET / HTTP/0.9\r\n", 505),
    "version-2.0": (b"GET / HTTP/2.0\r\n", 505),
    "HTTP/2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "bare-LF-behind-request-line": (b"GET / HTTP/1.1\nHost: a.test\n\n", 400),
    "bare-CR-behind-request-line": (b"GET / HTTP/1.1\rHost: a.test\r\n\r\n", 400),
    "bare-LF-before-request-line": (b"\nGET / HTTP/1.1\r\n", 400),
    "bare-CR-before-request-line": (b"\rGET / HTTP/1.1\r\n", 400),
    "fifth-empty-line": (b"\r\n" * 5, 400),
    "space-before-request-line": (b" GET / HTTP/1.1\r\n", 400),
    # Header lines: RFC 9112, section 5.
    "space-before-colon": (b"GET / HTTP/1.1\r\nHost : a.test\r\n", 400),
    "tab-before-colon": (b"GET / HTTP/1.1\r\nHost\t: a.test\r\n", 400),
    "space-before-first-line": (b"GET / HTTP/1.1\r\n Host: a.test\r\n", 400),
    "continuation-line": (b"GET / HTTP/1.1\r\nHost: a.test\r\n b\r\n", 400),
    "continuation-line-with-tab": (b"GET / HTTP/1.1\r\nHost: a.test\r\n\tb\r\n", 400),
    "empty-name": (b"GET / HTTP/1.1\r\n: a\r\n", 400),
    "no-colon": (b"GET / HTTP/1.1\r\nHost\r\n", 400),
    "name-with-space": (b"GET / HTTP/1.1\r\nA B: c\r\n", 400),
    "name-with-NUL": (b"GET / HTTP/1.1\r\nA\0: c\r\n", 400),
    "name-with-high-byte": (b"GET / HTTP/1.1\r\nA\xe9: c\r\n", 400),
    "name-with-parenthesis": (b"GET / HTTP/1.1\r\nA(b): c\r\n", 400),
    "NUL-in-value": (b"GET / HTTP/1.1\r\nA: b\0c\r\n", 400),
    "bare-CR-in-value": (b"GET / HTTP/1.1\r\nA: b\rc\r\n", 400),
    "bare-LF-in-value": (b"GET / HTTP/1.1\r\nA: b\nc: d\r\n", 400),
    "CR-CR-LF": (b"GET / HTTP/1.1\r\nA: b\r\r\n", 400),
    "vertical-tab-in-value": (b"GET / HTTP/1.1\r\nA: b\x0bc\r\n", 400),
    "form-feed-in-long-value": (b"GET / HTTP/1.1\r\nA: " + b"b" * 40 + b"\x0c\r\n", 400),
    "DEL-in-value": (b"GET / HTTP/1.1\r\nA: 12345678\x7f\r\n", 400),
    "bare-CR-before-empty-line": (b"GET / HTTP/1.1\r\nHost: a.test\r\n\rX", 400),
    "bare-LF-as-empty-line": (b"GET / HTTP/1.1\r\nHost: a.test\r\n\n", 400),
    # Host: RFC 9112, section 3.2.
    "no-host": (head_of(b"GET / HTTP/1.1", b""), 400),
    "no-host-but-aliases": (head_of(b"GET / HTTP/1.1", b"Hos: a", b"Hostt: b", b""), 400),
    "two-hosts": (get(b"Host: b.test"), 400),
    "two-equal-hosts": (get(b"host: a.test"), 400),
    "host-with-userinfo": (host(b"user@a.test"), 400),
    "host-with-slash": (host(b"a.test/b"), 400),
    "host-with-backslash": (host(b"a.test\\b"), 400),
    "host-with-question-mark": (host(b"a.test?b"), 400),
    "host-with-hash": (host(b"a.test#b"), 400),
    "host-with-space": (host(b"a.test b"), 400),
    "host-with-tab": (host(b"a.test\tb"), 400),
    "host-with-high-byte": (host(b"a\xe9.test"), 400),
    "host-with-quote": (host(b'a".test'), 400),
    "host-with-brace": (host(b"{a}.test"), 400),
    "host-with-bad-port": (host(b"a.test:http"), 400),
    "host-with-signed-port": (host(b"a.test:+80"), 400),
    "host-with-long-port": (host(b"a.test:000080"), 400),
    "host-with-two-ports": (host(b"a.test:80:80"), 400),
    "host-IPv6-without-brackets": (host(b"::1"), 400),
    "host-IPv6-open": (host(b"[::1"), 400),
    "host-IPv6-empty": (host(b"[]"), 400),
    "host-IPv6-with-tail": (host(b"[::1]a"), 400),
    "host-two-names": (host(b"a.test, b test"), 400),
    # Target: RFC 9112, section 3.2.
    "target-without-slash": (target(b"a"), 400),
    "target-query-only": (target(b"?a"), 400),
    "target-star-with-GET": (target(b"*"), 400),
    "target-two-stars": (target(b"**", b"OPTIONS"), 400),
    "target-authority-form": (target(b"a.test:80"), 400),
    "target-other-scheme": (target(b"ftp://a.test/"), 400),
    "target-scheme-without-slashes": (target(b"http:a.test"), 400),
    "target-empty-authority": (target(b"http:///a"), 400),
    "target-empty-authority-https": (target(b"https://?a"), 400),
    "target-with-userinfo": (target(b"http://u:p@a.test/"), 400),
    "target-bad-authority": (target(b"http://a\\b/"), 400),
    "absolute-form-hash-behind-authority": (target(b"http://b.test#f"), 400),
    "absolute-form-bad-host": (
        head_of(b"GET http://a.test/ HTTP/1.1", b"Host: b@c", b""),
        400,
    ),
    "absolute-form-no-host": (head_of(b"GET http://a.test/ HTTP/1.1", b""), 400),
    "CONNECT": (target(b"a.test:443", b"CONNECT"), 405),
    "CONNECT-with-origin-form": (target(b"/", b"CONNECT"), 405),
    # Framing: RFC 9112, section 6.
    "length-empty": (post(b"Content-Length:"), 400),
    "length-plus": (post(b"Content-Length: +5"), 400),
    "length-minus": (post(b"Content-Length: -5"), 400),
    "length-hexadecimal": (post(b"Content-Length: 0x5"), 400),
    "length-underscore": (post(b"Content-Length: 5_0"), 400),
    "length-inner-space": (post(b"Content-Length: 5 0"), 400),
    "length-vertical-tab": (post(b"Content-Length: \x0b5"), 400),
    "length-NEL": (post(b"Content-Length: 5\x85"), 400),
    "length-no-break-space": (post(b"Content-Length: \xa05"), 400),
    "length-superscript": (post(b"Content-Length: \xb2"), 400),
    "length-decimal-point": (post(b"Content-Length: 5.0"), 400),
    "length-list": (post(b"Content-Length: 5, 5"), 400),
    "length-19-digits": (post(b"Content-Length: 1" + b"0" * 18), 400),
    "length-overflow": (post(b"Content-Length: 18446744073709551621"), 400),
    "length-tab-before": (post(b"Content-Length:\t5"), 400),
    "length-tab-behind": (post(b"Content-Length: 5 \t"), 400),
    "coding-tab-before": (post(b"Transfer-Encoding:\tchunked"), 400),
    "coding-tab-behind": (post(b"Transfer-Encoding: chunked\t"), 400),
    "two-lengths": (post(b"Content-Length: 5", b"Content-Length: 6"), 400),
    "two-equal-lengths": (post(b"Content-Length: 5", b"content-length: 5"), 400),
    "length-and-chunked": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    "chunked-and-length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 0"), 400),
    "two-codings": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "chunked-and-identity": (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        400,
    ),
    "coding-gzip-and-length": (post(b"Transfer-Encoding: gzip", b"Content-Length: 5"), 400),
    "coding-in-1.0": (
        head_of(b"POST / HTTP/1.0", b"Host: a", b"Transfer-Encoding: chunked", b""),
        400,
    ),
    "coding-gzip": (post(b"Transfer-Encoding: gzip"), 501),
    "coding-gzip-chunked": (post(b"Transfer-Encoding: gzip, chunked"), 501),
    "coding-comma-chunked": (post(b"Transfer-Encoding: ,chunked"), 501),
    "coding-chunked-comma": (post(b"Transfer-Encoding: chunked,"), 501),
    "coding-chunked-chunked": (post(b"Transfer-Encoding: chunked, chunked"), 501),
    "coding-empty": (post(b"Transfer-Encoding:"), 501),
    "coding-xchunked": (post(b"Transfer-Encoding: xchunked"), 501),
    "coding-chunkedx": (post(b"Transfer-Encoding: chunkedx"), 501),
    "coding-parameter": (post(b"Transfer-Encoding: chunked;q=1"), 501),
    "coding-quoted": (post(b'Transfer-Encoding: "chunked"'), 501),
    "coding-NEL": (post(b"Transfer-Encoding: chunked\x85"), 501),
    "coding-no-break-space": (post(b"Transfer-Encoding: \xa0chunked"), 501),
    "coding-vertical-tab": (post(b"Transfer-Encoding: \x0bchunked"), 400),
    # Others.
    "expectation": (post(b"Expect: 200-ok"), 417),
    "expectation-empty": (post(b"Expect:"), 417),
    "expectation-list": (post(b"Expect: 100-continue, x"), 417),
    "expectation-second-line": (post(b"Expect: 100-continue", b"Expect: x"), 417),
    "65-connection-options": (get(b"Connection: " + b",".join([b"a"] * 65)), 400),
    "65-connection-options-in-two-lines": (
        get(b"Connection: a", b"Connection: " + b",".join([b"a"] * 64)),
        400,
    ),
    "head-too-large": (get(b"A: " + b"b" * MAX_BYTES), 431),
    "head-too-large-in-target": (b"GET /" + b"a" * MAX_BYTES, 431),
    "head-one-byte-too-large": (get(b"A: " + b"b" * (MAX_BYTES - 36)), 431),
    "too-many-headers": (get(*[b"A: b"] * MAX_HEADERS), 431),
    "too-many-headers-unfinished": (get(*[b"A: b"] * MAX_HEADERS)[:-2] + b"A", 431),
}

# id: (request, outgoing head without what all have, host, target, flags, length)
ACCEPTED: dict[str, tuple[bytes, bytes, bytes, bytes, int, int]] = {
    "plain": (get(), head_of(b"GET / HTTP/1.1"), b"a.test", b"/", PLAIN_GET, 0),
    "empty-lines-before": (
        b"\r\n" * 4 + get(),
        head_of(b"GET / HTTP/1.1"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "headers-kept-as-spelled": (
        get(b"ACCEPT:*/*", b"x-Odd:\t a  b \t", b"Empty:", b"A!#$%&'*+-.^_`|~: \xc3\xa9"),
        head_of(
            b"GET / HTTP/1.1",
            b"ACCEPT:*/*",
            b"x-Odd:\t a  b \t",
            b"Empty:",
            b"A!#$%&'*+-.^_`|~: \xc3\xa9",
        ),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "duplicates-kept": (
        get(b"A: 1", b"A: 2"),
        head_of(b"GET / HTTP/1.1", b"A: 1", b"A: 2"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "http-1.0-without-host": (
        head_of(b"GET / HTTP/1.0", b"A: b", b""),
        head_of(b"GET / HTTP/1.1", b"A: b"),
        b"",
        b"/",
        IDEMPOTENT | PLAIN_PATH | HTTP10,
        0,
    ),
    "http-1.0-keep-alive": (
        head_of(b"GET / HTTP/1.0", b"Host: a", b"Connection: keep-alive", b""),
        head_of(b"GET / HTTP/1.1"),
        b"a",
        b"/",
        IDEMPOTENT | PLAIN_PATH | HTTP10,
        0,
    ),
    "http-1.0-expect": (
        head_of(b"POST / HTTP/1.0", b"Expect: 100-continue", b"Content-Length: 1", b""),
        head_of(b"POST / HTTP/1.1", b"Content-Length: 1"),
        b"",
        b"/",
        PLAIN_PATH | HTTP10,
        1,
    ),
    "http-1.0-upgrade": (
        head_of(b"GET / HTTP/1.0", b"Connection: upgrade", b"Upgrade: websocket", b""),
        head_of(b"GET / HTTP/1.1"),
        b"",
        b"/",
        IDEMPOTENT | PLAIN_PATH | HTTP10,
        0,
    ),
    "absolute-form": (
        head_of(b"GET http://B.test:81/p?q HTTP/1.1", b"Host: a.test", b"A: b", b""),
        head_of(b"GET /p?q HTTP/1.1", b"A: b"),
        b"B.test:81",
        b"/p?q",
        PLAIN_GET | ABSOLUTE,
        0,
    ),
    "absolute-form-https": (
        target(b"HTTPS://b.test"),
        head_of(b"GET / HTTP/1.1"),
        b"b.test",
        b"/",
        PLAIN_GET | ABSOLUTE,
        0,
    ),
    "absolute-form-query": (
        target(b"http://b.test?q"),
        head_of(b"GET /?q HTTP/1.1"),
        b"b.test",
        b"/?q",
        PLAIN_GET | ABSOLUTE,
        0,
    ),
    "absolute-form-1.0": (
        head_of(b"GET http://b.test/ HTTP/1.0", b""),
        head_of(b"GET / HTTP/1.1"),
        b"b.test",
        b"/",
        IDEMPOTENT | PLAIN_PATH | ABSOLUTE | HTTP10,
        0,
    ),
    "options-star": (
        target(b"*", b"OPTIONS"),
        head_of(b"OPTIONS * HTTP/1.1"),
        b"a.test",
        b"*",
        KEEP_ALIVE | IDEMPOTENT | OPTIONS_STAR,
        0,
    ),
    "length": (
        post(b"Content-Length:  12  "),
        head_of(b"POST / HTTP/1.1", b"Content-Length:  12  "),
        b"a.test",
        b"/",
        PLAIN_POST,
        12,
    ),
    "length-18-digits": (
        post(b"Content-Length: 999999999999999999"),
        head_of(b"POST / HTTP/1.1", b"Content-Length: 999999999999999999"),
        b"a.test",
        b"/",
        PLAIN_POST,
        999999999999999999,
    ),
    "length-of-GET": (
        get(b"Content-Length: 5"),
        head_of(b"GET / HTTP/1.1", b"Content-Length: 5"),
        b"a.test",
        b"/",
        PLAIN_GET,
        5,
    ),
    "chunked": (
        post(b"transfer-encoding: ChunkeD"),
        head_of(b"POST / HTTP/1.1", b"transfer-encoding: ChunkeD"),
        b"a.test",
        b"/",
        PLAIN_POST | CHUNKED,
        0,
    ),
    "expect": (
        post(b"Expect: 100-Continue", b"Content-Length: 1"),
        head_of(b"POST / HTTP/1.1", b"Expect: 100-Continue", b"Content-Length: 1"),
        b"a.test",
        b"/",
        PLAIN_POST | EXPECT,
        1,
    ),
    "connection-close": (
        get(b"Connection: Close", b"A: b"),
        head_of(b"GET / HTTP/1.1", b"A: b"),
        b"a.test",
        b"/",
        IDEMPOTENT | PLAIN_PATH,
        0,
    ),
    "connection-close-in-second-line": (
        get(b"Connection: keep-alive", b"connection: x , close"),
        head_of(b"GET / HTTP/1.1"),
        b"a.test",
        b"/",
        IDEMPOTENT | PLAIN_PATH,
        0,
    ),
    "connection-option-with-space-is-none": (
        get(b"Connection: close x"),
        head_of(b"GET / HTTP/1.1"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "hop-by-hop": (
        get(
            b"Connection: X-Foo, keep-alive",
            b"x-foo: bar",
            b"Keep-Alive: 5",
            b"Proxy-Connection: x",
            b"Proxy-Authenticate: x",
            b"Proxy-Authorization: x",
            b"Te: trailers, deflate",
            b"Trailer: X-T",
            b"Upgrade: x",
            b"A: b",
        ),
        head_of(b"GET / HTTP/1.1", b"A: b", b"Te: trailers"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "te-gzip": (
        get(b"Te: gzip"),
        head_of(b"GET / HTTP/1.1"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "te-trailers-in-second-line": (
        get(b"Te: gzip", b"TE:TRAILERS", b"Connection: te"),
        head_of(b"GET / HTTP/1.1", b"Te: trailers"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "nominated-before-and-behind": (
        get(b"A: 1", b"Connection: a,b", b"B: 2", b"AB: 3", b"a: 4"),
        head_of(b"GET / HTTP/1.1", b"AB: 3"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "nominated-framing-stays": (
        post(
            b"Connection: host, content-length, expect, date",
            b"Content-Length: 3",
            b"Expect: 100-continue",
            b"Date: x",
        ),
        head_of(b"POST / HTTP/1.1", b"Content-Length: 3", b"Expect: 100-continue", b"Date: x"),
        b"a.test",
        b"/",
        PLAIN_POST | EXPECT,
        3,
    ),
    "nominated-coding-stays": (
        post(b"Transfer-Encoding: chunked", b"Connection: Transfer-Encoding"),
        head_of(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked"),
        b"a.test",
        b"/",
        PLAIN_POST | CHUNKED,
        0,
    ),
    "64-connection-options": (
        get(b"Connection: " + b",, ,".join([b"a"] * 64), b"A: b"),
        head_of(b"GET / HTTP/1.1"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "forwarded-names": (
        get(b"X-Forwarded-For: 1", b"x-forwarded-Anything: 2", b"X-REAL-IP: 3", b"Forwarded: 4"),
        head_of(b"GET / HTTP/1.1", b"Forwarded: 4"),
        b"a.test",
        b"/",
        PLAIN_GET | FORWARDED,
        0,
    ),
    "forwarded-lookalikes-stay": (
        get(b"X-Forwarded: 1", b"X-Real-Ipx: 2", b"XX-Forwarded-For: 3"),
        head_of(b"GET / HTTP/1.1", b"X-Forwarded: 1", b"X-Real-Ipx: 2", b"XX-Forwarded-For: 3"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "underscored-names-cut": (
        get(
            b"X_Forwarded_For: 1",
            b"X-Forwarded_Proto: 2",
            b"X_Real_Ip: 3",
            b"Content_Length: 4",
            b"Transfer_Encoding: chunked",
            b"Keep_Alive: 5",
            b"Proxy_Authorization: 6",
            b"A_B: 7",
        ),
        head_of(b"GET / HTTP/1.1", b"A_B: 7"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "underscore-behind-forwarded-prefix": (
        get(b"X-Forwarded-Client_Cert: 1"),
        head_of(b"GET / HTTP/1.1"),
        b"a.test",
        b"/",
        PLAIN_GET | FORWARDED,
        0,
    ),
    "upgrade": (
        get(b"Connection: keep-alive, UPGRADE", b"Upgrade: h2c, WebSocket", b"A: b"),
        head_of(b"GET / HTTP/1.1", b"A: b", b"Connection: Upgrade", b"Upgrade: websocket"),
        b"a.test",
        b"/",
        PLAIN_GET | UPGRADE,
        0,
    ),
    "upgrade-h2c": (
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x"),
        head_of(b"GET / HTTP/1.1"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "upgrade-without-connection": (
        get(b"Upgrade: websocket"),
        head_of(b"GET / HTTP/1.1"),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "upgrade-of-POST": (
        post(b"Connection: upgrade", b"Upgrade: websocket"),
        head_of(b"POST / HTTP/1.1"),
        b"a.test",
        b"/",
        PLAIN_POST,
        0,
    ),
    "upgrade-with-body": (
        get(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 5"),
        head_of(b"GET / HTTP/1.1", b"Content-Length: 5"),
        b"a.test",
        b"/",
        PLAIN_GET,
        5,
    ),
    "upgrade-with-close": (
        get(b"Connection: upgrade, close", b"Upgrade: websocket"),
        head_of(b"GET / HTTP/1.1", b"Connection: Upgrade", b"Upgrade: websocket"),
        b"a.test",
        b"/",
        IDEMPOTENT | PLAIN_PATH | UPGRADE,
        0,
    ),
    "idempotency-key": (
        post(b"Idempotency-Key: k"),
        head_of(b"POST / HTTP/1.1", b"Idempotency-Key: k"),
        b"a.test",
        b"/",
        PLAIN_POST | IDEMPOTENT,
        0,
    ),
    "x-idempotency-key": (
        post(b"x-idempotency-KEY: k"),
        head_of(b"POST / HTTP/1.1", b"x-idempotency-KEY: k"),
        b"a.test",
        b"/",
        PLAIN_POST | IDEMPOTENT,
        0,
    ),
    "idempotency-underscore": (
        post(b"Idempotency_Key: k"),
        head_of(b"POST / HTTP/1.1", b"Idempotency_Key: k"),
        b"a.test",
        b"/",
        PLAIN_POST,
        0,
    ),
    "head-exactly-large-enough": (
        get(b"A: " + b"b" * (MAX_BYTES - 37)),
        head_of(b"GET / HTTP/1.1", b"A: " + b"b" * (MAX_BYTES - 37)),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
    "exactly-so-many-headers": (
        get(*[b"A: b"] * (MAX_HEADERS - 1)),
        head_of(b"GET / HTTP/1.1", *[b"A: b"] * (MAX_HEADERS - 1)),
        b"a.test",
        b"/",
        PLAIN_GET,
        0,
    ),
}

# id: (method, flags)
METHODS = {
    "GET": IDEMPOTENT,
    "HEAD": IDEMPOTENT | HEAD,
    "OPTIONS": IDEMPOTENT,
    "TRACE": IDEMPOTENT,
    "PUT": 0,
    "DELETE": 0,
    "get": 0,
    "HEADS": 0,
    "M-SEARCH": 0,
    "!#$%&'*+-.^_`|~": 0,
}

HOSTS = [
    b"",
    b"a",
    b"A.Test.",
    b"a.test:80",
    b"a.test:",
    b"127.0.0.1:8080",
    b"[::1]",
    b"[2001:DB8::1]:443",
    b"[fe80::1%25eth0]",
    b"xn--bcher-kva.test",
    b"a_b.test",
    b"%61.test",
    b"a,b;c=d(e)!$&'*+~",
]

PLAIN_TARGETS = [
    b"/",
    b"//a",
    b"/a/b.c/~d/_e-f",
    b"/a;b=c@d:e,f!$&'()*+",
    b"/.a/..b/c./d../...",
    b"/a?b=c",
    b'/a?b=%zz&c=../..;d|e"<>',
    b"/a??",
]

OTHER_TARGETS = [
    b"/a?",
    b"/?",
    b"/a#b",
    b"/a?b#c",
    b"/%41",
    b"/.",
    b"/..",
    b"/a/./b",
    b"/a/../b",
    b"/a/..?b",
    b"/a/..;b/c",
    b"/a/.;b",
    b"/a|b",
    b"/a\\b",
    b"/a[b]",
    b"/\xc3\xa9",
    b"/a?\xc3\xa9",
]


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(scanner: Scanner, data: bytes, status: int) -> None:
    assert scanner.scan_request(data, MAX_BYTES, MAX_HEADERS) == status


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_once_is_refused_with_more_bytes(
    scanner: Scanner, data: bytes, status: int
) -> None:
    for end in range(len(data)):
        assert scanner.scan_request(data[:end], MAX_BYTES, MAX_HEADERS) in (None, status)


@pytest.mark.parametrize(
    ("data", "head", "host", "target", "flags", "length"), ACCEPTED.values(), ids=ACCEPTED.keys()
)
def test_accepted(
    scanner: Scanner,
    data: bytes,
    head: bytes,
    host: bytes,
    target: bytes,
    flags: int,
    length: int,
) -> None:
    expected = (head, host, target, flags, length, len(data))
    assert scanner.scan_request(data, MAX_BYTES, MAX_HEADERS) == expected
    behind = data + b"GET / HTTP/1.1\r\n\r\n" + b"x" * MAX_BYTES
    assert scanner.scan_request(behind, MAX_BYTES, MAX_HEADERS) == expected


@pytest.mark.parametrize("data", [row[0] for row in ACCEPTED.values()], ids=ACCEPTED.keys())
def test_every_proper_prefix_is_incomplete(scanner: Scanner, data: bytes) -> None:
    for end in range(len(data)):
        assert scanner.scan_request(data[:end], MAX_BYTES, MAX_HEADERS) is None


@pytest.mark.parametrize(("method", "flags"), METHODS.items(), ids=METHODS.keys())
def test_method(scanner: Scanner, method: str, flags: int) -> None:
    data = target(b"/", method.encode())
    head = b"%b / HTTP/1.1\r\n" % method.encode()
    expected = (head, b"a.test", b"/", flags | PLAIN_POST, 0, len(data))
    assert scanner.scan_request(data, MAX_BYTES, MAX_HEADERS) == expected


@pytest.mark.parametrize("value", HOSTS, ids=ascii)
def test_host(scanner: Scanner, value: bytes) -> None:
    answer = scanner.scan_request(host(value), MAX_BYTES, MAX_HEADERS)
    assert isinstance(answer, tuple)
    assert answer[1] == value


@pytest.mark.parametrize("spelled", PLAIN_TARGETS, ids=ascii)
def test_plain_target(scanner: Scanner, spelled: bytes) -> None:
    answer = scanner.scan_request(target(spelled), MAX_BYTES, MAX_HEADERS)
    assert isinstance(answer, tuple)
    assert answer[2] == spelled
    assert answer[3] == PLAIN_GET


@pytest.mark.parametrize("spelled", OTHER_TARGETS, ids=ascii)
def test_target_that_is_not_plain(scanner: Scanner, spelled: bytes) -> None:
    answer = scanner.scan_request(target(spelled), MAX_BYTES, MAX_HEADERS)
    assert isinstance(answer, tuple)
    assert answer[0] == b"GET %b HTTP/1.1\r\n" % spelled
    assert answer[2] == spelled
    assert answer[3] == PLAIN_GET & ~PLAIN_PATH


@pytest.mark.parametrize("byte", range(256), ids="{:02x}".format)
def test_each_byte_in_a_value(scanner: Scanner, byte: int) -> None:
    """Tab, visible ASCII, space and bytes above 0x7F are good at each place of a machine word."""
    good = byte == 9 or 32 <= byte < 127 or byte > 127
    for offset in range(9):
        data = get(b"A:" + b"x" * offset + bytes([byte]) + b"x" * 9)
        answer = scanner.scan_request(data, MAX_BYTES, MAX_HEADERS)
        assert isinstance(answer, tuple) if good else answer == 400


@pytest.mark.parametrize("byte", range(256), ids="{:02x}".format)
def test_each_byte_in_a_name(scanner: Scanner, byte: int) -> None:
    good = chr(byte) in "!#$%&'*+-.^_`|~" or (byte < 128 and chr(byte).isalnum())
    answer = scanner.scan_request(get(b"A" + bytes([byte]) + b"B: c"), MAX_BYTES, MAX_HEADERS)
    assert isinstance(answer, tuple) if good or byte == 0x3A else answer == 400


@pytest.mark.parametrize(
    ("max_bytes", "max_headers"), [(0, 1), (-1, 1), (1 << 25, 1), (1, 0), (1, 257)]
)
def test_limits_out_of_range(scanner: Scanner, max_bytes: int, max_headers: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        scanner.scan_request(get(), max_bytes, max_headers)
