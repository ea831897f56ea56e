"""Lines that answers get, one part after the other or all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.middleware.response_lines import ResponseLines

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = st.sampled_from([b"x-a", b"x-b", b"x-ab", b"server"])
HEADERS = st.dictionaries(NAMES, st.sampled_from([b"", b"1", b"2"]))
LINES = st.lists(
    st.sampled_from([b"X-A: old\r\n", b"x-a: X-B: \r\n", b"X-AB: 3\r\n", b"Server: s\r\n"])
)


@given(st.lists(HEADERS, max_size=3), LINES, st.binary())
def test_in_one_step_as_one_after_the_other(
    headers: Sequence[dict[bytes, bytes]], lines: list[bytes], body: bytes
) -> None:
    head = changed = b"HTTP/1.1 200 OK\r\n" + b"".join(lines)
    parts = [ResponseLines(each) for each in headers]
    for part in parts:
        changed = part.apply(changed)
    joined = ResponseLines.joined(parts)
    assert joined.apply(head) == changed
    assert joined.insert(head + b"\r\n" + body) == changed + b"\r\n" + body


def test_only_lines_of_the_head_are_replaced() -> None:
    lines = ResponseLines({b"x-a": b"ours", b"x-gone": b""})
    data = b"HTTP/1.1 200 OK\r\nx-A: 1\r\nX-Gone: 1\r\nX-B: 2\r\n\r\n\r\nX-A: body\r\n\r\n"
    assert lines.insert(data) == (
        b"HTTP/1.1 200 OK\r\nX-B: 2\r\nX-A: ours\r\n\r\n\r\nX-A: body\r\n\r\n"
    )
