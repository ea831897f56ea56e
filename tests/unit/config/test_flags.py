from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.config.flags import flag_table, parse_flags
from kvproxy.config.options import SHORT_FLAGS, options

GOOD: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--logLevel=DEBUG"], {"logLevel": "DEBUG"}),
    (["--loglevel=DEBUG"], {"logLevel": "DEBUG"}),
    (["--LOGLEVEL", "DEBUG"], {"logLevel": "DEBUG"}),
    (["--logLevel="], {"logLevel": ""}),
    (["--file.filename=a=b"], {"file": {"filename": "a=b"}}),
    (["--workers", "2", "--workers=3"], {"workers": "3"}),
    (["-lDEBUG"], {"logLevel": "DEBUG"}),
    (["-l", "DEBUG"], {"logLevel": "DEBUG"}),
    (["-l=DEBUG"], {"logLevel": "DEBUG"}),
    (["-c", "my-conf.toml"], {"configFile": "my-conf.toml"}),
    (["-cmy-conf.toml"], {"configFile": "my-conf.toml"}),
    (["-g", "10s"], {"graceTimeOut": "10s"}),
    (["-d"], {"debug": "true"}),
    (["-dfalse"], {"debug": "false"}),
    (["--debug"], {"debug": "true"}),
    *(([f"--debug={text}"], {"debug": "true"}) for text in ("true", "True", "TRUE", "1", "t", "T")),
    *(([f"--debug={text}"], {"debug": "false"}) for text in ("false", "False", "0", "f", "F")),
    (["--file"], {"file": {}}),
    (["--file=true", "--file.watch=false"], {"file": {"watch": "false"}}),
    (["--file.watch=false", "--file"], {"file": {"watch": "false"}}),
    (["--file=false"], {}),
    (["--embedded", "--ping", "--retry"], {"embedded": {}, "ping": {}, "retry": {}}),
    (["--metrics.prometheus"], {"metrics": {"prometheus": {}}}),
    (["--defaultEntryPoints=a, b,,c"], {"defaultEntryPoints": {"0": "a", "1": "b", "2": "c"}}),
    (
        ["--defaultEntryPoints=a", "--defaultentrypoints=b"],
        {"defaultEntryPoints": {"0": "a", "1": "b"}},
    ),
    (
        ["--metrics.prometheus.buckets=0.1;0.3,5"],
        {"metrics": {"prometheus": {"buckets": {"0": "0.1", "1": "0.3", "2": "5"}}}},
    ),
    (["--rootCAs=a;b,c"], {"rootCAs": {"0": "a;b", "1": "c"}}),
    (
        ["--accessLog.fields.names='StartUTC=drop Duration=keep'"],
        {"accessLog": {"fields": {"names": {"StartUTC": "drop", "Duration": "keep"}}}},
    ),
    (
        ["--acme.domains=main,san1;san2", "--acme.domains=other"],
        {
            "acme": {
                "domains": {
                    "0": {"main": "main", "sans": {"0": "san1", "1": "san2"}},
                    "1": {"main": "other", "sans": {}},
                }
            }
        },
    ),
    (
        ["--entryPoints=Name:a Address::1", "--entrypoints=Name:b Address::2"],
        {"entryPoints": {"a": {"address": ":1"}, "b": {"address": ":2"}}},
    ),
    (["--entryPoints", "Name:a Address::1"], {"entryPoints": {"a": {"address": ":1"}}}),
    (["--consul.endpoint", "-x"], {"consul": {"endpoint": "-x"}}),
]

BAD: list[tuple[list[str], str]] = [
    (["--logLevl=x"], "--logLevl: unknown flag; did you mean `--logLevel`?"),
    (["--file.filenme=x"], "--file.filenme: unknown flag; did you mean `--file.filename`?"),
    (["--zzzzzzzzzz"], "--zzzzzzzzzz: unknown flag"),
    (["-x"], "-x: unknown flag"),
    (["--"], "`--`: belongs to no flag"),
    (["-"], "`-`: belongs to no flag"),
    ([""], "``: belongs to no flag"),
    (["--cluster.node=x"], "--cluster.node: unknown flag"),
    (["--entryPoints.http.address=:80"], "--entryPoints.http.address: unknown flag"),
    (["stray"], "`stray`: belongs to no flag"),
    (["--debug", "false"], "`false`: belongs to no flag; expected --debug=false"),
    (["--workers=2", "3"], "`3`: belongs to no flag"),
    (["--logLevel"], "--logLevel: needs a value; expected --logLevel=VALUE (text)"),
    (["--logLevel", "--debug"], "--logLevel: needs a value"),
    (["-l"], "-l: needs a value"),
    (["--workers="], "--workers: needs a value; expected a whole number"),
    (["--debug=maybe"], "--debug: `maybe` is not a boolean; expected true or false"),
    (["--debug="], "--debug: needs a value"),
    (["--file=x"], "--file: `x` is not a boolean; expected true or false"),
    (["--accessLog.fields.headers.names=User-Agent"], "`User-Agent` has no value"),
    (["--entryPoints=Address::80"], "the entry point has no name"),
]


@pytest.mark.parametrize(("arguments", "document"), GOOD, ids=[" ".join(row[0]) for row in GOOD])
def test_flags(arguments: list[str], document: dict[str, Any]) -> None:
    flags = parse_flags(arguments)
    assert flags.problems == []
    assert flags.document == document


@pytest.mark.parametrize(("arguments", "text"), BAD, ids=[" ".join(row[0]) for row in BAD])
def test_bad_flags(arguments: list[str], text: str) -> None:
    problems = [problem for problem in parse_flags(arguments).problems if problem.fatal]
    assert len(problems) == 1
    assert text in str(problems[0])


def test_every_bad_flag_is_reported_and_the_rest_is_read() -> None:
    flags = parse_flags(["--a=1", "--logLevel=INFO", "--b", "--workers"])
    assert [problem.where for problem in flags.problems] == ["--a", "--b", "--workers"]
    assert flags.document == {"logLevel": "INFO"}


def test_sections_reset_what_comes_from_below() -> None:
    flags = parse_flags(
        ["--file", "--ping=true", "--retry=false", "--entryPoints=Name:a Address::1"]
    )
    assert flags.resets == [("file",), ("ping",), ("entryPoints", "a")]
    assert flags.declined == [("retry",)]


def test_where_names_the_flag_as_it_was_spelled() -> None:
    flags = parse_flags(["--FILE.watch=false", "--entryPoints=Name:a Address::1"])
    assert flags.where(("file", "watch")) == "--FILE.watch"
    assert flags.where(("entryPoints", "a", "address")) == "--entryPoints"
    assert flags.where(("workers",)) == "command line"


def test_every_flag_can_be_given() -> None:
    values = {
        "boolean": "true", "section": "true", "whole number": "9", "number": "1.5",
        "duration": "10s", "map of texts": "a=b", "map of sections": "Name:a Address::1",
    }  # fmt: skip
    for name, option in flag_table().items():
        flags = parse_flags([f"--{name}={values.get(option.kind, 'a')}"])
        assert flags.problems == []
        level: Any = flags.document
        for part in option.path:
            level = level[part]


def test_short_flags_are_options() -> None:
    assert {option.short: option.name for option in options() if option.short} == SHORT_FLAGS


@given(st.lists(st.text(alphabet="-=acdfgl.:, '\"xé", max_size=10), max_size=5))
def test_any_arguments_are_read_or_refused(arguments: list[str]) -> None:
    flags = parse_flags(arguments)
    assert flags.problems or flags.document or not arguments or flags.declined
