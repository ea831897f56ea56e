"""File -> store -> effective settings, for every option of the model that can be in effect."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import rtoml
from msgspec import Struct
from msgspec.structs import replace

from kvproxy.config.options import ANY, Option, options
from kvproxy.config.settings import LocalSources
from kvproxy.config.startup import examine
from kvproxy.config.static_encoding import NOT_STORED
from kvproxy.model.static import StaticConfiguration
from tests.support.certificates import authority
from tests.unit.cli.support import kvproxy

TOPS = [
    top
    for top in dict.fromkeys(option.path[0] for option in options())
    # The store that is written to does not say where it is.
    if top not in (*NOT_STORED, "embedded")
]


@cache
def special() -> dict[str, Any]:
    """Options that do not take any value of their kind."""
    bundle = str(authority().bundle("round.localhost"))
    users = str(Path(bundle).with_name("users"))
    Path(users).write_text("u:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/\n")
    user = "u:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"
    pair = {"certFile": bundle, "keyFile": bundle}
    return {
        "logLevel": "ERROR",
        "debug": True,
        "maxHeaders": 99,
        "maxHeaderBytes": 4096,
        "massDeletionGuard": 51,
        "rootCAs": [str(authority().path)],
        "defaultEntryPoints": ["http", "traefik"],
        "web.address": ":9",
        "accessLog.format": "json",
        "accessLog.filters.statusCodes": ["404", "500-503"],
        "accessLog.fields.defaultMode": "drop",
        "accessLog.fields.headers.defaultMode": "redact",
        "entryPoints": {
            "http": {"address": ":1", "compress": True},
            "https": {
                "address": ":2",
                "redirect": {"entryPoint": "http", "permanent": True},
                "whiteList": {"sourceRange": ["10.0.0.0/8"], "useXForwardedFor": True},
                "proxyProtocol": {"insecure": False, "trustedIPs": ["10.0.0.1"]},
                "forwardedHeaders": {"insecure": False, "trustedIPs": ["10.0.0.1", "::1"]},
                "tls": {
                    "minVersion": "VersionTLS12",
                    "cipherSuites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
                    "certificates": [pair, pair],
                    "defaultCertificate": pair,
                    "clientCA": {"files": [str(authority().path)], "optional": True},
                    "sniStrict": True,
                },
            },
            "Basic": {
                "address": ":3",
                "redirect": {"regex": "^http://a\\.b/(.*)", "replacement": "http://c/$1"},
                "auth": {
                    "headerField": "X-User",
                    "basic": {"users": [user, user], "usersFile": users, "removeHeader": True},
                },
            },
            "digest": {
                "address": ":4",
                "auth": {"digest": {"users": ["u:traefik:0123456789abcdef0123456789abcdef"]}},
            },
            "forward": {
                "address": ":5",
                "auth": {
                    "forward": {
                        "address": "http://127.0.0.1:9/",
                        "trustForwardHeader": True,
                        "authResponseHeaders": ["X-A", "X-B"],
                        "tls": {"ca": str(authority().path), "insecureSkipVerify": True},
                    }
                },
            },
        },
    }


def value_of(option: Option) -> Any:
    """Return a value that is not the default."""
    name = option.name
    if name in special():
        return special()[name]
    number = option.initial if type(option.initial) is int else 0
    values: dict[str, Any] = {
        "text": f"x {name}",
        "boolean": not option.initial,
        "whole number": number + 1,
        "number": 0.25,
        "duration": "1m30s",
        "list of texts": ["a", "b,c"],
        "list of numbers": [0.5, 2.25],
        "map of texts": {"Name-A": "keep", "b": "drop"},
        "list of sections": [{}],
    }
    return values[option.kind]


def document_of(top: str) -> dict[str, Any]:
    """Return a document that sets every option below ``top``."""
    document: dict[str, Any] = {}
    for option in options():
        if option.path[0] != top or ANY in option.path or option.kind == "map of sections":
            continue
        level = document
        for part in option.path[:-1]:
            level = level.setdefault(part, {})
        if option.section:
            level.setdefault(option.path[-1], {})
        else:
            level[option.path[-1]] = value_of(option)
    if top == "acme":
        document["acme"]["domains"] = [{"main": "a", "sans": ["b", "c"]}, {"main": "d"}]
    if top == "web":
        # Its authentication is that of an entry point, which the entry points show.
        del document["web"]["auth"]
    document.setdefault("entryPoints", special()["entryPoints"])
    return document


def shared(static: StaticConfiguration) -> StaticConfiguration:
    """Leave out what belongs to one machine, and the store that is written to."""
    default = StaticConfiguration()
    attributes = {
        name
        for name, field in zip(
            static.__struct_fields__, static.__struct_encode_fields__, strict=True
        )
        if field in (*NOT_STORED, "embedded")
    }
    return replace(static, **{name: getattr(default, name) for name in attributes})


@pytest.mark.parametrize("top", TOPS)
def test_every_option_of_a_section(
    top: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "settings.toml"
    document = document_of(top)
    file.write_text(rtoml.dumps(document))
    flags = [f"--embedded.path={tmp_path / 'store.db'}"]
    result = kvproxy("storeconfig", f"--configFile={file}", "--store=embedded", *flags)
    assert result.exit_code == 0, result.output
    from_file = shared(LocalSources([f"--configFile={file}", *flags], {}).settings().static)
    sources = LocalSources(flags, {})
    from_store = shared(asyncio.run(examine(sources, sources.stores())).static)
    assert from_store == from_file
    if top not in ("entryPoints", "web"):
        field = next(
            name
            for name, encoded in zip(
                from_store.__struct_fields__, from_store.__struct_encode_fields__, strict=True
            )
            if encoded == top
        )
        found = getattr(from_store, field)
        assert found != getattr(StaticConfiguration(), field)
        assert not isinstance(found, Struct) or found != type(found)()
