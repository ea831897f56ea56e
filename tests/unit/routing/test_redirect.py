from __future__ import annotations

import pytest

from kvproxy.routing.redirect import redirect_location
from kvproxy.routing.request import RequestView


@pytest.mark.parametrize(
    ("path", "query", "authority", "location"),
    [
        pytest.param(b"/foo/", b"", b"", b"/foo", id="taken-away"),
        pytest.param(b"/foo", b"", b"", b"/foo/", id="added"),
        pytest.param(b"/foo", b"a=%zz&b=%20;", b"", b"/foo/?a=%zz&b=%20;", id="query-kept"),
        pytest.param(b"/foo/", b"", b"h:81", b"http://h:81/foo", id="absolute"),
        pytest.param(b"", b"", b"h", b"http://h/", id="absolute-without-path"),
        pytest.param(b"/a b!\xe9/", b"", b"", b"/a%20b%21%E9", id="encoded"),
        pytest.param(b"/x?y/", b"", b"", b"/x%3Fy", id="question-mark"),
        pytest.param(
            b"/a", b'\xe9\x00\r\n"', b"", b'/a/?%E9%00%0D%0A"', id="query-cannot-break-out"
        ),
        pytest.param(b"/a\r\nX: y/", b"", b"", b"/a%0D%0AX:%20y", id="path-cannot-break-out"),
        pytest.param(b"//evil.test/", b"", b"", b"/evil.test", id="no-other-host"),
        pytest.param(b"///", b"", b"", b"/", id="slashes-alone"),
        pytest.param(b"/\\evil.test/", b"", b"", b"/%5Cevil.test", id="no-other-host-by-backslash"),
        pytest.param(b"//a/", b"", b"h", b"http://h//a", id="absolute-keeps-slashes"),
    ],
)
def test_location(path: bytes, query: bytes, authority: bytes, location: bytes) -> None:
    request = RequestView(b"GET", b"h", path, query, b"")
    assert redirect_location(request, authority) == location


def test_scheme_of_an_absolute_location() -> None:
    request = RequestView(b"GET", b"h", b"/a", b"", b"")
    assert redirect_location(request, b"h", b"https") == b"https://h/a/"
