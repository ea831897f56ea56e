from __future__ import annotations

from typing import Any

import pytest

from kvproxy.control.validation.validator import MAX_ENTRY_BYTES, Validator
from kvproxy.model.dynamic import (
    Auth,
    Backend,
    BasicAuth,
    ClientTLS,
    DigestAuth,
    ForwardAuth,
    Frontend,
    Headers,
    PassTLSClientCert,
    Redirect,
    Route,
    Server,
    WhiteList,
)
from kvproxy.model.messages import FrontendEntry
from kvproxy.model.static import EntryPoint, StaticConfiguration
from tests.unit.control.entries import BAD_RULE, SETTINGS, backend, frontend

VALIDATOR = Validator(SETTINGS)


def test_a_good_frontend_becomes_an_entry() -> None:
    content = frontend()
    verdict = VALIDATOR.frontend("file", "web", content)
    assert verdict.problems == ()
    assert verdict.entry is not None
    assert (verdict.entry.provider, verdict.entry.name) == ("file", "web")
    assert verdict.entry.frontend is content
    assert len(verdict.entry.digest) == 32


def test_default_entry_points_are_filled_in() -> None:
    attached, problems = VALIDATOR.attach("web", frontend())
    assert attached is not None
    assert attached.entry_points == ("http",)
    assert problems == ()


def test_known_entry_points_are_left_alone() -> None:
    content = frontend(entry_points=("https", "http"))
    assert VALIDATOR.attach("web", content) == (content, ())


def test_an_unknown_entry_point_is_dropped_with_a_warning() -> None:
    attached, problems = VALIDATOR.attach("web", frontend(entry_points=("htpp", "https")))
    assert attached is not None
    assert attached.entry_points == ("https",)
    (problem,) = problems
    assert not problem.fatal
    assert problem.path == "frontends.web.entryPoints"
    assert "htpp" in problem.message
    assert problem.expected == "one of http, https"
    assert problem.nearest == "http"


def test_only_unknown_entry_points_refuse_the_frontend() -> None:
    attached, problems = VALIDATOR.attach("web", frontend(entry_points=("a", "b")))
    assert attached is None
    assert [problem.fatal for problem in problems] == [True, True]
    assert {problem.entry for problem in problems} == {("frontends", "web")}


# The default entry point list names an unknown entry point: the known ones are used.
@pytest.mark.parametrize("case", ["N06"])
def test_unknown_default_entry_points_are_left_out(case: str) -> None:
    settings = StaticConfiguration(
        entry_points={"http": EntryPoint(address=":80")}, default_entry_points=("nowhere", "http")
    )
    attached, problems = Validator(settings).attach("web", frontend())
    assert attached is not None, case
    assert attached.entry_points == ("http",)
    assert problems == ()


def test_no_known_default_entry_point_refuses_the_frontend() -> None:
    settings = StaticConfiguration(
        entry_points={"http": EntryPoint(address=":80")}, default_entry_points=("nowhere",)
    )
    attached, (problem,) = Validator(settings).attach("web", frontend())
    assert attached is None
    assert problem.fatal
    assert problem.entry == ("frontends", "web")


BAD_RULES = {
    "T06-empty": "",
    "T06-no-argument": "Host",
    "T06-unknown": "Hosts:x",
    "T06-case": "host:x",
    "T06-header-alone": "Headers:X-A",
    "T06-bad-expression": "HeadersRegexp:X-A,(",
    "T06-query-alone": "Query:foo",
    "T07": "Path: /path1;Query:param_one=true, /path2",
    "surrogate": "Host:\ud800",
}


@pytest.mark.parametrize("rule", BAD_RULES.values(), ids=BAD_RULES)
def test_a_bad_rule_refuses_the_frontend(rule: str) -> None:
    verdict = VALIDATOR.frontend("file", "web", frontend(rule=rule))
    assert verdict.entry is None
    assert not verdict.closes
    (problem,) = verdict.problems
    assert problem.fatal
    assert problem.path == "frontends.web.routes.main.rule"
    assert problem.entry == ("frontends", "web")


def test_a_misspelled_matcher_names_the_nearest() -> None:
    (problem,) = VALIDATOR.frontend("file", "web", frontend(rule=BAD_RULE)).problems
    assert problem.nearest == "Host"


def test_a_rule_that_loads_but_cannot_match_warns() -> None:
    verdict = VALIDATOR.frontend("file", "web", frontend(rule="Host:h:8080"))
    assert verdict.entry is not None
    assert verdict.problems
    assert not any(problem.fatal for problem in verdict.problems)


def test_a_frontend_without_routes_loads() -> None:
    assert VALIDATOR.frontend("file", "web", Frontend(backend="one")).entry is not None


HASH = "{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="
PROOF = "traefik:a2688e031edb4be6a3797f3882655c05"


def basic(*users: str, **options: Any) -> Frontend:
    return frontend(auth=Auth(basic=BasicAuth(users=users, **options)))


def digest(*users: str) -> Frontend:
    return frontend(auth=Auth(digest=DigestAuth(users=users)))


def forward(**options: Any) -> Frontend:
    return frontend(auth=Auth(forward=ForwardAuth(**options)))


def custom(**headers: str) -> Frontend:
    return frontend(headers=Headers(custom_request_headers=headers))


UNUSABLE = {
    "A01": (basic("test"), "auth.basic", "user 1: expected `name:hash`"),
    "basic-third-user": (basic(f"a:{HASH}", f"b:{HASH}", "c"), "auth.basic", "user 3"),
    "basic-no-file": (basic(users_file="/nowhere/users"), "auth.basic", "/nowhere/users"),
    "basic-bad-field": (
        frontend(auth=Auth(header_field="X User", basic=BasicAuth(users=(f"a:{HASH}",)))),
        "auth.basic",
        "no header name",
    ),
    "A09": (digest("test"), "auth.digest", "user 1: expected `name:realm:HA1`"),
    "digest-other-realm": (digest("test:other:x"), "auth.digest", "realm"),
    "auth-without-method": (frontend(auth=Auth(header_field="X")), "auth", "no way"),
    "forward-no-url": (forward(address="10.0.0.1"), "auth.forward", "no `http` or `https` URL"),
    "forward-bad-url": (forward(address="http://a b/"), "auth.forward", "character"),
    "forward-tls-no-pair": (
        forward(address="https://a", tls=ClientTLS(ca="x")),
        "auth.forward",
        "certificate and its key",
    ),
    "forward-tls-no-file": (
        forward(address="https://a", tls=ClientTLS(ca="/nowhere", insecure_skip_verify=True)),
        "auth.forward",
        "the authority cannot be read",
    ),
    "N08": (frontend(basic_auth=("",)), "basicAuth", "user 1"),
    "white-list": (
        frontend(white_list=WhiteList(source_range=("10.0.0.0/8", "foo"))),
        "whiteList.sourceRange",
        "foo",
    ),
    "L15": (frontend(white_list=WhiteList(source_range=("",))), "whiteList.sourceRange", ""),
    "white-list-deprecated": (
        frontend(whitelist_source_range=("10.0.0.0/33",)),
        "whitelistSourceRange",
        "33",
    ),
    "pass-tls-cert-without-tls": (frontend(pass_tls_cert=True), "passTLSCert", "has no TLS"),
    "redirect-to-nowhere": (
        frontend(redirect=Redirect(entry_point="htps")),
        "redirect.entryPoint",
        "no entry point is named `htps`",
    ),
    "R15": (frontend(redirect=Redirect(regex="^(.*")), "redirect.regex", "missing"),
    "redirect-template": (
        frontend(redirect=Redirect(regex="^(.*)$", replacement="{{ .Foo }}")),
        "redirect.regex",
        "is not known",
    ),
    "header-value": (
        custom(X="a\r\nY: b"),
        "headers.customRequestHeaders",
        "the value holds a control character",
    ),
    "header-name": (custom(**{"X Y": "a"}), "headers.customRequestHeaders", "no header name"),
    "security-header": (
        frontend(headers=Headers(referrer_policy="a\nb")),
        "headers",
        "control character",
    ),
    "security-proxy-header": (
        frontend(headers=Headers(ssl_redirect=True, ssl_proxy_headers={"X\n": "a"})),
        "headers",
        "no header name",
    ),
}
ACCESS = ("auth", "basicAuth", "whiteList", "whitelistSourceRange")


@pytest.mark.parametrize(("content", "option", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_option_that_cannot_be_put_into_effect_refuses_the_frontend(
    content: Frontend, option: str, reason: str
) -> None:
    verdict = VALIDATOR.frontend("file", "web", content)
    assert verdict.entry is None
    (problem,) = verdict.problems
    assert (problem.path, problem.entry) == (f"frontends.web.{option}", ("frontends", "web"))
    assert reason in problem.message
    assert verdict.closes is option.startswith(ACCESS)


def test_a_misspelled_entry_point_of_a_redirect_names_the_nearest() -> None:
    content = frontend(redirect=Redirect(entry_point="htps"))
    (problem,) = VALIDATOR.frontend("file", "web", content).problems
    assert (problem.nearest, problem.expected) == ("https", "one of http, https")


def test_every_option_that_cannot_be_put_into_effect_is_named() -> None:
    content = frontend(
        basic_auth=("a",), whitelist_source_range=("foo",), redirect=Redirect(regex="(")
    )
    problems = VALIDATOR.frontend("file", "web", content).problems
    assert {problem.path.removeprefix("frontends.web.") for problem in problems} == {
        "basicAuth",
        "whitelistSourceRange",
        "redirect.regex",
    }


def test_custom_headers_that_the_proxy_alone_writes_warn() -> None:
    content = frontend(
        headers=Headers(
            custom_request_headers={"Host": "x", "X-A": "b"},
            custom_response_headers={"Content-Length": "1"},
        )
    )
    verdict = VALIDATOR.frontend("file", "web", content)
    assert verdict.entry is not None
    assert [problem.path.rpartition(".")[2] for problem in verdict.problems] == [
        "Host",
        "Content-Length",
    ]
    assert not any(problem.fatal for problem in verdict.problems)


USABLE = {
    "basic": basic(f"a:{HASH}"),
    "digest": digest(f"test:{PROOF}"),
    "forward": forward(address="http://10.0.0.1:4181/auth?x=1"),
    "empty-white-list": frontend(white_list=WhiteList()),
    "redirect": frontend(redirect=Redirect(entry_point="https")),
    "headers": frontend(headers=Headers(frame_deny=True, custom_response_headers={"X": ""})),
    "client-certificate": frontend(pass_tls_client_cert=PassTLSClientCert(pem=True)),
}


@pytest.mark.parametrize("content", USABLE.values(), ids=USABLE)
def test_options_of_middlewares(content: Frontend) -> None:
    verdict = VALIDATOR.frontend("file", "web", content)
    assert verdict.problems == ()
    assert verdict.entry is not None


def test_another_option_that_has_no_effect_yet_warns() -> None:
    content = Backend(servers={"s": Server(url="http://a", tags=("x",))})
    verdict = VALIDATOR.backend("file", "one", content)
    assert verdict.entry is not None
    (problem,) = verdict.problems
    assert not problem.fatal
    assert problem.path == "backends.one.servers.s.tags"


BAD_BACKENDS = {
    "url": (backend(url="10.0.0.1:80"), "url"),
    "weight": (backend(weight=-1), "weight"),
}


@pytest.mark.parametrize(("content", "option"), BAD_BACKENDS.values(), ids=BAD_BACKENDS)
def test_a_bad_server_refuses_the_backend(content: Backend, option: str) -> None:
    verdict = VALIDATOR.backend("file", "one", content)
    assert verdict.entry is None
    (problem,) = verdict.problems
    assert problem.path == f"backends.one.servers.server.{option}"
    assert problem.entry == ("backends", "one")


GOOD_BACKENDS = {
    "no-servers": Backend(),
    "weight-zero": backend(weight=0),
    "several": Backend(servers={"a": Server(url="http://a"), "b": Server(url="https://b:1")}),
    "E02": backend(url="http://127.0.0.1:8989474"),
    "E08": backend(url="ftp://127.0.0.1:21"),
}


@pytest.mark.parametrize("content", GOOD_BACKENDS.values(), ids=GOOD_BACKENDS)
def test_a_good_backend_becomes_an_entry(content: Backend) -> None:
    assert VALIDATOR.backend("file", "one", content).entry is not None


UNSENDABLE = {
    "surrogate-in-url": Backend(servers={"s": Server(url="http://a", tags=("\ud800",))}),
    "surrogate-in-name": Backend(servers={"\ud800": Server(url="http://a")}),
    "huge-number": backend(weight=2**70),
    "too-large": Backend(servers={"s": Server(url="http://a", tags=("x" * MAX_ENTRY_BYTES,))}),
}


@pytest.mark.parametrize("content", UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_cannot_be_passed_on_is_refused(content: Backend) -> None:
    verdict = VALIDATOR.backend("file", "one", content)
    assert verdict.entry is None
    (problem,) = (problem for problem in verdict.problems if problem.fatal)
    assert problem.entry == ("backends", "one")


ADMITTED = {
    "same-entry-points": (frontend(entry_points=("http",)), True),
    "entry-point-gone": (frontend(entry_points=("http", "gone")), False),
}


@pytest.mark.parametrize(("content", "admitted"), ADMITTED.values(), ids=ADMITTED)
def test_an_entry_of_an_earlier_process_is_admitted_by_todays_settings(
    content: Frontend, admitted: bool
) -> None:
    assert VALIDATOR.admits(FrontendEntry("file", "web", b"", content)) is admitted


def test_all_routes_of_a_frontend_are_judged() -> None:
    content = Frontend(backend="one", routes={"a": Route(rule="Host:a"), "b": Route(rule="Path")})
    (problem,) = VALIDATOR.frontend("file", "web", content).problems
    assert problem.path == "frontends.web.routes.b.rule"
