"""Reading access logs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.deadline import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(
    r"(?P<host>\S+) - (?P<user>\S+) \[(?P<time>[^\]]+)\] "
    r'"(?P<method>[^ "]+) (?P<path>[^ "]+) (?P<protocol>[^ "]+)" '
    r'(?P<status>\d+|-) (?P<size>\d+|-) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" '
    r'(?P<count>\d+|-) "(?P<frontend>[^"]*)" "(?P<url>[^"]*)" (?P<duration>\d+ms|-)\n'
)


@dataclass(frozen=True)
class Line:
    """One line of the common format."""

    host: str
    user: str
    time: str
    method: str
    path: str
    protocol: str
    status: str
    size: str
    referer: str
    agent: str
    count: str
    frontend: str
    url: str
    duration: str


def parse_line(text: str) -> Line:
    """Return the fourteen fields of a line; AssertionError when it is none."""
    found = _LINE.fullmatch(text)
    assert found is not None, f"not a line of the common format: {text!r}"
    return Line(**found.groupdict())


def raw_lines(path: Path, count: int, seconds: float = 10.0) -> list[str]:
    """Wait until a file has so many whole lines, and return them; more fail."""

    def read() -> list[str]:
        text = path.read_text() if path.exists() else ""
        return text.splitlines(keepends=True)

    def complete() -> bool:
        lines = read()
        return len(lines) >= count and (not lines or lines[-1].endswith("\n"))

    wait_until(complete, f"{count} lines in {path.name}", seconds)
    lines = read()
    assert len(lines) == count, lines
    return lines
