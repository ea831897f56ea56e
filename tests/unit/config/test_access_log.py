"""The access log among the static settings: what is wrong is named, and stops nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvproxy.config.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from kvproxy.config.settings import Settings

POINT = "--entryPoints=Name:http Address::80"


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "static.toml"
    path.write_text(f'[entryPoints.http]\naddress = ":80"\n{text}')
    return load_settings([f"--configFile={path}"], environment={})


GOOD = """
[accessLog]
filePath = "/var/log/access.log"
format = "json"
bufferingSize = 100
[accessLog.filters]
statusCodes = ["200", "300-302"]
retryAttempts = true
minDuration = "10ms"
[accessLog.fields]
defaultMode = "keep"
[accessLog.fields.names]
ClientUsername = "drop"
[accessLog.fields.headers]
defaultMode = "drop"
[accessLog.fields.headers.names]
User-Agent = "redact"
"""


def test_everything_good_has_no_problem(tmp_path: Path) -> None:
    found = settings(tmp_path, GOOD)
    assert found.problems == ()
    log = found.static.access_log
    assert log is not None
    assert (log.format, log.buffering_size) == ("json", 100)


@pytest.mark.parametrize(
    ("old", "new", "path", "line", "message"),
    [
        ('"200"', '"2xx"', "accessLog.filters.statusCodes", 9, "`2xx` is no status"),
        ('Mode = "keep"', 'Mode = "kepe"', "accessLog.fields.defaultMode", 13, "mean `keep`?"),
        ('"drop"\n[accessLog.fields.headers]', '"redact"\n[accessLog.fields.headers]',
         "accessLog.fields.names.ClientUsername", 15, "`redact` is no mode"),
        ("ClientUsername", "ClientUsrname", "accessLog.fields.names.ClientUsrname", 15,
         "did you mean `ClientUsername`?"),
        ('"redact"', '"redacted"', "accessLog.fields.headers.names.User-Agent", 19,
         "did you mean `redact`?"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_line(
    tmp_path: Path, old: str, new: str, path: str, line: int, message: str
) -> None:
    assert GOOD.count(old) == 1
    found = settings(tmp_path, GOOD.replace(old, new))
    (problem,) = found.problems
    assert not problem.fatal
    assert problem.path == path
    assert problem.where.endswith(f"static.toml:{line}")
    assert message in str(problem)
    assert found.static.access_log is not None


def test_an_unknown_format_is_no_log(tmp_path: Path) -> None:
    found = settings(tmp_path, GOOD.replace('"json"', '"jsn"'))
    assert found.static.access_log is None
    (problem,) = found.problems
    assert not problem.fatal
    assert "`jsn` is no format: there is no access log" in str(problem)
    assert problem.nearest == "json"


def test_the_deprecated_option_replaces_the_section(tmp_path: Path) -> None:
    found = load_settings(
        [POINT, "--accessLog.format=json", "--accessLogsFile=/tmp/old.log"], environment={}
    )
    log = found.static.access_log
    assert log is not None
    assert (log.file_path, log.format) == ("/tmp/old.log", "common")
    assert [problem.path for problem in found.problems] == ["accessLogsFile"]


def test_the_flag_alone_switches_it_on() -> None:
    found = load_settings([POINT, "--accessLog"], environment={})
    assert found.static.access_log is not None
    assert found.problems == ()
