"""The key tree of key-value stores: from keys to documents, and from a configuration to keys.

Layout and spellings are those of Traefik 1.7. Names of sections and options are matched without
regard to case; names of entries, servers, routes and headers keep theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from msgspec import Struct

from kvproxy.model.decode import KEY_VALUE, SECTIONS
from kvproxy.model.durations import format_duration
from kvproxy.model.kinds import describe, fields_of
from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvproxy.model.dynamic import Configuration


class EncodeError(ValueError):
    """A configuration that no key tree can hold; ``problem`` names the entry."""

    def __init__(self, problem: Problem) -> None:
        """Keep ``problem``."""
        super().__init__(str(problem))
        self.problem = problem


def split_key(key: str, prefix: str) -> tuple[str, str, str] | None:
    """Split a whole key into (section, entry name, rest); None for keys that belong to no entry.

    Slashes at both ends of ``key`` and ``prefix`` do not count, except that a trailing slash (the
    marker of a directory) gives a rest that ends in a slash. The rest of a key that is the entry
    itself is empty.
    """
    stem = prefix.strip("/")
    path = key.lstrip("/")
    if stem:
        if not path.startswith(stem) or path[len(stem) : len(stem) + 1] != "/":
            return None
        path = path[len(stem) + 1 :]
    section, _, below = path.lstrip("/").partition("/")
    section = section.lower()
    name, _, rest = below.lstrip("/").partition("/")
    if section not in SECTIONS or not name:
        return None
    return section, name, rest


def nest(values: Mapping[str, bytes]) -> dict[str, Any]:
    """Build the document of the keys ``values`` (relative, ``/`` between levels).

    A key that also has keys below it keeps its value under the empty name; so does the marker of a
    directory (``auth/``). The result does not depend on the order of ``values``. Bytes that are not
    UTF-8 become replacement characters.
    """
    document: dict[str, Any] = {}
    for key in sorted(values):
        parts = [part for part in key.split("/") if part]
        if key.endswith("/") or not parts:
            parts.append("")
        level = document
        for part in parts[:-1]:
            below = level.get(part)
            if below is None:
                below = level[part] = {}
            elif type(below) is str:
                below = level[part] = {"": below}
            level = below
        text = values[key].decode("utf-8", "replace")
        last = parts[-1]
        known = level.get(last)
        if type(known) is dict:
            known[""] = text
        elif not known or last:
            level[last] = text
    return document


def encode_configuration(configuration: Configuration) -> dict[str, str]:
    """Return the keys below the prefix that decode to an equal configuration, sorted.

    Options at their default are left out. Raises `EncodeError` when a name is empty or holds a
    slash, or an element of a list is empty or has white space around it: the tree cannot express
    these.
    """
    keys: dict[str, str] = {}
    for section in SECTIONS:
        for name, entry in getattr(configuration, section).items():
            _encode_struct(entry, (section, checked_name(name, (section,))), keys)
    return dict(sorted(keys.items()))


def _encode_struct(value: Struct, path: tuple[str, ...], keys: dict[str, str]) -> None:
    kind = type(value)
    overrides = KEY_VALUE.defaults.get(kind, {})
    before = len(keys)
    if kind in KEY_VALUE.switches:
        keys["/".join(path)] = "true"
    for option in fields_of(kind):
        content = getattr(value, option.name)
        default = overrides.get(option.name, option.default)
        if content == default and not option.required:
            continue
        _encode(content, option.type, (*path, option.encode_name.lower()), keys)
    if len(keys) == before:
        keys["/".join(path)] = ""


def _encode(content: Any, annotation: Any, path: tuple[str, ...], keys: dict[str, str]) -> None:
    bare, extra, _ = describe(annotation)
    if isinstance(content, Struct):
        _encode_struct(content, path, keys)
    elif isinstance(content, dict):
        for name, item in content.items():
            _encode(item, get_args(bare)[1], (*path, checked_name(name, path)), keys)
    elif isinstance(content, tuple):
        width = len(str(len(content) - 1))
        for number, item in enumerate(content):
            if isinstance(item, str) and (not item or item != item.strip(" \t\r\n")):
                message = f"the list element {item!r} is empty or has white space around it"
                raise EncodeError(_problem(message, path))
            _encode(item, get_args(bare)[0], (*path, f"{number:0{width}}"), keys)
    elif isinstance(content, bool):
        keys["/".join(path)] = "true" if content else "false"
    elif isinstance(content, float) and "kind" in extra:
        keys["/".join(path)] = format_duration(content)
    elif isinstance(content, str):
        keys["/".join(path)] = content.replace("\\", "\\\\")
    else:
        keys["/".join(path)] = str(content)


def checked_name(name: str, path: tuple[str, ...]) -> str:
    """Return ``name`` if it can be part of a key below ``path``; raises `EncodeError`."""
    if not name or "/" in name:
        message = f"the name {name!r} is empty or holds a slash"
        raise EncodeError(_problem(message, path))
    return name


def _problem(message: str, path: tuple[str, ...]) -> Problem:
    entry = (path[0], path[1]) if len(path) > 1 else None
    return Problem(message=message, path=".".join(path), entry=entry)
