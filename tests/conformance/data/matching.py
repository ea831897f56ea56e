"""Tables of the matchers: Host (H), HostRegexp (X), Path (P), PathPrefix (F), rest (M), text (T).

Ids are those of the reference's case tables; ``B`` rows are its list of malformed rules, ``O`` rows
its priorities.
"""

from __future__ import annotations

from tests.conformance.data.rows import (
    ABSENT,
    ONLY,
    Domains,
    HostForm,
    Moved,
    Row,
    Rules,
    Sent,
    Taken,
    each,
    header,
    hosts,
    row,
    taken,
)

MATCH = Taken()
TWO_HOSTS = "Host:Multi1.Com, MULTI2.com"
CASED_PATH = "Host: Foo.Bar ; Path:/FOObar"

HOST_ROWS = (
    row("H01", "Host:foo.bar", *hosts(MATCH, "foo.bar")),
    row("H02", CASED_PATH, (Sent("/foobar", "foo.bar"), ABSENT)),
    row("H03", CASED_PATH, (Sent("/FOObar", "foo.bar"), MATCH)),
    row("H04", TWO_HOSTS, *hosts(MATCH, "multi1.com")),
    row("H05", TWO_HOSTS, *hosts(MATCH, "MULTI1.COM")),
    row("H06", TWO_HOSTS, *hosts(MATCH, "multi2.com:99")),
    row("H07", TWO_HOSTS, *hosts(ABSENT, "multi1.com.")),
    row("H08", TWO_HOSTS, *hosts(ABSENT, "multi3.com")),
    row("H09", "Host:hport:21080", *hosts(ABSENT, "hport:21080", "hport")),
    row("H11", "Host:root", (Sent("http://root/", "other"), taken("/"))),
    # H12 and H13 need a DNS server: tests/conformance/test_host_resolver.py.
    row(
        "H14",
        "Host:2001:db8:0:0:0:0:0:1",
        *hosts(MATCH, "[2001:db8::1]:80", "[2001:db8::1]", "[2001:DB8:0:0:0:0:0:1]"),
        *hosts(ABSENT, "[2001:db8::2]"),
        difference="an IPv6 address has one form, with or without port; 1.7 compares text",
    ),
    row(
        "H15",
        "Host:[2001:db8:0:0:0:0:0:1]",
        *hosts(MATCH, "[2001:db8::1]:80", "[2001:db8::1]"),
        difference="as H14",
    ),
)

HOST_FORMS = (
    HostForm("H10-name", "host", "host"),
    HostForm("H10-colon", "host:", "host"),
    HostForm("H10-address-port", "127.0.0.1:123", "127.0.0.1"),
    HostForm("H10-address-colon", "127.0.0.1:", "127.0.0.1"),
    HostForm("H10-case", "WWW.Host:8080", "www.host"),
    HostForm("H10-dot", "host.:80", "host."),
    HostForm("H10-v6-port", "[FE80::1]:80", "fe80::1"),
    HostForm("H10-v6", "[::1]", "::1"),
    HostForm("H10-v6-long", "[0:0:0:0:0:0:0:1]", "::1"),
)

OPTIONAL_FOO = r"HostRegexp:{subdomain:(foo\.)?bar\.com}"
OPTIONAL_FOO_UNCAPTURED = r"HostRegexp:{subdomain:(?:foo\.)?bar\.com}"
UNMATCHED = hosts(ABSENT, "fooubar.com", "barucom", "barcom")
TWO_TEMPLATES = "HostRegexp:{sub:[a-z]+}.re.com,lit.com"

HOST_REGEXP_ROWS = (
    row("X01", OPTIONAL_FOO, *hosts(MATCH, "foo.bar.com", "bar.com")),
    row("X02", OPTIONAL_FOO, *UNMATCHED),
    row("X03", OPTIONAL_FOO_UNCAPTURED, *hosts(MATCH, "foo.bar.com", "bar.com"), *UNMATCHED),
    row(
        "X04",
        r"HostRegexp:{dummy:[A-Za-z-]+\.bar\.com}",
        *hosts(MATCH, "FOO.bar.com", "foo.bar.com"),
    ),
    row("X05", r"HostRegexp:{dummy:[A-Za-z-]+\.bar\.com}", *UNMATCHED),
    row("X06", r"HostRegexp:{dummy:[a-z-]+\.bar\.com}", *hosts(MATCH, "FOO.bar.com")),
    row("X07", "HostRegexp:foo.bar.com", *hosts(MATCH, "FOO.bar.com")),
    row("X08", "HostRegexp:foo.bar.com", *hosts(ABSENT, "fooubar.com")),
    row(
        "X09",
        TWO_TEMPLATES,
        *hosts(MATCH, "x.re.com", "X.RE.com", "x.re.com:8080", "lit.com", "LIT.com"),
    ),
    row(
        "X10",
        TWO_TEMPLATES,
        *hosts(ABSENT, "1.re.com", "a.b.re.com", "re.com", "xlit.com", "lit.com."),
    ),
    row("X11", "HostRegexp:{sub}.def.com", *hosts(MATCH, "x.def.com")),
    row("X12", "HostRegexp:{sub}.def.com", *hosts(ABSENT, "a.b.def.com", ".def.com")),
    row("X13", "HostRegexp:{x:(},ok", *hosts(MATCH, "ok")),
    row("X14", "HostRegexp:{a:x}{a:y}.d", *hosts(MATCH, "xy.d")),
    row(
        "X15",
        "HostRegexp:{sub:[a-z]+}.re.com",
        (Sent("http://x.re.com:81/", "other"), taken("/")),
        difference="the port is never part of a host name; 1.7 keeps it for absolute-form targets",
    ),
    row(
        "X16",
        "HostRegexp:{subdomain:[a-z1-9-]+}.www.snitest.com",
        *hosts(MATCH, "bar.www.snitest.com"),
    ),
)

SLASHED = "Path:/foo/"
SEVERAL_PATHS = "Path:/a,/b/{id:[0-9]+},/c/{x}"

PATH_ROWS = (
    row("P01", "Path:/foo", *each(MATCH, "/foo", "/foo?x=1")),
    row("P02", "Path:/foo", *each(Moved("/foo"), "/foo/")),
    row("P03", "Path:/foo", *each(Moved("/foo?x=1&y=2"), "/foo/?x=1&y=2")),
    row("P04", "Path:/foo", *each(ABSENT, "/Foo", "//foo", "/foo/bar")),
    row("P05", "Path:/foo", *each(MATCH, "/%66oo")),
    row("P06", "Path:/foo", *each(Moved("/foo"), "/foo%2F"), compatible=True),
    row("P07", SLASHED, *each(Moved("/foo/"), "/foo")),
    row("P08", SLASHED, *each(Moved("/foo/?x=1"), "/foo?x=1")),
    row("P09", SLASHED, *each(MATCH, "/foo/")),
    row("P10", SEVERAL_PATHS, *each(MATCH, "/a", "/b/12", "/c/abc")),
    row("P11", SEVERAL_PATHS, *each(ABSENT, "/b/x", "/c/a/b", "/c/")),
    row("P12", SEVERAL_PATHS, *each(Moved("/b/12"), "/b/12/")),
    row("P13", "Path:/", *each(MATCH, "/", "/?x=1")),
    row(
        "P14",
        "Path:/",
        (Sent("http://root", "root"), taken("/")),
        difference="an absolute target without path means `/` (RFC 9110 4.2.3); 1.7 sends 301",
    ),
    row("P15", "Path:/a.b+c", *each(MATCH, "/a.b+c")),
    row("P16", "Path:/a.b+c", *each(ABSENT, "/aXb+c")),
    row("P17", "Path:/a/{x:[0-9]+}/{x}", *each(MATCH, "/a/1/b")),
    row("P18", "Path:/test/foo", *each(ABSENT, "/test/foo/"), keep_trailing_slash=True),
    row("P19", "Path:/test/foo", *each(Moved("/test/foo"), "/test/foo/")),
    row("P20", SLASHED, *each(ABSENT, "/foo"), keep_trailing_slash=True),
    Row(
        "P21",
        {ONLY: Rules(("Host:mr", "Path:/x"))},
        ((Sent("/x", "mr"), MATCH), (Sent("/y", "mr"), ABSENT), (Sent("/x"), ABSENT)),
    ),
    row("P22", "Path:/a;Path:/b", *each(ABSENT, "/a", "/b")),
    row(
        "P23",
        "Path:/c/{x}/",
        *each(MATCH, "/c/1/"),
        *each(ABSENT, "/c/1"),
        keep_trailing_slash=True,
    ),
    row("P24", "Path:/c/{x}/", *each(Moved("/c/1/?q"), "/c/1?q")),
    row(
        "P25",
        "Path:/foo",
        (Sent("http://case.test:81/foo/?x"), Moved("http://case.test:81/foo?x")),
        (Sent("/foo/", method="POST"), Moved("/foo")),
    ),
    Row(
        "P26",
        {"first": Rules(("Path:/q/;Host:h1",), 9), "second": Rules(("Host:h2;PathPrefix:/q",), 1)},
        ((Sent("/q", "h2"), Taken("second")), (Sent("/q", "h1"), Moved("/q/"))),
        difference="a redirect is that of the frontend that takes the request; 1.7 has stale ones",
    ),
)

PATH_PREFIX_ROWS = (
    row("F01", "PathPrefix:/bar", *each(MATCH, "/bar", "/bar/")),
    row("F02", "PathPrefix:/bar/", *each(MATCH, "/bar/")),
    row("F03", "PathPrefix:/bar/", *each(ABSENT, "/bar")),
    Row(
        "F04",
        {"bare": Rules(("PathPrefix:bar",)), "slashed": Rules(("PathPrefix:bar/",))},
        each(ABSENT, "/bar", "/bar/"),
    ),
    row("F05", "PathPrefix:/foo", *each(MATCH, "/foobar")),
    row("F06", "PathPrefix:/foo", *each(ABSENT, "/fo", "/FOO")),
    row("F07", "PathPrefix:/foo", *each(MATCH, "/%66oo/x")),
    row(
        "F08",
        "PathPrefix:/a/{x}/{id:[0-9]+}",
        *each(MATCH, "/a/x/12", "/a/x/12abc", "/a/x/12/y"),
    ),
    row("F09", "PathPrefix:/a/{x}/{id:[0-9]+}", *each(ABSENT, "/a/x/y", "/b")),
    row(
        "F10", "PathPrefix:/a/b", *each(MATCH, "/a%2Fb", "/a%2fb/c", "/a/b?x=%zz"), compatible=True
    ),
    row(
        "F11",
        "PathPrefix:/a/b",
        *each(ABSENT, "/a/./b", "/a/../a/b", "/a//b", "/A/b"),
        compatible=True,
    ),
    row("F12", "PathPrefix:/a/b", *each(taken("/a/b%23f"), "/a/b#f"), compatible=True),
)

TWO_HEADERS = "Headers: X-Key, val, X-Two, v2"
TWO_PARAMETERS = "Query:foo=bar,bar=baz"

OTHER_ROWS = (
    row("M01", "Method:GET,post", (Sent(), MATCH), (Sent(method="POST"), MATCH)),
    row(
        "M02",
        "Method:GET,post",
        *((Sent(method=method), ABSENT) for method in ("get", "PUT", "HEAD")),
    ),
    row(
        "M03",
        "Headers: X-Key, val",
        header("X-Key", "val", outcome=MATCH),
        header("x-key", "val", outcome=MATCH),
    ),
    row(
        "M04",
        "Headers: X-Key, val",
        (Sent(), ABSENT),
        header("X-Key", "VAL", outcome=ABSENT),
        header("X-Key", "val,x", outcome=ABSENT),
    ),
    row("M05", "Headers: X-Key, val", header("X-Key", "other", "val", outcome=MATCH)),
    row("M06", TWO_HEADERS, header("X-Key", "val", outcome=ABSENT)),
    row("M07", TWO_HEADERS, (Sent(headers=(("X-Key", "val"), ("X-Two", "v2"))), MATCH)),
    row(
        "M08",
        "Headers: X-Key, ",
        header("X-Key", "", outcome=MATCH),
        header("X-Key", "any", outcome=MATCH),
    ),
    row("M09", "Headers: X-Key, ", (Sent(), ABSENT)),
    row(
        "M10",
        "HeadersRegexp: X-Key, ^v[0-9]+$",
        header("X-Key", "v12", outcome=MATCH),
        header("X-Key", "v12x", outcome=ABSENT),
    ),
    row(
        "M11",
        "HeadersRegexp: X-Key, v[0-9]",
        header("X-Key", "zzv1zz", outcome=MATCH),
        header("X-Key", "zz", outcome=ABSENT),
    ),
    row(
        "M12",
        TWO_PARAMETERS,
        *each(MATCH, "/?foo=bar&bar=baz", "/?bar=baz&foo=bar", "/?foo=bar&bar=baz&z=1"),
    ),
    row("M13", TWO_PARAMETERS, *each(ABSENT, "/?foo=bar")),
    row("M14", TWO_PARAMETERS, *each(MATCH, "/?foo=bar&foo=x&bar=baz")),
    row("M15", TWO_PARAMETERS, *each(ABSENT, "/?foo=x&foo=bar&bar=baz")),
    row("M16", TWO_PARAMETERS, *each(MATCH, "/?foo=ba%72&bar=baz")),
    row("M17", TWO_PARAMETERS, *each(ABSENT, "/?Foo=bar&bar=baz", "/?foo=barx&bar=baz")),
    row(
        "M18",
        TWO_PARAMETERS,
        *each(ABSENT, "/?foo=bar;bar=baz"),
        difference="`;` separates no parameters, as in later Go versions; 1.7 came with Go 1.16",
    ),
    row("M19", "Query:foo=", *each(MATCH, "/?foo", "/?foo=", "/?foo=1")),
    row("M20", "Query:foo=", *each(ABSENT, "/?x=1", "/?foo=%0a")),
    row("M21", "Query:foo={x:[0-9]+}", *each(MATCH, "/?foo=12")),
    row("M22", "Query:foo={x:[0-9]+}", *each(ABSENT, "/?foo=1a", "/?foo=")),
    row("M23", "Query:a=b=c,d", *each(MATCH, "/?a=b&c=d"), *each(ABSENT, "/?a=b")),
    row("M24", "Headers:Host,case.test", (Sent(), ABSENT)),
    row(
        "M25",
        "Query:a b=c+d",
        *each(MATCH, "/?a+b=c%2Bd", "/?a%20b=c%2bd"),
        *each(ABSENT, "/?a+b=c+d"),
    ),
    row("M26", "Headers: X-Key, one, X-Key, two", header("X-Key", "two", outcome=MATCH)),
)

TEXT_ROWS = (
    row("T01", "Host:ok2;;Path:/x", (Sent("/x", "ok2"), MATCH), (Sent("/y", "ok2"), ABSENT)),
    row("T02", " Host : ok3 ; Path : /x ", (Sent("/x", "ok3"), MATCH), (Sent("/x"), ABSENT)),
    row("T03", "Host::ok4", *hosts(MATCH, "ok4")),
    row("T04", "Host:ok5,;Path:/x,,/y", (Sent("/x", "ok5"), MATCH), (Sent("/y", "ok5"), MATCH)),
    row("T05", "Host:ok6;AddPrefix:/a,/b", (Sent("/z", "ok6"), taken("/b/z"))),
    Row(
        "T06",
        {
            "empty": Rules(("",)),
            "no-value": Rules(("Host",)),
            "unknown": Rules(("Hosts:x",)),
            "lower-case": Rules(("host:x",)),
            "odd-headers": Rules(("Headers:X-A",)),
            "bad-expression": Rules(("HeadersRegexp:X-A,(",)),
            "odd-query": Rules(("Query:foo",)),
            "good": Rules(("PathPrefix:/",)),
        },
        each(Taken("good"), "/", "/x?foo"),
        refused=(
            *("empty", "no-value", "unknown", "lower-case"),
            *("odd-headers", "bad-expression", "odd-query"),
        ),
    ),
    row(
        "T07",
        "Path: /path1;Query:param_one=true, /path2",
        *each(ABSENT, "/path1?param_one=true"),
        refused=(ONLY,),
    ),
)

DOMAINS = (
    Domains("T08", "Host:foo.bar,test.bar", ("foo.bar", "test.bar")),
    Domains("T09", "Path:/test"),
    Domains("T10", "Host:foo.bar;Path:/test", ("foo.bar",)),
    Domains("T10-case", "Host: Foo.Bar ;Path:/test", ("foo.bar",)),
    Domains("T11", "Host: ;Path:/test", unusable=True),
)


def _refused(identity: str, rule: str) -> Row:
    return row(identity, rule, *each(ABSENT, "/", "/x?foo=1"), refused=(ONLY,))


def _unreachable(identity: str, rule: str, *requests: Sent | str) -> Row:
    return row(identity, rule, *each(ABSENT, *requests))


MALFORMED_ROWS = (
    _refused("B01", ""),
    _refused("B02-unknown", "Foo:x"),
    _refused("B02-case", "host:x"),
    _refused("B03-bare", "Host"),
    _refused("B03-colon", "Host:"),
    _refused("B03-comma", "Host:,"),
    _unreachable("B04", "Host: ", "/", Sent(host="x")),
    _unreachable("B05", "Host: ;Path:/x", "/x"),
    _refused("B06", "Query:foo"),
    _refused("B07", "Path: /p;Query:a=b, /q"),
    row("B08", "Query:a=b=c,d", *each(MATCH, "/?a=b&c=d")),
    _refused("B09", "Headers:X-A"),
    _refused("B10", "HeadersRegexp:X-A,("),
    _unreachable("B11-path", "Path:foo", "/foo", "/"),
    _unreachable("B11-prefix", "PathPrefix:foo", "/foo", "/"),
    _unreachable("B11-slash", "PathPrefix:foo/", "/foo/", "/"),
    _unreachable("B12-path", "Path:/a/{x", "/a/x", "/a/%7Bx"),
    _unreachable("B12-host", "HostRegexp:{x:(}", Sent(host="x")),
    _unreachable("B13", "Path:/a;Path:/b", "/a", "/b"),
    _unreachable("B14", "HostRegexp:{x:[a-z]{1,3}}.d", Sent(host="ab.d")),
    _unreachable("B15", "Host:h:8080", Sent(host="h:8080"), Sent(host="h")),
    _refused("B16-semicolons", ";;"),
    _refused("B17-spaces", "Host:a; "),
)

PRIORITY_ROWS = (
    Row(
        "O01",
        {"short": Rules(("PathPrefix:/foo",)), "long": Rules(("PathPrefix:/foobar",))},
        (*each(Taken("long"), "/foobar"), *each(Taken("short"), "/foo")),
    ),
    Row(
        "O02-first",
        {"short": Rules(("PathPrefix:/foo",), 10), "long": Rules(("PathPrefix:/foobar",), 1)},
        each(Taken("short"), "/foobar"),
    ),
    Row(
        "O02-second",
        {"short": Rules(("PathPrefix:/foo",), 1), "long": Rules(("PathPrefix:/foobar",), 10)},
        each(Taken("long"), "/foobar"),
    ),
    Row(
        "O03-length",
        {
            "a28": Rules(("PathPrefix:/foo;Host:foo.com",)),
            "b23": Rules(("PathPrefixStrip:/foobar",)),
            "c20": Rules(("PathPrefix:/foo,/bar",)),
        },
        (
            (Sent("/foobar", "foo.com"), Taken("a28")),
            (Sent("/foobar"), Taken("b23", "/", ("/foobar",))),
            (Sent("/foo"), Taken("c20")),
        ),
    ),
    Row(
        "O03-explicit",
        {"a": Rules(("PathPrefix:/to",), 20), "b": Rules(("PathPrefix:/toto",))},
        each(Taken("a"), "/toto"),
    ),
    Row(
        "O03-low",
        {"a": Rules(("PathPrefix:/prio",)), "b": Rules(("PathPrefix:/prio/long",), 5)},
        each(Taken("a"), "/prio/long/x"),
    ),
    Row(
        "O03-negative",
        {"a": Rules(("PathPrefix:/prio",)), "b": Rules(("PathPrefix:/prio/neg",), -5)},
        each(Taken("b"), "/prio/neg"),
    ),
    Row(
        "O03-longer-than-priority",
        {
            "a": Rules(("PathPrefix:/tie1",), 50),
            "b": Rules(("PathPrefix:/tie1/" + "x" * 42,)),
        },
        (*each(Taken("b"), "/tie1/" + "x" * 42), *each(Taken("a"), "/tie1/y")),
    ),
    Row(
        "O03-routes-add-up",
        {
            "a": Rules(("Host:case.test", "Path:/x")),
            "b": Rules(("Path:/x",), 20),
            "c": Rules(("Path:/x",), 22),
        },
        ((Sent("/x"), Taken("c")),),
    ),
    Row(
        "O03-routes-sum",
        {"a": Rules(("Host:case.test", "Path:/x")), "b": Rules(("Path:/x",), 20)},
        ((Sent("/x"), Taken("a")), (Sent("/x", "other.test"), Taken("b"))),
    ),
    Row(
        "O04",
        {"rest": Rules(()), "named": Rules(("Host:a",))},
        hosts(Taken("named"), "a"),
    ),
    Row(
        "O05",
        {"rest": Rules(()), "named": Rules(("Host:a",))},
        hosts(Taken("rest"), "b"),
    ),
    Row(
        "O06",
        {"b": Rules(("PathPrefix:/tie",)), "a": Rules(("PathPrefix:/tie",))},
        each(Taken("a"), "/tie"),
        difference="equal priorities: by frontend name; 1.7 leaves the order open",
    ),
    Row(
        "O07-bytes",
        {
            "wide": Rules(("Path:/\u00e4\u00e4\u00e4,/x",)),
            "plain": Rules(("PathPrefix:/x",)),
        },
        each(Taken("wide"), "/x"),
    ),
)

ALL = (
    *HOST_ROWS,
    *HOST_REGEXP_ROWS,
    *PATH_ROWS,
    *PATH_PREFIX_ROWS,
    *OTHER_ROWS,
    *TEXT_ROWS,
    *MALFORMED_ROWS,
    *PRIORITY_ROWS,
)
"""Every row of this module."""
