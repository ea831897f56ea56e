"""The reference of all options, generated from the model.

``python -m kvproxy.config.reference [DIRECTORY]`` writes ``static.md`` and ``dynamic.md`` (default
``docs/reference``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.config.options import Option, dynamic_options, options

if TYPE_CHECKING:
    from collections.abc import Iterable

_STATIC_HEAD = """\
# Static options

Read once at start; a change needs a restart. Sources, the later wins, option by option: defaults,
the configuration file (TOML), arguments, the key-value store. Names are matched without regard to
case.

- In the file: `a.b = value`, or `b = value` below `[a]`.
- As an argument: `--a.b=value` or `--a.b value`. Booleans and sections are turned on by their name
  alone; naming a section alone also drops what the file says below it. Lists are comma-separated
  unless the help says otherwise, and the flag may be repeated. Options without a flag are marked.
- In a key-value store: `<prefix>/a/b`, lists as `.../0`, `.../1`. Durations there are nanoseconds
  when they have no unit.

A duration is a number with a unit (`10s`, `1m30s`, `300ms`); digits alone are seconds. A section
that is *absent* by default turns its feature on by being there.

**Active** says what an option does now: *yes*; *no*: it is accepted and has no effect, with a
warning.
"""

_DYNAMIC_HEAD = """\
# Dynamic options

Frontends, backends and certificates, read from every provider. No change of these needs a restart.
Names are matched without regard to case; `<name>` is chosen by you and keeps its case. In a
key-value store the key is the name in lower case with `/` for `.` below the prefix.

A duration is a number with a unit (`10s`, `1m30s`, `300ms`).

**Active** says what an option does now: *yes*; *no*: it is accepted and has no effect, with a
warning.
"""


def static_reference() -> str:
    """Return the text of ``static.md``."""
    return _STATIC_HEAD + _tables(options(), flags=True)


def dynamic_reference() -> str:
    """Return the text of ``dynamic.md``."""
    return _DYNAMIC_HEAD + _tables(dynamic_options(), flags=False)


def _tables(listed: Iterable[Option], *, flags: bool) -> str:
    """Return one table for options without a section, and one for each section."""
    groups: dict[str, list[Option]] = {"": []}
    for option in listed:
        opens = option.section or option.kind.endswith("of sections")
        group = option.path[0] if opens or len(option.path) > 1 else ""
        groups.setdefault(group, []).append(option)
    parts = []
    for group, members in groups.items():
        title = f"`{group}`" if group else "Global"
        rows = [_row(option, flags=flags) for option in members]
        header = "| Option | Type | Default | Active | Meaning |\n|---|---|---|---|---|"
        if rows:
            parts.append(f"\n## {title}\n\n{header}\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def _row(option: Option, *, flags: bool) -> str:
    active = "yes" if option.active else "no"
    notes = option.help.replace("|", "\\|")
    if option.secret:
        notes += " (never shown)"
    if flags and not option.flag and "*" not in option.path:
        notes += " (no flag)"
    if option.short:
        notes += f" (`-{option.short}`)"
    if option.separators not in (",", ""):
        words = {",;": "`,` or `;`", " ": "blanks"}
        notes += f" (as an argument: separated by {words[option.separators]})"
    return f"| `{option.name}` | {option.kind} | {option.default} | {active} | {notes} |"


def write_reference(directory: Path) -> None:
    """Write both files into ``directory``, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "static.md").write_text(static_reference(), encoding="utf-8")
    (directory / "dynamic.md").write_text(dynamic_reference(), encoding="utf-8")


if __name__ == "__main__":
    write_reference(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference"))
