from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.rules.context import MAX_INSTRUCTIONS
from kvproxy.rules.errors import RuleError
from kvproxy.rules.lexer import MAX_RULE_BYTES
from kvproxy.rules.matchers import HostMatcher, PathMatcher
from kvproxy.rules.modifiers import NO_MODIFIERS
from kvproxy.rules.parser import NAMES, FrontendRule, parse_rules


def parse(*rules: str) -> FrontendRule:
    return parse_rules({f"route{number}": rule for number, rule in enumerate(rules)})


@pytest.mark.parametrize(
    ("rule", "position", "message", "expected", "nearest"),
    [
        ("", 0, "empty", "Host:example.com", ""),
        (";", 0, "nothing but `;`", "Host:example.com", ""),
        ("Hosts:a", 0, "unknown matcher 'Hosts'", "one of Host, HostRegexp", "Host"),
        ("host:a", 0, "unknown matcher 'host'", "one of", "Host"),
        ("Host:a;pathprefixstrip:/x", 7, "unknown matcher", "one of", "PathPrefixStrip"),
        ("Host:a; Pth:/x", 8, "unknown matcher 'Pth'", "one of", "Path"),
        ("Zzz:a", 0, "unknown matcher", "one of", ""),
        ("Host:a; ", 8, "unknown matcher ''", "one of", ""),
        ("Path:/x;Host", 8, "`Host` has no value", "`Host:value`", ""),
        ("Headers:X-A", 0, "1 values do not make pairs", "name,value", ""),
        ("Query:foo", 0, "1 parts do not make pairs", "key=value", ""),
        ("Path: /p;Query:a=b, /q", 9, "3 parts do not make pairs", "key=value", ""),
        ("HeadersRegexp:X-A,(", 0, "missing )", "RE2", ""),
        ("HeadersRegexp:X-A,a(?=b)", 0, "bad expression 'a(?=b)'", "RE2", ""),
        ("Host:\ud800", 5, "not valid Unicode", "", ""),
    ],
)
def test_errors_name_place_expectation_and_nearest_name(
    rule: str, position: int, message: str, expected: str, nearest: str
) -> None:
    with pytest.raises(RuleError) as caught:
        parse_rules({"main": rule})
    error = caught.value
    assert (error.position, error.nearest, error.route) == (position, nearest, "main")
    assert message in error.message
    assert expected in error.expected
    text = str(error)
    assert text.startswith("route `main`: ")
    assert f"column {position + 1}" in text
    assert (f"did you mean `{nearest}`?" in text) == bool(nearest)
    assert "\n" not in text


def test_errors_name_the_route_and_keep_messages_short() -> None:
    with pytest.raises(RuleError) as caught:
        parse_rules({"b": "Host:a", "a": "x" * 10_000})
    assert caught.value.route == "a"
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("rule", "warning"),
    [
        ("Host: ", "empty name matches nothing"),
        ("Host:a:80", "without port"),
        ("Host:[::1]", "in full"),
        ("Host:b\u00fccher.test", "xn--bcher-kva.test"),
        ("HostRegexp:{x:(}", "missing )"),
        ("HostRegexp: ", "empty name matches nothing"),
        ("HostRegexp:{x", "unbalanced braces"),
        ("Path:x", "does not start with `/`"),
        ("Path: ", "does not start with `/`"),
        ("PathPrefix: ", "does not start with `/`"),
        ("Path:/{}", "missing name or pattern"),
        ("Path:/{:a}", "missing name or pattern"),
        ("Path:/{a:}", "missing name or pattern"),
        ("Path:/}", "unbalanced braces"),
        ("Path:/{x:a)(b}", "bad pattern"),
        ("Path:/{x:[a}{y:b]}", "bad pattern"),
        ("Path:/{x:a\\}", "bad pattern"),
        ("Path:/{x:\\pL{1000}}", "more than 1024 KiB"),
        ("Query:a={x:(}", "matches nothing"),
        ("Query:a={x};Path:/{x}", "used by a `Query` before it"),
        ("Query:a={x};HostRegexp:{x}.test", "used by a `Query` before it"),
        ("PathStrip:/a/{x}", "use `PathStripRegex`"),
        ("AddPrefix: ", "does nothing"),
        ("AddPrefix:x", "taken as '/x'"),
        ("AddPrefix:/a/../b", "dot segment"),
        ("ReplacePath:/.", "dot segment"),
        ("ReplacePath:/a,/b", "only the last is used"),
        ("ReplacePathRegex:a", "exactly one space"),
        ("ReplacePathRegex:a b c", "exactly one space"),
        ("ReplacePathRegex:( x", "missing )"),
    ],
)
def test_warnings(rule: str, warning: str) -> None:
    (found,) = parse(rule).warnings
    assert warning in found


@pytest.mark.parametrize(
    "rule",
    [
        "Host:a.test,b.test;PathPrefix:/x;Method:GET",
        "HostRegexp:{x:[a-z]+}.test,a.test",
        "Path:/{x}/{x};Query:a={x},b={x}",
        "Path:/{x};Query:a={x}",
        "Host:2001:db8:0:0:0:0:0:1",
        "PathPrefix:/a}",
        "Path:/{x:[()\\]]+}",
        "Path:/{x:(?i)a|b}",
        "ReplacePathRegex: ^/(.*) /x/$1",
        "Headers:X-A, ",
    ],
)
def test_no_warnings(rule: str) -> None:
    assert parse(rule).warnings == ()


def test_length_is_the_sum_of_the_raw_bytes() -> None:
    assert parse("Host:a", " Path : /x ;;").length == 6 + 13
    assert parse("Path:/\u00e4").length == 8
    assert parse().length == 0


def test_no_routes_match_everything() -> None:
    rule = parse()
    assert rule.matchers == ()
    assert rule.modifiers is NO_MODIFIERS


def test_elements_come_by_route_name() -> None:
    rule = parse_rules({"b": "Path:/x", "a": "Method:GET;Host:a"})
    assert [element.name for element in rule.elements] == ["Method", "Host", "Path"]


def test_hosts_are_the_names_of_host_elements_alone() -> None:
    rule = parse("Host:B.test, a.test", "Path:/x;HostRegexp:c.test;Host:d.test")
    assert rule.hosts == ("b.test", "a.test", "d.test")
    assert parse("HostRegexp:c.test").hosts == ()


def test_several_modifiers_of_a_kind() -> None:
    modifiers = parse(
        "PathPrefixStrip:/a,/abc;PathPrefixStrip:/b", "AddPrefix:/x;AddPrefix:/y"
    ).modifiers
    assert modifiers.strips == (b"/b",)
    assert modifiers.add_prefix == b"/y"
    assert parse("PathStrip:/a,/abc,/ab").modifiers.strips == (b"/abc", b"/ab", b"/a")


def test_matchers_hold_what_was_written() -> None:
    host, path = parse("Host:A.test;PathStripRegex:/{x},/b/").matchers
    assert isinstance(host, HostMatcher)
    assert host.hosts == (b"a.test",)
    assert isinstance(path, PathMatcher)
    assert [(each.exact, each.literal, each.prefix, each.slash) for each in path.patterns] == [
        (True, False, b"/", False),
        (True, True, b"/b", True),
    ]


LONG_RULES = {
    "hosts": "Host:" + ",".join(f"h{number}.test" for number in range(1000)),
    "one-host": "Host:" + "h" * 10_000,
    "variables": "Path:/" + "{a}" * 3300,
    "alternatives": "Path:/{x:" + "|".join(f"word{number}" for number in range(1200)) + "}",
    "nested-groups": "Path:/{x:" + "(a?" * 2000 + ")" * 2000 + "}",
    "open-groups": "Path:/{x:" + "(" * 9_000 + "}",
    "stars": "Path:/{x:" + "(a*)*" * 1000 + "b}",
    "big-repeats": "Path:" + ",".join(f"/{{x:\\pL{{{number}}}}}" for number in range(1, 500)),
    "open-braces": "Path:/" + "{" * 10_000,
    "colons": ":" * 10_000,
    "commas": "Host:" + "," * 10_000,
    "semicolons": ";" * 10_000,
    "queries": "Query:" + "a={x:[0-9]+}=" * 700 + "b",
    "headers": "HeadersRegexp:" + "X-A,[a-z]+," * 900,
    "name": "x" * 10_000,
}


@pytest.mark.parametrize("name", LONG_RULES)
def test_long_rules_are_read_or_refused_quickly(name: str) -> None:
    started = time.process_time()
    try:
        parse(LONG_RULES[name])
    except RuleError as error:
        assert len(str(error)) < 1000
    assert time.process_time() - started < 1.0


def test_a_rule_over_the_limit_is_refused() -> None:
    rule = "Path:/" + "x" * (MAX_RULE_BYTES - 6)
    assert parse(rule).length == MAX_RULE_BYTES
    with pytest.raises(RuleError, match=f"{MAX_RULE_BYTES + 1} bytes long"):
        parse(rule + "x")


def test_expressions_that_are_too_large_together_are_refused() -> None:
    with pytest.raises(RuleError) as caught:
        parse(*(["HeadersRegexp:X-A,[a-z]{500}"] * 200))
    assert str(MAX_INSTRUCTIONS) in caught.value.expected


rule_texts = st.lists(
    st.tuples(
        st.sampled_from([*NAMES, "Hosts", "", " Host "]),
        st.text(alphabet="/ab:,=;{}()[]*+?\\$^|. \u00e4\u3000-1", max_size=20),
    ).map(":".join),
    max_size=4,
).map(";".join)


@settings(max_examples=500)
@given(st.dictionaries(st.text(max_size=3), rule_texts | st.text(), max_size=3))
def test_any_text_is_read_or_refused_with_a_rule_error(routes: dict[str, str]) -> None:
    try:
        rule = parse_rules(routes)
    except RuleError as error:
        assert 0 <= error.position <= len(error.rule)
        assert error.route in routes
    else:
        assert rule.length == sum(len(text.encode()) for text in routes.values())
