from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.model.durations import (
    NANOSECONDS,
    format_duration,
    format_nanoseconds,
    parse_duration,
)

GOOD = [
    ("0", 0.0),
    ("+0", 0.0),
    ("10s", 10.0),
    ("300ms", 0.3),
    ("1h15m30s", 4530.0),
    ("1.5h", 5400.0),
    (".5s", 0.5),
    ("1.s", 1.0),
    ("-2s", -2.0),
    ("+2s", 2.0),
    ("5us", 5e-06),
    ("5\u00b5s", 5e-06),
    ("5\u03bcs", 5e-06),
    ("7ns", 7e-09),
    ("1s1s", 2.0),
    ("0.0000000019s", 1e-09),
    ("2562047h", 2562047 * 3600.0),
]
BAD = ["", "s", ".s", "-", "+", "10", "1x", "1 s", "1s ", " 1s", "1e3s", "1_0s", "1S", "٣s", "--1s"]
TOO_LONG = ["2562048h", "9223372037s", "99999999999999999999s", "-9223372037s"]


@pytest.mark.parametrize(("text", "seconds"), GOOD, ids=[text for text, _ in GOOD])
def test_go_syntax(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", [*BAD, *TOO_LONG])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10.0), ("-5", -5.0), ("+5", 5.0), ("0", 0.0), ("10s", 10.0)]
)
def test_bare_digits_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text, bare_seconds=True) == seconds


@pytest.mark.parametrize("text", ["1.5", "9223372037", "1_0", ""])
def test_what_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text, bare_seconds=True)


@pytest.mark.parametrize(
    ("seconds", "text"), [(10.0, "10s"), (0.0, "0s"), (1.5, "1.5s"), (1e-09, "0.000000001s")]
)
def test_format(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_every_duration_survives_formatting(nanoseconds: int) -> None:
    seconds = nanoseconds / NANOSECONDS
    try:
        text = format_duration(seconds)
        assert parse_duration(text) == seconds
    except ValueError:
        assert abs(nanoseconds) > 2**63 - 1025  # rounds to a float beyond the longest duration


@given(st.text(alphabet="0123456789.hmsnuµ-+ ", max_size=12))
def test_any_text_is_a_number_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(parse_duration(text, bare_seconds=True), float)
    except ValueError as error:
        assert "duration" in str(error)


GO = {
    0: "0s",
    1: "1ns",
    1_100: "1.1\u00b5s",
    2_200_000: "2.2ms",
    333_333_333: "333.333333ms",
    1_000_000_000: "1s",
    3_300_000_000: "3.3s",
    60_000_000_000: "1m0s",
    90_500_000_000: "1m30.5s",
    3_600_000_000_000: "1h0m0s",
    363_661_001_000_000: "101h1m1.001s",
}


@pytest.mark.parametrize(("nanoseconds", "text"), GO.items(), ids=GO.values())
def test_nanoseconds_are_spelled_as_by_go(nanoseconds: int, text: str) -> None:
    assert format_nanoseconds(nanoseconds) == text


@given(st.integers(0, 2**63 - 1))
def test_spelled_nanoseconds_are_read_back(nanoseconds: int) -> None:
    assert parse_duration(format_nanoseconds(nanoseconds)) == nanoseconds / 1_000_000_000
