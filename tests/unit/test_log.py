from __future__ import annotations

import io
import logging
import re
from typing import TYPE_CHECKING

import pytest

from kvproxy import log

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("root_logger")
def test_a_record_is_one_line() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    logging.getLogger("kvproxy.test").warning("two\nlines %s", log.pairs(number=3))
    expected = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARN two\\nlines number=3\n"
    assert re.fullmatch(expected, stream.getvalue())


@pytest.mark.usefixtures("root_logger")
def test_a_traceback_follows_its_line() -> None:
    stream = io.StringIO()
    log.configure("INFO", stream)
    try:
        raise ValueError("of the test")
    except ValueError:
        logging.getLogger("kvproxy.test").exception("failed")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("ERROR failed")
    assert lines[-1] == "ValueError: of the test"


@pytest.mark.usefixtures("root_logger")
@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("DEBUG", ["DEBUG", "INFO", "WARN", "ERROR", "FATAL"]),
        ("info", ["INFO", "WARN", "ERROR", "FATAL"]),
        ("WARN", ["WARN", "ERROR", "FATAL"]),
        ("warning", ["WARN", "ERROR", "FATAL"]),
        ("ERROR", ["ERROR", "FATAL"]),
        ("FATAL", ["FATAL"]),
        ("PANIC", ["FATAL"]),
        ("nonsense", ["INFO", "WARN", "ERROR", "FATAL"]),
    ],
)
def test_level(level: str, written: list[str]) -> None:
    stream = io.StringIO()
    log.configure(level, stream)
    logger = logging.getLogger("kvproxy.test")
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(number, "text")
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("word", "word"),
        ("two words", '"two words"'),
        ("", '""'),
        ('a"b', '"a\\"b"'),
        ("a=b", '"a=b"'),
        ("line\nend", '"line\\nend"'),
        ("\x1b[31m", '"\\u001b[31m"'),
        ("ünïcode", "ünïcode"),
        (0.00123456, "0.001235"),
        (12, "12"),
        (True, "True"),
    ],
)
def test_pairs(value: object, text: str) -> None:
    assert log.pairs(key=value, other=1) == f"key={text} other=1"
