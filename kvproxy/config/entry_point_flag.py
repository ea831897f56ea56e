"""The compact syntax of ``--entryPoints='Name:http Address::80'``, as in Traefik 1.7."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvproxy.model.problem import Problem, nearest_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE = ("true", "enable", "on")

_TEXT = {
    "address": ("address",),
    "redirect.entrypoint": ("redirect", "entryPoint"),
    "redirect.regex": ("redirect", "regex"),
    "redirect.replacement": ("redirect", "replacement"),
    "auth.headerfield": ("auth", "headerField"),
    "auth.forward.address": ("auth", "forward", "address"),
    "auth.forward.tls.ca": ("auth", "forward", "tls", "ca"),
    "auth.forward.tls.cert": ("auth", "forward", "tls", "cert"),
    "auth.forward.tls.key": ("auth", "forward", "tls", "key"),
    "tls.minversion": ("tls", "minVersion"),
    "tls.defaultcertificate.cert": ("tls", "defaultCertificate", "certFile"),
    "tls.defaultcertificate.key": ("tls", "defaultCertificate", "keyFile"),
}
_BOOLEAN = {
    "compress": ("compress",),
    "redirect.permanent": ("redirect", "permanent"),
    "whitelist.usexforwardedfor": ("whiteList", "useXForwardedFor"),
    "proxyprotocol.insecure": ("proxyProtocol", "insecure"),
    "forwardedheaders.insecure": ("forwardedHeaders", "insecure"),
    "auth.basic.removeheader": ("auth", "basic", "removeHeader"),
    "auth.digest.removeheader": ("auth", "digest", "removeHeader"),
    "auth.forward.trustforwardheader": ("auth", "forward", "trustForwardHeader"),
    "auth.forward.tls.caoptional": ("auth", "forward", "tls", "caOptional"),
    "auth.forward.tls.insecureskipverify": ("auth", "forward", "tls", "insecureSkipVerify"),
    "tls.snistrict": ("tls", "sniStrict"),
    "ca.optional": ("tls", "clientCA", "optional"),
}
_LIST = {
    "whitelist.sourcerange": ("whiteList", "sourceRange"),
    "whitelistsourcerange": ("whiteListSourceRange",),
    "proxyprotocol.trustedips": ("proxyProtocol", "trustedIPs"),
    "forwardedheaders.trustedips": ("forwardedHeaders", "trustedIPs"),
    "auth.basic.users": ("auth", "basic", "users"),
    "auth.digest.users": ("auth", "digest", "users"),
    "auth.forward.authresponseheaders": ("auth", "forward", "authResponseHeaders"),
    "tls.ciphersuites": ("tls", "cipherSuites"),
    "ca": ("tls", "clientCA", "files"),
}
_SPELLED = (
    "Name",
    "Address",
    "TLS",
    "TLS.MinVersion",
    "TLS.CipherSuites",
    "TLS.SniStrict",
    "TLS.DefaultCertificate.Cert",
    "TLS.DefaultCertificate.Key",
    "CA",
    "CA.Optional",
    "Redirect.EntryPoint",
    "Redirect.Regex",
    "Redirect.Replacement",
    "Redirect.Permanent",
    "Compress",
    "WhiteList.SourceRange",
    "WhiteList.UseXForwardedFor",
    "WhiteListSourceRange",
    "ProxyProtocol.TrustedIPs",
    "ProxyProtocol.Insecure",
    "ForwardedHeaders.TrustedIPs",
    "ForwardedHeaders.Insecure",
    "Auth.Basic.Users",
    "Auth.Basic.RemoveHeader",
    "Auth.Digest.Users",
    "Auth.Digest.RemoveHeader",
    "Auth.HeaderField",
    "Auth.Forward.Address",
    "Auth.Forward.AuthResponseHeaders",
    "Auth.Forward.TrustForwardHeader",
    "Auth.Forward.TLS.CA",
    "Auth.Forward.TLS.CAOptional",
    "Auth.Forward.TLS.Cert",
    "Auth.Forward.TLS.Key",
    "Auth.Forward.TLS.InsecureSkipVerify",
)
KEYS = {key.lower(): key for key in _SPELLED}
"""Every key of the syntax, by its lower-case form."""


def parse_entry_point(text: str, where: str) -> tuple[str, dict[str, Any], list[Problem]]:
    """Return (name, document of texts with the model's option names, problems).

    Keys are matched without regard to case; ``where`` names the flag in problems. A fatal problem
    means that the entry point cannot be used.
    """
    problems: list[Problem] = []

    def add(message: str, *, expected: str = "", nearest: str = "", fatal: bool = True) -> None:
        problems.append(
            Problem(
                message=message,
                where=where,
                path="entryPoints",
                expected=expected,
                nearest=nearest,
                fatal=fatal,
            )
        )

    given: dict[str, tuple[str, str]] = {}
    for field in text.split():
        key, colon, value = field.partition(":")
        folded = key.lower()
        if folded not in KEYS:
            add(f"unknown key `{key}`", nearest=nearest_name(key, KEYS.values()), fatal=False)
            continue
        if folded in given and folded != "tls":
            add(f"`{key}` is given twice; the last one is used", fatal=False)
        if folded in _BOOLEAN and not colon:
            add(f"`{key}` has no value and counts as false", expected=f"{key}:true", fatal=False)
        given[folded] = (key, value if value or folded != "tls" else given.get("tls", ("", ""))[1])
    name = given.pop("name", ("", ""))[1]
    if not name:
        add("the entry point has no name", expected="`Name:NAME Address:HOST:PORT`")
    document = _document(given, add)
    return name, document, problems


def _document(given: Mapping[str, tuple[str, str]], add: Any) -> dict[str, Any]:
    document: dict[str, Any] = {}
    with_tls = "tls" in given
    forward_tls = all(
        given.get(f"auth.forward.tls.{part}", ("", ""))[1] for part in ("cert", "key")
    )
    forward_tls = forward_tls or _is_true(given.get("auth.forward.tls.insecureskipverify"))
    for folded, (key, value) in given.items():
        if folded == "tls":
            _put(document, ("tls",), _certificates(value, add))
            continue
        if folded.startswith(("tls.", "ca")) and not with_tls:
            add(f"`{key}` has no effect without `TLS`", expected="TLS", fatal=False)
            continue
        if folded.startswith("auth.forward.tls.") and not forward_tls:
            add(
                f"`{key}` has no effect",
                expected="Auth.Forward.TLS.Cert and .Key, or .InsecureSkipVerify",
                fatal=False,
            )
            continue
        if folded in _TEXT:
            _put(document, _TEXT[folded], value)
        elif folded in _BOOLEAN:
            _put(document, _BOOLEAN[folded], "true" if _is_true((key, value)) else "false")
        else:
            _put(document, _LIST[folded], value)
    return document


def _is_true(given: tuple[str, str] | None) -> bool:
    return given is not None and given[1].lower() in _TRUE


def _certificates(value: str, add: Any) -> dict[str, Any]:
    certificates = {}
    for number, pair in enumerate(filter(None, value.split(";"))):
        certificate, comma, key = pair.partition(",")
        if not comma or not certificate or not key or "," in key:
            add("bad certificates format", expected="TLS:CERT,KEY;CERT,KEY")
            continue
        certificates[str(number)] = {"certFile": certificate, "keyFile": key}
    return {"certificates": certificates} if certificates else {}


def _put(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        document = document.setdefault(part, {})
    last = path[-1]
    if isinstance(value, dict):
        document.setdefault(last, {}).update(value)
    else:
        document[last] = value
