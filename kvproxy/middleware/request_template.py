"""Texts with ``{{ .Request... }}`` in them, as the replacement of a redirect may have.

Traefik 1.7 runs its *result*, which contains what the client wrote, as a template: a client can
then inject actions. Here only what the operator wrote is a template.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.middleware.contract import Request

    Value = Callable[[Request], bytes]

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_HEADER = re.compile(r"""\.Request\.Header\.Get\s+(?:"([^"\\]*)"|`([^`]*)`)""")
_MARK = re.compile(rb"\x00([0-9]+)\x00")

_FIELDS: dict[str, Value] = {
    ".Request.Host": lambda request: request.host,
    ".Request.Method": lambda request: request.method,
    ".Request.RequestURI": lambda request: request.uri,
    ".Request.URL.Path": lambda request: request.path,
    ".Request.URL.RawQuery": lambda request: request.uri.partition(b"?")[2],
}

KNOWN_ACTIONS = (*_FIELDS, '.Request.Header.Get "NAME"')


class TemplateError(ValueError):
    """A template cannot be read; the message says why."""


class RequestTemplate:
    """``marked``: the text with each action replaced by a mark that no URL can contain."""

    __slots__ = ("_values", "marked")

    def __init__(self, text: str) -> None:
        """Read ``text``; raises `TemplateError`."""
        if "\x00" in text:
            raise TemplateError("holds a NUL")
        self._values: list[Value] = []
        self.marked = _ACTION.sub(self._mark, text)
        if "{{" in self.marked:
            raise TemplateError("`{{` is not closed")

    def _mark(self, action: re.Match[str]) -> str:
        self._values.append(_value_of(action[1]))
        return f"\x00{len(self._values) - 1}\x00"

    def expand(self, marked: bytes, request: Request) -> bytes:
        """Return ``marked`` with the values of the request in the place of the marks."""
        if not self._values:
            return marked
        return _MARK.sub(lambda mark: self._values[int(mark[1])](request), marked)


def _value_of(action: str) -> Value:
    header = _HEADER.fullmatch(action)
    if header is not None:
        name = (header[1] or header[2] or "").lower().encode()
        return lambda request: request.first(name)
    field = _FIELDS.get(action)
    if field is None:
        raise TemplateError(f"`{{{{ {action} }}}}` is not known here")
    return field
