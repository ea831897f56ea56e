from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.rules.errors import RuleError
from kvproxy.rules.lexer import WHITE_SPACE, elements


def lexed(rule: str) -> list[tuple[str, tuple[str, ...], int]]:
    return [(element.name, element.values, element.position) for element in elements(rule)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param("Host:a", [("Host", ("a",), 0)], id="plain"),
        pytest.param(
            "Host:a;Path:/b", [("Host", ("a",), 0), ("Path", ("/b",), 7)], id="two-elements"
        ),
        pytest.param(
            " Host : a ; Path : /b ", [("Host", ("a",), 1), ("Path", ("/b",), 12)], id="white-space"
        ),
        pytest.param(";;Host:a;;", [("Host", ("a",), 2)], id="empty-pieces"),
        pytest.param("Host::a", [("Host", ("a",), 0)], id="double-colon"),
        pytest.param(":Host:a:", [("Host", ("a",), 1)], id="outer-colons"),
        pytest.param("Host:a::b", [("Host", ("a:b",), 0)], id="inner-double-colon"),
        pytest.param("Host:::1", [("Host", ("1",), 0)], id="no-ipv6"),
        pytest.param("Host:a,,b,", [("Host", ("a", "b"), 0)], id="empty-values"),
        pytest.param("Host:a, ,b", [("Host", ("a", "", "b"), 0)], id="blank-value-stays"),
        pytest.param("Host: ", [("Host", ("",), 0)], id="only-a-space"),
        pytest.param("Host", [("Host", (), 0)], id="no-values"),
        pytest.param("Host:,", [("Host", (), 0)], id="only-a-comma"),
        pytest.param("Path:/{x:[0-9]+}", [("Path", ("/{x:[0-9]+}",), 0)], id="template"),
        pytest.param(
            "Path:/{x:a{1,2}}", [("Path", ("/{x:a{1", "2}}"), 0)], id="comma-cuts-everywhere"
        ),
        pytest.param("a ", [("a", (), 0)], id="name-only"),
        pytest.param("\u3000Host:\xa0a\x85", [("Host", ("a",), 1)], id="unicode-white-space"),
        pytest.param("Host:\x1ca", [("Host", ("\x1ca",), 0)], id="python-only-white-space-stays"),
    ],
)
def test_lexes(rule: str, expected: list[tuple[str, tuple[str, ...], int]]) -> None:
    assert lexed(rule) == expected


@pytest.mark.parametrize(
    ("rule", "position"), [("", 0), (";", 0), (";;;", 0), (":", 0), ("Host:a;:;", 7)]
)
def test_refuses(rule: str, position: int) -> None:
    with pytest.raises(RuleError) as caught:
        lexed(rule)
    assert caught.value.position == position
    assert caught.value.rule == rule
    assert caught.value.expected


@given(st.text(alphabet="Hostab:;, {}/\u3000\u00e4"))
def test_values_never_hold_separators(rule: str) -> None:
    try:
        found = lexed(rule)
    except RuleError:
        return
    for name, values, position in found:
        assert rule.startswith(name, position)
        assert not set(name) & {";", ":"}
        for value in values:
            assert not set(value) & {";", ","}
            assert "::" not in value
            assert value == value.strip(WHITE_SPACE)
