"""Digest authentication (specification section 9.4, cases A09 to A13)."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.middleware.digest_auth import MAX_NONCES, DigestAuth, read_parameters
from kvproxy.middleware.users import UsersError
from tests.unit.middleware.requests import a_request, header, now

if TYPE_CHECKING:
    from kvproxy.http.answer import Answer

USER = "test:traefik:a2688e031edb4be6a3797f3882655c05"


def md5(*parts: str) -> str:
    return hashlib.md5(":".join(parts).encode()).hexdigest()


def challenge(answer: Answer | None) -> dict[str, str]:
    assert answer is not None
    assert (answer.status, answer.body) == (401, b"401 Unauthorized\n")
    assert header(answer, "Content-Type") == "text/plain"
    text = header(answer, "Www-Authenticate")
    assert text is not None
    assert text.startswith("Digest ")
    return dict(re.findall(r'(\w+)="?([^",]*)"?', text.removeprefix("Digest ")))


def proof(
    given: dict[str, str],
    *,
    uri: str = "/",
    count: int = 1,
    password: str = "test",
    method: str = "GET",
    **changes: str,
) -> tuple[str, str]:
    """Return the header of a client that answers a challenge."""
    nonce, number = changes.get("nonce", given["nonce"]), f"{count:08x}"
    response = md5(
        md5("test", "traefik", password), nonce, number, "c0ffee", "auth", md5(method, uri)
    )
    parameters = {
        "username": "test",
        "realm": "traefik",
        "nonce": nonce,
        "uri": uri,
        "response": response,
        "opaque": given["opaque"],
        "cnonce": "c0ffee",
        **changes,
    }
    quoted = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
    return "Authorization", f"Digest {quoted}, qop=auth, nc={number}, algorithm=MD5"


def ask(
    middleware: DigestAuth, *headers: tuple[str, str], uri: str = "/", original_uri: str = ""
) -> Answer | None:
    return now(middleware, a_request(uri, headers=headers, original_uri=original_uri))


@pytest.mark.parametrize(
    "line",
    [
        *(
            "test",
            "test:traefik",
            "test:traefik:a:b",
            "test:other:a2688e031edb4be6a3797f3882655c05",
        ),
        *("test:traefik:nohash", "test:traefik:"),
    ],
)
def test_a09_lines_that_are_no_users(line: str) -> None:
    with pytest.raises(UsersError):
        DigestAuth([line])


def test_the_challenge() -> None:
    middleware = DigestAuth([USER])
    first, second = challenge(ask(middleware)), challenge(ask(middleware))
    assert first["realm"] == "traefik"
    assert (first["algorithm"], first["qop"]) == ("MD5", "auth")
    assert len(first["nonce"]) == len(first["opaque"]) == 16
    assert first["nonce"] != second["nonce"]
    assert first["opaque"] == second["opaque"]
    assert "stale" not in first


def test_a10_basic_credentials_do_not_pass() -> None:
    middleware = DigestAuth([USER])
    assert "nonce" in challenge(ask(middleware, ("Authorization", "Basic dGVzdDp0ZXN0")))


def test_a11_a13_the_right_answer_passes_with_growing_counts() -> None:
    middleware = DigestAuth([USER])
    given = challenge(ask(middleware))
    for count in (1, 2, 3, 17):
        assert ask(middleware, proof(given, count=count)) is None


def test_a12_replays_are_refused_without_being_called_stale() -> None:
    middleware = DigestAuth([USER])
    given = challenge(ask(middleware))
    assert ask(middleware, proof(given, count=2)) is None
    for count in (2, 1, 0):
        assert "stale" not in challenge(ask(middleware, proof(given, count=count)))


def test_a12_an_unknown_nonce_is_called_stale_when_the_user_is_right() -> None:
    middleware = DigestAuth([USER])
    given = challenge(ask(middleware))
    again = challenge(ask(middleware, proof(given, nonce="AAAAAAAAAAAAAAAA")))
    assert again["stale"] == "true"
    wrong = proof(given, nonce="AAAAAAAAAAAAAAAA", password="wrong")
    assert "stale" not in challenge(ask(middleware, wrong))
    other = proof({**given, "opaque": "other"})
    assert challenge(ask(middleware, other))["stale"] == "true"
    assert ask(middleware, proof(again)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"uri": "/other"},
        {"password": "wrong"},
        {"username": "nobody"},
        {"response": "0" * 32},
        {"response": ""},
        {"method": "POST"},
        {"uri": ""},
    ],
)
def test_a12_wrong_answers(changes: dict[str, str]) -> None:
    middleware = DigestAuth([USER])
    given = challenge(ask(middleware))
    assert "stale" not in challenge(ask(middleware, proof(given, **changes), uri="/abc"))  # type: ignore[arg-type]
    assert ask(middleware, proof(given, uri="/abc"), uri="/abc") is None


def test_the_path_may_be_a_prefix() -> None:
    middleware = DigestAuth([USER])
    given = challenge(ask(middleware))
    assert ask(middleware, proof(given, uri="/a"), uri="/abc?q=1") is None
    challenge(ask(middleware, proof(given, uri="/abcd", count=2), uri="/abc"))


def test_behind_modifiers_the_path_is_that_of_the_client() -> None:
    middleware = DigestAuth([USER])
    given = challenge(ask(middleware))
    answer = ask(middleware, proof(given, uri="/s/abc"), uri="/abc", original_uri="/s/abc")
    assert answer is None
    challenge(ask(middleware, proof(given, uri="/abc", count=2), uri="/abc", original_uri="/s/abc"))


@pytest.mark.parametrize("remove", [True, False])
def test_what_the_server_is_told(remove: bool) -> None:
    middleware = DigestAuth([USER], remove_header=remove, header_field="X-User")
    given = challenge(ask(middleware))
    request = a_request(headers=(proof(given), ("X_User", "eve")))
    assert now(middleware, request) is None
    assert (b"Authorization" in request.head) is not remove
    assert request.headers[b"x-user"] == [b"test"]


def test_the_number_of_nonces_is_bounded_and_the_oldest_go_first() -> None:
    middleware = DigestAuth([USER])
    oldest = challenge(ask(middleware))
    for _ in range(MAX_NONCES):
        newest = challenge(ask(middleware))
    assert len(middleware._nonces) <= MAX_NONCES
    assert ask(middleware, proof(newest)) is None
    assert challenge(ask(middleware, proof(oldest)))["stale"] == "true"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Digest",
        b"Digest ",
        b"digest username=a",
        b'Digest username="a',
        b'Digest username="a" nonce="b"',
        b"Digest =",
        b'Digest username="a", nonce="b", uri="/", response="c", nc=xyz, cnonce="d", qop=auth',
        b'Digest username="a", nonce="b", uri="/", response="c", nc=1, cnonce="d", qop=auth-int',
        b'Digest username="a", nonce="b", uri="/", response="c", nc=1, cnonce="d"',
        b'Digest username="a", nonce="b", uri="/", response="c", nc=1, cnonce="d", qop=auth, '
        b"algorithm=SHA-256",
    ],
)
def test_parameters_that_cannot_be_checked(value: bytes) -> None:
    assert read_parameters(value) is None


def test_quoted_pairs_are_read() -> None:
    value = (
        b'Digest USERNAME="a\\"b", nonce=n, uri="/", response="c", nc=0000000a, cnonce="d",qop=auth'
    )
    found = read_parameters(value)
    assert found is not None
    assert found[b"username"] == b'a"b'


@given(
    st.one_of(st.binary(max_size=200), st.from_regex(rb'(?:[a-z]+=("[^"]*"|[a-z0-9]*), ?){0,8}'))
)
def test_any_value_is_read_or_refused(value: bytes) -> None:
    found = read_parameters(b"Digest " + value)
    assert found is None or {b"username", b"nonce", b"uri", b"response"} <= found.keys()
    answer = ask(DigestAuth([USER]), ("Authorization", (b"Digest " + value).decode("latin-1")))
    assert answer is not None
    assert answer.status == 401
