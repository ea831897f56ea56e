from __future__ import annotations

import pytest

from kvproxy.config.options import dynamic_options, options
from kvproxy.model.key_options import KeyOption, option_of, shown

ROWS: list[tuple[str, KeyOption]] = [
    ("LogLevel", KeyOption("loglevel", known=True)),
    ("/entryPoints/HTTP/Address/", KeyOption("entrypoints/HTTP/address", known=True)),
    ("constraints", KeyOption("constraints", known=True, list="constraints")),
    ("Constraints/0", KeyOption("constraints/0", known=True, list="constraints")),
    ("acme/domains/0/Sans/1",
     KeyOption("acme/domains/0/sans/1", known=True, list="acme/domains")),
    ("entrypoints/a/tls/certificates/0/KeyFile",
     KeyOption("entrypoints/a/tls/certificates/0/keyfile", known=True, secret="content",
               list="entrypoints/a/tls/certificates")),
    ("consul/password", KeyOption("consul/password", known=True, secret="always")),
    ("consul/pasword", KeyOption("consul/pasword", known=False)),
    ("loglevel/below", KeyOption("loglevel/below", known=False)),
    ("nosuch/Thing", KeyOption("nosuch/Thing", known=False)),
    ("accesslog/fields/names/User-Agent",
     KeyOption("accesslog/fields/names/User-Agent", known=True)),
    ("Frontends/Web/PassHostHeader", KeyOption("frontends/Web/passhostheader", known=True)),
    ("frontends/web/auth/basic/users/0",
     KeyOption("frontends/web/auth/basic/users/0", known=True, secret="always",
               list="frontends/web/auth/basic/users")),
    ("frontends/web/auth/forward/.authresponseheaders/0",
     KeyOption("frontends/web/auth/forward/authresponseheaders/0", known=True,
               list="frontends/web/auth/forward/authresponseheaders")),
    ("tls/pair/certificate/keyfile",
     KeyOption("tls/pair/certificate/keyfile", known=True, secret="content")),
    ("backends/b/servers/s/url", KeyOption("backends/b/servers/s/url", known=True)),
    ("ping", KeyOption("ping", known=True)),
    ("", KeyOption("", known=True)),
]  # fmt: skip


@pytest.mark.parametrize(("key", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_option_of(key: str, expected: KeyOption) -> None:
    assert option_of(key) == expected


def test_every_option_of_the_model_is_found_with_its_secrecy() -> None:
    for option in (*options(), *dynamic_options()):
        key = "/".join("0" if part == "*" else part for part in option.path)
        found = option_of(key)
        assert found.known, key
        assert bool(found.secret) is option.secret, key


SHOWN: list[tuple[str, bytes, str]] = [
    ("loglevel", b"DEBUG", "DEBUG"),
    ("consul/password", b"secret", "***"),
    ("consul/password", b"", ""),
    ("consul/tls/key", b"/etc/key.pem", "/etc/key.pem"),
    ("consul/tls/key", b"-----BEGIN KEY-----\nx", "***"),
    ("frontends/w/basicauth/0", b"u:h", "***"),
    ("frontends/w/basicauth", b"u:h", "***"),
    ("nosuch/thing", b"perhaps a secret", "***"),
    ("tls/a/certificate/certfile", b"-----BEGIN CERTIFICATE-----\nabc\n",
     "-----BEGIN CERTIFICATE-----... (32 bytes)"),
    ("frontends/w/routes/r/rule", b"\xff", "\ufffd"),
    ("frontends/w/routes/r/rule", b"x" * 1000, "x" * 200 + "... (1,000 bytes)"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "expected"), SHOWN, ids=[str(row) for row in SHOWN])
def test_shown(key: str, value: bytes, expected: str) -> None:
    assert shown(key, value) == expected
