"""From static settings to the keys of a store: every option of every section that is there.

The keys and spellings are those of Traefik 1.7's ``storeconfig``, so that defaults count as said,
and a store names everything that its proxies start with. Traefik's markers of directories are
written only where a section would leave no trace without one, and without the slash at the end.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, get_args

from msgspec import NODEFAULT, Struct

from kvproxy.config.settings import OF_THE_MACHINE
from kvproxy.model.durations import NANOSECONDS
from kvproxy.model.keytree import EncodeError, checked_name
from kvproxy.model.kinds import describe, fields_of
from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    from msgspec.structs import FieldInfo

    from kvproxy.model.static import StaticConfiguration

NOT_STORED = frozenset({*OF_THE_MACHINE, "file", "nodeName", "pidFile", "workers"})
"""Options that belong to one machine, and ``file``, whose rules are stored instead."""

CREDENTIALS = frozenset({"username", "password", "tls", "token", "path"})
"""Options of a store's own section that are not written into it: who reads them is inside."""

Path = tuple[str, ...]


def encode_static(static: StaticConfiguration, store: str) -> dict[str, str]:
    """Return the keys below the prefix of ``store`` that say what ``static`` says, sorted.

    Raises `EncodeError` for what no key can say: a text that is empty where the default is not, an
    element of a list that is empty or has white space around it, a name that is empty or holds a
    slash.
    """
    keys: dict[str, str] = {}
    for field in fields_of(type(static)):
        name = field.encode_name
        if name in NOT_STORED:
            continue
        without = CREDENTIALS if name == store else frozenset()
        _encode(getattr(static, field.name), field, (name,), keys, without)
    return dict(sorted(keys.items()))


def _encode(
    value: Any, field: FieldInfo, path: Path, keys: dict[str, str], without: frozenset[str]
) -> None:
    if value is None:
        return
    default = field.default
    if isinstance(value, str) and not value and default not in ("", NODEFAULT, None):
        raise _error(path, f"is empty; a store cannot say so, the default `{default}` would count")
    if value == () and default != ():
        keys[_key(path)] = ""
    else:
        _value(value, field.type, path, keys, without)


def _value(
    value: Any, annotation: Any, path: Path, keys: dict[str, str], without: frozenset[str]
) -> None:
    bare, extra, _ = describe(annotation)
    if isinstance(value, Struct):
        before = set(keys)
        for field in fields_of(type(value)):
            if field.encode_name not in without:
                inner = (*path, field.encode_name)
                _encode(getattr(value, field.name), field, inner, keys, frozenset())
        if not any(keys[key] for key in keys.keys() - before):
            keys[_key(path)] = ""
    elif isinstance(value, dict):
        for name, item in value.items():
            if item == "":
                raise _error((*path, name), "is empty; a store cannot say so")
            inner = (*path, _Chosen(checked_name(name, path)))
            _value(item, get_args(bare)[1], inner, keys, frozenset())
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            if isinstance(item, str) and (not item or item != item.strip(" \t\r\n")):
                raise _error(
                    path, f"the list element {item!r} is empty or has white space around it"
                )
            _value(item, get_args(bare)[0], (*path, str(number)), keys, frozenset())
    elif isinstance(value, bool):
        keys[_key(path)] = "true" if value else "false"
    elif isinstance(value, float) and "kind" in extra:
        keys[_key(path)] = str(round(Decimal(repr(value)) * NANOSECONDS))
    elif isinstance(value, float):
        keys[_key(path)] = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    else:
        keys[_key(path)] = str(value)


class _Chosen(str):
    """A name that the user chose: it keeps its case."""

    __slots__ = ()


def _key(path: Path) -> str:
    return "/".join(part if isinstance(part, _Chosen) else part.lower() for part in path)


def _error(path: Path, message: str) -> EncodeError:
    return EncodeError(Problem(message=message, path=".".join(path)))
