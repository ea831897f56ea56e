"""Sections 7.1 and 7.2 and the rows of table 10.11 that need no later feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import (
    NOT_FOUND,
    Ask,
    Case,
    Forwarded,
    frontend,
    parameters,
    text_reply,
    waits_for,
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
    *waits_for("authentication", "B08"),
    *waits_for("stickiness", *(f"B{number}" for number in range(10, 18))),
    *waits_for("connection limit", "B18", "B19"),
    *waits_for("health checks", *(f"B{number}" for number in range(20, 30))),
    *waits_for("circuit breaker", "B30", "B31"),
    *waits_for("buffering", *(f"B{number}" for number in range(32, 39))),
    *waits_for("dynamic round robin", "7.3"),
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_balancing(case: Case, table: CaseTable) -> None:
    table.run(case)
