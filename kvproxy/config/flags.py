"""Command-line arguments: from flags to a document of texts.

The forms of Traefik 1.7: ``--name=value``, ``--name`` for booleans and sections, names without
regard to case, ``-c``, ``-d``, ``-g``, ``-l`` with the value attached or separate. Besides these,
``--name value`` works for everything that takes a value.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from kvproxy.config.entry_point_flag import parse_entry_point
from kvproxy.config.options import SHORT_FLAGS, Option, options
from kvproxy.model.problem import Problem, nearest_name

if TYPE_CHECKING:
    from collections.abc import Sequence

_BOOLEANS = {
    **dict.fromkeys(("1", "t", "true"), True),
    **dict.fromkeys(("0", "f", "false"), False),
}
_EMPTY_ALLOWED = ("text", "list", "map")


class Flags:
    """What the arguments say.

    ``document``: option texts by name, nested. ``resets``: sections (and entry points) whose values
    from sources of lower precedence do not count. ``declined``: sections given as false.
    """

    def __init__(self) -> None:
        """Start with nothing said."""
        self.document: dict[str, Any] = {}
        self.resets: list[tuple[str, ...]] = []
        self.declined: list[tuple[str, ...]] = []
        self.problems: list[Problem] = []
        self._places: dict[tuple[str, ...], str] = {}

    def where(self, path: tuple[str, ...]) -> str:
        """Return the flag that says something about the option ``path``."""
        folded = tuple(part.lower() for part in path)
        while folded:
            if folded in self._places:
                return self._places[folded]
            folded = folded[:-1]
        return "command line"

    def text(self, *path: str) -> str | None:
        """Return the text given for the option ``path``, or None."""
        level: Any = self.document
        for part in path:
            if not isinstance(level, dict) or part not in level:
                return None
            level = level[part]
        return level if isinstance(level, str) else None

    def _refuse(self, flag: str, message: str, *, expected: str = "", nearest: str = "") -> None:
        self.problems.append(
            Problem(message=message, where=flag, expected=expected, nearest=nearest)
        )

    def _put(self, path: tuple[str, ...], value: Any, flag: str) -> None:
        level = self.document
        for part in path[:-1]:
            level = level.setdefault(part, {})
        level[path[-1]] = value
        self._places[tuple(part.lower() for part in path)] = flag

    def _extend(self, path: tuple[str, ...], items: Sequence[Any], flag: str) -> None:
        """Append to a list, which a document of texts holds by position."""
        level = self.document
        for part in path:
            level = level.setdefault(part, {})
        for item in items:
            level[str(len(level))] = item
        self._places[tuple(part.lower() for part in path)] = flag

    def _switch(self, option: Option, text: str | None, flag: str) -> None:
        on = True if text is None else _BOOLEANS.get(text.lower())
        if on is None:
            self._refuse(flag, f"`{text}` is not a boolean", expected="true or false")
        elif not on:
            self.declined.append(option.path)
        else:
            self.resets.append(option.path)
            level = self.document
            for part in option.path:
                level = level.setdefault(part, {})
            self._places.setdefault(tuple(part.lower() for part in option.path), flag)

    def take(self, option: Option, text: str | None, flag: str) -> None:
        """Record one flag; ``text`` None means that it had no value."""
        if option.section:
            self._switch(option, text, flag)
            return
        if text is None:
            text = "true"
        elif not text and not option.kind.startswith(_EMPTY_ALLOWED):
            self._refuse(flag, "needs a value", expected=f"a {option.kind}")
            return
        if option.path == ("entryPoints",):
            name, document, problems = parse_entry_point(text, flag)
            self.problems.extend(problems)
            self.resets.append(("entryPoints", name))
            self._put(("entryPoints", name), document, flag)
        elif option.path == ("acme", "domains"):
            main, *others = _split(text, option.separators) or [""]
            sans = {str(number): name for number, name in enumerate(others)}
            self._extend(option.path, [{"main": main, "sans": sans}], flag)
        elif option.kind.startswith("list"):
            self._extend(option.path, _split(text, option.separators), flag)
        elif option.kind.startswith("map"):
            self._take_map(option, text, flag)
        elif option.kind == "boolean":
            value = _BOOLEANS.get(text.lower())
            if value is None:
                self._refuse(flag, f"`{text}` is not a boolean", expected="true or false")
            else:
                self._put(option.path, "true" if value else "false", flag)
        else:
            self._put(option.path, text, flag)

    def _take_map(self, option: Option, text: str, flag: str) -> None:
        for pair in text.strip("\"'").split():
            name, equals, value = pair.partition("=")
            if not equals or not name:
                self._refuse(flag, f"`{pair}` has no value", expected="NAME=VALUE NAME=VALUE")
            else:
                self._put((*option.path, name), value, flag)


@cache
def flag_table() -> dict[str, Option]:
    """Return the options that can be given by argument, by lower-case dotted name."""
    return {option.name.lower(): option for option in options() if option.flag}


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Read ``arguments`` (without the program's and the command's name); never raises.

    Unknown flags, missing values and words that belong to no flag are fatal problems.
    """
    flags = Flags()
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument[2:].partition("=")
            shown = f"--{name}"
            option = flag_table().get(name.lower())
        elif argument.startswith("-") and not argument.startswith("--") and len(argument) > 1:
            shown = argument[:2]
            option = flag_table().get(SHORT_FLAGS.get(argument[1], "").lower())
            value = argument[2:].removeprefix("=")
            equals = value
        else:
            hint = _hint(arguments[position - 2], argument) if position > 1 else ""
            flags._refuse(f"`{argument}`", "belongs to no flag", expected=hint)
            continue
        if option is None:
            flags._refuse(shown, "unknown flag", nearest=_nearest(shown))
            continue
        text: str | None = value if equals else None
        if text is None and not option.section and option.kind != "boolean":
            if position >= len(arguments) or arguments[position].startswith("--"):
                flags._refuse(shown, "needs a value", expected=f"{shown}=VALUE ({option.kind})")
                continue
            text = arguments[position]
            position += 1
        flags.take(option, text, shown)
    return flags


def _hint(before: str, word: str) -> str:
    """Return the flag that the user may have meant by ``before word``."""
    option = flag_table().get(before.removeprefix("--").lower())
    return f"{before}={word}" if option is not None and before.startswith("--") else ""


def _nearest(shown: str) -> str:
    if len(shown) == 2:
        return ""
    names = [option.name for option in flag_table().values()]
    nearest = nearest_name(shown.lstrip("-"), names)
    return f"--{nearest}" if nearest else ""


def _split(text: str, separators: str) -> list[str]:
    for separator in separators[1:]:
        text = text.replace(separator, separators[0])
    return [item.strip() for item in text.split(separators[0]) if item.strip()]
