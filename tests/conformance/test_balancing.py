"""Sections 7.1 and 7.2 and the rows of table 10.11 that need no later feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import (
    NOT_FOUND,
    Answered,
    Ask,
    Case,
    Forwarded,
    frontend,
    parameters,
    text_reply,
)

if TYPE_CHECKING:
    from tests.conformance.cases import CaseTable

ZERO_ALLOWED = {"allowMinWeightZero": True}
UNAVAILABLE = text_reply(503, "Service Unavailable")


def answers(sequence: str) -> tuple[tuple[Ask, Forwarded], ...]:
    """One request a letter, each answered by the server of that name."""
    return tuple((Ask(), Forwarded(server=name)) for name in sequence.split())


def servers(**weights: int) -> dict[str, Any]:
    """A backend whose servers, in order, are the scripted ones of that name with that weight.

    Servers stand in the order of their keys.
    """
    return {
        "servers": {
            f"{number}": {"url": f"{{{name}}}", "weight": weight}
            for number, (name, weight) in enumerate(weights.items())
        }
    }


def sequence_row(identity: str, backend: dict[str, Any], sequence: str, **options: Any) -> Case:
    return Case(
        identity,
        {"all": frontend("PathPrefix:/", backend="many")},
        answers(sequence),
        {"many": backend},
        **options,
    )


def sticky(options: dict[str, Any] | None = None, **weights: int) -> dict[str, Any]:
    """A backend with affinity by the cookie ``s``."""
    stickiness = {"cookieName": "s", **(options or {})}
    return {**servers(**weights), "loadBalancer": {"stickiness": stickiness}}


def cookie(value: str) -> tuple[tuple[str, str], ...]:
    return (("Cookie", f"s={value}"),)


def with_cookies(*values: str, server: str = "") -> Answered:
    """The answer of a server with exactly these cookies."""
    by = {"X-Server": (server,)} if server else {}
    return Answered(200, headers={"Set-Cookie": values, **by})


def bound(name: str) -> Answered:
    """The server of that name answers, and the client is tied to it from now on."""
    return with_cookies(f"s={{{name}}}; Path=/", server=name)


def kept(name: str) -> Answered:
    """The server of that name answers a client that is tied to it."""
    return with_cookies(server=name)


def rate_row(
    identity: str,
    rates: dict[str, Any],
    extractor: str,
    *exchanges: tuple[Ask, Answered | Forwarded],
) -> Case:
    limit = {"extractorFunc": extractor, "rateset": rates}
    return Case(
        identity,
        {"all": frontend("PathPrefix:/", backend="one", ratelimit=limit)},
        exchanges,
        {"one": servers(a=1)},
    )


BY_METHOD = {"wrr": {"method": "wrr"}, "unknown": {"method": "Invalid"}, "upper": {"method": "WRR"}}

CASES = [
    sequence_row("B04-a1-b1", servers(a=1, b=1), "a b a b"),
    sequence_row("B04-a3-b1", servers(a=3, b=1), "a a a b a a a b"),
    sequence_row("B04-b1-a3", servers(b=1, a=3), "a a b a a a b a"),
    sequence_row("B04-a1-b3", servers(a=1, b=3), "b b a b b b a b"),
    sequence_row(
        "B04-a3-b2-z0", servers(a=3, b=2, z=0), "a a b a b a a b a b", static=ZERO_ALLOWED
    ),
    sequence_row("B04-a10-b5", servers(a=10, b=5), "a a b a a b"),
    sequence_row("7.2-three-equal", servers(a=1, b=1, c=1), "a b c a b c"),
    sequence_row("7.2-weights-5-1-1", servers(a=5, b=1, c=1), "a a a a a b c a a a a a b c"),
    sequence_row("7.1-weight-zero-means-one", servers(a=0, b=1), "a b a b"),
    Case(
        "7.1-absent-weight-is-zero-when-zero-is-allowed",
        {"all": frontend("PathPrefix:/", backend="many")},
        ((Ask(), text_reply(500, "Internal Server Error")),) * 2,
        {"many": {"servers": {"0": {"url": "{a}"}}}},
        static=ZERO_ALLOWED,
    ),
    Case(
        "7.1-all-weights-zero",
        {"all": frontend("PathPrefix:/", backend="many")},
        ((Ask(), text_reply(500, "Internal Server Error")),) * 2,
        {"many": servers(a=0, b=0)},
        static=ZERO_ALLOWED,
    ),
    Case(
        "1.2-negative-weight-keeps-the-frontend-out",
        {
            "bad": frontend("PathPrefix:/bad", backend="negative"),
            "good": frontend("PathPrefix:/good"),
        },
        ((Ask("/bad"), NOT_FOUND), (Ask("/good"), Forwarded())),
        {"negative": servers(a=-1, b=1)},
    ),
    Case(
        "1.3-unknown-backend-keeps-the-frontend-out",
        {
            "bad": frontend("PathPrefix:/bad", backend="nowhere"),
            "good": frontend("PathPrefix:/good"),
        },
        ((Ask("/bad"), NOT_FOUND), (Ask("/good"), Forwarded())),
    ),
    sequence_row(
        "7.1-same-url-is-one-server",
        {
            "servers": {
                "0": {"url": "{a}", "weight": 1},
                "1": {"url": "{a}", "weight": 1},
                "2": {"url": "{b}", "weight": 1},
            }
        },
        "a b a b",
    ),
    sequence_row(
        "7.1-path-is-part-of-the-identity",
        {"servers": {"0": {"url": "{a}"}, "1": {"url": "{a}/x"}, "2": {"url": "{b}"}}},
        "a a b a a b",
    ),
    Case(
        "7.1-refusing-server-stays-in-rotation",
        {"all": frontend("PathPrefix:/", backend="many")},
        (
            (Ask(), Forwarded(server="a")),
            (Ask(), text_reply(502, "Bad Gateway")),
        )
        * 3,
        {"many": {"servers": {"0": {"url": "{a}"}, "1": {"url": "{dead}"}}}},
    ),
    Case(
        "B01-wrr",
        {"all": frontend("PathPrefix:/", backend="none")},
        ((Ask(), UNAVAILABLE),),
        {"none": {"servers": {}}},
    ),
    Case(
        "B01-drr",
        {"all": frontend("PathPrefix:/", backend="none")},
        ((Ask(), UNAVAILABLE),),
        {"none": {"servers": {}, "loadBalancer": {"method": "drr"}}},
    ),
    Case("B02", {}, ((Ask(), NOT_FOUND),)),
    sequence_row("B03", servers(a=1), "a a"),
    *(
        sequence_row(f"B05-{name}", {**servers(a=2, b=1), "loadBalancer": balancer}, "a a b a a b")
        for name, balancer in BY_METHOD.items()
    ),
    Case(
        "B06",
        {
            "one": frontend("PathPrefix:/one", backend="many"),
            "two": frontend("PathPrefix:/two", backend="many"),
        },
        tuple(
            (Ask(path), Forwarded(server=name))
            for path, name in (("/one", "a"), ("/two", "b"), ("/one", "a"), ("/one", "b"))
        ),
        {"many": servers(a=1, b=1)},
    ),
    Case(
        "B07-passHostHeader",
        {
            "one": frontend("PathPrefix:/one", backend="many"),
            "two": frontend("PathPrefix:/two", backend="many", passHostHeader=True),
        },
        tuple(
            (Ask(path), Forwarded(server=name))
            for path, name in (("/one", "a"), ("/two", "a"), ("/one", "b"), ("/two", "b"))
        ),
        {"many": servers(a=1, b=1)},
    ),
    Case(
        "B07-priority",
        {
            "one": frontend("PathPrefix:/one", backend="many"),
            "two": frontend("PathPrefix:/two", backend="many", priority=9),
        },
        tuple(
            (Ask(path), Forwarded(server=name))
            for path, name in (("/one", "a"), ("/two", "a"), ("/one", "b"), ("/two", "b"))
        ),
        {"many": servers(a=1, b=1)},
    ),
    Case(
        "B08",
        {
            "open": frontend("Host:open"),
            "closed": frontend(
                "Host:closed", basicAuth=["test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"]
            ),
        },
        ((Ask(host="open"), Forwarded()), (Ask(host="closed"), Answered(401))),
    ),
    Case(
        "B10",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        tuple((Ask(), bound(name)) for name in ("a", "b", "a")),
        {"sticky": sticky(a=1, b=1)},
    ),
    Case(
        "B11",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        ((Ask(headers=cookie("{b}")), kept("b")),) * 10 + ((Ask(), bound("a")),),
        {"sticky": sticky(a=3, b=1)},
    ),
    Case(
        "B11-quoted",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        ((Ask(headers=cookie('"{b}"')), kept("b")),),
        {"sticky": sticky(a=1, b=1)},
    ),
    Case(
        "B12",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        (
            (Ask(headers=cookie("http://10.9.9.9:80")), bound("a")),
            (Ask(headers=cookie("junk")), bound("b")),
            (Ask(headers=cookie("")), bound("a")),
            (Ask(headers=cookie("{b}/other-path")), bound("b")),
        ),
        {"sticky": sticky(a=1, b=1)},
    ),
    Case(
        "B15",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        (
            (
                Ask(),
                with_cookies("s={a}; Path=/; HttpOnly; Secure; SameSite=Lax"),
            ),
        ),
        {"sticky": sticky({"secure": True, "httpOnly": True, "sameSite": "lax"}, a=1)},
    ),
    Case(
        "B16",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        ((Ask(), with_cookies("my_cookie_1={a}; Path=/")),),
        {"sticky": sticky({"cookieName": "my cookie;1"}, a=1)},
    ),
    Case(
        "7.4-deprecated-spelling",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        ((Ask(), with_cookies("_TRAEFIK_BACKEND={a}; Path=/")),),
        {"sticky": {**servers(a=1), "loadBalancer": {"sticky": True}}},
    ),
    Case(
        "7.4-cookie-reaches-the-server",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        ((Ask(headers=cookie("x")), Forwarded(headers={"Cookie": ("s=x",)})),),
        {"sticky": sticky(a=1)},
    ),
    Case(
        "7.4-cookie-of-a-failed-attempt-is-dropped",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        ((Ask(), bound("a")),),
        {
            "sticky": {
                "servers": {"0": {"url": "{dead}"}, "1": {"url": "{a}"}},
                "loadBalancer": {"stickiness": {"cookieName": "s"}},
            }
        },
        static={"retry": {"attempts": 2}},
    ),
    Case(
        "7.4-retry-leaves-the-server-of-the-cookie",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        ((Ask(headers=cookie("{dead}")), bound("a")),) * 2,
        {
            "sticky": {
                "servers": {"0": {"url": "{dead}"}, "1": {"url": "{a}"}},
                "loadBalancer": {"stickiness": {"cookieName": "s"}},
            }
        },
        static={"retry": {"attempts": 2}},
        difference="the reference asks the server of the cookie in each attempt",
    ),
    Case(
        "7.4-server-that-fails-keeps-its-clients",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        ((Ask(headers=cookie("{dead}")), text_reply(502, "Bad Gateway")),) * 2,
        {
            "sticky": {
                "servers": {"0": {"url": "{dead}"}, "1": {"url": "{a}"}},
                "loadBalancer": {"stickiness": {"cookieName": "s"}},
            }
        },
    ),
    Case(
        "drain-takes-no-new-clients",
        {"all": frontend("PathPrefix:/", backend="sticky")},
        (
            *((Ask(), bound("b")),) * 3,
            (Ask(headers=cookie("{a}")), kept("a")),
        ),
        {
            "sticky": {
                "servers": {"0": {"url": "{a}", "drain": True}, "1": {"url": "{b}"}},
                "loadBalancer": {"stickiness": {"cookieName": "s"}},
            }
        },
    ),
    Case(
        "drain-of-all-servers",
        {"all": frontend("PathPrefix:/", backend="many")},
        ((Ask(), UNAVAILABLE),),
        {"many": {"servers": {"0": {"url": "{a}", "drain": True}}}},
    ),
    Case(
        "7.6-negative-amount",
        {"all": frontend("PathPrefix:/", backend="limited")},
        ((Ask(), text_reply(429, "max connections reached: -1")),),
        {"limited": {**servers(a=1), "maxConn": {"amount": -1, "extractorFunc": "client.ip"}}},
    ),
    *(
        Case(
            f"7.6-bad-extractor-{name}",
            {"all": frontend("PathPrefix:/", backend="limited")},
            ((Ask(), NOT_FOUND),),
            {"limited": {**servers(a=1), "maxConn": {"amount": 1, "extractorFunc": extractor}}},
        )
        for name, extractor in (("none", ""), ("header", "request.header."), ("text", "foo"))
    ),
    Case(
        "B30-trips",
        {"all": frontend("PathPrefix:/", backend="failing")},
        (
            (Ask(), text_reply(502, "Bad Gateway")),
            (Ask(), UNAVAILABLE),
            (Ask(), UNAVAILABLE),
        ),
        {
            "failing": {
                "servers": {"0": {"url": "{dead}"}},
                "circuitBreaker": {"expression": "NetworkErrorRatio() > 0.5"},
            }
        },
    ),
    Case(
        "B30-does-not-trip",
        {"all": frontend("PathPrefix:/", backend="failing")},
        ((Ask(), text_reply(502, "Bad Gateway")),) * 3,
        {
            "failing": {
                "servers": {"0": {"url": "{dead}"}},
                "circuitBreaker": {"expression": "LatencyAtQuantileMS(50.0) > 5000"},
            }
        },
    ),
    *(
        Case(
            f"7.5-bad-expression-{name}",
            {"all": frontend("PathPrefix:/", backend="guarded")},
            ((Ask(), NOT_FOUND),),
            {"guarded": {**servers(a=1), "circuitBreaker": {"expression": expression}}},
        )
        for name, expression in (
            ("empty", ""),
            ("whole-number", "NetworkErrorRatio() > 1"),
            ("word", "NetworkErrorRatio() > 0.5 AND NetworkErrorRatio() > 0.5"),
        )
    ),
    *(
        sequence_row(f"7.3-{name}", {**servers(a=2, b=1), "loadBalancer": balancer}, "a a b a a b")
        for name, balancer in (
            ("begins-as-wrr", {"method": "drr"}),
            ("any-case", {"method": "Drr"}),
        )
    ),
    rate_row(
        "9.1-burst",
        {"r": {"period": "60s", "average": 1, "burst": 3}},
        "client.ip",
        *((Ask(), Forwarded()),) * 3,
        (
            Ask(),
            Answered(
                429,
                b"max rate reached: retry-in 1m0s",
                {
                    "Retry-After": ("60",),
                    "X-Retry-In": ("1m0s",),
                    "Content-Type": ("text/plain; charset=utf-8",),
                },
            ),
        ),
    ),
    rate_row(
        "9.1-keys",
        {"r": {"period": "10s", "average": 1, "burst": 1}},
        "request.header.X-K",
        (Ask(headers=(("X-K", "a"),)), Forwarded()),
        (
            Ask(headers=(("X-K", "a"),)),
            Answered(429, b"max rate reached: retry-in 10s", {"Retry-After": ("10",)}),
        ),
        (Ask(headers=(("X-K", "b"),)), Forwarded()),
        (Ask(), Forwarded()),
        (Ask(), Answered(429)),
    ),
    rate_row(
        "9.1-two-rates",
        {
            "long": {"period": "60s", "average": 4, "burst": 5},
            "short": {"period": "60s", "average": 1, "burst": 2},
        },
        "client.ip",
        *((Ask(), Forwarded()),) * 2,
        (Ask(), Answered(429, b"max rate reached: retry-in 1m0s")),
    ),
    *(
        rate_row(
            f"9.1-bad-{name}",
            {"r": {"period": "1s", "average": 1, "burst": 1, **rate}},
            extractor,
            (Ask(), NOT_FOUND),
        )
        for name, rate, extractor in (
            ("period", {"period": "0s"}, "client.ip"),
            ("average", {"average": -1}, "client.ip"),
            ("burst", {"burst": 0}, "client.ip"),
            ("extractor", {}, "foo"),
        )
    ),
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_balancing(case: Case, table: CaseTable) -> None:
    table.run(case)
