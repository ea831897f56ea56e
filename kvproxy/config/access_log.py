"""Checks of the access log's settings. What cannot be used is named, and stops nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvproxy.model.access_log import FIELD_MODES, FIELDS, FORMATS, HEADER_MODES
from kvproxy.model.problem import nearest_name
from kvproxy.model.statuses import is_status_range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kvproxy.model.schema import Report


def check_access_log(report: Report, section: Mapping[str, Any]) -> bool:
    """Name what is wrong with ``section``; False: there can be no access log."""
    for text in section.get("filters", {}).get("statusCodes", ()):
        if not is_status_range(text):
            report.add(
                ("accessLog", "filters", "statusCodes"),
                f"`{text}` is no status, and no range of them: it is passed over",
                expected="such as `404` or `500-599`",
                fatal=False,
            )
    fields = section.get("fields", {})
    for name in fields.get("names", ()):
        if name not in FIELDS:
            report.add(
                ("accessLog", "fields", "names", name),
                "there is no such field",
                nearest=nearest_name(name, FIELDS),
                fatal=False,
            )
    _check_modes(report, ("accessLog", "fields"), fields, FIELD_MODES)
    headers = fields.get("headers", {})
    _check_modes(report, ("accessLog", "fields", "headers"), headers, HEADER_MODES)
    name = section.get("format") or FORMATS[0]
    if name in FORMATS:
        return True
    report.add(
        ("accessLog", "format"),
        f"`{name}` is no format: there is no access log",
        expected=f"one of {', '.join(FORMATS)}",
        nearest=nearest_name(name, FORMATS),
        fatal=False,
    )
    return False


def _check_modes(
    report: Report, path: tuple[str, ...], section: Mapping[str, Any], known: Sequence[str]
) -> None:
    """Name the modes that nobody knows: they drop, as in Traefik 1.7."""
    given: dict[tuple[str, ...], str] = {("defaultMode",): section.get("defaultMode", known[0])}
    given |= {("names", name): mode for name, mode in section.get("names", {}).items()}
    for below, mode in given.items():
        if mode not in known:
            report.add(
                (*path, *below),
                f"`{mode}` is no mode: it drops",
                expected=f"one of {', '.join(known)}",
                nearest=nearest_name(mode, known),
                fatal=False,
            )
