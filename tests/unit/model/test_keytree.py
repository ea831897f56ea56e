from __future__ import annotations

import random
from typing import Any, get_args, get_origin

import pytest
from hypothesis import HealthCheck as Check
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from kvproxy.model.decode import decode_configuration
from kvproxy.model.durations import NANOSECONDS
from kvproxy.model.dynamic import (
    Auth,
    Backend,
    BasicAuth,
    Certificate,
    CircuitBreaker,
    Configuration,
    Frontend,
    HealthCheck,
    LoadBalancer,
    MaxConn,
    Route,
    Server,
    Stickiness,
    TLSCertificate,
)
from kvproxy.model.keytree import EncodeError, encode_configuration, nest, split_key
from kvproxy.model.kinds import describe, fields_of


def decode(keys: dict[str, str]) -> tuple[Configuration, tuple[Any, ...]]:
    document = nest({key: value.encode() for key, value in keys.items()})
    return decode_configuration(document, where="/".join, style="kv")


SPLITS = [
    ("traefik/frontends/web/backend", "traefik", ("frontends", "web", "backend")),
    ("/traefik/frontends/web/backend", "traefik", ("frontends", "web", "backend")),
    ("traefik/frontends/web/backend", "/traefik/", ("frontends", "web", "backend")),
    ("a/b/Frontends/Web/Routes/r/rule", "a/b", ("frontends", "Web", "Routes/r/rule")),
    ("traefik/BACKENDS/b", "traefik", ("backends", "b", "")),
    ("traefik/backends/b/", "traefik", ("backends", "b", "")),
    ("traefik/tls/pair/certificate/", "traefik", ("tls", "pair", "certificate/")),
    ("traefik//backends//b/servers", "traefik", ("backends", "b", "servers")),
    ("frontends/web/backend", "", ("frontends", "web", "backend")),
    ("traefik/backends", "traefik", None),
    ("traefik/backends/", "traefik", None),
    ("traefik/alias", "traefik", None),
    ("traefik/loglevel", "traefik", None),
    ("traefik_configurations/frontends/web/backend", "traefik", None),
    ("Traefik/frontends/web/backend", "traefik", None),
    ("traefik", "traefik", None),
    ("", "traefik", None),
]


@pytest.mark.parametrize(("key", "prefix", "expected"), SPLITS, ids=[str(row) for row in SPLITS])
def test_split_key(key: str, prefix: str, expected: tuple[str, str, str] | None) -> None:
    assert split_key(key, prefix) == expected


NESTS: list[tuple[str, dict[str, bytes], dict[str, Any]]] = [
    ("nothing", {}, {}),
    ("levels", {"a/b": b"1", "a/c": b"2", "d": b"3"}, {"a": {"b": "1", "c": "2"}, "d": "3"}),
    ("own value", {"": b"x"}, {"": "x"}),
    ("value and parent", {"a": b"1", "a/b": b"2"}, {"a": {"": "1", "b": "2"}}),
    ("marker", {"a/": b"", "a/b": b"2"}, {"a": {"": "", "b": "2"}}),
    ("marker of a marker", {"a/": b"", "a": b"1"}, {"a": {"": "1"}}),
    ("value, marker, parent", {"a": b"1", "a/": b"", "a/b/c": b"2"},
     {"a": {"": "1", "b": {"c": "2"}}}),
    ("slashes", {"/a//b": b"1"}, {"a": {"b": "1"}}),
    ("not UTF-8", {"a": b"\xff"}, {"a": "\ufffd"}),
    ("two levels both values", {"a": b"1", "a/b": b"2", "a/b/c": b"3"},
     {"a": {"": "1", "b": {"": "2", "c": "3"}}}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"), [row[1:] for row in NESTS], ids=[row[0] for row in NESTS]
)
def test_nest(values: dict[str, bytes], expected: dict[str, Any]) -> None:
    assert nest(values) == expected
    shuffled = list(values.items())
    random.Random(1).shuffle(shuffled)
    assert nest(dict(shuffled)) == expected


@given(
    st.dictionaries(st.text(alphabet="ab/", max_size=8), st.sampled_from([b"", b"1", b"2"])),
    st.randoms(use_true_random=False),
)
def test_nest_does_not_depend_on_order(values: dict[str, bytes], shuffle: random.Random) -> None:
    items = list(values.items())
    shuffle.shuffle(items)
    assert nest(dict(items)) == nest(values)


EXAMPLE = {
    "backends/backend1/circuitbreaker/expression": "NetworkErrorRatio() > 0.5",
    "backends/backend1/servers/server1/url": "http://172.17.0.2:80",
    "backends/backend1/servers/server1/weight": "10",
    "backends/backend1/servers/server1/tags": "api,helloworld",
    "backends/backend1/servers/server2/url": "http://172.17.0.3:80",
    "backends/backend1/servers/server2/weight": "1",
    "backends/backend2/loadbalancer/method": "drr",
    "backends/backend2/maxconn/amount": "10",
    "backends/backend2/maxconn/extractorfunc": "request.host",
    "backends/backend2/healthcheck/path": "/health",
    "backends/backend2/healthcheck/interval": "10s",
    "backends/backend2/servers/server1/url": "http://172.17.0.4:80",
    "frontends/frontend1/backend": "backend2",
    "frontends/frontend1/entrypoints": "http",
    "frontends/frontend1/priority": "1",
    "frontends/frontend1/routes/test_1/rule": "Host:test.localhost",
    "frontends/frontend2/backend": "backend1",
    "frontends/frontend2/entrypoints": "http,https",
    "frontends/frontend2/priority": "10",
    "frontends/frontend2/passhostheader": "true",
    "frontends/frontend2/auth/basic/users/0": "test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/",
    "frontends/frontend2/routes/test_2/rule": "PathPrefix:/test",
    "tls/pair1/entrypoints": "https",
    "tls/pair1/certificate/certfile": "-----BEGIN\nA\n",
    "tls/pair1/certificate/keyfile": "-----BEGIN\nB\n",
}

EXAMPLE_CONFIGURATION = Configuration(
    backends={
        "backend1": Backend(
            circuit_breaker=CircuitBreaker(expression="NetworkErrorRatio() > 0.5"),
            servers={
                "server1": Server(
                    url="http://172.17.0.2:80", weight=10, tags=("api", "helloworld")
                ),
                "server2": Server(url="http://172.17.0.3:80"),
            },
        ),
        "backend2": Backend(
            load_balancer=LoadBalancer(method="drr"),
            max_conn=MaxConn(amount=10, extractor_func="request.host"),
            health_check=HealthCheck(path="/health", interval=10.0),
            servers={"server1": Server(url="http://172.17.0.4:80")},
        ),
    },
    frontends={
        "frontend1": Frontend(
            backend="backend2",
            entry_points=("http",),
            priority=1,
            pass_host_header=True,
            routes={"test_1": Route(rule="Host:test.localhost")},
        ),
        "frontend2": Frontend(
            backend="backend1",
            entry_points=("http", "https"),
            priority=10,
            pass_host_header=True,
            auth=Auth(basic=BasicAuth(users=("test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/",))),
            routes={"test_2": Route(rule="PathPrefix:/test")},
        ),
    },
    tls={
        "pair1": TLSCertificate(
            entry_points=("https",),
            certificate=Certificate(cert_file="-----BEGIN\nA\n", key_file="-----BEGIN\nB\n"),
        )
    },
)


def test_complete_example_of_traefik() -> None:
    assert decode(EXAMPLE) == (EXAMPLE_CONFIGURATION, ())


def test_upper_case_option_names() -> None:
    keys = {
        "/".join(
            part if number in (1, 3) else part.upper() for number, part in enumerate(key.split("/"))
        ): value
        for key, value in EXAMPLE.items()
    }
    assert decode(keys) == (EXAMPLE_CONFIGURATION, ())


def test_written_by_storeconfig() -> None:
    keys = {
        "backends/b/": "",
        "backends/b/loadbalancer/": "",
        "backends/b/loadbalancer/method": "wrr",
        "backends/b/loadbalancer/sticky": "false",
        "backends/b/loadbalancer/stickiness/": "",
        "backends/b/loadbalancer/stickiness/cookiename": "c",
        "backends/b/loadbalancer/stickiness/secure": "false",
        "backends/b/responseforwarding/flushinterval": "10ms",
        "frontends/f/": "",
        "frontends/f/backend": "b",
        "frontends/f/entrypoints/0": "http",
        "frontends/f/passhostheader": "false",
        "frontends/f/auth/forward/authresponseheaders/0": "X-A",
        "frontends/f/ratelimit/rateset/r/period": "10000000000",
        "frontends/f/routes/r/": "",
        "frontends/f/routes/r/rule": "Path:/{id:\\d+}",
        "tls/0/entrypoints/0": "https",
        "tls/0/certificate/certfile": "C",
    }
    configuration, problems = decode(keys)
    assert problems == ()
    backend, frontend = configuration.backends["b"], configuration.frontends["f"]
    assert backend.load_balancer == LoadBalancer(stickiness=Stickiness(cookie_name="c"))
    assert backend.response_forwarding is not None
    assert backend.response_forwarding.flush_interval == 0.01
    assert frontend.pass_host_header is False
    assert frontend.auth is not None
    assert frontend.auth.forward is not None
    assert frontend.auth.forward.auth_response_headers == ("X-A",)
    assert frontend.rate_limit is not None
    assert frontend.rate_limit.rate_set["r"].period == 10.0
    assert frontend.routes["r"].rule == "Path:/{id:\\d+}"
    assert configuration.tls["0"].certificate.cert_file == "C"


ENCODED: list[tuple[str, Configuration, dict[str, str]]] = [
    ("nothing", Configuration(), {}),
    ("empty backend", Configuration(backends={"b": Backend()}), {"backends/b": ""}),
    (
        "defaults are left out",
        Configuration(
            frontends={"f": Frontend(backend="b", pass_host_header=True)},
            backends={"b": Backend(servers={"s": Server(url="http://a")})},
        ),
        {"backends/b/servers/s/url": "http://a", "frontends/f/backend": "b"},
    ),
    (
        "what differs from the defaults of key-value stores",
        Configuration(
            frontends={"f": Frontend(backend="b", priority=3)},
            backends={"b": Backend(max_conn=MaxConn(), servers={"s": Server(url="u", weight=0)})},
        ),
        {
            "backends/b/maxconn/extractorfunc": "",
            "backends/b/servers/s/url": "u",
            "backends/b/servers/s/weight": "0",
            "frontends/f/backend": "b",
            "frontends/f/passhostheader": "false",
            "frontends/f/priority": "3",
        },
    ),
    (
        "lists, backslashes and durations",
        Configuration(
            frontends={
                "f": Frontend(
                    backend="b",
                    pass_host_header=True,
                    entry_points=("a,b", "c"),
                    routes={"r": Route(rule="Path:/{x:\\d}")},
                )
            },
            backends={"b": Backend(health_check=HealthCheck(interval=90.5))},
        ),
        {
            "backends/b/healthcheck/interval": "90.5s",
            "frontends/f/backend": "b",
            "frontends/f/entrypoints/0": "a,b",
            "frontends/f/entrypoints/1": "c",
            "frontends/f/routes/r/rule": "Path:/{x:\\\\d}",
        },
    ),
    (
        "sections without content",
        Configuration(
            frontends={"f": Frontend(backend="b", pass_host_header=True, auth=Auth())},
            backends={"b": Backend(load_balancer=LoadBalancer(stickiness=Stickiness()))},
        ),
        {
            "backends/b/loadbalancer/stickiness": "true",
            "frontends/f/auth": "",
            "frontends/f/backend": "b",
        },
    ),
]


@pytest.mark.parametrize(
    ("configuration", "keys"), [row[1:] for row in ENCODED], ids=[row[0] for row in ENCODED]
)
def test_encode(configuration: Configuration, keys: dict[str, str]) -> None:
    encoded = encode_configuration(configuration)
    assert encoded == keys
    assert list(encoded) == sorted(encoded)
    assert decode(encoded) == (configuration, ())


def test_long_lists_keep_their_order_in_lexicographic_readers() -> None:
    names = tuple(f"e{number}" for number in range(120))
    keys = encode_configuration(
        Configuration(frontends={"f": Frontend(backend="b", entry_points=names)})
    )
    found = tuple(keys[key] for key in sorted(keys) if "entrypoints" in key)
    assert found == names


IMPOSSIBLE: list[tuple[str, Configuration, str]] = [
    ("slash", Configuration(backends={"a/b": Backend()}), "'a/b' is empty or holds a slash"),
    ("empty name", Configuration(frontends={"": Frontend(backend="b")}), "'' is empty"),
    (
        "slash deep inside",
        Configuration(backends={"b": Backend(servers={"s/t": Server(url="u")})}),
        "backends.b.servers",
    ),
    (
        "empty list item",
        Configuration(frontends={"f": Frontend(backend="b", basic_auth=("",))}),
        "is empty or has white space",
    ),
    (
        "list item with white space",
        Configuration(frontends={"f": Frontend(backend="b", basic_auth=("a ",))}),
        "is empty or has white space",
    ),
]


@pytest.mark.parametrize(
    ("configuration", "text"), [row[1:] for row in IMPOSSIBLE], ids=[row[0] for row in IMPOSSIBLE]
)
def test_what_a_key_tree_cannot_hold(configuration: Configuration, text: str) -> None:
    with pytest.raises(EncodeError) as raised:
        encode_configuration(configuration)
    assert text in str(raised.value.problem)


# Names of entries that differ only by case are different entries.
NAMES = st.text(alphabet="aAbB01.-_ \\é", min_size=1, max_size=3)
TEXTS = st.text(alphabet='aB,;"\\ \n/é0', max_size=6)
ITEMS = st.text(alphabet='aB,"\\/é0', min_size=1, max_size=6)
DURATIONS = st.integers(-(10**15), 10**15).map(lambda number: number / NANOSECONDS)
REQUIRED = {"backend", "url"}


def values_of(annotation: Any, name: str) -> st.SearchStrategy[Any]:
    bare, extra, _ = describe(annotation)
    arguments = get_args(bare)
    if isinstance(bare, type) and issubclass(bare, Struct):
        return structs_of(bare)
    if get_origin(bare) is tuple:
        return st.lists(ITEMS, max_size=12).map(tuple)
    if get_origin(bare) is dict:
        return st.dictionaries(NAMES, values_of(arguments[1], ""), max_size=3)
    if bare is float and "kind" in extra:
        return DURATIONS
    return {
        str: TEXTS.filter(bool) if name in REQUIRED else TEXTS,
        bool: st.booleans(),
        int: st.integers(-(2**63), 2**63 - 1),
    }[bare]


def structs_of(kind: type[Struct]) -> st.SearchStrategy[Any]:
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields_of(kind):
        values = values_of(field.type, field.name)
        if field.default is None:
            values = st.none() | values
        (required if field.required else optional)[field.name] = values
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: kind(**given))


@settings(max_examples=150, suppress_health_check=[Check.too_slow])
@given(structs_of(Configuration))
def test_every_configuration_survives_the_key_tree(configuration: Configuration) -> None:
    keys = encode_configuration(configuration)
    assert all(key == key.strip("/") and "//" not in key for key in keys)
    assert decode(keys) == (configuration, ())


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.lists(
            st.sampled_from(
                ["frontends", "backends", "tls", "f", "", "backend", "routes", "r", "rule", "auth",
                 "entrypoints", "0", "1", "loadbalancer", "stickiness", "servers", "url", "weight"]
            ),
            min_size=1,
            max_size=6,
        ).map("/".join),
        st.sampled_from([b"", b"true", b"1", b"x,y", b"\xff"]),
        max_size=12,
    )
)  # fmt: skip
def test_any_key_tree_decodes_without_an_exception(values: dict[str, bytes]) -> None:
    configuration, problems = decode_configuration(nest(values), where="/".join, style="kv")
    refused = {problem.entry for problem in problems if problem.fatal}
    served = {("frontends", name) for name in configuration.frontends} | {
        ("backends", name) for name in configuration.backends
    }
    assert not refused & served
