from __future__ import annotations

import pytest

from kvproxy.rules.templates import PATH_VARIABLE, Template, TemplateError, quote


@pytest.mark.parametrize(
    ("text", "literal", "prefix", "pattern", "names"),
    [
        ("/a.b", "/a.b", "/a.b", r"/a\.b", ()),
        ("/a/{x}", None, "/a/", "/a/(?:[^/]+)", ("x",)),
        ("/{x:[0-9]+}.{y}", None, "/", r"/(?:[0-9]+)\.(?:[^/]+)", ("x", "y")),
        ("/{x:a{2}}", None, "/", "/(?:a{2})", ("x",)),
        ("{a b:c:d}", None, "", "(?:c:d)", ("a b",)),
    ],
)
def test_reads(
    text: str, literal: str | None, prefix: str, pattern: str, names: tuple[str, ...]
) -> None:
    template = Template(text, PATH_VARIABLE)
    assert (template.literal, template.prefix, template.pattern, template.names) == (
        literal,
        prefix,
        pattern,
        names,
    )


@pytest.mark.parametrize(
    "text",
    [
        *("{", "}", "{a", "a}", "}{", "{a}}", "{}", "{:a}", "{a:}", "{a:(}", "{a:)}", "{a:x)(y}"),
        *("{a:[}{b:]}", "{a:[x}{b:y]}", "{a:\\}", "{a:[a\\}{b:]}", "{a:(?P<n>x}", "{a:*}"),
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text, PATH_VARIABLE).compile("^", "$")


@pytest.mark.parametrize(
    "pattern", ["[)]+", "(a|(b))", "\\)", "[[:alpha:]]+", "[^]]", "\\Q)\\E", "a|b"]
)
def test_patterns_that_hold_brackets_safely(pattern: str) -> None:
    expression = Template(f"/{{x:{pattern}}}", PATH_VARIABLE).compile("^", "$")
    assert expression.pattern == f"^/(?:{pattern})$"


def test_quoted_text_matches_itself() -> None:
    text = "".join(map(chr, range(32, 127))) + "\u00e4"
    template = Template(text.replace("{", "").replace("}", ""), PATH_VARIABLE)
    assert template.literal is not None
    assert template.compile("^", "$").matches(template.literal.encode())
    assert quote("{a}") == r"\{a\}"
