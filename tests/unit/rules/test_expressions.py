from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.rules.expressions import (
    MAX_REPLACEMENTS,
    MAX_RESULT,
    Expression,
    ExpressionError,
    Replacement,
    TooLargeError,
    as_go_text,
)

# Pattern, template, subject, result: the table of ReplaceAllString in the tests of Go's package
# regexp.
GO_REPLACEMENTS = [
    ("", "", "", ""),
    ("", "x", "", "x"),
    ("", "", "abc", "abc"),
    ("", "x", "abc", "xaxbxcx"),
    ("b", "", "abc", "ac"),
    ("b", "x", "abc", "axc"),
    ("[a-c]*", "x", "\u65e5", "x\u65e5x"),
    ("[^\u65e5]", "x", "abc\u65e5def", "xxx\u65e5xxx"),
    ("^[a-c]*", "x", "abcdabc", "xdabc"),
    ("[a-c]*$", "x", "abcdabc", "abcdx"),
    ("^[a-c]*", "x", "abc", "x"),
    ("[a-c]*$", "x", "abc", "x"),
    ("^[a-c]*$", "x", "abc", "x"),
    ("^[a-c]*", "x", "dabce", "xdabce"),
    ("[a-c]*$", "x", "dabce", "dabcex"),
    ("^[a-c]+", "x", "abcdabc", "xdabc"),
    ("[a-c]+$", "x", "abcdabc", "abcdx"),
    ("abc", "def", "abcdefg", "defdefg"),
    ("bc", "BC", "abcbcdcdedef", "aBCBCdcdedef"),
    ("abc", "", "abcdabc", "d"),
    ("x", "xXx", "xxxXxxx", "xXxxXxxXxXxXxxXxxXx"),
    (".+", "x", "abc", "x"),
    ("[a-c]*", "x", "def", "xdxexfx"),
    ("[a-c]+", "x", "abcbcdcdedef", "xdxdedef"),
    ("[a-c]*", "x", "abcbcdcdedef", "xdxdxexdxexfx"),
    ("a+", "($0)", "banana", "b(a)n(a)n(a)"),
    ("a+", "(${0})", "banana", "b(a)n(a)n(a)"),
    ("a+", "(${0})$0", "banana", "b(a)an(a)an(a)a"),
    ("hello, (.+)", "goodbye, ${1}", "hello, world", "goodbye, world"),
    ("hello, (.+)", "goodbye, $1x", "hello, world", "goodbye, "),
    ("hello, (.+)", "goodbye, ${1}x", "hello, world", "goodbye, worldx"),
    ("hello, (.+)", "<$0><$1><$2><$3>", "hello, world", "<hello, world><world><><>"),
    ("hello, (?P<noun>.+)", "goodbye, $noun!", "hello, world", "goodbye, world!"),
    ("hello, (?P<noun>.+)", "goodbye, ${noun}", "hello, world", "goodbye, world"),
    ("(?P<x>hi)|(?P<y>bye)", "$x$y$xyz", "bye", "bye"),
    ("a+", "${oops", "aaa", "${oops"),
    ("a+", "$$", "aaa", "$"),
    ("a+", "$", "aaa", "$"),
    ("a+", "$01", "aaa", ""),
    ("(x)?", "$1", "123", "123"),
    ("(a)(b){0}(c)", ".$1|$3.", "xacxacx", "x.a|c.x.a|c.x"),
    ("(a)(((b))){0}c", ".$1.", "xacxacx", "x.a.x.a.x"),
    ("((a(b){0}){3}){5}(h)", "y caramb$2", "say aaaaaaaaaaaaaaaah", "say ay caramba"),
]


@pytest.mark.parametrize(("pattern", "template", "subject", "result"), GO_REPLACEMENTS)
def test_replaces_as_go_does(pattern: str, template: str, subject: str, result: str) -> None:
    assert Replacement(pattern, template).apply(subject.encode()) == result.encode()


@pytest.mark.parametrize(("pattern", "subject"), [("y", "abc"), ("abc", "123"), ("^b", "ab")])
def test_no_match_is_told_apart(pattern: str, subject: str) -> None:
    assert Replacement(pattern, "x").apply(subject.encode()) is None


@pytest.mark.parametrize(
    ("pattern", "template", "subject", "result"),
    [
        ("[^/]", "x", b"/\xe9\xc3\xa4\xff", b"/xxx"),
        ("(.)b", "<$1>", b"a\xffb", b"a<\xff>"),
        ("\u00e4", "a", b"/\xc3\xa4/\xc3", b"/a/\xc3"),
        ("", "-", b"\xc3\xa4\xff", b"-\xc3\xa4-\xff-"),
        ("\ufffd", "?", b"\xed\xa0\x80", b"???"),
    ],
)
def test_replaces_in_bytes_that_are_not_text(
    pattern: str, template: str, subject: bytes, result: bytes
) -> None:
    assert Replacement(pattern, template).apply(subject) == result


@pytest.mark.parametrize(
    ("pattern", "subject", "end"),
    [
        ("^/[^/]+", b"/ab/c", 3),
        ("^/[^/]+", b"/\xff\xfe/c", 3),
        ("^/[^/]+", b"/\xc3\xa4\xff/c", 4),
        ("^/.", b"/\xe2\x82", 2),
        ("^/[^/]+$", b"/\xff/c", -1),
        ("b", b"abb", 2),
        ("^$", b"", 0),
        ("^/\u00e4", "/\u00e4x".encode(), 3),
        ("(?i)^\u00c4$", "\u00e4".encode(), 2),
        ("a.c", b"a\nc", -1),
    ],
)
def test_end_of_match_counts_bytes(pattern: str, subject: bytes, end: int) -> None:
    expression = Expression(pattern)
    assert expression.end_of_match(subject) == end
    assert expression.matches(subject) == (end >= 0)


@given(st.binary(max_size=30))
def test_go_text_has_one_replacement_character_for_each_bad_byte(subject: bytes) -> None:
    translated, original = as_go_text(subject)
    assert len(translated) == len(original)
    assert original.encode("utf-8", "surrogateescape") == subject
    translated.encode()


@given(st.sampled_from(["^/[^/]+", "(a|b)*", ".", "", "[^a]$", "\\xff"]), st.binary(max_size=40))
def test_any_bytes_can_be_matched_and_replaced(pattern: str, subject: bytes) -> None:
    end = Expression(pattern).end_of_match(subject)
    assert -1 <= end <= len(subject)
    replaced = Replacement(pattern, "$0").apply(subject)
    assert (replaced is None) == (end < 0)
    assert replaced in (None, subject)


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "a)",
        "[a",
        "a**",
        "(?=a)",
        "(?<!a)",
        "\\1",
        "(?err)",
        "[z-a]",
        "a{1001}",
        "\\",
        "[[:x:]]",
    ],
)
def test_bad_expressions(pattern: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(pattern)
    assert str(caught.value)
    with pytest.raises(ExpressionError):
        Replacement(pattern, "x")


def test_an_expression_that_needs_too_much_memory() -> None:
    with pytest.raises(TooLargeError, match="1024 KiB"):
        Expression("\\pL{1000}")


def test_a_surrogate_is_no_expression() -> None:
    with pytest.raises(ExpressionError, match="Unicode"):
        Expression("\ud800")


@pytest.mark.parametrize("pattern", ["^(a*)*$", "^(a|aa)+$", "^(.*a){20}$", "^([a-z]+)+[0-9]$"])
def test_time_is_linear(pattern: str) -> None:
    expression = Expression(pattern)
    started = time.process_time()
    assert not expression.matches(b"a" * 60_000 + b"!")
    assert time.process_time() - started < 1.0


def test_replacements_are_bounded() -> None:
    replacement = Replacement("a", "b")
    assert replacement.apply(b"a" * MAX_REPLACEMENTS) == b"b" * MAX_REPLACEMENTS
    with pytest.raises(ExpressionError, match="matches"):
        replacement.apply(b"a" * (MAX_REPLACEMENTS + 1))
    with pytest.raises(ExpressionError, match="longer"):
        Replacement("a", "b" * 1000).apply(b"a" * (MAX_RESULT // 1000 + 1))
