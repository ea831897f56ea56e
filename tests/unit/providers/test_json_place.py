from __future__ import annotations

import msgspec
import pytest
from msgspec import Struct

from providers.json_place import entry_at


class Entry(Struct):
    key: str
    value: bytes = b""


class Answer(Struct):
    entries: list[Entry]


CASES = {
    "value": (b'{"entries":[{"key":"a","value":""},{"key":"b","value":"!"}]}', {"key": "b"}),
    "type": (b'{"entries":[{"key":1,"value":""}]}', {"key": 1}),
    "outermost": (b'{"entries":1}', {"entries": 1}),
    "no object": (b"[]", {}),
    "cut off": (b'{"entries":[{"key":"a"', {}),
    "no JSON": (b"<html>", {}),
    "nothing": (b"", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_object_of_an_error_is_found(name: str) -> None:
    answer, expected = CASES[name]
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(answer, type=Answer)
    assert entry_at(caught.value, answer).items() >= expected.items()
    assert bool(entry_at(caught.value, answer)) == bool(expected)
