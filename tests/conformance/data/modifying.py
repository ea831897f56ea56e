"""Tables of the modifiers: what the server is asked for, and the headers that the proxy adds.

``S01`` to ``S33`` are ids of the reference; its further examples are ``S34-`` and a number, in its
order.
"""

from __future__ import annotations

from tests.conformance.data.rows import (
    ABSENT,
    ONLY,
    Moved,
    Outcome,
    Row,
    Rules,
    Sent,
    Taken,
    each,
    row,
    taken,
)

TEMPLATES = "PathPrefixStripRegex:/a/api/,/b/{regex}/,/c/{category}/{id:[0-9]+}/"
THREE_PARTS = "PathPrefixStripRegex:/one/{two}/{three:[0-9]+}"
DOWNLOADS = r"ReplacePathRegex: ^(?i)/downloads/([^/]+)/([^/]+)$ /downloads/$1-$2"


def _one(identity: str, rule: str, target: str, outcome: Outcome, compatible: bool = False) -> Row:
    return row(identity, rule, (Sent(target), outcome), compatible=compatible)


STRIP_ROWS = (
    _one("S01", "PathPrefixStrip: ", "/noprefixes", ABSENT),
    _one("S02", "PathPrefixStrip:/", "/", taken("/", "/")),
    _one("S03", "PathPrefixStrip:/stat", "/stat", taken("/", "/stat")),
    _one("S04", "PathPrefixStrip:/stat/", "/stat/", taken("/", "/stat/")),
    _one("S05", "PathPrefixStrip:/stat/", "/stat/us", taken("/us", "/stat/")),
    _one("S06", "PathPrefixStrip:/stat/", "/status", ABSENT),
    _one("S07", "PathPrefixStrip:/stat", "/stat/", taken("/", "/stat")),
    _one("S08", "PathPrefixStrip:/stat,/stat/us", "/stat/us", taken("/", "/stat/us")),
    _one("S09", "PathPrefixStrip:/mismatch,/stat", "/stat", taken("/", "/stat")),
    _one("S10", "PathPrefixStrip:/stat", "/status", taken("/us", "/stat")),
    _one("S11", "PathPrefixStrip:/stat", "/stat/a%2Fb", taken("/a%2Fb", "/stat"), True),
    _one("S12", TEMPLATES, "/a/test", ABSENT),
    _one("S13", TEMPLATES, "/a/api/test", taken("/test", "/a/api/")),
    _one("S14", TEMPLATES, "/b/api/", taken("/", "/b/api/")),
    _one("S15", TEMPLATES, "/b/api/test1", taken("/test1", "/b/api/")),
    _one("S16", TEMPLATES, "/b/api2/test2", taken("/test2", "/b/api2/")),
    _one("S17", TEMPLATES, "/c/api/123/", taken("/", "/c/api/123/")),
    _one("S18", TEMPLATES, "/c/api/123/test3", taken("/test3", "/c/api/123/")),
    _one("S19", TEMPLATES, "/c/api/abc/test4", ABSENT),
    _one("S20", TEMPLATES, "/a/api/a%2Fb", taken("/a%2Fb", "/a/api/"), True),
)

REWRITE_ROWS = (
    _one("S21", "AddPrefix:/a", "/b", taken("/a/b")),
    _one("S22", "AddPrefix:/a", "/b%2Fc", taken("/a/b%2Fc"), True),
    row(
        "S23",
        "ReplacePath:/replacement-path",
        (Sent("/example"), taken("/replacement-path", replaced="/example")),
        (
            Sent("/some/really/long/path"),
            taken("/replacement-path", replaced="/some/really/long/path"),
        ),
    ),
    _one(
        "S24",
        "ReplacePathRegex: ^/whoami/(.*) /who-am-i/$1",
        "/whoami/and/whoami",
        taken("/who-am-i/and/whoami", replaced="/whoami/and/whoami"),
    ),
    _one(
        "S25",
        "ReplacePathRegex: /whoami /who-am-i",
        "/whoami/and/whoami",
        taken("/who-am-i/and/who-am-i", replaced="/whoami/and/whoami"),
    ),
    _one(
        "S26",
        DOWNLOADS,
        "/downloads/src/source.go",
        taken("/downloads/src-source.go", replaced="/downloads/src/source.go"),
    ),
    _one("S27", "ReplacePathRegex: ^(?err)/invalid/([^/]+) /x/$1", "/invalid/x", taken()),
    _one(
        "S28",
        "PathPrefix:/management;ReplacePath:/health",
        "/management",
        taken("/health", replaced="/management"),
    ),
    row(
        "S29",
        "Host:foo.bar;AddPrefix:/blah",
        (Sent("/baz", "foo.bar"), taken("/blah/baz")),
    ),
    _one("S30", THREE_PARTS, "/one/some/12345/four", taken("/four", "/one/some/12345")),
    _one(
        "S31",
        f"{THREE_PARTS};AddPrefix:/zero",
        "/one/some/12345/four",
        taken("/zero/four", "/one/some/12345"),
    ),
    _one(
        "S32",
        "AddPrefix:/blah;ReplacePath:/baz",
        "/hello",
        taken("/baz", replaced="/blah/hello"),
    ),
    _one(
        "S33",
        "PathPrefixStrip:/management;ReplacePath:/health",
        "/management",
        taken("/health", "/management", "/"),
    ),
)

_ARTICLE = "/art/{cat}/{id:[0-9]+}"
_API = "ReplacePathRegex: ^/api/v2/(.*) /api/$1"

_EXAMPLES: tuple[tuple[str, str, Outcome], ...] = (
    ("PathStrip:/foo,/foo/bar", "/foo", taken("/", "/foo")),
    ("PathStrip:/foo,/foo/bar", "/foo/bar", taken("/", "/foo/bar")),
    ("PathStrip:/foo,/foo/bar", "/foo?q=1", taken("/?q=1", "/foo")),
    ("PathStrip:/foo,/foo/bar", "/foo/", Moved("/foo")),
    ("PathStrip:/foo,/foo/bar", "/foobar", ABSENT),
    (f"PathStripRegex:{_ARTICLE}", "/art/x/12", taken("/", "/art/x/12")),
    (f"PathStripRegex:{_ARTICLE}", "/art/x/12/", Moved("/art/x/12")),
    (f"PathStripRegex:{_ARTICLE}", "/art/x/y", ABSENT),
    ("PathPrefixStrip:/foo", "/foo", taken("/", "/foo")),
    ("PathPrefixStrip:/foo", "/foo/", taken("/", "/foo")),
    ("PathPrefixStrip:/foo", "/foo//", taken("//", "/foo")),
    ("PathPrefixStrip:/foo", "/foo/bar", taken("/bar", "/foo")),
    ("PathPrefixStrip:/foo", "/foobar", taken("/bar", "/foo")),
    ("PathPrefixStrip:/foo", "/foo/bar/?q=a%20b", taken("/bar/?q=a%20b", "/foo")),
    ("PathPrefixStrip:/foo", "/foo/a%2Fb", taken("/a%2Fb", "/foo")),
    ("PathPrefixStrip:/foo", "/%66oo/a%2Fb", taken("/a/b", "/foo")),
    ("PathPrefixStrip:/foo/", "/foo", ABSENT),
    ("PathPrefixStrip:/foo/", "/foo/", taken("/", "/foo/")),
    ("PathPrefixStrip:/foo/", "/foo/bar", taken("/bar", "/foo/")),
    ("PathPrefixStrip:/foo/", "/foo//bar", taken("/bar", "/foo/")),
    ("PathPrefixStrip:/", "/x/y", taken("/x/y", "/")),
    ("PathPrefixStrip:/a,/ab", "/abc", taken("/c", "/ab")),
    (f"PathPrefixStripRegex:{_ARTICLE}", "/art/x/12", taken("/", "/art/x/12")),
    (f"PathPrefixStripRegex:{_ARTICLE}", "/art/x/12/y", taken("/y", "/art/x/12")),
    (f"PathPrefixStripRegex:{_ARTICLE}", "/art/x/12y", taken("/y", "/art/x/12")),
    (f"PathPrefixStripRegex:{_ARTICLE}", "/art/x/12?z=1", taken("/?z=1", "/art/x/12")),
    (f"PathPrefixStripRegex:{_ARTICLE}", "/art/a%2Fb/12/q", ABSENT),
    (
        "PathPrefixStripRegex:/one/{two};AddPrefix:/zero",
        "/one/x/four",
        taken("/zero/four", "/one/x"),
    ),
    ("PathPrefixStripRegex:/one/{two};AddPrefix:/zero", "/one/x", taken("/zero", "/one/x")),
    (
        "PathPrefixStripRegex:/one/{two}/;AddPrefix:/zero",
        "/one/x/four",
        taken("/zerofour", "/one/x/"),
    ),
    ("PathPrefixStripRegex:/one/{two}/;AddPrefix:/zero", "/one/x/", taken("/zero", "/one/x/")),
    ("AddPrefix:/blah", "/baz", taken("/blah/baz")),
    ("AddPrefix:/blah", "/", taken("/blah/")),
    ("AddPrefix:/blah", "/b%2Fc", taken("/blah/b%2Fc")),
    ("AddPrefix:/blah", "/?q=1", taken("/blah/?q=1")),
    ("AddPrefix:/blah/", "/baz", taken("/blah//baz")),
    ("AddPrefix:blah", "/baz", taken("/blah/baz")),
    ("AddPrefix:/a,/b", "/z", taken("/b/z")),
    ("ReplacePath:/new", "/hello?q=1", taken("/new?q=1", replaced="/hello")),
    ("ReplacePath:/new", "/a%2Fb", taken("/new", replaced="/a/b")),
    ("ReplacePath:/new?x=1", "/hello", taken("/new%3Fx=1", replaced="/hello")),
    (_API, "/api/v2/users?x=1", taken("/api/users?x=1", replaced="/api/v2/users")),
    (_API, "/other", taken("/other")),
    (_API, "/api/v2/a%2Fb", taken("/api/a/b", replaced="/api/v2/a/b")),
    (
        "ReplacePathRegex: ^/api/(.*) /x/$1;ReplacePath:/y",
        "/api/q",
        Taken(uri="/y", replaced=("/api/q", "/x/q")),
    ),
    ("ReplacePathRegex: ^/a{1,2}/(.*) /x/$1", "/aa/q", taken("/aa/q")),
    (
        "PathPrefixStrip:/foo;AddPrefix:/pre;ReplacePathRegex: ^/pre/(.*) /reg/$1",
        "/foo/x?q=1",
        taken("/reg/x?q=1", "/foo", "/pre/x"),
    ),
    ("AddPrefix:/blah;ReplacePath:/baz", "/hello", taken("/baz", replaced="/blah/hello")),
)

_DIFFERENCES = {
    "AddPrefix:blah": "a missing leading slash is added, with a warning; 1.7 asks for `/`"
}

EXAMPLE_ROWS = tuple(
    row(
        f"S34-{number:02}",
        rule,
        (Sent(target), outcome),
        compatible="%2F" in target,
        difference=_DIFFERENCES.get(rule, ""),
    )
    for number, (rule, target, outcome) in enumerate(_EXAMPLES, 1)
)

_DOTS = "a modifier never makes a dot segment: 404; 1.7 passes it to the server"

FURTHER_ROWS = (
    row(
        "S35",
        "PathPrefixStrip:/foo;PathPrefixStripRegex:/foo/{x}",
        *each(ABSENT, "/foo/bar", "/foo/bar/baz"),
    ),
    row("S36", "PathStrip:/a/{x}", *each(ABSENT, "/a/b")),
    row("S37", "ReplacePathRegex: ^/a(b)? /$1x", *each(taken("/", replaced="/ab"), "/ab")),
    row(
        "S38", "ReplacePathRegex: ^/a(b)? /${1}x", *each(taken("/bx/c", replaced="/ab/c"), "/ab/c")
    ),
    row("S39", "ReplacePathRegex: ^/a  /x", *each(taken(), "/a/b")),
    row(
        "S40",
        "PathPrefixStrip:/foo",
        *each(ABSENT, "/foo../bar", "/foo./bar", "/foo..", "/foo..;x/bar"),
        *each(taken("/..bar", "/foo"), "/foo..bar"),
        difference=_DOTS,
    ),
    row("S41", "PathPrefixStripRegex:/{name:[a-z]+}", *each(ABSENT, "/foo../x"), difference=_DOTS),
    row("S42", "ReplacePathRegex: ^/x(.*) /y/$1", *each(ABSENT, "/x../z"), difference=_DOTS),
    row(
        "S43",
        "ReplacePathRegex: ^/api/(.*) $1",
        *each(taken("/users", replaced="/api/users"), "/api/users"),
        difference="a missing leading slash is added; 1.7 asks the server for `/`",
    ),
    Row(
        "S44",
        {ONLY: Rules(("PathPrefixStrip:/foo", "AddPrefix:/bar"))},
        each(taken("/bar/x", "/foo"), "/foo/x"),
    ),
    row(
        "S45",
        "PathPrefixStrip:/foo",
        (
            Sent("/foo/x", headers=(("X-Forwarded-Prefix", "/mine"),)),
            Taken(uri="/x", prefixes=("/foo",)),
        ),
    ),
)

ALL = (*STRIP_ROWS, *REWRITE_ROWS, *EXAMPLE_ROWS, *FURTHER_ROWS)
"""Every row of this module."""
