"""Middlewares are made in the order of the specification (sections 5.1, 5.2) and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from kvproxy.middleware.build import Builder, OptionError, no_fetches
from kvproxy.model.dynamic import (
    Auth,
    BasicAuth,
    DigestAuth,
    ForwardAuth,
    Frontend,
    Headers,
    PassTLSClientCert,
    Redirect,
    WhiteList,
)
from kvproxy.model.static import EntryPoint, EntryPointTLS

USER = "test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"
HEADERS = Headers(
    custom_request_headers={"X-A": "a"},
    custom_response_headers={"X-B": "b"},
    ssl_redirect=True,
    frame_deny=True,
)
EVERYTHING: dict[str, Any] = {
    "white_list": WhiteList(source_range=("10.0.0.0/8",)),
    "redirect": Redirect(entry_point="https"),
    "headers": HEADERS,
    "basic_auth": (USER,),
    "pass_tls_client_cert": PassTLSClientCert(pem=True),
    "auth": Auth(basic=BasicAuth(users=(USER,))),
}


def builder(name: str = "http", **options: Any) -> Builder:
    points = {
        "http": EntryPoint(address=":80", **options),
        "https": EntryPoint(address=":443", tls=EntryPointTLS()),
    }
    return Builder(name, points, no_fetches)


def names(middlewares: tuple[object, ...]) -> list[str]:
    return [type(each).__name__ for each in middlewares]


def frontend(**options: Any) -> Frontend:
    return Frontend(backend="b", **options)


def test_the_order_in_a_frontend() -> None:
    assert names(builder().frontend(frontend(**EVERYTHING))) == [
        *("IpWhiteList", "RedirectToEntryPoint", "CustomRequestHeaders", "SecurityChecks"),
        *("CustomResponseHeaders", "SecurityResponseHeaders", "BasicAuth"),
        *("PassClientCertificate", "BasicAuth"),
    ]


def test_the_order_on_an_entry_point() -> None:
    made = builder(
        white_list=WhiteList(source_range=("10.0.0.0/8",)),
        auth=Auth(digest=DigestAuth()),
        redirect=Redirect(entry_point="https"),
    )
    assert names(made.entry_point()) == ["RedirectToEntryPoint", "DigestAuth", "IpWhiteList"]


def test_what_is_off_is_not_there() -> None:
    assert builder().entry_point() == ()
    assert builder().frontend(frontend()) == ()
    off = frontend(
        white_list=WhiteList(), redirect=Redirect(), headers=Headers(is_development=True)
    )
    assert builder().frontend(off) == ()


@dataclass(frozen=True)
class Choice:
    options: dict[str, Any]
    made: list[str]


CHOICES = {
    "basic-first": Choice(
        {"auth": Auth(basic=BasicAuth(), digest=DigestAuth(), forward=ForwardAuth(address="x"))},
        ["BasicAuth"],
    ),
    "digest-second": Choice(
        {"auth": Auth(digest=DigestAuth(), forward=ForwardAuth(address="x"))}, ["DigestAuth"]
    ),
    "forward-last": Choice(
        {"auth": Auth(forward=ForwardAuth(address="http://x"))}, ["ForwardAuth"]
    ),
    "R16": Choice(
        {"redirect": Redirect(entry_point="https", regex="(", replacement="x")},
        ["RedirectToEntryPoint"],
    ),
    "R23": Choice({"redirect": Redirect(entry_point="http")}, []),
    "white-list-wins": Choice(
        {
            "white_list": WhiteList(source_range=("10.0.0.1",)),
            "whitelist_source_range": ("nonsense",),
        },
        ["IpWhiteList"],
    ),
    "deprecated-when-empty": Choice(
        {"white_list": WhiteList(), "whitelist_source_range": ("10.0.0.1",)}, ["IpWhiteList"]
    ),
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_which_of_several_is_used(choice: Choice) -> None:
    assert names(builder().frontend(frontend(**choice.options))) == choice.made


def test_the_same_settings_give_the_same_objects() -> None:
    made = builder()
    first = made.frontend(frontend(**EVERYTHING))
    again = made.frontend(frontend(priority=9, **EVERYTHING))
    assert all(old is new for old, new in zip(first, again, strict=True))
    changed = {**EVERYTHING, "headers": Headers(frame_deny=True)}
    other = made.frontend(frontend(**changed))
    assert other[0] is first[0]
    assert other[-1] is first[-1]
    assert other[2] is not first[5]


def test_objects_that_nobody_uses_are_forgotten() -> None:
    made = builder()
    made.frontend(frontend(**EVERYTHING))
    assert not made._made


def test_errors_name_their_option() -> None:
    bad = frontend(white_list=WhiteList(source_range=("foo",)), redirect=Redirect(regex="("))
    errors = list(builder().frontend_errors(bad))
    assert [error.path for error in errors] == ["whiteList.sourceRange", "redirect.regex"]
    with pytest.raises(OptionError):
        builder().frontend(bad)
