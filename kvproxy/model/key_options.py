"""From a key below the prefix to the option that it means: its one spelling, and its secrecy."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args, get_origin

from msgspec import Struct

from kvproxy.model.decode import KEY_VALUE, SECTIONS
from kvproxy.model.dynamic import Configuration
from kvproxy.model.kinds import HIDDEN, describe, fields_of
from kvproxy.model.static import StaticConfiguration


class KeyOption(Struct, frozen=True):
    """What a key means.

    ``key``: in the spelling that kvproxy writes, names of options in lower case, names chosen by
    the user as they are. ``known`` False: no option has this key. ``secret``: ``always``,
    ``content`` or empty (see `kvproxy.model.kinds.about`). ``list``: the key of the list that it is
    an element of, or that it is; empty for others.
    """

    key: str
    known: bool
    secret: str = ""
    list: str = ""


def option_of(key: str) -> KeyOption:
    """Find the option of ``key`` (``/`` between levels), static or dynamic."""
    parts = [part for part in key.split("/") if part]
    root: type[Struct] = StaticConfiguration
    if parts and parts[0].lower() in SECTIONS:
        root = Configuration
    spelled: list[str] = []
    at: Any = root
    secret = within = ""
    for position, part in enumerate(parts):
        if isinstance(at, type) and issubclass(at, Struct):
            found = _fields(at).get(part.lower())
            if found is None:
                return KeyOption("/".join([*spelled, *parts[position:]]), known=False)
            name, at, secret = found
            spelled.append(name)
        elif get_origin(at) in (dict, tuple):
            spelled.append(part)
            at = describe(get_args(at)[-1 if get_origin(at) is dict else 0])[0]
        else:
            return KeyOption("/".join([*spelled, *parts[position:]]), known=False)
        if not within and get_origin(at) is tuple:
            within = "/".join(spelled)
    return KeyOption("/".join(spelled), known=True, secret=secret, list=within)


def shown(key: str, value: bytes) -> str:
    """Return the value of ``key`` (below the prefix) for people: one line, secrets hidden.

    The value of a key that no option has is hidden too: nobody can tell what it is.
    """
    option = option_of(key)
    text = value.decode("utf-8", "replace")
    if not value:
        return ""
    if not option.known or option.secret == "always" or (option.secret and "-----" in text):
        return HIDDEN
    if "\n" in text or len(text) > _LONGEST:
        first = text.splitlines()[0][:_LONGEST]
        return f"{first}... ({len(value):,} bytes)"
    return text


_LONGEST = 200


@cache
def _fields(section: type[Struct]) -> dict[str, tuple[str, Any, str]]:
    """Return (name in keys, bare type, secrecy) by the name of an option in lower case."""
    found = {}
    for field in fields_of(section):
        bare, extra, _ = describe(field.type)
        name = field.encode_name.lower()
        found[name] = (name, bare, extra.get("secret", ""))
    for alias, name in KEY_VALUE.aliases.get(section, {}).items():
        found[alias.lower()] = found[name.lower()]
    return found
