"""Where a request is sent that differs from a rule only by a trailing slash: the rule's form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kvproxy.http.target import encode_path

if TYPE_CHECKING:
    from kvproxy.routing.request import RequestView

_encode_in_query = re.compile(rb"[^\x21-\x7e]").sub


def redirect_location(request: RequestView, authority: bytes, scheme: bytes = b"http") -> bytes:
    """Return the ``Location`` of the 301 for `Found.redirect`.

    The slash at the end of the path is taken away, or added when there is none; the path is encoded
    anew (an encoded slash is a slash), the query kept. ``authority``: host and port as sent when
    the target was in absolute form, which makes the answer absolute too; else empty. Several
    leading slashes become one, as Go's http.Redirect makes them: ``//name/`` would lead to another
    host.
    """
    path = request.path
    path = path[:-1] if path.endswith(b"/") else path + b"/"
    if authority:
        location = b"%b://%b%b" % (scheme, authority, encode_path(path))
    else:
        location = encode_path(b"/" + path.lstrip(b"/"))
    if request.query:
        location += b"?" + _encode_in_query(_percent_encode, request.query)
    return location


def _percent_encode(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
