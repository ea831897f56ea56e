"""From plain documents (TOML, key trees) to the typed dynamic configuration, entry by entry.

A wrong entry is left out and named by a fatal `Problem` with its ``entry``; everything else is
decoded. An option that does not exist is a warning. The two styles differ as in Traefik 1.7.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from kvproxy.model.dynamic import (
    Backend,
    Configuration,
    ForwardAuth,
    Frontend,
    MaxConn,
    Server,
    Stickiness,
    TLSCertificate,
)
from kvproxy.model.kinds import fields_of
from kvproxy.model.schema import ABSENT, INVALID, Path, Report, Schema, Style, kind_of
from kvproxy.model.static import StaticConfiguration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kvproxy.model.problem import Problem
    from kvproxy.model.schema import Decoder

StyleName = Literal["file", "kv"]

FILE = Style(name="file", defaults={Server: {"weight": 0}})
"""TOML and JSON. A weight not given is 0, which acts as 1 unless allowMinWeightZero is set."""

KEY_VALUE = Style(
    name="kv",
    text=True,
    bare="either",
    doubled_backslash=True,
    defaults={
        Frontend: {"pass_host_header": True},
        MaxConn: {"extractor_func": "request.host"},
    },
    aliases={ForwardAuth: {".authResponseHeaders": "authResponseHeaders"}},
    switches=frozenset({Stickiness}),
)
"""Key-value stores: everything is text."""

SECTIONS: Mapping[str, type[Frontend | Backend | TLSCertificate]] = {
    "frontends": Frontend,
    "backends": Backend,
    "tls": TLSCertificate,
}

OTHER_KEYS = frozenset({"", "alias", "leader", "leader___lock", "storeconfig"})
"""What may stand in a store beside options: the first part of the key below the prefix."""

_SCHEMAS = {"file": Schema(FILE), "kv": Schema(KEY_VALUE)}
_STATIC_NAMES = {option.encode_name.lower() for option in fields_of(StaticConfiguration)}


@cache
def _decoder(style: StyleName, section: str) -> Decoder:
    """Compile the decoder of a section when it is first asked for: not every process decodes."""
    return _SCHEMAS[style].decoder(SECTIONS[section])


def decode_entry(
    section: str,
    name: str,
    document: Any,
    *,
    where: Callable[[Path], str],
    style: StyleName,
) -> tuple[Frontend | Backend | TLSCertificate | None, list[Problem]]:
    """Decode one entry of ``frontends``, ``backends`` or ``tls``.

    ``where`` gets a path from the root of the configuration, such as ``("frontends", "web",
    "entryPoints")``, as it is spelled in the document, and returns the place for messages; it is
    only called when there is a problem. Returns None with at least one fatal problem for an entry
    that cannot be used; warnings may accompany a usable one.
    """
    report = Report(where, (section, name))
    result = _decoder(style, section)(document, (section,), name, report)
    return (None if result is INVALID or result is ABSENT else result), report.problems


def decode_configuration(
    document: Any, *, where: Callable[[Path], str], style: StyleName
) -> tuple[Configuration, tuple[Problem, ...]]:
    """Decode a whole document; each entry that is wrong is left out and named by a fatal problem.

    A section that is no table is one fatal problem with ``entry=(section, "")``. Names of static
    options are passed over in silence: both parts may share a file or a prefix. The elements of the
    TOML list ``[[tls]]`` are named by their position.
    """
    report = Report(where)
    if type(document) is not dict:
        report.add((), f"the document is {kind_of(document)}", expected="a table")
        return Configuration(), tuple(report.problems)
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, value in document.items():
        section = key.lower()
        if section in SECTIONS:
            _decode_section(section, key, value, sections[section], report, style)
        elif section not in _STATIC_NAMES and not (style == "kv" and section in OTHER_KEYS):
            report.unknown((key,), (*SECTIONS, *_STATIC_NAMES) if style == "kv" else SECTIONS)
    return Configuration(**sections), tuple(report.problems)


def _decode_section(
    section: str,
    key: str,
    value: Any,
    into: dict[str, Any],
    report: Report,
    style: StyleName,
) -> None:
    entries = value
    if section == "tls" and type(value) is list:
        entries = {str(number): entry for number, entry in enumerate(value)}
    if type(entries) is not dict:
        if style == "kv" and not value:
            return
        report.entry = (section, "")
        expected = "a list of tables" if section == "tls" else "a table of named tables"
        if style == "kv":
            report.add((key,), "is a value", expected="keys below it")
        else:
            report.add((key,), f"is {kind_of(value)}", expected=expected)
        return
    decode = _decoder(style, section)
    path = (key,)
    for name, entry in entries.items():
        if not name and style == "kv":
            continue
        if name in into:
            report.add((key, name), "is given twice; the first is used", fatal=False)
            continue
        report.entry = (section, name)
        result = decode(entry, path, name, report)
        if result is not INVALID and result is not ABSENT:
            into[name] = result
