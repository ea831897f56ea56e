from __future__ import annotations

import pytest

from kvproxy.control.administration.commands import _at_least


@pytest.mark.parametrize(
    ("revision", "wanted", "expected"),
    [
        ("7", "7", True),
        ("10", "9", True),
        ("9", "10", False),
        ("abc", "abc", True),
        ("abc", "abd", False),
        ("10", "abc", False),
        ("", "1", False),
    ],
)
def test_revisions_are_compared_as_numbers_where_they_are(
    revision: str, wanted: str, expected: bool
) -> None:
    assert _at_least(revision, wanted) is expected
