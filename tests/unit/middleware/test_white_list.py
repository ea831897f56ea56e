"""White lists by address (specification section 9.2, cases L01 to L08, L15, L16)."""

from __future__ import annotations

import pytest

from kvproxy.http.answer import text_answer
from kvproxy.middleware.white_list import MAX_LISTED, REMEMBERED, IpWhiteList
from tests.unit.middleware.requests import Local, a_request, now

FORBIDDEN = text_answer(403)
FORWARDED = {
    "L03": ("30.30.30.30", "192.0.2.1", ("30.30.30.30", "40.40.40.40"), True),
    "L04-one-line": ("30.30.30.30", "192.0.2.1", ("30.30.30.30",), True),
    "L04-other": ("30.30.30.30", "192.0.2.1", ("30.30.30.31", "40.40.40.40"), False),
    "L05": ("1.2.3.4/24", "192.0.2.1", ("10.2.3.1, 1.2.3.1",), True),
    "L06": ("1.2.3.4/24", "1.2.3.9", ("10.2.3.1, 10.2.3.2",), True),
    "L07": ("1.2.3.4/24", "192.0.2.1", ("10.2.3.1, 10.2.3.2",), False),
    "absent": ("1.2.3.4/24", "1.2.3.9", (), True),
    "port": ("1.2.3.4/24", "192.0.2.1", ("1.2.3.7:8080",), True),
    "ipv6-port": ("2001:db8::/32", "192.0.2.1", ("[2001:db8::1]:443",), True),
    "ipv6-brackets": ("2001:db8::/32", "192.0.2.1", ("[2001:db8::1]",), True),
    "ipv6": ("2001:db8::/32", "192.0.2.1", (" 2001:db8::1 ",), True),
    "mapped": ("1.2.3.0/24", "192.0.2.1", ("::ffff:1.2.3.4",), True),
    "unreadable-before": ("1.2.3.4/24", "1.2.3.9", ("unknown, 1.2.3.1",), False),
    "unreadable-after": ("1.2.3.4/24", "192.0.2.1", ("1.2.3.1, unknown",), True),
    "empty": ("1.2.3.4/24", "1.2.3.9", ("",), False),
    "bytes": ("1.2.3.4/24", "1.2.3.9", ("\xe9",), False),
}


@pytest.mark.parametrize(("listed", "peer", "lines", "passes"), FORWARDED.values(), ids=FORWARDED)
def test_forwarded(listed: str, peer: str, lines: tuple[str, ...], passes: bool) -> None:
    white_list = IpWhiteList([listed], use_x_forwarded_for=True)
    headers = [("X-Forwarded-For", line) for line in lines]
    answer = now(white_list, a_request(client=Local(peer), headers=headers))
    assert answer == (None if passes else FORBIDDEN)


@pytest.mark.parametrize(
    ("peer", "forwarded", "passes"),
    [
        pytest.param("20.20.20.20", "", True, id="L01-in"),
        pytest.param("20.20.20.21", "", False, id="L01-out"),
        pytest.param("20.20.20.21", "20.20.20.20", False, id="L02"),
        pytest.param("20.20.20.20", "foo", True, id="L08"),
        pytest.param("foo", "", False, id="L16-text"),
        pytest.param("10.0.0.350", "", False, id="L16-number"),
        pytest.param("fe:::80", "", False, id="L16-colons"),
        pytest.param("", "", False, id="L16-empty"),
    ],
)
def test_the_peer(peer: str, forwarded: str, passes: bool) -> None:
    white_list = IpWhiteList(["20.20.20.20"], use_x_forwarded_for=False)
    headers = [("X-Forwarded-For", forwarded)] if forwarded else []
    for _ in range(2):
        answer = now(white_list, a_request(client=Local(peer), headers=headers))
        assert answer == (None if passes else FORBIDDEN)


@pytest.mark.parametrize(("place", "passes"), [(MAX_LISTED, True), (MAX_LISTED + 1, False)])
def test_a_list_of_addresses_without_end_is_refused(place: int, passes: bool) -> None:
    white_list = IpWhiteList(["1.2.3.4"], use_x_forwarded_for=True)
    listed = ", ".join(["9.9.9.9"] * (place - 1) + ["1.2.3.4"] + ["9.9.9.9"] * 9000)
    answer = now(white_list, a_request(headers=[("X-Forwarded-For", listed)]))
    assert answer == (None if passes else FORBIDDEN)


@pytest.mark.parametrize("source_range", [["foo"], [""], [], ["1.2.3.4", "1.2.3.4/99"]])
def test_l15_bad_lists(source_range: list[str]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        IpWhiteList(source_range, use_x_forwarded_for=False)


def test_many_clients_are_judged_with_bounded_memory() -> None:
    white_list = IpWhiteList(["10.0.0.0/9"], use_x_forwarded_for=False)
    for number in range(REMEMBERED + 10):
        inside = Local(f"10.0.{number >> 8}.{number & 255}")
        outside = Local(f"10.200.{number >> 8}.{number & 255}")
        assert now(white_list, a_request(client=inside)) is None
        assert now(white_list, a_request(client=outside)) == FORBIDDEN
    assert len(white_list._verdicts) <= REMEMBERED
