from __future__ import annotations

import pytest

from kvproxy.control.validation import MAX_ENTRY_BYTES, Validator
from kvproxy.model.dynamic import (
    Auth,
    Backend,
    BasicAuth,
    Frontend,
    Headers,
    HealthCheck,
    MaxConn,
    RateLimit,
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


SECURITY = {
    "auth": (frontend(auth=Auth(basic=BasicAuth(users=("a:b",)))), True),
    "N08-basic-auth": (frontend(basic_auth=("",)), True),
    "white-list": (frontend(white_list=WhiteList(source_range=("10.0.0.0/8",))), True),
    "white-list-source-range": (frontend(whitelist_source_range=("10.0.0.0/8",)), True),
    "redirect": (frontend(redirect=Redirect(entry_point="https")), False),
    "rate-limit": (frontend(rate_limit=RateLimit(extractor_func="client.ip")), False),
    "ssl-redirect": (frontend(headers=Headers(ssl_redirect=True)), False),
}


@pytest.mark.parametrize(("content", "closes"), SECURITY.values(), ids=SECURITY)
def test_a_security_option_that_has_no_effect_yet_refuses_the_frontend(
    content: Frontend, closes: bool
) -> None:
    verdict = VALIDATOR.frontend("file", "web", content)
    assert verdict.entry is None
    assert verdict.closes is closes
    assert any(problem.entry == ("frontends", "web") for problem in verdict.problems)


def test_another_option_that_has_no_effect_yet_warns() -> None:
    content = Backend(
        servers={"s": Server(url="http://a")}, health_check=HealthCheck(path="/health")
    )
    verdict = VALIDATOR.backend("file", "one", content)
    assert verdict.entry is not None
    (problem,) = verdict.problems
    assert not problem.fatal
    assert problem.path == "backends.one.healthCheck"


def test_a_security_option_of_a_backend_refuses_the_backend() -> None:
    content = Backend(max_conn=MaxConn(amount=1, extractor_func="client.ip"))
    assert VALIDATOR.backend("file", "one", content).entry is None


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
    "access-control": (frontend(entry_points=("http",), basic_auth=("a:b",)), False),
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
