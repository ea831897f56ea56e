"""Writing the configurations of the tests as TOML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{json.dumps(str(key))} = {_value(each)}" for key, each in value.items())
        return "{ " + ", ".join(pairs) + " }"
    raise TypeError(f"{value!r} has no form in TOML")


def to_toml(document: Mapping[str, Any]) -> str:
    """Return ``document`` as TOML: one table a top-level key, one line an entry."""
    plain = [f"{key} = {_value(each)}" for key, each in document.items() if not _is_table(each)]
    lines = [*plain]
    for key, table in document.items():
        if _is_table(table):
            lines.append(f"\n[{key}]")
            lines.extend(
                f"{json.dumps(str(name))} = {_value(each)}" for name, each in table.items()
            )
    return "\n".join(lines) + "\n"


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def write_whole(path: Path, text: str) -> None:
    """Put ``text`` into the file at once: a reader sees all of the old or all of the new."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)
