from __future__ import annotations

import pytest
from hypothesis import event, given, settings

from kvproxy.rules.errors import RuleError
from kvproxy.rules.lexer import elements
from kvproxy.rules.parser import parse_rules
from kvproxy.rules.printer import print_rule
from tests.unit.routing.strategies import rules
from tests.unit.rules.test_parser import rule_texts


def content(rule: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(element.name, element.values) for element in elements(rule)]


@settings(max_examples=500)
@given(rule_texts | rules)
def test_a_printed_rule_reads_to_the_same(text: str) -> None:
    try:
        parsed = parse_rules({"r": text})
    except RuleError:
        return
    event("valid")
    printed = print_rule(parsed.elements)
    assert content(printed) == content(text)
    again = parse_rules({"r": printed})
    assert print_rule(again.elements) == printed
    assert again.warnings == parsed.warnings


@pytest.mark.parametrize(
    ("rule", "printed"),
    [
        (" Host : a , b ;; Path::/x ", "Host:a,b;Path:/x"),
        ("Host: ", "Host: "),
        ("Headers:X-A, ", "Headers:X-A, "),
        ("Host: :a: ,:b", "Host: :a: , :b"),
        ("ReplacePathRegex: ^/a(.*) /b$1", "ReplacePathRegex:^/a(.*) /b$1"),
    ],
)
def test_prints_without_needless_space(rule: str, printed: str) -> None:
    assert print_rule(parse_rules({"r": rule}).elements) == printed


def test_routes_become_one_rule() -> None:
    rule = parse_rules({"a": "Host:a.test", "b": "Path:/x"})
    assert print_rule(rule.elements) == "Host:a.test;Path:/x"
