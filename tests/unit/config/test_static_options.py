"""The static options of Traefik 1.7, one test each: known, of this type, with this default."""

from __future__ import annotations

import pytest

from kvproxy.config.options import options
from tests.unit.config.data import static_options as data

KINDS = {
    "text": "text",
    "boolean": "boolean",
    "integer": "whole number",
    "number": "number",
    "duration": "duration",
    "texts": "list of texts",
    "numbers": "list of numbers",
    "map": "map of texts",
    "list": "list of sections",
    "section": "section",
    "sections": "map of sections",
    "tls": "section",
    "provider": "section",
    "labels": "section",
}
BY_NAME = {option.name: option for option in options()}


def rows(table: str, section: str = "") -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for line in table.split("\n"):
        if not line:
            continue
        name, kind, default = line.split(maxsplit=2)
        if not name.startswith("."):
            section = name
        full = section + name if name.startswith(".") else name
        found.append((full, kind, default))
        if kind == "tls":
            found += rows(data.TLS, full)
        elif kind in ("provider", "labels"):
            common = rows(data.PROVIDER, full)
            if kind == "labels":
                common = [
                    (each, form, data.LABELS.get(each.removeprefix(full), value))
                    for each, form, value in common
                ]
            found += common
    return found


ROWS = [*rows(data.TABLE), *rows(data.ENTRY_POINT, "entryPoints.<name>")]


@pytest.mark.parametrize(("name", "kind", "default"), ROWS, ids=[row[0] for row in ROWS])
def test_option(name: str, kind: str, default: str) -> None:
    option = BY_NAME[name]
    assert option.kind == KINDS[kind]
    default = data.DIFFERENT.get(name, default)
    if option.initial is None or option.section or kind in ("map", "sections", "list"):
        words = {"-": ("none", "absent"), ":80": ("`http` on `:80`",)}.get(default, (default,))
        assert option.default in words
    else:
        assert shown(option.initial, kind) == default


def shown(value: object, kind: str) -> str:
    """Write a default as the table does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(f"{each:g}" if isinstance(each, float) else each for each in value) or "-"
    if isinstance(value, float):
        return f"{value:g}s" if kind == "duration" else f"{value:g}"
    return str(value) or "-"


def test_no_option_is_listed_twice() -> None:
    names = [name for name, _, _ in ROWS]
    assert len(names) == len(set(names)) > 300


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_flag(name: str) -> None:
    without = any(name == each or name.startswith(f"{each}.") for each in data.WITHOUT_FLAG)
    assert BY_NAME[name].flag is not without


def test_what_is_not_of_traefik_says_so() -> None:
    listed = {name for name, _, _ in ROWS}
    sections = {name.rpartition(".")[0] for name in listed}
    for name, option in BY_NAME.items():
        above = name.rpartition(".")[0]
        if name in listed or name in sections or above not in ("", *sections):
            continue
        if above == "embedded" or name.startswith("web.metrics."):
            continue
        assert "kvproxy only" in option.help or option.section, name
