from __future__ import annotations

import time
from typing import Any

import pytest

from kvproxy.model.decode import StyleName, decode_configuration, decode_entry
from kvproxy.model.dynamic import (
    Auth,
    Backend,
    BasicAuth,
    Buffering,
    Certificate,
    CertificateInfos,
    CircuitBreaker,
    ClientTLS,
    Configuration,
    DigestAuth,
    ErrorPage,
    ForwardAuth,
    Frontend,
    Headers,
    HealthCheck,
    LoadBalancer,
    MaxConn,
    NameSelection,
    PassTLSClientCert,
    Rate,
    RateLimit,
    Redirect,
    ResponseForwarding,
    Route,
    Server,
    Stickiness,
    TLSCertificate,
    WhiteList,
)
from kvproxy.model.problem import Problem


def place(path: tuple[str, ...]) -> str:
    return "at:" + "/".join(path)


def decode(
    section: str, document: Any, style: StyleName = "file"
) -> tuple[Frontend | Backend | TLSCertificate | None, list[Problem]]:
    return decode_entry(section, "x", document, where=place, style=style)


def summary(problem: Problem) -> tuple[str, str, str, bool]:
    return (problem.path, problem.message, problem.nearest, problem.fatal)


FRONTENDS: list[tuple[str, dict[str, Any], Frontend]] = [
    ("least", {"backend": "b"}, Frontend(backend="b")),
    (
        "usual",
        {"backend": "b", "entryPoints": ["http"], "routes": {"r": {"rule": "Host:a"}}},
        Frontend(backend="b", entry_points=("http",), routes={"r": Route(rule="Host:a")}),
    ),
    (
        "names in any case",
        {
            "BACKEND": "b",
            "entrypoints": ["A"],
            "PassHostHeader": True,
            "Routes": {"R": {"RULE": ""}},
        },
        Frontend(backend="b", entry_points=("A",), pass_host_header=True, routes={"R": Route()}),
    ),
    ("priority", {"backend": "b", "priority": -3}, Frontend(backend="b", priority=-3)),
    (
        "deprecated spellings",
        {
            "backend": "b",
            "basicAuth": ["u:h"],
            "whitelistSourceRange": ["::1"],
            "passTLSCert": True,
        },
        Frontend(
            backend="b", basic_auth=("u:h",), whitelist_source_range=("::1",), pass_tls_cert=True
        ),
    ),
    (
        "deprecated spellings in 1.7's documentation",
        {"backend": "b", "basicauth": ["u:h"], "whiteListSourceRange": ["::1"]},
        Frontend(backend="b", basic_auth=("u:h",), whitelist_source_range=("::1",)),
    ),
    (
        "white list",
        {"backend": "b", "whiteList": {"sourceRange": ["::1"], "useXForwardedFor": True}},
        Frontend(
            backend="b", white_list=WhiteList(source_range=("::1",), use_x_forwarded_for=True)
        ),
    ),
    (
        "client certificate",
        {
            "backend": "b",
            "passTLSClientCert": {
                "pem": True,
                "infos": {"sans": True, "subject": {"commonName": True}, "issuer": {}},
            },
        },
        Frontend(
            backend="b",
            pass_tls_client_cert=PassTLSClientCert(
                pem=True,
                infos=CertificateInfos(
                    sans=True, subject=NameSelection(common_name=True), issuer=NameSelection()
                ),
            ),
        ),
    ),
    (
        "authentication",
        {
            "backend": "b",
            "auth": {
                "headerField": "X-User",
                "basic": {"users": ["u:h"], "usersFile": "/f", "removeHeader": True},
                "digest": {"users": ["u:r:h"]},
                "forward": {
                    "address": "http://a",
                    "trustForwardHeader": True,
                    "authResponseHeaders": ["X-A"],
                    "tls": {"ca": "c", "caOptional": True, "cert": "d", "key": "e"},
                },
            },
        },
        Frontend(
            backend="b",
            auth=Auth(
                header_field="X-User",
                basic=BasicAuth(users=("u:h",), users_file="/f", remove_header=True),
                digest=DigestAuth(users=("u:r:h",)),
                forward=ForwardAuth(
                    address="http://a",
                    trust_forward_header=True,
                    auth_response_headers=("X-A",),
                    tls=ClientTLS(ca="c", ca_optional=True, cert="d", key="e"),
                ),
            ),
        ),
    ),
    (
        "errors",
        {"backend": "b", "errors": {"e": {"status": ["404"], "backend": "c", "query": "/x"}}},
        Frontend(backend="b", errors={"e": ErrorPage(status=("404",), backend="c", query="/x")}),
    ),
    (
        "rate limit with text, digits and a number",
        {
            "backend": "b",
            "ratelimit": {
                "extractorfunc": "client.ip",
                "rateset": {
                    "a": {"period": "1m30s", "average": 1, "burst": 2},
                    "b": {"period": "10"},
                    "c": {"period": 10},
                },
            },
        },
        Frontend(
            backend="b",
            rate_limit=RateLimit(
                extractor_func="client.ip",
                rate_set={
                    "a": Rate(period=90.0, average=1, burst=2),
                    "b": Rate(period=10.0),
                    "c": Rate(period=10.0),
                },
            ),
        ),
    ),
    (
        "redirect",
        {"backend": "b", "redirect": {"entryPoint": "https", "permanent": True}},
        Frontend(backend="b", redirect=Redirect(entry_point="https", permanent=True)),
    ),
    (
        "headers",
        {
            "backend": "b",
            "headers": {
                "customRequestHeaders": {"X-a": "1"},
                "SSLRedirect": True,
                "STSSeconds": 42,
                "forceSTSHeader": True,
                "browserXssFilter": True,
                "customBrowserXSSValue": "v",
                "sslProxyHeaders": {"X-Proto": "https"},
            },
        },
        Frontend(
            backend="b",
            headers=Headers(
                custom_request_headers={"X-a": "1"},
                ssl_redirect=True,
                sts_seconds=42,
                force_sts_header=True,
                browser_xss_filter=True,
                custom_browser_xss_value="v",
                ssl_proxy_headers={"X-Proto": "https"},
            ),
        ),
    ),
]

BACKENDS: list[tuple[str, dict[str, Any], Backend]] = [
    ("empty", {}, Backend()),
    (
        "server without weight",
        {"servers": {"s": {"url": "http://a"}}},
        Backend(servers={"s": Server(url="http://a", weight=0)}),
    ),
    (
        "server",
        {"servers": {"S.1": {"URL": "http://a", "weight": 3}}},
        Backend(servers={"S.1": Server(url="http://a", weight=3)}),
    ),
    (
        "sticky",
        {"loadBalancer": {"method": "drr", "sticky": True}},
        Backend(load_balancer=LoadBalancer(method="drr", sticky=True)),
    ),
    (
        "empty stickiness",
        {"loadBalancer": {"stickiness": {}}},
        Backend(load_balancer=LoadBalancer(stickiness=Stickiness())),
    ),
    (
        "everything else",
        {
            "circuitBreaker": {"expression": "NetworkErrorRatio() > 0.5"},
            "maxConn": {"amount": 5},
            "healthCheck": {"path": "/h", "interval": "1500ms", "headers": {"A": "b"}, "port": 8},
            "buffering": {"maxRequestBodyBytes": 10485760, "retryExpression": "x"},
            "responseForwarding": {"flushInterval": "10"},
        },
        Backend(
            circuit_breaker=CircuitBreaker(expression="NetworkErrorRatio() > 0.5"),
            max_conn=MaxConn(amount=5),
            health_check=HealthCheck(path="/h", interval=1.5, headers={"A": "b"}, port=8),
            buffering=Buffering(max_request_body_bytes=10485760, retry_expression="x"),
            response_forwarding=ResponseForwarding(flush_interval=10.0),
        ),
    ),
]

WRONG: list[tuple[str, str, Any, str, str]] = [
    # test id, section, document, path of the fatal problem below the entry, part of its text
    ("no table", "frontends", 3, "", "is a whole number; expected a table"),
    ("a list", "frontends", [], "", "is a list; expected a table"),
    ("no backend", "frontends", {}, ".backend", "is required"),
    ("empty backend", "frontends", {"backend": ""}, ".backend", "is required"),
    ("text wanted", "frontends", {"backend": 3}, ".backend", "is a whole number; expected text"),
    ("bool from text", "frontends", {"backend": "b", "passHostHeader": "true"}, ".passHostHeader",
     "is text; expected true or false without quotes"),
    ("bool from int", "frontends", {"backend": "b", "passHostHeader": 1}, ".passHostHeader",
     "is a whole number"),
    ("int from text", "frontends", {"backend": "b", "priority": "3"}, ".priority", "is text"),
    ("int from float", "frontends", {"backend": "b", "priority": 3.0}, ".priority", "fraction"),
    ("int from bool", "frontends", {"backend": "b", "priority": True}, ".priority", "true"),
    ("int too large", "frontends", {"backend": "b", "priority": 2**63}, ".priority", "too large"),
    ("list from text", "frontends", {"backend": "b", "entryPoints": "http"}, ".entryPoints",
     'is text; expected a list such as ["a", "b"]'),
    ("list of numbers", "frontends", {"backend": "b", "entryPoints": ["a", 3]}, ".entryPoints.1",
     "is a whole number"),
    ("map from list", "frontends", {"backend": "b", "routes": []}, ".routes", "is a list"),
    ("section from text", "frontends", {"backend": "b", "routes": {"r": "Host:a"}}, ".routes.r",
     "is text; expected a table"),
    ("header not text", "frontends",
     {"backend": "b", "headers": {"customRequestHeaders": {"A": 1}}},
     ".headers.customRequestHeaders.A", "is a whole number"),
    ("bad period", "frontends", {"backend": "b", "ratelimit": {"rateset": {"r": {"period": "1x"}}}},
     ".ratelimit.rateset.r.period", "`1x` is not a duration"),
    ("period with fraction", "frontends",
     {"backend": "b", "ratelimit": {"rateset": {"r": {"period": 1.5}}}},
     ".ratelimit.rateset.r.period", "is a number with a fraction"),
    ("interval without unit", "backends", {"healthCheck": {"interval": 10}},
     ".healthCheck.interval", "is a whole number; expected a duration with a unit"),
    ("server without url", "backends", {"servers": {"a.b": {"weight": 1}}}, '.servers."a.b".url',
     "is required"),
    ("certificate missing", "tls", {"entryPoints": ["https"]}, ".certificate", "is required"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "expected"), [row[1:] for row in FRONTENDS], ids=[row[0] for row in FRONTENDS]
)
def test_frontend_from_file(document: dict[str, Any], expected: Frontend) -> None:
    assert decode("frontends", document) == (expected, [])


@pytest.mark.parametrize(
    ("document", "expected"), [row[1:] for row in BACKENDS], ids=[row[0] for row in BACKENDS]
)
def test_backend_from_file(document: dict[str, Any], expected: Backend) -> None:
    assert decode("backends", document) == (expected, [])


@pytest.mark.parametrize(
    ("section", "document", "path", "text"),
    [row[1:] for row in WRONG],
    ids=[row[0] for row in WRONG],
)
def test_wrong_entry_is_refused_alone(section: str, document: Any, path: str, text: str) -> None:
    entry, problems = decode(section, document)
    assert entry is None
    assert [problem.path for problem in problems] == [f"{section}.x{path}"]
    problem = problems[0]
    assert problem.fatal
    assert problem.entry == (section, "x")
    assert text in str(problem)
    assert problem.where.startswith(f"at:{section}/x")

    good = {"frontends": {"backend": "b"}, "backends": {}, "tls": {"certificate": {}}}[section]
    configuration, problems_of_all = decode_configuration(
        {section: {"x": document, "good": good}}, where=place, style="file"
    )
    assert set(getattr(configuration, section)) == {"good"}
    assert problems_of_all == tuple(problems)


def test_every_problem_of_an_entry_is_reported() -> None:
    entry, problems = decode(
        "frontends", {"priority": "x", "routes": {"r": 1}, "entryPoint": [], "passHostHeader": 0}
    )
    assert entry is None
    assert [summary(problem) for problem in problems] == [
        ("frontends.x.priority", "is text", "", True),
        ("frontends.x.routes.r", "is a whole number", "", True),
        ("frontends.x.entryPoint", "unknown option", "entryPoints", False),
        ("frontends.x.passHostHeader", "is a whole number", "", True),
        ("frontends.x.backend", "is required", "", True),
    ]


@pytest.mark.parametrize("style", ["file", "kv"])
@pytest.mark.parametrize(
    ("section", "name", "nearest"),
    [
        ("frontends", "entryPoint", "entryPoints"),
        ("frontends", "passhostheaders", "passHostHeader"),
        ("frontends", "rateLimits", "ratelimit"),
        ("backends", "loadBalancers", "loadBalancer"),
        ("backends", "server", "servers"),
        ("backends", "zzzz", ""),
    ],
)
def test_unknown_option_is_a_warning(
    section: str, name: str, nearest: str, style: StyleName
) -> None:
    entry, problems = decode(section, {"backend": "b", name: "?"}, style)
    found = [problem for problem in problems if problem.path.endswith(f".{name}")]
    assert [summary(problem) for problem in found] == [
        (f"{section}.x.{name}", "unknown option", nearest, False)
    ]
    assert found[0].entry is None
    assert found[0].where == f"at:{section}/x/{name}"
    assert entry is not None


def test_unknown_option_of_a_small_section_names_what_there_is() -> None:
    _, problems = decode("frontends", {"backend": "b", "routes": {"r": {"zzz": "Host:a"}}})
    assert problems[0].expected == "one of rule"


@pytest.mark.parametrize(
    ("document", "value", "message"),
    [
        ({"backend": "a", "Backend": "b"}, "a", "is given twice; `backend` is used"),
        ({"Backend": "b", "backend": "a"}, "a", "is given twice; `backend` is used"),
        ({"BACKEND": "b", "Backend": "a"}, "b", "is given twice; `BACKEND` is used"),
    ],
)
def test_option_in_two_spellings(document: dict[str, Any], value: str, message: str) -> None:
    entry, problems = decode("frontends", document)
    assert entry == Frontend(backend=value)
    assert [(problem.message, problem.fatal) for problem in problems] == [(message, False)]


@pytest.mark.parametrize("text", ["10", "soon", "-", "1 s"])
def test_bad_check_interval_is_a_warning_and_the_default(text: str) -> None:
    entry, problems = decode("backends", {"healthCheck": {"path": "/", "interval": text}})
    assert entry == Backend(health_check=HealthCheck(path="/"))
    assert [problem.fatal for problem in problems] == [False]
    assert "the default is used" in problems[0].message


SHAPES: list[tuple[str, Any, list[tuple[str, tuple[str, str] | None]]]] = [
    ("section is a number", {"frontends": 3}, [("frontends", ("frontends", ""))]),
    ("section is a list", {"backends": []}, [("backends", ("backends", ""))]),
    ("tls is text", {"tls": "x"}, [("tls", ("tls", ""))]),
    ("unknown section", {"frontend": {}}, [("frontend", None)]),
    ("static option beside", {"logLevel": "DEBUG", "ENTRYPOINTS": {}}, []),
]


@pytest.mark.parametrize(
    ("document", "expected"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES]
)
def test_wrong_shape_does_not_lose_the_rest(
    document: dict[str, Any], expected: list[tuple[str, tuple[str, str] | None]]
) -> None:
    rest: dict[str, Any] = {"Frontends": {"a": {"backend": "b"}}, "Backends": {"b": {}}}
    rest = {name: rest[name] for name in rest if name.lower() not in document}
    configuration, problems = decode_configuration({**document, **rest}, where=place, style="file")
    assert set(configuration.frontends) | set(configuration.backends) == (
        {entry for section in rest.values() for entry in section}
    )
    assert [(problem.path, problem.entry) for problem in problems] == expected


@pytest.mark.parametrize("document", [None, 3, [], "x"])
def test_document_that_is_no_table(document: Any) -> None:
    configuration, problems = decode_configuration(document, where=place, style="file")
    assert configuration == Configuration()
    assert [(problem.fatal, problem.entry) for problem in problems] == [(True, None)]


def test_section_in_two_spellings_is_united() -> None:
    configuration, problems = decode_configuration(
        {"backends": {"a": {}, "b": {}}, "Backends": {"b": {"servers": {}}, "c": {}}},
        where=place,
        style="file",
    )
    assert set(configuration.backends) == {"a", "b", "c"}
    assert [(problem.path, problem.fatal) for problem in problems] == [("Backends.b", False)]


def test_tls_list_is_named_by_position() -> None:
    document = {
        "tls": [
            {"entryPoints": ["https"], "certificate": {"certFile": "c", "keyFile": "k"}},
            {"certificate": 3},
            {"certificate": {"certFile": "d"}},
        ]
    }
    configuration, problems = decode_configuration(document, where=place, style="file")
    assert configuration.tls == {
        "0": TLSCertificate(
            entry_points=("https",), certificate=Certificate(cert_file="c", key_file="k")
        ),
        "2": TLSCertificate(certificate=Certificate(cert_file="d")),
    }
    assert [problem.entry for problem in problems] == [("tls", "1")]
    assert problems[0].where == "at:tls/1/certificate"


KEY_VALUES: list[tuple[str, dict[str, Any], Frontend]] = [
    ("default", {"backend": "b"}, Frontend(backend="b", pass_host_header=True)),
    *(
        (
            f"boolean {text!r}",
            {"backend": "b", "passhostheader": text},
            Frontend(backend="b", pass_host_header=value),
        )
        for text, value in [
            ("1", True), ("t", True), ("T", True), ("TRUE", True), ("true", True), ("True", True),
            ("0", False), ("f", False), ("F", False), ("FALSE", False), ("false", False),
            ("False", False), (" false\n", False), ("", True),
        ]
    ),
    *(
        (
            f"number {text!r}",
            {"backend": "b", "priority": text},
            Frontend(backend="b", pass_host_header=True, priority=value),
        )
        for text, value in [
            ("10", 10), ("+10", 10), ("-1", -1), ("007", 7), (" 3\n", 3), ("", 0),
            ("9223372036854775807", 2**63 - 1),
        ]
    ),
    *(
        (
            f"period {text!r}",
            {"backend": "b", "ratelimit": {"rateset": {"r": {"period": text}}}},
            Frontend(
                backend="b",
                pass_host_header=True,
                rate_limit=RateLimit(rate_set={"r": Rate(period=value)}),
            ),
        )
        for text, value in [
            ("10s", 10.0), ("10", 10.0), ("1m30s", 90.0), ("10000000000", 10.0),
            ("1000000", 0.001), ("999999", 999999.0),
        ]
    ),
    *(
        (
            f"list {value!r}",
            {"backend": "b", "entrypoints": value},
            Frontend(backend="b", pass_host_header=True, entry_points=expected),
        )
        for value, expected in [
            ("http", ("http",)), (" http , https,,", ("http", "https")), ("", ()), (",", ()),
            ({"0": "a", "1": "b"}, ("a", "b")),
            ({"10": "c", "9": "b", "1": " a "}, ("a", "b", "c")),
            ({"b": "2", "a": "1"}, ("1", "2")), ({"x": "3", "10": "2", "9": "1"}, ("1", "2", "3")),
            ({"0": "a,b"}, ("a,b",)), ({"0": "", "1": "b"}, ("b",)), ({"": "", "0": "a"}, ("a",)),
        ]
    ),
    (
        "doubled backslash",
        {"backend": "b", "routes": {"r": {"rule": "Path:/{id:\\\\d+}\\w\\\\\\s"}}},
        Frontend(
            backend="b", pass_host_header=True, routes={"r": Route(rule="Path:/{id:\\d+}\\w\\\\s")}
        ),
    ),
    (
        "both spellings of the headers of forward authentication",
        {"backend": "b", "auth": {"forward": {".authresponseheaders": "A,B"}}},
        Frontend(
            backend="b",
            pass_host_header=True,
            auth=Auth(forward=ForwardAuth(auth_response_headers=("A", "B"))),
        ),
    ),
    (
        "marker of a directory",
        {
            "backend": "b",
            "auth": {"": "", "basic": {"": ""}},
            "routes": {"": "", "r": {"rule": "x"}},
        },
        Frontend(
            backend="b",
            pass_host_header=True,
            auth=Auth(basic=BasicAuth()),
            routes={"r": Route(rule="x")},
        ),
    ),
]  # fmt: skip

KEY_VALUE_BACKENDS: list[tuple[str, Any, Backend]] = [
    (
        "server defaults",
        {"servers": {"s": {"url": "http://a"}}},
        Backend(servers={"s": Server(url="http://a", weight=1)}),
    ),
    (
        "stickiness as a value",
        {"loadbalancer": {"stickiness": "true"}},
        Backend(load_balancer=LoadBalancer(stickiness=Stickiness())),
    ),
    (
        "stickiness as value and parent",
        {"loadbalancer": {"stickiness": {"": "true", "cookiename": "c"}}},
        Backend(load_balancer=LoadBalancer(stickiness=Stickiness(cookie_name="c"))),
    ),
    (
        "stickiness as parent only",
        {"loadbalancer": {"stickiness": {"cookiename": "c", "httponly": "true"}}},
        Backend(
            load_balancer=LoadBalancer(stickiness=Stickiness(cookie_name="c", http_only=True))
        ),
    ),
    (
        "stickiness turned off",
        {"loadbalancer": {"stickiness": {"": "false", "cookiename": "c"}}},
        Backend(load_balancer=LoadBalancer()),
    ),
    (
        "default key of maxconn",
        {"maxconn": {"amount": "6"}},
        Backend(max_conn=MaxConn(amount=6, extractor_func="request.host")),
    ),
    ("empty value", "", Backend()),
    ("flush interval", {"responseforwarding": {"flushinterval": "10ms"}},
     Backend(response_forwarding=ResponseForwarding(flush_interval=0.01))),
]  # fmt: skip

KEY_VALUE_WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("boolean", {"passhostheader": "yes"}, "passhostheader", "`yes` is not a boolean"),
    ("number", {"priority": "1_000"}, "priority", "`1_000` is not a whole number"),
    ("number too large", {"priority": "9223372036854775808"}, "priority", "not a whole number"),
    ("many digits", {"priority": "9" * 5000}, "priority", "is not a whole number"),
    ("other digits", {"priority": "٣"}, "priority", "is not a whole number"),
    ("parent for scalar", {"priority": {"0": "3"}}, "priority", "has keys below it"),
    ("value for section", {"auth": "true"}, "auth", "is a value; expected keys below it"),
    ("value for map", {"routes": "Host:a"}, "routes", "is a value; expected keys below it"),
    ("value and parent for map", {"routes": {"": "x", "r": {"rule": "a"}}}, "routes", "is a value"),
    ("parent for list item", {"entrypoints": {"0": {"a": "b"}}}, "entrypoints.0", "keys below it"),
    ("period", {"ratelimit": {"rateset": {"r": {"period": "x"}}}}, "ratelimit.rateset.r.period",
     "`x` is not a duration"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "expected"), [row[1:] for row in KEY_VALUES], ids=[row[0] for row in KEY_VALUES]
)
def test_frontend_from_keys(document: dict[str, Any], expected: Frontend) -> None:
    assert decode("frontends", document, "kv") == (expected, [])


@pytest.mark.parametrize(
    ("document", "expected"),
    [row[1:] for row in KEY_VALUE_BACKENDS],
    ids=[row[0] for row in KEY_VALUE_BACKENDS],
)
def test_backend_from_keys(document: dict[str, Any], expected: Backend) -> None:
    assert decode("backends", document, "kv") == (expected, [])


@pytest.mark.parametrize(
    ("document", "path", "text"),
    [row[1:] for row in KEY_VALUE_WRONG],
    ids=[row[0] for row in KEY_VALUE_WRONG],
)
def test_wrong_keys(document: dict[str, Any], path: str, text: str) -> None:
    entry, problems = decode("frontends", {"backend": "b", **document}, "kv")
    assert entry is None
    assert [problem.path for problem in problems] == [f"frontends.x.{path}"]
    assert text in str(problems[0])
    assert len(str(problems[0])) < 300


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"priority": {"": "3", "x": "4"}}, {"priority": 3}),
        ({"entrypoints": {"": "a,b", "0": "c"}}, {"entry_points": ("a", "b")}),
    ],
    ids=["scalar", "list"],
)
def test_value_that_is_also_a_parent(document: dict[str, Any], expected: dict[str, Any]) -> None:
    entry, problems = decode("frontends", {"backend": "b", **document}, "kv")
    assert entry == Frontend(backend="b", pass_host_header=True, **expected)
    assert [problem.fatal for problem in problems] == [False]
    assert "both a value and the parent" in problems[0].message


def test_whole_key_tree() -> None:
    configuration, problems = decode_configuration(
        {
            "": "",
            "alias": "other",
            "loglevel": "DEBUG",
            "frontends": {"": "", "f": {"backend": "b"}, "g": {"backend": ""}},
            "backends": "",
            "tls": {"pair": {"entrypoints": "https", "certificate": {"certfile": "c"}}},
        },
        where=place,
        style="kv",
    )
    assert configuration == Configuration(
        frontends={"f": Frontend(backend="b", pass_host_header=True)},
        tls={
            "pair": TLSCertificate(entry_points=("https",), certificate=Certificate(cert_file="c"))
        },
    )
    assert [problem.entry for problem in problems] == [("frontends", "g")]


def test_secrets_are_not_in_messages() -> None:
    _, problems = decode(
        "frontends",
        {"backend": "b", "auth": {"basic": {"users": "u:secret"}}, "basicAuth": "secret"},
    )
    assert len(problems) == 2
    assert "secret" not in "".join(map(str, problems))


def test_hundred_thousand_of_each_in_time() -> None:
    count = 100_000
    document = {
        "frontends": {
            f"f{number}": {
                "backend": f"b{number}",
                "entryPoints": ["http"],
                "passHostHeader": True,
                "routes": {"main": {"rule": f"Host:{number}.example.com"}},
            }
            for number in range(count)
        },
        "backends": {
            f"b{number}": {"servers": {"s": {"url": "http://10.0.0.1:80", "weight": 1}}}
            for number in range(count)
        },
    }
    started = time.process_time()
    configuration, problems = decode_configuration(document, where=place, style="file")
    used = time.process_time() - started
    assert len(configuration.frontends) == len(configuration.backends) == count
    assert problems == ()
    assert used < 2
