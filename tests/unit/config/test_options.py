from __future__ import annotations

from pathlib import Path

import pytest

from kvproxy.config.options import dynamic_options, options
from kvproxy.config.reference import dynamic_reference, static_reference, write_reference

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
BY_NAME = {option.name: option for option in (*options(), *dynamic_options())}

ROWS: list[tuple[str, str, str, bool, bool, bool]] = [
    # name, kind, default, flag, repeated, active
    ("logLevel", "text", "INFO", True, False, True),
    ("debug", "boolean", "false", True, False, True),
    ("workers", "whole number", "0", True, False, True),
    ("providersThrottleDuration", "duration", "0s", True, False, True),
    ("respondingTimeouts.idleTimeout", "duration", "180s", True, False, True),
    ("defaultEntryPoints", "list of texts", "http", True, True, True),
    ("metrics.prometheus.buckets", "list of numbers", "0.1, 0.3, 1.2, 5", True, True, False),
    ("accessLog.fields.names", "map of texts", "none", True, True, True),
    ("entryPoints", "map of sections", "`http` on `:80`", True, True, True),
    ("entryPoints.<name>.address", "text", "required", False, False, True),
    ("entryPoints.<name>.tls.certificates.<name>.certFile", "text", "empty", False, False, True),
    ("acme.domains", "list of sections", "none", True, True, False),
    ("file", "section", "absent", True, False, True),
    ("lifeCycle", "section", "present", True, False, True),
    ("tracing.jaeger.samplingParam", "number", "1", True, False, False),
    ("cluster.node", "text", "random", False, False, False),
    ("frontends.<name>.backend", "text", "required", False, False, True),
    ("backends.<name>.healthCheck.interval", "duration", "absent", False, False, True),
    ("backends.<name>.servers.<name>.weight", "whole number", "1", False, False, True),
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_option(row: tuple[str, str, str, bool, bool, bool]) -> None:
    option = BY_NAME[row[0]]
    found = (option.kind, option.default, option.flag, option.repeated, option.active)
    assert found == row[1:]


def test_every_option_has_help_and_default() -> None:
    assert [name for name, option in BY_NAME.items() if not (option.help and option.default)] == []


def test_names_are_unique_without_regard_to_case() -> None:
    for listed in (options(), dynamic_options()):
        names = [option.name.lower() for option in listed]
        assert len(names) == len(set(names))


def test_as_many_flags_as_traefik_or_more() -> None:
    assert sum(option.flag for option in options()) > 350


def test_committed_reference_is_the_generated_one(tmp_path: Path) -> None:
    write_reference(tmp_path / "new")
    for name in ("static.md", "dynamic.md"):
        committed = (REFERENCE / name).read_text()
        hint = "run python -m kvproxy.config.reference"
        assert committed == (tmp_path / "new" / name).read_text(), hint


def test_reference_holds_every_option() -> None:
    for option in options():
        assert f"| `{option.name}` |" in static_reference()
    for option in dynamic_options():
        assert f"| `{option.name}` |" in dynamic_reference()
