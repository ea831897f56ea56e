from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import rtoml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from kvproxy.config.options import options
from kvproxy.config.settings import Settings, SettingsError, load_settings
from kvproxy.config.static_keys import StaticKeys, StorePlace
from kvproxy.model.static import (
    EntryPoint,
    ForwardedHeaders,
    LifeCycle,
    Ping,
    Retry,
    StaticConfiguration,
)
from kvproxy.model.static_observability import Api, Metrics, Prometheus
from kvproxy.model.static_providers import EtcdProvider

if TYPE_CHECKING:
    from collections.abc import Sequence

Everybody = ForwardedHeaders(insecure=True)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)
    return Load(tmp_path)


class Load:
    """Loads settings from a file's text, arguments and keys."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "kvproxy.toml"

    def __call__(
        self, file: str = "", arguments: Sequence[str] = (), keys: dict[str, str] | None = None
    ) -> Settings:
        if file:
            self.file.write_text(file)
        return load_settings(arguments, environment={}, keys=static_keys(keys))

    def problems(self, *sources: Any, **named: Any) -> list[str]:
        try:
            found = self(*sources, **named).problems
            assert not any(problem.fatal for problem in found)
        except SettingsError as error:
            found = error.problems
            assert any(problem.fatal for problem in found)
            assert str(found[[problem.fatal for problem in found].index(True)]) in str(error)
        return [
            ("fatal " if problem.fatal else "warning ")
            + str(problem).replace(str(self.file), "kvproxy.toml")
            for problem in found
        ]


PLACE = StorePlace("etcd", EtcdProvider(prefix=""), StaticConfiguration())


def static_keys(values: dict[str, str] | None) -> StaticKeys | None:
    if values is None:
        return None
    return StaticKeys(PLACE, 1, {key: value.encode() for key, value in values.items()})


def option(static: StaticConfiguration, path: str) -> Any:
    value: Any = static
    for part in path.split("."):
        value = getattr(value, part) if isinstance(value, Struct) else value[part]
    return value


# For each type of option: attribute, name, default; for each layer: how it is said, what comes out.
FileRow = tuple[str, Any]
ArgumentRow = tuple[list[str], Any]
StoreRow = tuple[dict[str, str], Any]
TYPES: dict[str, tuple[str, str, Any, FileRow, ArgumentRow, StoreRow]] = {
    "text": (
        "log_level", "logLevel", "INFO",
        ('logLevel = "error"', "ERROR"),
        (["--logLevel=warn"], "WARN"),
        ({"loglevel": "debug"}, "DEBUG"),
    ),
    "boolean": (
        "keep_trailing_slash", "keepTrailingSlash", False,
        ("keepTrailingSlash = true", True),
        (["--keepTrailingSlash=false"], False),
        ({"keeptrailingslash": "T"}, True),
    ),
    "whole number": (
        "max_idle_conns_per_host", "maxIdleConnsPerHost", 200,
        ("maxIdleConnsPerHost = 1", 1),
        (["--maxidleconnsperhost", "2"], 2),
        ({"maxidleconnsperhost": "3"}, 3),
    ),
    "duration": (
        "providers_throttle_duration", "providersThrottleDuration", 0.0,
        ('providersThrottleDuration = "1m30s"', 90.0),
        (["--providersThrottleDuration=2"], 2.0),
        ({"providersthrottleduration": "3000000000"}, 3.0),
    ),
    "duration in another spelling": (
        "forwarding_timeouts.dial_timeout", "forwardingTimeouts.dialTimeout", 30.0,
        ("[forwardingTimeouts]\ndialTimeout = 1", 1.0),
        (["--forwardingTimeouts.dialTimeout=2s"], 2.0),
        ({"forwardingtimeouts/dialtimeout": "3s"}, 3.0),
    ),
    "list": (
        "constraints", "constraints", (),
        ('constraints = ["tag==a", "tag==b"]', ("tag==a", "tag==b")),
        (["--constraints=tag==c,tag==d", "--constraints=tag==e"], ("tag==c", "tag==d", "tag==e")),
        ({"constraints/0": "tag==f"}, ("tag==f",)),
    ),
    "list by commas in keys": (
        "root_cas", "rootCAs", (),
        ('rootCAs = ["/a"]', ("/a",)),
        (["--rootCAs=/b,/c"], ("/b", "/c")),
        ({"rootcas": "/d,/e"}, ("/d", "/e")),
    ),
    "map": (
        "access_log.fields.names", "accessLog.fields.names.A", None,
        ("[accessLog.fields.names]\nA = \"file\"", {"A": "file"}),
        (["--accessLog.fields.names=A=argument"], {"A": "argument"}),
        ({"accesslog/fields/names/A": "store"}, {"A": "store"}),
    ),
    "option of a section": (
        "life_cycle.grace_time_out", "lifeCycle.graceTimeOut", 10.0,
        ("[lifecycle]\ngracetimeout = 1", 1.0),
        (["--lifecycle.gracetimeout=2"], 2.0),
        ({"lifecycle/gracetimeout": "3000000000"}, 3.0),
    ),
    "address of an entry point": (
        "entry_points.http.address", "entryPoints.http.address", ":80",
        ("[entryPoints.http]\naddress = \":1\"", ":1"),
        (["--entryPoints=Name:http Address::2"], ":2"),
        ({"entrypoints/http/address": ":3"}, ":3"),
    ),
}  # fmt: skip

PAIRS = [
    (kind, lower, higher)
    for kind in TYPES
    for lower, higher in [
        ("default", "default"), ("default", "file"), ("default", "argument"), ("default", "store"),
        ("file", "argument"), ("file", "store"), ("argument", "store"),
    ]
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "lower", "higher"), PAIRS, ids=[f"{kind}: {low} < {high}" for kind, low, high in PAIRS]
)
def test_higher_layer_wins(load: Load, kind: str, lower: str, higher: str) -> None:
    path, name, default, file, arguments, keys = TYPES[kind]
    given = {lower, higher}
    settings = load(
        file[0] if "file" in given else "",
        arguments[0] if "argument" in given else (),
        keys[0] if "store" in given else None,
    )
    expected = {"default": default, "file": file[1], "argument": arguments[1], "store": keys[1]}
    if expected[higher] is None:
        assert settings.static.access_log is None
        assert name not in settings.sources
        return
    assert option(settings.static, path) == expected[higher]
    if higher != "default" or name in settings.sources:
        assert settings.sources[name] == higher


def test_all_layers_together(load: Load) -> None:
    settings = load(
        'logLevel = "ERROR"\nworkers = 1\nmaxHeaders = 9\n[lifeCycle]\ngraceTimeOut = 1\n',
        ["--workers=2", "--maxHeaderBytes=2048", "--lifeCycle.requestAcceptGraceTimeout=2"],
        {"maxheaderbytes": "4096", "maxheaders": ""},
    )
    static = settings.static
    assert (static.log_level, static.workers) == ("ERROR", 2)
    assert (static.max_header_bytes, static.max_headers) == (4096, 9)
    assert static.life_cycle == LifeCycle(request_accept_grace_timeout=2.0, grace_time_out=1.0)
    assert settings.problems == ()
    assert {name: settings.sources[name] for name in ("logLevel", "workers", "maxHeaderBytes")} == {
        "logLevel": "file",
        "workers": "argument",
        "maxHeaderBytes": "store",
    }
    assert settings.sources["insecureSkipVerify"] == "default"
    assert "docker.endpoint" not in settings.sources
    assert settings.configuration_file == str(load.file) == static.config_file


# How a duration may be written, where, and how many seconds it is; None: it is refused.
DURATIONS: list[tuple[str, str, float | None]] = [
    *(("file", text, seconds) for text, seconds in (
        ("10", 10.0), ('"10"', 10.0), ('"10s"', 10.0), ('"1m"', 60.0), ('"1m30s"', 90.0),
        ('"1h2m3s"', 3723.0), ('"300ms"', 0.3), ('"1.5h"', 5400.0), ('"2us"', 2e-6),
        ('"2\u00b5s"', 2e-6), ('"7ns"', 7e-9), ('"0"', 0.0), ("0", 0.0), ("1.5", None),
        ('"1d"', None), ('"ten"', None), ('""', None), ("true", None))),
    *(("argument", text, seconds) for text, seconds in (
        ("10", 10.0), ("10s", 10.0), ("1m30s", 90.0), ("300ms", 0.3), ("0", 0.0), ("1.5h", 5400.0),
        ("10000000000", None), ("1d", None), ("1.5", None))),
    *(("store", text, seconds) for text, seconds in (
        ("10000000000", 10.0), ("0", 0.0), ("1", 1e-9), ("10s", 10.0), ("1m30s", 90.0),
        (" 10s ", 10.0), ("", 10.0), ("1d", None), ("1.5", None))),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "text", "seconds"), DURATIONS)
def test_durations(load: Load, layer: str, text: str, seconds: float | None) -> None:
    sources: tuple[Any, ...] = {
        "file": (f"[lifeCycle]\ngraceTimeOut = {text}\n",),
        "argument": ("", [f"--lifeCycle.graceTimeOut={text}"]),
        "store": ("", (), {"lifecycle/gracetimeout": text}),
    }[layer]
    if seconds is None:
        with pytest.raises(SettingsError, match=r"(?i)graceTimeOut"):
            load(*sources)
    else:
        assert load(*sources).static.life_cycle.grace_time_out == seconds


COMBINED: list[tuple[str, str, list[str], dict[str, str], dict[str, EntryPoint]]] = [
    ("none", "", [], {}, {"http": EntryPoint(address=":80", forwarded_headers=Everybody)}),
    (
        "united by name",
        '[entryPoints.a]\naddress = ":1"\n',
        ["--entryPoints=Name:b Address::2"],
        {"entrypoints/c/address": ":3"},
        {
            name: EntryPoint(address=address, forwarded_headers=Everybody)
            for name, address in (("a", ":1"), ("b", ":2"), ("c", ":3"))
        },
    ),
    (
        "argument replaces the whole entry",
        '[entryPoints.a]\naddress = ":1"\n[entryPoints.a.forwardedHeaders]\ninsecure = false\n',
        ["--entryPoints=Name:a Address::2"],
        {},
        {"a": EntryPoint(address=":2", forwarded_headers=Everybody)},
    ),
    (
        "last argument of a name counts",
        "",
        ["--entryPoints=Name:a Address::1 Compress:true", "--entryPoints=Name:a Address::2"],
        {},
        {"a": EntryPoint(address=":2", forwarded_headers=Everybody)},
    ),
    (
        "key overlays one option",
        '[entryPoints.a]\naddress = ":1"\n[entryPoints.a.forwardedHeaders]\n'
        'trustedIPs = ["10.0.0.0/8"]\n',
        [],
        {"entrypoints/a/address": ":2"},
        {
            "a": EntryPoint(
                address=":2", forwarded_headers=ForwardedHeaders(trusted_ips=("10.0.0.0/8",))
            )
        },
    ),
    (
        "trusted addresses by argument",
        "",
        ["--entryPoints=Name:a Address:[::1]:1 ForwardedHeaders.TrustedIPs:10.0.0.3/24,::1"],
        {},
        {
            "a": EntryPoint(
                address="[::1]:1",
                forwarded_headers=ForwardedHeaders(trusted_ips=("10.0.0.3/24", "::1")),
            )
        },
    ),
    (
        "names keep their case",
        '[entryPoints.A]\naddress = ":1"\n',
        [],
        {"entrypoints/a/address": ":2"},
        {
            "A": EntryPoint(address=":1", forwarded_headers=Everybody),
            "a": EntryPoint(address=":2", forwarded_headers=Everybody),
        },
    ),
]


@pytest.mark.parametrize(
    ("file", "arguments", "keys", "expected"),
    [row[1:] for row in COMBINED],
    ids=[row[0] for row in COMBINED],
)
def test_entry_points(
    load: Load,
    file: str,
    arguments: list[str],
    keys: dict[str, str],
    expected: dict[str, EntryPoint],
) -> None:
    assert load(file, arguments, keys).static.entry_points == expected


SECTION_ROWS: list[tuple[str, str, list[str], dict[str, str], Any, Any]] = [
    ("absent", "", [], {}, None, None),
    ("file", "[ping]\n[retry]\nattempts = 3\n", [], {}, Ping(), Retry(attempts=3)),
    ("bare flag resets", "[retry]\nattempts = 3\n", ["--retry"], {}, None, Retry()),
    ("flag of a leaf keeps the rest", "[retry]\nattempts = 3\n", ["--ping.entryPoint=http"], {},
     Ping(entry_point="http"), Retry(attempts=3)),
    ("flag and its leaf", "[retry]\nattempts = 3\n", ["--retry", "--retry.attempts=4"], {}, None,
     Retry(attempts=4)),
    ("false does not remove", "[retry]\nattempts = 3\n", ["--retry=false"], {}, None,
     Retry(attempts=3)),
    ("key makes a section with the usual defaults", "", [], {"ping/entrypoint": ""}, Ping(), None),
    ("marker of a section", "", [], {"retry/": "", "retry/attempts": "0"}, None, Retry()),
    ("key overlays", "[retry]\nattempts = 3\n", [], {"retry/attempts": "5"}, None,
     Retry(attempts=5)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "arguments", "keys", "ping", "retry"),
    [row[1:] for row in SECTION_ROWS],
    ids=[row[0] for row in SECTION_ROWS],
)
def test_sections(
    load: Load, file: str, arguments: list[str], keys: dict[str, str], ping: Any, retry: Any
) -> None:
    static = load(file, arguments, keys).static
    assert (static.ping, static.retry) == (ping, retry)


PROBLEMS: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "unknown key of the file",
        {"file": 'logLevl = "x"\n[entryPoints.http]\naddress = ":1"\nadress = ":2"\n'},
        [
            "warning kvproxy.toml:1: logLevl: unknown option; did you mean `logLevel`?",
            "warning kvproxy.toml:4: entryPoints.http.adress: unknown option; "
            "did you mean `address`?",
        ],
    ),
    (
        "wrong types, all of them",
        {"file": 'workers = "2"\n[lifeCycle]\ngraceTimeOut = "soon"\n[retry]\nattempts = -1\n'},
        [
            "fatal kvproxy.toml:1: workers: is text; expected a whole number without quotes",
            "fatal kvproxy.toml:3: lifeCycle.graceTimeOut: `soon` is not a duration; "
            "expected a duration such as 10s or 1m30s (digits alone are seconds)",
            "fatal kvproxy.toml:5: retry.attempts: -1 is out of bounds; expected at least 0",
        ],
    ),
    (
        "flags and file at once",
        {"file": "workers = true\n", "arguments": ["--wrkers=3", "--massDeletionGuard=101"]},
        [
            "fatal --wrkers: unknown flag; did you mean `--workers`?",
            "fatal kvproxy.toml:1: workers: is true or false; "
            "expected a whole number without quotes",
            "fatal --massDeletionGuard: massDeletionGuard: 101 is out of bounds; "
            "expected from 0 to 100",
        ],
    ),
    (
        "broken file",
        {"file": '[entryPoints.http]\naddress = ":1\n'},
        ['fatal kvproxy.toml:2:14: entryPoints.http.address: not TOML: invalid basic string; '
         'expected `"`'],
    ),
    (
        "keys",
        {"keys": {"workers": "two", "retry": "true", "foo/bar": "x"}},
        [
            "warning foo: foo: unknown option",
            "fatal retry: retry: is a value; expected keys below it",
            "fatal workers: workers: `two` is not a whole number; expected a whole number",
        ],
    ),
    (
        "given file is missing",
        {"arguments": ["--configFile=missing.toml"]},
        ["fatal --configFile: `missing.toml` does not exist; expected a file or a directory"],
    ),
    (
        "addresses",
        {
            "file": '[entryPoints.a]\naddress = "80"\n[entryPoints.b]\ncompress = true\n'
            '[entryPoints.c]\naddress = ":70000"\n',
            "arguments": ["--entryPoints=Name:d Address::1", "--entryPoints=Name:e Address::1",
                          "--defaultEntryPoints=d"],
        },
        [
            "fatal kvproxy.toml:2: entryPoints.a.address: `80` is no address; "
            "expected `host:port` or `:port`",
            "fatal kvproxy.toml:3: entryPoints.b.address: is required; "
            "expected `host:port` or `:port`",
            "fatal kvproxy.toml:6: entryPoints.c.address: `:70000` is no address; "
            "expected `host:port` or `:port`",
            "fatal --entryPoints: entryPoints.e.address: `:1` is also an address of `d`; "
            "expected another",
        ],
    ),
    (
        "trusted addresses",
        {"arguments": ["--entryPoints=Name:http Address::1 ForwardedHeaders.TrustedIPs:::1/999"]},
        ["fatal --entryPoints: entryPoints.http.forwardedHeaders.trustedIPs: `::1/999` is no "
         "address; expected an IP address or a network (CIDR)"],
    ),
    (
        "TLS",
        {"file": '[entryPoints.s]\naddress = ":1"\n[entryPoints.s.tls]\n'
         'minVersion = "VersionTLS21"\nclientCAFiles = ["ca.pem"]\n'
         'cipherSuites = ["TLS_RSA_WITH_AES_128_GCM_SHA", "TLS_RSA_WITH_RC4_128_SHA"]\n'
         '[entryPoints.t]\naddress = ":2"\n[entryPoints.t.tls]\n'
         'cipherSuites = ["TLS_RSA_WITH_RC4_128_SHA"]\n'},
        [
            "fatal kvproxy.toml:4: entryPoints.s.tls.minVersion: `VersionTLS21` is no version; "
            "expected one of VersionTLS10, VersionTLS11, VersionTLS12, VersionTLS13; "
            "did you mean `VersionTLS13`?",
            "fatal kvproxy.toml:6: entryPoints.s.tls.cipherSuites: `TLS_RSA_WITH_AES_128_GCM_SHA` "
            "is no cipher suite; expected names such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256; "
            "did you mean `TLS_RSA_WITH_AES_128_GCM_SHA256`?",
            "warning kvproxy.toml:6: entryPoints.s.tls.cipherSuites: `TLS_RSA_WITH_RC4_128_SHA` "
            "is not offered any more",
            "warning kvproxy.toml:5: entryPoints.s.tls.clientCAFiles: is deprecated; used as "
            "clientCA.files",
            "warning kvproxy.toml:10: entryPoints.t.tls.cipherSuites: `TLS_RSA_WITH_RC4_128_SHA` "
            "is not offered any more",
            "fatal kvproxy.toml:10: entryPoints.t.tls.cipherSuites: names no suite that is "
            "offered; expected others",
            "warning defaultEntryPoints: no entry point is named `http`; expected one of s, t",
        ],
    ),
    (
        "users of an entry point",
        {"arguments": ["--entryPoints=Name:http Address::1 Auth.Basic.Users:a:b,c"]},
        ["fatal --entryPoints: entryPoints.http.auth.basic: user 2: expected `name:hash`, "
         "two fields"],
    ),
    (
        "white list of an entry point",
        {"file": '[entryPoints.http]\naddress = ":1"\nwhiteListSourceRange = ["foo"]\n'},
        ["fatal kvproxy.toml:3: entryPoints.http.whiteListSourceRange: 'foo' does not appear to "
         "be an IPv4 or IPv6 network"],
    ),
    (
        "redirect of an entry point to itself",
        {"arguments": ["--entryPoints=Name:http Address::1 Redirect.EntryPoint:http"]},
        ["fatal --entryPoints: entryPoints.http.redirect.entryPoint: the entry point redirects "
         "to itself; expected another one"],
    ),
    (
        "redirect of an entry point to nowhere",
        {"arguments": ["--entryPoints=Name:http Address::1 Redirect.EntryPoint:https"]},
        ["fatal --entryPoints: entryPoints.http.redirect.entryPoint: no entry point is named "
         "`https`; expected one of http; did you mean `http`?"],
    ),
    (
        "expression of an entry point",
        {"file": '[entryPoints.http]\naddress = ":1"\n[entryPoints.http.redirect]\n'
         'regex = "("\nreplacement = "x"\n'},
        ["fatal kvproxy.toml:4: entryPoints.http.redirect.regex: missing ): ("],
    ),
    (
        "options that are not active yet, once for each section",
        {"file": '[docker]\nendpoint = "x"\n[docker.tls]\nca = "c"\n', "arguments": ["--tracing"]},
        [
            "warning kvproxy.toml:1: docker: is accepted, but not active yet: it has no effect",
            "warning --tracing: tracing: is accepted, but not active yet: it has no effect",
        ],
    ),
    (
        "inactive options at their default",
        {"file": 'checkNewVersion = true\n[entryPoints.http]\naddress = ":1"\ncompress = false\n'
         "whiteListSourceRange = []\n[healthcheck]\ninterval = 30\n"},
        [],
    ),
    (
        "inactive options at another value",
        {"file": "sendAnonymousUsage = true\ncheckNewVersion = false\n"},
        [
            "warning kvproxy.toml:1: sendAnonymousUsage: is accepted, but not active yet: "
            "it has no effect",
            "warning kvproxy.toml:2: checkNewVersion: is accepted, but not active yet: "
            "it has no effect",
        ],
    ),
    (
        "deprecated options",
        {"arguments": ["-g", "3s", "--idleTimeout=4s"]},
        [
            "warning -g: graceTimeOut: is deprecated; used as lifeCycle.graceTimeOut",
            "warning --idleTimeout: idleTimeout: is deprecated; used as "
            "respondingTimeouts.idleTimeout",
        ],
    ),
    (
        "log level",
        {"arguments": ["--logLevel=DEBUGG"]},
        ["fatal --logLevel: logLevel: `DEBUGG` is no level; expected one of DEBUG, INFO, WARN, "
         "ERROR, FATAL, PANIC; did you mean `DEBUG`?"],
    ),
    (
        "entry points that are not there",
        {"arguments": ["--entryPoints=Name:http Address::1", "--defaultEntryPoints=htp,http",
                       "--ping.entryPoint=htpp"]},
        [
            "warning --ping.entryPoint: ping.entryPoint: no entry point is named `htpp`; "
            "expected one of http; did you mean `http`?",
            "warning --defaultEntryPoints: defaultEntryPoints: no entry point is named `htp`; "
            "expected one of http; did you mean `http`?",
        ],
    ),
    (
        "negative duration",
        {"arguments": ["--lifeCycle.graceTimeOut=-1s"]},
        ["fatal --lifeCycle.graceTimeOut: lifeCycle.graceTimeOut: is negative; expected 0 or more"],
    ),
    (
        "file provider without a file",
        {"arguments": ["--file"]},
        ["fatal --file: file: there is no configuration file that could hold the rules; "
         "expected --file.filename, --file.directory or --configFile"],
    ),
    (
        "false for a section of the file",
        {"file": "[ping]\n", "arguments": ["--ping=false", "--retry=false"]},
        ["warning --ping: ping: false does not remove the section of the configuration file; "
         "expected to remove it from the file"],
    ),
    (
        "address below another one",
        {"file": '[api]\n[entryPoints.http]\naddress = ":8080"\n'},
        ["fatal kvproxy.toml:2: entryPoints.traefik.address: `127.0.0.1:8080` is also an address "
         "of `http`; expected another"],
    ),
    (
        "web",
        {"file": '[web]\naddress = ":81"\n'},
        [
            "warning kvproxy.toml:1: web: is deprecated; used as api, ping and metrics",
        ],
    ),
    (
        "web with authentication",
        {"file": '[web]\npath = "/t"\n[web.auth.basic]\nusers = ["u:x"]\n[web.metrics]\n'},
        [
            "warning kvproxy.toml:1: web: is deprecated; used as api, ping and metrics",
            "warning kvproxy.toml:2: web.path: has no effect",
        ],
    ),
    (
        "web beside ping",
        {"file": "[web]\n[ping]\n"},
        [
            "warning kvproxy.toml:1: web: is deprecated and ignored, because of ping",
            "warning kvproxy.toml:1: web: is accepted, but not active yet: it has no effect",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sources", "expected"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS]
)
def test_problems(load: Load, sources: dict[str, Any], expected: list[str]) -> None:
    assert load.problems(**sources) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "INFO"),
        (["--debug"], "DEBUG"),
        (["--debug", "--logLevel=error"], "ERROR"),
        (["--debug", "--logLevel="], "DEBUG"),
        (["--logLevel=Warning"], "WARN"),
        (["-lpanic"], "PANIC"),
    ],
)
def test_log_level(load: Load, arguments: list[str], expected: str) -> None:
    assert load(arguments=arguments).static.log_level == expected


def test_deprecated_time_outs_win(load: Load) -> None:
    static = load(
        'graceTimeOut = "3s"\n', ["--idleTimeout=4s", "--lifeCycle.graceTimeOut=9s"]
    ).static
    assert static.life_cycle.grace_time_out == 3.0
    assert static.responding_timeouts.idle_timeout == 4.0


def test_without_entry_points_the_default_list_does_not_count(load: Load) -> None:
    assert load('defaultEntryPoints = ["a"]\n').static.default_entry_points == ("http",)
    arguments = ["--entryPoints=Name:a Address::1", "--defaultEntryPoints=a"]
    assert load(arguments=arguments).static.default_entry_points == ("a",)


def test_ping_brings_its_entry_point(load: Load) -> None:
    static = load(arguments=["--ping", "--entryPoints=Name:http Address::1"]).static
    assert static.entry_points["traefik"] == EntryPoint(
        address=":8080", forwarded_headers=Everybody
    )
    static = load(arguments=["--ping", "--entryPoints=Name:traefik Address::1"]).static
    assert {name: each.address for name, each in static.entry_points.items()} == {"traefik": ":1"}


INTERNAL = [
    ("[api]\n", "127.0.0.1:8080"),
    ("[metrics.prometheus]\n", "127.0.0.1:8080"),
    ("[api]\n[ping]\n", "127.0.0.1:8080"),
    ("[ping]\n", ":8080"),
    ("[metrics]\n", None),
    ('[api]\nentryPoint = "http"\n', None),
    ('[api]\n[entryPoints.traefik]\naddress = ":81"\n', ":81"),
]


@pytest.mark.parametrize(("text", "address"), INTERNAL, ids=[row[0] for row in INTERNAL])
def test_where_the_api_listens_unless_told(load: Load, text: str, address: str | None) -> None:
    static = load(f'{text}[entryPoints.http]\naddress = ":1"\n').static
    point = static.entry_points.get("traefik")
    assert (None if point is None else point.address) == address


@pytest.mark.parametrize("section", ["api", "ping", "metrics.prometheus"])
def test_an_unknown_entry_point_of_a_service_is_named(load: Load, section: str) -> None:
    text = f'[{section}]\nentryPoint = "htp"\n[entryPoints.http]\naddress = ":1"\n'
    assert load.problems(text) == [
        f"warning kvproxy.toml:2: {section}.entryPoint: no entry point is named `htp`; "
        "expected one of http; did you mean `http`?"
    ]


def test_web_becomes_ping_api_and_metrics(load: Load) -> None:
    static = load('[web]\naddress = ":81"\n[web.metrics.prometheus]\n').static
    assert (static.ping, static.api) == (Ping(), Api())
    assert static.metrics == Metrics(prometheus=Prometheus())
    assert static.entry_points["traefik"].address == ":81"


def test_rules_inside_the_configuration_file(load: Load) -> None:
    text = '[file]\n[frontends.f]\nbackend = "b"\n[Backends.b]\n[[tls]]\n'
    settings = load(text)
    assert settings.problems == ()
    assert settings.static.file is not None
    assert settings.static.file.filename == str(load.file)
    settings = load(text, ["--file.filename=routes.toml"])
    assert settings.static.file is not None
    assert settings.static.file.filename == "routes.toml"
    settings = load(text, ["--file.directory=routes"])
    assert settings.static.file is not None
    assert (settings.static.file.filename, settings.static.file.directory) == ("", "routes")


def test_given_file_beats_the_search(load: Load, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("workers = 7\n")
    settings = load("workers = 3\n", ["-c", "other.toml"])
    assert settings.static.workers == 7
    assert settings.configuration_file == str(tmp_path / "other.toml")


def test_variables_in_the_path(tmp_path: Path) -> None:
    (tmp_path / "kvproxy.toml").write_text("workers = 7\n")
    settings = load_settings(["--configFile=$WHERE"], environment={"WHERE": str(tmp_path)})
    assert settings.static.workers == 7


@pytest.mark.parametrize("text", ["@format {env[HOME]}", "@jinja {{ env.HOME }}", "@read_file x"])
def test_no_layer_evaluates_text(load: Load, text: str) -> None:
    static = load(
        f'rootCAs = ["{text}"]\nstateDir = "{text}"\n',
        ["--pidFile", text],
        {"embedded/path": text},
    ).static
    assert static.embedded is not None
    assert (static.root_cas, static.state_dir) == ((text,), text)
    assert (static.pid_file, static.embedded.path) == (text, text)


LAYERED = """
import json, sys
from kvproxy.config.settings import load_settings
from kvproxy.config.static_keys import StaticKeys, StorePlace
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_observability import Api, Metrics, Prometheus
from kvproxy.model.static_providers import EtcdProvider

values = {"traefiklogsfile": sys.argv[1].encode(), "consul/prefix": b"@int 3"}
keys = StaticKeys(StorePlace("etcd", EtcdProvider(prefix=""), StaticConfiguration()), 1, values)
arguments = ["--accessLogsFile=@jinja {{ env.HOME }}"]
static = load_settings(arguments, environment={}, keys=keys).static
found = [static.pid_file, static.root_cas, static.traefik_logs_file, static.access_logs_file]
print(json.dumps([*found, static.consul.prefix, static.workers, static.log_level]))
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTO_CAST_FOR_DYNACONF", "true"),
        ("LOADERS_FOR_DYNACONF", "['dynaconf.loaders.env_loader']"),
        ("CORE_LOADERS_FOR_DYNACONF", "['TOML']"),
        ("MERGE_ENABLED_FOR_DYNACONF", "true"),
        ("DOTTED_LOOKUP_FOR_DYNACONF", "true"),
        ("ENVVAR_PREFIX_FOR_DYNACONF", "KVPROXY"),
        ("LOAD_DOTENV_FOR_DYNACONF", "true"),
        ("SETTINGS_FILE_FOR_DYNACONF", "other.toml"),
        ("INCLUDES_FOR_DYNACONF", "['other.toml']"),
    ],
)
def test_variables_of_the_layering_library_have_no_effect(
    tmp_path: Path, name: str, value: str
) -> None:
    """In a process of its own: the library reads some of them when it is imported."""
    text = "@format {env[HOME]}"
    (tmp_path / "kvproxy.toml").write_text(f'pidFile = "{text}"\nrootCAs = ["@int 3", "{text}"]\n')
    (tmp_path / "other.toml").write_text('workers = 7\nlogLevel = "ERROR"\n')
    (tmp_path / ".env").write_text("KVPROXY_WORKERS=7\n")
    (tmp_path / "dynaconf_hooks.py").write_text("raise SystemExit('executed')\n")
    done = subprocess.run(
        [sys.executable, "-c", LAYERED, text],
        cwd=tmp_path,
        env={**os.environ, name: value, "KVPROXY_WORKERS": "7", "DYNACONF_WORKERS": "7"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        *(text, ["@int 3", text], text, "@jinja {{ env.HOME }}", "@int 3", 0, "INFO"),
    ]


def test_environment_variables_do_nothing(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOG_LEVEL", "LOGLEVEL", "logLevel", "WORKERS", "ENTRYPOINTS__HTTP__ADDRESS"):
        for prefix in ("DYNACONF_", "KVPROXY_", ""):
            monkeypatch.setenv(f"{prefix}{name}", "9")
    assert load().static == StaticConfiguration(
        entry_points={"http": EntryPoint(address=":80", forwarded_headers=Everybody)}
    )


def test_what_storeconfig_of_traefik_writes(load: Load) -> None:
    written = {
        "accesslogsfile": "",
        "allowminweightzero": "false",
        "checknewversion": "true",
        "debug": "false",
        "defaultentrypoints/0": "http",
        "entrypoints/http/": "",
        "entrypoints/http/address": ":8000",
        "entrypoints/http/compress": "false",
        "gracetimeout": "0",
        "healthcheck/": "",
        "healthcheck/interval": "30000000000",
        "idletimeout": "0",
        "lifecycle/gracetimeout": "10000000000",
        "lifecycle/requestacceptgracetimeout": "0",
        "loglevel": "DEBUG",
        "maxidleconnsperhost": "200",
        "providersthrottleduration": "2000000000",
        "traefiklogsfile": "",
    }
    settings = load(keys=written)
    static = settings.static
    assert static.entry_points["http"].address == ":8000"
    assert static.life_cycle == LifeCycle()
    assert static.health_check.interval == 30.0
    assert static.providers_throttle_duration == 2.0
    assert static.log_level == "DEBUG"
    assert settings.problems == ()


VALUES = st.sampled_from(
    ["", "http", ":80", "true", "3", "10s", "-1", "a=b", "x,y", "tag==a", "\u00e9", "0.5"]
)
TYPED_VALUES = st.one_of(
    VALUES,
    st.integers(-1, 2000),
    st.booleans(),
    st.just(0.5),
    st.lists(VALUES, max_size=2),
    st.builds(dict),
    st.builds(lambda: [{}]),
    st.builds(lambda: {"a": "b"}),
)
PATHS = st.sampled_from([each.path for each in options()]).map(
    lambda path: tuple("0" if part == "*" else part for part in path)
)


def nested(given: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for path, value in given.items():
        level = document
        for part in path[:-1]:
            below = level.setdefault(part, {})
            if not isinstance(below, dict):
                below = level[part] = {}
            level = below
        level[path[-1]] = value
    return document


@settings(max_examples=300)
@given(
    st.dictionaries(PATHS, TYPED_VALUES, max_size=4),
    st.lists(st.tuples(PATHS, VALUES), max_size=3),
    st.dictionaries(PATHS.map("/".join).map(str.lower), VALUES, max_size=4),
)
def test_any_sources_give_settings_or_named_problems(
    typed: dict[tuple[str, ...], Any],
    flags: list[tuple[tuple[str, ...], str]],
    keys: dict[str, str],
) -> None:
    with TemporaryDirectory() as directory:
        file = Path(directory) / "kvproxy.toml"
        file.write_text(rtoml.dumps(nested(typed)))
        arguments = [f"--{'.'.join(path)}={value}" for path, value in flags]
        arguments = [each for each in arguments if not each.startswith("--configFile")]
        try:
            loaded = load_settings(
                [f"--configFile={file}", *arguments], environment={}, keys=static_keys(keys)
            )
        except SettingsError as error:
            assert all(problem.message for problem in error.problems)
            assert any(problem.fatal for problem in error.problems)
        else:
            assert not any(problem.fatal for problem in loaded.problems)
            assert loaded.static.entry_points
