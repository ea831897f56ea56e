"""The answer to a request that differs from a rule only by a trailing slash: 301 to the rule's form."""

from __future__ import annotations

import re

_ENCODED_IN_PATH = re.compile(rb"[^A-Za-z0-9\-_.~$&+,/:;=@]")
_ENCODED_IN_QUERY = re.compile(rb"[^\x21-\x7e]")
_HTML = {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&#34;",
    ord("'"): "&#39;",
}


def trailing_slash_location(path: bytes, query: bytes, origin: bytes = b"") -> bytes:
    """Return the ``Location`` for a decoded ``path`` and a ``query`` without ``?``.

    The slash at the end is taken away, or added when there is none; the path is encoded anew (an encoded
    slash is a slash), the query kept. ``origin`` is ``http://host[:port]`` for a request whose target was
    in absolute form, else empty. Several leading slashes become one, as in Go's http.Redirect: a
    ``Location`` of ``//name/`` would lead to another host.
    """
    path = path[:-1] if path.endswith(b"/") else path + b"/"
    if not origin:
        path = b"/" + path.lstrip(b"/")
    location = origin + _ENCODED_IN_PATH.sub(_percent_encode, path)
    if query:
        location += b"?" + _ENCODED_IN_QUERY.sub(_percent_encode, query)
    return location


def redirect_body(location: bytes) -> bytes:
    """Return the HTML body that goes with a 301 to a GET request."""
    link = location.decode("ascii").translate(_HTML)
    return f'<a href="{link}">Moved Permanently</a>.\n\n'.encode()


def _percent_encode(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
