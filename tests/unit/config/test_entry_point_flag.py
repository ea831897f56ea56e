from __future__ import annotations

from typing import Any

import pytest

from kvproxy.config.entry_point_flag import KEYS, parse_entry_point

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("Name:x Address::80", {"address": ":80"}),
    ("name:x ADDRESS:127.0.0.1:8000", {"address": "127.0.0.1:8000"}),
    ("  Name:x\t\nAddress:[::1]:80  ", {"address": "[::1]:80"}),
    ("Name:x Compress:true", {"compress": "true"}),
    ("Name:x Compress:Enable", {"compress": "true"}),
    ("Name:x Compress:ON", {"compress": "true"}),
    ("Name:x Compress:1", {"compress": "false"}),
    ("Name:x TLS", {"tls": {}}),
    (
        "Name:x TLS:a,b;c,d",
        {
            "tls": {
                "certificates": {
                    "0": {"certFile": "a", "keyFile": "b"},
                    "1": {"certFile": "c", "keyFile": "d"},
                }
            }
        },
    ),
    (
        "Name:x TLS TLS.MinVersion:VersionTLS11 TLS.CipherSuites:a,b TLS.SniStrict:true "
        "TLS.DefaultCertificate.Cert:c TLS.DefaultCertificate.Key:k CA:d,e CA.Optional:true",
        {
            "tls": {
                "minVersion": "VersionTLS11",
                "cipherSuites": "a,b",
                "sniStrict": "true",
                "defaultCertificate": {"certFile": "c", "keyFile": "k"},
                "clientCA": {"files": "d,e", "optional": "true"},
            }
        },
    ),
    (
        "Name:x Redirect.Regex:^http:(.*) Redirect.Replacement:https:$1 Redirect.Permanent:true",
        {
            "redirect": {
                "regex": "^http:(.*)",
                "replacement": "https:$1",
                "permanent": "true",
            }
        },
    ),
    ("Name:x WhiteListSourceRange:::1", {"whiteListSourceRange": "::1"}),
    (
        "Name:x WhiteList.SourceRange:::1 WhiteList.UseXForwardedFor:true",
        {"whiteList": {"sourceRange": "::1", "useXForwardedFor": "true"}},
    ),
    (
        "Name:x ForwardedHeaders.TrustedIPs:10.0.0.3/24,20.0.0.3/24",
        {"forwardedHeaders": {"trustedIPs": "10.0.0.3/24,20.0.0.3/24"}},
    ),
    ("Name:x ForwardedHeaders.Insecure:true", {"forwardedHeaders": {"insecure": "true"}}),
    ("Name:x ProxyProtocol.Insecure:true", {"proxyProtocol": {"insecure": "true"}}),
    (
        "Name:x Auth.Basic.Users:a:b,c:d Auth.Basic.RemoveHeader:true Auth.HeaderField:X-U",
        {"auth": {"basic": {"users": "a:b,c:d", "removeHeader": "true"}, "headerField": "X-U"}},
    ),
    (
        "Name:x Auth.Forward.Address:http://a Auth.Forward.TLS.Cert:c Auth.Forward.TLS.Key:k",
        {"auth": {"forward": {"address": "http://a", "tls": {"cert": "c", "key": "k"}}}},
    ),
    (
        "Name:foo Address::8000 TLS:goo,gii TLS CA:car CA.Optional:true Redirect.EntryPoint:https "
        "Compress:true WhiteList.SourceRange:10.42.0.0/16,152.89.1.33/32 "
        "ProxyProtocol.TrustedIPs:192.168.0.1 ForwardedHeaders.TrustedIPs:10.0.0.3/24",
        {
            "address": ":8000",
            "tls": {
                "certificates": {"0": {"certFile": "goo", "keyFile": "gii"}},
                "clientCA": {"files": "car", "optional": "true"},
            },
            "redirect": {"entryPoint": "https"},
            "compress": "true",
            "whiteList": {"sourceRange": "10.42.0.0/16,152.89.1.33/32"},
            "proxyProtocol": {"trustedIPs": "192.168.0.1"},
            "forwardedHeaders": {"trustedIPs": "10.0.0.3/24"},
        },
    ),
]

WARNED: list[tuple[str, str, dict[str, Any]]] = [
    ("Name:x Adress::80", "unknown key `Adress`; did you mean `Address`?", {}),
    ("Name:x Compress", "`Compress` has no value and counts as false", {"compress": "false"}),
    ("Name:x TLS.SniStrict:true", "`TLS.SniStrict` has no effect without `TLS`", {}),
    ("Name:x CA:c", "`CA` has no effect without `TLS`", {}),
    ("Name:x Auth.Forward.TLS.CA:c", "`Auth.Forward.TLS.CA` has no effect", {}),
    ("Name:x Address::1 Address::2", "`Address` is given twice", {"address": ":2"}),
]

REFUSED: list[tuple[str, str]] = [
    ("", "the entry point has no name"),
    ("Name: Address::80", "the entry point has no name"),
    ("Name:x TLS:a", "bad certificates format; expected TLS:CERT,KEY;CERT,KEY"),
    ("Name:x TLS:a,b,c", "bad certificates format"),
    ("Name:x TLS:,b", "bad certificates format"),
]


@pytest.mark.parametrize(("text", "document"), GOOD, ids=[row[0] for row in GOOD])
def test_compact_syntax(text: str, document: dict[str, Any]) -> None:
    name, found, problems = parse_entry_point(text, "--entryPoints")
    assert name in ("x", "foo")
    assert found == document
    assert problems == []


@pytest.mark.parametrize(("text", "message", "document"), WARNED, ids=[row[0] for row in WARNED])
def test_what_has_no_effect_is_a_warning(text: str, message: str, document: dict[str, Any]) -> None:
    _, found, problems = parse_entry_point(text, "--entryPoints")
    assert found == document
    assert [problem.fatal for problem in problems] == [False]
    assert message in str(problems[0])
    assert problems[0].where == "--entryPoints"


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_used(text: str, message: str) -> None:
    _, _, problems = parse_entry_point(text, "--entryPoints")
    assert [problem.fatal for problem in problems] == [True]
    assert message in str(problems[0])


@pytest.mark.parametrize("key", sorted(set(KEYS.values()) - {"Name", "TLS"}))
def test_every_key_reaches_the_document(key: str) -> None:
    text = f"Name:x TLS {key}:v"
    if key.startswith("Auth.Forward.TLS"):
        text += " Auth.Forward.TLS.InsecureSkipVerify:true"
    _, document, problems = parse_entry_point(text, "--entryPoints")
    assert not any(problem.fatal for problem in problems)
    assert document != {"tls": {}}
