from __future__ import annotations

from typing import Any, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import NODEFAULT, Struct
from msgspec.structs import replace

from kvproxy.config.settings import stated_by
from kvproxy.config.static_encoding import CREDENTIALS, NOT_STORED, encode_static
from kvproxy.config.static_keys import StaticKeys, StorePlace
from kvproxy.model.durations import NANOSECONDS
from kvproxy.model.key_options import option_of
from kvproxy.model.keytree import EncodeError
from kvproxy.model.kinds import describe, fields_of
from kvproxy.model.static import (
    EntryPoint,
    EntryPointTLS,
    ForwardedHeaders,
    LifeCycle,
    Ping,
    StaticConfiguration,
)
from kvproxy.model.static_acme import Acme, AcmeDomain, TLSChallenge
from kvproxy.model.static_observability import Api, Metrics, Prometheus, Tracing
from kvproxy.model.static_providers import ConsulProvider, EtcdProvider

PLACE = StorePlace("consul", ConsulProvider(), StaticConfiguration())


def decode(keys: dict[str, str], place: StorePlace = PLACE) -> StaticConfiguration:
    values = {key: value.encode() for key, value in keys.items()}
    return stated_by(StaticKeys(place, 1, values))


# The example of Traefik 1.7: logLevel="DEBUG", defaultEntryPoints=["http"], an entry point on :8000
# and [api], with --consul.endpoint. What Traefik writes that is not here: markers of directories.
TRAEFIK_EXAMPLE = {
    "accesslogsfile": "",
    "allowminweightzero": "false",
    "api/dashboard": "true",
    "api/debug": "false",
    "api/entrypoint": "traefik",
    "checknewversion": "true",
    "consul/debugloggeneratedtemplate": "false",
    "consul/endpoint": "127.0.0.1:8500",
    "consul/filename": "",
    "consul/prefix": "traefik",
    "consul/templateversion": "0",
    "consul/trace": "false",
    "consul/watch": "true",
    "debug": "false",
    "defaultentrypoints/0": "http",
    "entrypoints/http/address": ":8000",
    "entrypoints/http/compress": "false",
    "gracetimeout": "0",
    "healthcheck/interval": "30000000000",
    "idletimeout": "0",
    "insecureskipverify": "false",
    "keeptrailingslash": "false",
    "lifecycle/gracetimeout": "10000000000",
    "lifecycle/requestacceptgracetimeout": "0",
    "loglevel": "DEBUG",
    "maxidleconnsperhost": "200",
    "providersthrottleduration": "2000000000",
    "sendanonymoususage": "false",
    "traefiklogsfile": "",
}
OURS = {
    "allowunsafepaths",
    "massdeletionguard",
    "maxheaderbytes",
    "maxheaders",
    "respondingtimeouts",
    "forwardingtimeouts",
}
"""Keys that Traefik 1.7 does not write: our own options, and sections that are always there."""


def test_the_example_of_traefik() -> None:
    static = StaticConfiguration(
        log_level="DEBUG",
        entry_points={"http": EntryPoint(address=":8000")},
        api=Api(),
        consul=ConsulProvider(prefix="traefik"),
        providers_throttle_duration=2.0,
    )
    keys = encode_static(static, "consul")
    assert {key: keys.get(key) for key in TRAEFIK_EXAMPLE} == TRAEFIK_EXAMPLE
    ours = {key.partition("/")[0] for key in keys.keys() - TRAEFIK_EXAMPLE.keys()}
    assert ours >= OURS
    assert not ours & {key.partition("/")[0] for key in TRAEFIK_EXAMPLE}


ROWS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("duration", {"life_cycle": LifeCycle(grace_time_out=1.5)},
     {"lifecycle/gracetimeout": "1500000000"}),
    ("nanosecond", {"grace_time_out": 1e-9}, {"gracetimeout": "1"}),
    ("list", {"root_cas": ("/a", "/b")}, {"rootcas/0": "/a", "rootcas/1": "/b"}),
    ("empty list against a default", {"default_entry_points": ()}, {"defaultentrypoints": ""}),
    ("numbers", {"metrics": Metrics(prometheus=Prometheus(buckets=(0.1, 5.0)))},
     {"metrics/prometheus/buckets/0": "0.1", "metrics/prometheus/buckets/1": "5"}),
    ("long number", {"metrics": Metrics(prometheus=Prometheus(buckets=(0.123456789,)))},
     {"metrics/prometheus/buckets/0": "0.123456789"}),
    ("empty section", {"metrics": Metrics()}, {"metrics": ""}),
    ("section without options", {"acme": Acme(tls_challenge=TLSChallenge())},
     {"acme/tlschallenge": ""}),
    ("list of sections", {"acme": Acme(domains=(AcmeDomain(main="a", sans=("b",)),))},
     {"acme/domains/0/main": "a", "acme/domains/0/sans/0": "b"}),
    ("names keep their case", {"entry_points": {"MyHTTP": EntryPoint(address=":1")}},
     {"entrypoints/MyHTTP/address": ":1"}),
    ("trusted addresses",
     {"entry_points": {"a": EntryPoint(
         address=":1", forwarded_headers=ForwardedHeaders(trusted_ips=("10.0.0.0/8",)))}},
     {"entrypoints/a/forwardedheaders/insecure": "false",
      "entrypoints/a/forwardedheaders/trustedips/0": "10.0.0.0/8"}),
    ("backslashes are not doubled", {"traefik_logs_file": "a\\b"}, {"traefiklogsfile": "a\\b"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_encode(options: dict[str, Any], expected: dict[str, str]) -> None:
    static = StaticConfiguration(**options)
    keys = encode_static(static, "consul")
    assert {key: keys.get(key) for key in expected} == expected
    assert decode(keys) == static


def test_sections_that_are_absent_leave_no_key() -> None:
    tops = {key.partition("/")[0] for key in encode_static(StaticConfiguration(), "consul")}
    assert not tops & {"ping", "api", "docker", "consul", "file", "entrypoints", "rootcas"}


def test_what_belongs_to_the_machine_is_not_stored() -> None:
    static = StaticConfiguration(config_file="/a", state_dir="/b", pid_file="/c", workers=3)
    keys = encode_static(static, "consul")
    assert not {name.lower() for name in NOT_STORED} & keys.keys()
    assert keys == encode_static(StaticConfiguration(), "consul")


def test_a_store_does_not_hold_its_own_credentials() -> None:
    static = StaticConfiguration(
        consul=ConsulProvider(username="u", password="p"),
        etcd=EtcdProvider(username="u", password="p"),
    )
    keys = encode_static(static, "consul")
    assert not {f"consul/{name}" for name in CREDENTIALS} & keys.keys()
    assert keys["consul/endpoint"] == "127.0.0.1:8500"
    assert keys["etcd/password"] == "p"
    assert encode_static(static, "etcd")["consul/password"] == "p"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tracing": Tracing(service_name="")},
     "tracing.serviceName: is empty; a store cannot say so, the default `traefik` would count"),
    ({"ping": Ping(entry_point="")}, "ping.entryPoint: is empty"),
    ({"root_cas": ("",)}, "rootCAs: the list element '' is empty or has white space around it"),
    ({"constraints": ("tag==a ",)}, "constraints: the list element 'tag==a ' is empty"),
    ({"entry_points": {"a/b": EntryPoint(address=":1")}}, "the name 'a/b' is empty or holds"),
    ({"entry_points": {"": EntryPoint(address=":1")}}, "the name '' is empty or holds a slash"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[row[1][:30] for row in WRONG])
def test_what_no_key_can_say_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodeError) as raised:
        encode_static(StaticConfiguration(**options), "consul")
    assert message in str(raised.value)


NAMES = st.text(alphabet="aAbB01.-_ \\é", min_size=1, max_size=3)
TEXTS = st.text(alphabet='aB,;"\\ \n/é0', min_size=1, max_size=6)
ITEMS = st.text(alphabet='aB,"\\/é0', min_size=1, max_size=6)
DURATIONS = st.integers(0, 10**15).map(lambda number: number / NANOSECONDS)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32).map(float)


def values_of(annotation: Any, default: Any) -> st.SearchStrategy[Any]:
    bare, extra, _ = describe(annotation)
    arguments = get_args(bare)
    if isinstance(bare, type) and issubclass(bare, Struct):
        return structs_of(bare)
    if get_origin(bare) is tuple:
        items = ITEMS if arguments[0] is str else values_of(arguments[0], None)
        return st.lists(items, max_size=12).map(tuple)
    if get_origin(bare) is dict:
        return st.dictionaries(NAMES, values_of(arguments[1], None), max_size=3)
    if bare is float and "kind" in extra:
        return DURATIONS
    if bare is int:
        return st.integers(extra.get("least", -(2**63)), extra.get("most", 2**63 - 1))
    # The text that is empty where the default is not is the one thing that no key can say.
    texts = TEXTS | st.just("") if default == "" else TEXTS
    return {str: texts, bool: st.booleans(), float: NUMBERS}[bare]


def structs_of(kind: type[Struct]) -> st.SearchStrategy[Any]:
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields_of(kind):
        values = values_of(field.type, field.default)
        if field.default is None:
            values = st.none() | values
        (required if field.default is field.default_factory is NODEFAULT else optional)[
            field.name
        ] = values
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: kind(**given))


STORED = [each for each in fields_of(StaticConfiguration) if each.encode_name not in NOT_STORED]


@pytest.mark.parametrize("field", STORED, ids=[each.encode_name for each in STORED])
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_option_survives_the_store(field: Any, data: st.DataObject) -> None:
    value = data.draw(values_of(field.type, field.default))
    static = replace(StaticConfiguration(), **{field.name: value})
    # The store that is written to is another one: it would be reached, not read.
    keys = encode_static(static, "embedded" if field.encode_name == "consul" else "consul")
    place = replace(PLACE, store="embedded") if field.encode_name == "consul" else PLACE
    assert decode(keys, place) == static
    for key in keys:
        option = option_of(key)
        assert (option.key, option.known) == (key, True)


def test_a_whole_configuration_survives_the_store() -> None:
    static = StaticConfiguration(
        log_level="ERROR",
        entry_points={
            "http": EntryPoint(address=":80", compress=True),
            "https": EntryPoint(address=":443", tls=EntryPointTLS(min_version="VersionTLS12")),
        },
        default_entry_points=("http", "https"),
        ping=Ping(),
        etcd=EtcdProvider(endpoint="a:1,b:1", password="p"),
    )
    assert decode(encode_static(static, "consul")) == static
