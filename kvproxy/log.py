"""The log: readable single lines on standard error, ``time level message key=value``."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TextIO

LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
    "PANIC": logging.CRITICAL,
}
"""Names of ``logLevel``, in any case, and what they mean."""

_NAMES = {logging.WARNING: "WARN", logging.CRITICAL: "FATAL"}


class LineFormatter(logging.Formatter):
    """One line per record: UTC time with milliseconds, level, message. Line ends are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback, where there is one, follows on lines of its own."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = _NAMES.get(record.levelno, record.levelname)
        message = record.getMessage().replace("\n", "\\n").replace("\r", "\\r")
        line = f"{seconds}.{int(record.msecs):03d}Z {level} {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure(level: str, stream: TextIO | None = None) -> None:
    """Write the log of this process to ``stream`` (standard error) from ``level`` on.

    An unknown level counts as INFO.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS.get(level.upper(), logging.INFO))


def pairs(**values: object) -> str:
    """Return ``key=value key=value``; text that would not read as one word is quoted."""
    return " ".join(f"{key}={_word(value)}" for key, value in values.items())


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    if not text or any(letter in ' "=\\' or not letter.isprintable() for letter in text):
        return json.dumps(text, ensure_ascii=False)
    return text
