"""What is served as JSON, in the shapes of Traefik 1.7 (specification sections 7.2 to 7.4).

Members that are empty, false or zero are left out, with the exceptions named here. Secrets are
never shown: users of basic and digest authentication are left out, other secrets are hidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from kvproxy.model.durations import NANOSECONDS, format_nanoseconds
from kvproxy.model.dynamic import Backend, Frontend, LoadBalancer, Rate, Server
from kvproxy.model.kinds import HIDDEN, describe, fields_of, hidden

if TYPE_CHECKING:
    from collections.abc import Collection

    from kvproxy.control.generations.generation import Generation

ALWAYS: dict[type[Struct], frozenset[str]] = {
    Server: frozenset(("weight",)),
    LoadBalancer: frozenset(("method",)),
    Frontend: frozenset(("priority",)),
}
"""Members that are there whatever their value is."""

RENAMED = {"responseForwarding": "forwardingResponse"}

SECRET_HEADER = re.compile(
    "auth|cookie|credential|key|passw|secret|session|signature|token", re.IGNORECASE
)
"""Headers whose values are hidden."""

_USER_INFO = re.compile(r"^([a-z0-9+.-]+://)[^/?#]*@", re.IGNORECASE)


def find(generation: Generation, providers: Collection[str], parts: list[str]) -> Any:
    """Return the document of a path below ``/api/providers``, None when there is none.

    ``providers``: those that have said something; ``parts``: the path, split, empty for all of
    them.
    """
    if not parts:
        return {name: _provider(generation, name) for name in providers}
    provider, *rest = parts
    if provider not in providers:
        return None
    match rest:
        case []:
            return _provider(generation, provider)
        case ["backends"]:
            return _backends(generation, provider)
        case ["frontends"]:
            return _frontends(generation, provider)
        case ["backends", name, *below]:
            backend = generation.backends.get((provider, name))
            return None if backend is None else _below(document(backend.backend), below, "servers")
        case ["frontends", name, *below]:
            frontend = generation.frontends.get((provider, name))
            return (
                None if frontend is None else _below(document(frontend.frontend), below, "routes")
            )
    return None


def _below(entry: dict[str, Any], parts: list[str], section: str) -> Any:
    if not parts:
        return entry
    if parts[0] != section or len(parts) > 2:
        return None
    found = entry.get(section, {})
    return found if len(parts) == 1 else found.get(parts[1])


def _provider(generation: Generation, provider: str) -> dict[str, Any]:
    sections = {
        "backends": _backends(generation, provider),
        "frontends": _frontends(generation, provider),
    }
    return {name: entries for name, entries in sections.items() if entries}


def _backends(generation: Generation, provider: str) -> dict[str, Any]:
    return {
        name: document(entry.backend)
        for (owner, name), entry in generation.backends.items()
        if owner == provider
    }


def _frontends(generation: Generation, provider: str) -> dict[str, Any]:
    return {
        name: document(entry.frontend)
        for (owner, name), entry in generation.frontends.items()
        if owner == provider
    }


def document(entry: Backend | Frontend) -> dict[str, Any]:
    """Return an entry as it is shown."""
    shown = _section(entry)
    if isinstance(entry, Frontend):
        shown["basicAuth"] = None
    else:
        shown.setdefault("loadBalancer", {"method": "wrr"})
    return shown


def _section(section: Struct) -> dict[str, Any]:
    always = ALWAYS.get(type(section), ())
    shown: dict[str, Any] = {}
    for attribute, name, kind, secret in _members(type(section)):
        value = getattr(section, attribute)
        if secret == "always" or not value:
            if name in always:
                shown[name] = value
            continue
        if kind == "duration":
            nanoseconds = round(value * NANOSECONDS)
            is_rate = isinstance(section, Rate)
            shown[name] = nanoseconds if is_rate else format_nanoseconds(nanoseconds)
        else:
            shown[name] = _value(hidden(value, secret))
    return shown


def _value(value: Any) -> Any:
    if isinstance(value, Struct):
        return _section(value)
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if isinstance(item, str) and SECRET_HEADER.search(name) else _value(item)
            for name, item in value.items()
        }
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return _USER_INFO.sub(rf"\1{HIDDEN}@", value) if isinstance(value, str) else value


@cache
def _members(section: type[Struct]) -> tuple[tuple[str, str, str, str], ...]:
    """Return (attribute, name, kind, secrecy) of each member."""
    found = []
    for member in fields_of(section):
        _, extra, _ = describe(member.type)
        kind = "duration" if "duration" in extra.get("kind", "") else ""
        name = RENAMED.get(member.encode_name, member.encode_name)
        found.append((member.name, name, kind, extra.get("secret", "")))
    return tuple(found)
