"""Basic authentication (specification section 9.3, cases A01 to A08, A14)."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.middleware import basic_auth as module
from kvproxy.middleware.basic_auth import REMEMBERED, UNAUTHORISED, BasicAuth, read_credentials
from kvproxy.middleware.header_values import HeaderError
from kvproxy.middleware.users import UsersError
from tests.unit.middleware.requests import a_request, outcome

APR1 = "test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"
SHA = "user:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="


def basic(name: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + b64encode(f"{name}:{password}".encode()).decode()


async def passes(middleware: BasicAuth, *headers: tuple[str, str]) -> bool:
    answer = await outcome(middleware, a_request(headers=headers))
    assert answer in (None, UNAUTHORISED)
    return answer is None


@pytest.mark.parametrize("line", ["test", "test:a:b", "", "a\n:x"])
def test_a01_lines_that_are_no_users(line: str) -> None:
    with pytest.raises(UsersError):
        BasicAuth([line])


ROWS = {
    "A02": ("test:test", basic("test", "test"), False),
    "A03": (APR1, basic("test", "test"), True),
    "A06": (SHA, basic("user", "test"), True),
    "A08-scheme": (SHA, ("Authorization", basic("user", "test")[1].replace("B", "b", 1)), False),
    "A08-base64": (SHA, ("Authorization", "Basic !!!!"), False),
    "A08-no-padding": (SHA, ("Authorization", "Basic dXNlcjp0ZXN0MQ"), False),
    "A08-unknown": (SHA, basic("other", "test"), False),
    "A08-wrong": (SHA, basic("user", "Test"), False),
    "nothing-sent": (SHA, ("Accept", "*/*"), False),
    "no-colon": (SHA, ("Authorization", "Basic dXNlcg=="), False),
    "empty-name": (SHA, basic("", "test"), False),
    "empty-user-and-password": (SHA, basic("", ""), False),
    "password-with-colon": ("u:{SHA}3OptnM09ILoVSfbZtd3mB0IViII=", basic("u", "a:b"), True),
    "name-of-other-letters": (
        "jürg:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=",
        basic("jürg", "test"),
        True,
    ),
    "too-long": (APR1, basic("test", "t" * 1025), False),
}


@pytest.mark.parametrize(("user", "sent", "right"), ROWS.values(), ids=ROWS)
async def test_rows(user: str, sent: tuple[str, str], right: bool) -> None:
    middleware = BasicAuth([user])
    for _ in range(2):
        assert await passes(middleware, sent) is right


def test_the_refusal() -> None:
    assert UNAUTHORISED.status == 401
    assert UNAUTHORISED.body == b"401 Unauthorized\n"
    assert dict(UNAUTHORISED.headers) == {
        b"Www-Authenticate": b'Basic realm="traefik"',
        b"Content-Type": b"text/plain",
    }


async def test_without_users_nobody_passes() -> None:
    assert not await passes(BasicAuth([]), basic("a", "b"))
    assert not await passes(BasicAuth([]), basic("", ""))


@pytest.mark.parametrize("remove", [True, False])
async def test_a04_a05_what_the_server_is_told(remove: bool) -> None:
    middleware = BasicAuth([APR1], remove_header=remove, header_field="X-Webauth-User")
    sent = (basic("test", "test"), ("x-webauth-user", "eve"), ("X_Webauth_User", "eve"))
    request = a_request(headers=sent)
    assert await outcome(middleware, request) is None
    assert (b"Authorization" in request.head) is not remove
    assert request.headers[b"x-webauth-user"] == [b"test"]
    assert request.head.lower().count(b"webauth") == 1
    assert request.head.endswith(b"X-Webauth-User: test\r\n")


def test_a_field_that_is_no_header_is_refused() -> None:
    with pytest.raises(HeaderError):
        BasicAuth([SHA], header_field="X User")


async def test_a_right_password_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []

    def verify(password: bytes, hashed: str) -> bool:
        verified.append(password)
        return real(password, hashed)

    real = module.verify
    monkeypatch.setattr(module, "verify", verify)
    hashed = bcrypt.hashpw(b"test", bcrypt.gensalt(4)).decode()
    middleware = BasicAuth([f"ann:{hashed}"])
    for _ in range(5):
        assert await passes(middleware, basic("ann", "test"))
    assert len(verified) == 1
    for _ in range(3):
        assert not await passes(middleware, basic("ann", "wrong"))
    assert len(verified) == 4


async def test_what_is_remembered_belongs_to_one_user() -> None:
    """No name and password that are joined alike are taken for each other (CVE-2026-71326)."""
    middleware = BasicAuth([f"ann:{APR1.partition(':')[2]}", "annt:$1$abcdefgh$x"])
    assert await passes(middleware, basic("ann", "test"))
    assert not await passes(middleware, basic("annt", "est"))
    assert not await passes(middleware, basic("an", "ntest"))
    assert len(middleware._mark("ann", b"test")) == 32
    assert middleware._mark("ann", b"test") != BasicAuth([])._mark("ann", b"test")
    assert middleware._mark("a", b"1:b") != middleware._mark("a1:", b"b")


async def test_memory_is_bounded() -> None:
    lines = [f"u{number}:{APR1.partition(':')[2]}" for number in range(3)]
    middleware = BasicAuth(lines)
    middleware._remembered = {
        bytes([number >> 8, number & 255]): "" for number in range(REMEMBERED)
    }
    for number in range(3):
        assert await passes(middleware, basic(f"u{number}", "test"))
    assert len(middleware._remembered) == REMEMBERED


async def test_a_changed_hash_is_not_remembered() -> None:
    middleware = BasicAuth([APR1])
    assert await passes(middleware, basic("test", "test"))
    middleware._users.present = {"test": "$apr1$H6uskkkW$other"}
    assert not await passes(middleware, basic("test", "test"))


async def test_time_does_not_tell_users() -> None:
    """Unknown users, cheap hashes and dear ones take the same time (CVE-2026-32595, -41263)."""
    dear = bcrypt.hashpw(b"right", bcrypt.gensalt(8)).decode()
    middleware = BasicAuth([f"dear:{dear}", f"cheap:{APR1.partition(':')[2]}", SHA])

    async def shortest(name: str) -> float:
        times = []
        for number in range(7):
            start = time.process_time()
            assert not await passes(middleware, basic(name, f"wrong{number}"))
            times.append(time.process_time() - start)
        return min(times)

    measured = [await shortest(name) for name in ("dear", "cheap", "user", "nobody")]
    assert max(measured) < 1.6 * min(measured), measured


async def test_the_loop_goes_on_while_passwords_are_verified() -> None:
    hashed = bcrypt.hashpw(b"test", bcrypt.gensalt(9)).decode()
    middleware = BasicAuth([f"ann:{hashed}"])
    waiting = asyncio.ensure_future(passes(middleware, basic("ann", "test")))
    turns = 0
    while not waiting.done():
        await asyncio.sleep(0)
        turns += 1
    assert waiting.result()
    assert turns > 3


async def test_too_many_that_wait_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    middleware = BasicAuth([APR1])
    asked = [a_request(headers=[basic("test", f"wrong{number}")]) for number in range(8)]
    tasks = [asyncio.ensure_future(outcome(middleware, each)) for each in asked]
    answers = [await task for task in tasks]
    statuses = [answer.status for answer in answers if answer is not None]
    assert sorted(set(statuses)) == [401, 503]
    assert await passes(middleware, basic("test", "test"))


def test_credentials_are_split_at_the_first_colon() -> None:
    encoded = b"Basic " + b64encode(b"name:pass:word")
    assert read_credentials(encoded) == ("name", b"pass:word")
    assert read_credentials(b"Basic  " + b64encode(b"a:b")) is None
    assert read_credentials(b"") is None


@given(st.text(max_size=30).filter(lambda name: ":" not in name), st.binary(max_size=60))
def test_what_is_sent_is_what_is_read(name: str, password: bytes) -> None:
    sent = name.encode("utf-8", "surrogatepass")
    found = read_credentials(b"Basic " + b64encode(sent + b":" + password))
    assert found is not None
    assert (found[0].encode("utf-8", "surrogateescape"), found[1]) == (sent, password)


@given(st.binary(max_size=80))
def test_any_value_is_credentials_or_none(value: bytes) -> None:
    found = read_credentials(b"Basic " + value)
    assert found is None or b64encode(
        found[0].encode("utf-8", "surrogateescape") + b":" + found[1]
    ).rstrip(b"=") == value.rstrip(b"=")
