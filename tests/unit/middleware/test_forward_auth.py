"""Forward authentication (specification section 9.5, cases A15 to A24)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from kvproxy.http.answer import Answer
from kvproxy.http.head import fields
from kvproxy.middleware.fetching import Fetched, FetchError
from kvproxy.middleware.forward_auth import ForwardAuth, request_uri_of
from kvproxy.model.dynamic import ForwardAuth as Options
from tests.unit.middleware.requests import Local, a_request, outcome

if TYPE_CHECKING:
    from tests.unit.middleware.requests import Fields

OK = Fetched(200, (), b"")


class Asked:
    """An authentication server by what it was asked and what it says."""

    def __init__(self, answer: Fetched | None = OK) -> None:
        self.heads: list[bytes] = []
        self.answer = answer

    def __call__(self, address: str, tls: ssl.SSLContext | None) -> Asked.Fetch:
        return Asked.Fetch(self)

    class Fetch:
        def __init__(self, server: Asked) -> None:
            self.server = server

        async def __call__(self, head: bytes) -> Fetched:
            self.server.heads.append(head)
            if self.server.answer is None:
                raise FetchError("gone")
            return self.server.answer

    @property
    def told(self) -> dict[str, list[str]]:
        """Headers of the last request, by name as sent."""
        found: dict[str, list[str]] = {}
        for name, value in fields(self.heads[-1]):
            found.setdefault(name.decode(), []).append(value.decode())
        return found


def middleware(server: Asked, **options: object) -> ForwardAuth:
    return ForwardAuth(Options(address="http://auth:4181/check?x=1", **options), server)  # type: ignore[arg-type]


async def told(
    *sent: tuple[str, str], trust: bool, host: str = "foo.bar", **asked: object
) -> dict[str, list[str]]:
    server = Asked()
    request = a_request("/path?q=1", host=host, headers=sent, **asked)  # type: ignore[arg-type]
    assert await outcome(middleware(server, trust_forward_header=trust), request) is None
    return server.told


async def test_the_request() -> None:
    server = Asked()
    sent: Fields = (
        *(("Cookie", "a=b"), ("Content-Length", "3"), ("Expect", "100-continue")),
        *(("TE", "trailers"), ("Connection", "Upgrade"), ("Upgrade", "websocket")),
    )
    request = a_request("/x", method="POST", headers=sent)
    assert await outcome(middleware(server), request) is None
    assert server.heads[0].startswith(b"GET /check?x=1 HTTP/1.1\r\nCookie: a=b\r\nX-Forwarded-")
    assert set(server.told) == {
        *("Cookie", "X-Forwarded-Method", "X-Forwarded-Proto", "X-Forwarded-Host"),
        *("X-Forwarded-Uri", "X-Forwarded-For", "X-Forwarded-Port"),
    }
    assert b"Content-Length: 3\r\n" in request.head


async def test_what_is_told_of_the_client_itself() -> None:
    found = await told(trust=False, client=Local("192.0.2.7", secure=True))
    assert found == {
        "X-Forwarded-Method": ["GET"],
        "X-Forwarded-Proto": ["https"],
        "X-Forwarded-Host": ["foo.bar"],
        "X-Forwarded-Uri": ["/path?q=1"],
        "X-Forwarded-For": ["192.0.2.7"],
        "X-Forwarded-Port": ["443"],
    }


ROWS = {
    "A20": ("X-Forwarded-Host", "fii.bir", "foo.bar", "foo.bar"),
    "A21": ("X-Forwarded-Host", "fii.bir", "", None),
    "A22": ("X-Forwarded-Uri", "/forward?q=1", "foo.bar", "/path?q=1"),
    "A23": ("X-Forwarded-Method", "OPTIONS", "foo.bar", "GET"),
    "proto": ("X-Forwarded-Proto", "https", "foo.bar", "http"),
    "port": ("X-Forwarded-Port", "9999", "foo.bar:81", "81"),
    "prefix": ("X-Forwarded-Prefix", "/admin", "foo.bar", None),
    "certificate": ("X-Forwarded-Tls-Client-Cert", "MII", "foo.bar", None),
    "real-ip": ("X-Real-Ip", "10.0.0.1", "foo.bar", None),
}


@pytest.mark.parametrize(("name", "sent", "host", "otherwise"), ROWS.values(), ids=ROWS)
async def test_trust(name: str, sent: str, host: str, otherwise: str | None) -> None:
    assert (await told((name, sent), trust=True, host=host))[name] == [sent]
    found = await told((name, sent), trust=False, host=host)
    assert found.get(name) == (None if otherwise is None else [otherwise])


async def test_trusted_addresses_are_told_on() -> None:
    sent = (("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "2.2.2.2"))
    found = await told(*sent, trust=True)
    assert found["X-Forwarded-For"] == ["1.1.1.1, 2.2.2.2, 192.0.2.1"]
    assert (await told(*sent, trust=False))["X-Forwarded-For"] == ["192.0.2.1"]


async def test_what_a_middleware_has_set_is_told() -> None:
    server = Asked()
    request = a_request(headers=(("X-Forwarded-Tls-Client-Cert", "evil"),))
    request.set(b"x-forwarded-tls-client-cert", b"MII")
    assert await outcome(middleware(server), request) is None
    assert server.told["X-Forwarded-Tls-Client-Cert"] == ["MII"]


async def test_a16_headers_of_the_answer() -> None:
    answer = Fetched(
        204,
        (
            (b"X-Auth-User", b"ann"),
            (b"x-auth-group", b"g1"),
            (b"X-Auth-Group", b"g2"),
            (b"X-Auth-Secret", b"s"),
        ),
        b"",
    )
    auth = middleware(Asked(answer), auth_response_headers=("x-auth-user", "X-Auth-Group"))
    sent = (("X-Auth-Group", "admin"), ("X_Auth_Group", "admin"), ("X-Auth_User", "root"))
    request = a_request(headers=sent)
    assert await outcome(auth, request) is None
    assert request.head == (
        b"GET / HTTP/1.1\r\nX-Auth-User: ann\r\nX-Auth-Group: g1\r\nX-Auth-Group: g2\r\n"
    )


async def test_headers_that_the_answer_does_not_have_are_removed_all_the_same() -> None:
    auth = middleware(Asked(), auth_response_headers=("X-Auth-User", "Content-Length", "Host"))
    request = a_request(headers=(("X-Auth-User", "root"), ("Content-Length", "0")))
    assert await outcome(auth, request) is None
    assert request.head == b"GET / HTTP/1.1\r\nContent-Length: 0\r\n"


REFUSALS = {
    "A15": (Fetched(403, (), b"Forbidden\n"), Answer(403, b"Forbidden\n")),
    "A17": (
        Fetched(302, ((b"Location", b"http://example.com/redirect-test"),), b"moved"),
        Answer(302, b"moved", ((b"Location", b"http://example.com/redirect-test"),)),
    ),
    "A19": (
        Fetched(403, ((b"Set-Cookie", b"a=b"), (b"X-Foo", b"bar")), b"no"),
        Answer(403, b"no", ((b"Set-Cookie", b"a=b"), (b"X-Foo", b"bar"))),
    ),
    "relative": (
        Fetched(303, ((b"location", b"../login"),), b""),
        Answer(303, b"", ((b"location", b"http://auth:4181/login"),)),
    ),
    "unusual-status": (Fetched(599, (), b""), Answer(599)),
    "A24": (None, Answer(500)),
}


@pytest.mark.parametrize(("fetched", "answer"), REFUSALS.values(), ids=REFUSALS)
async def test_refusals(fetched: Fetched | None, answer: Answer) -> None:
    request = a_request()
    before = request.head
    assert await outcome(middleware(Asked(fetched)), request) == answer
    assert request.head == before


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("http://auth", b"/"),
        ("https://auth:1/a%2Fb?c=%20", b"/a%2Fb?c=%20"),
        ("http://[::1]:1/a?b#c", b"/a?b"),
        ("http://auth?x=1", b"/?x=1"),
    ],
)
def test_what_is_asked(address: str, uri: bytes) -> None:
    assert request_uri_of(address) == uri


@pytest.mark.parametrize(
    "address",
    ["", "auth", "auth:80", "//auth", "ftp://auth", "http://", "http://a\r\nb", "http://ä/"],
)
def test_addresses_that_cannot_be_asked(address: str) -> None:
    with pytest.raises(ValueError, match="the address"):
        request_uri_of(address)
