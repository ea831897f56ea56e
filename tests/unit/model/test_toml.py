from __future__ import annotations

import time
import tomllib
from typing import TYPE_CHECKING

import pytest
import rtoml
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.model.toml import TomlError, load_toml, read_toml, scan_keys

if TYPE_CHECKING:
    from pathlib import Path

TRICKY = b"""# comment with [brackets] and = signs
title = "first"
text = \"\"\"
[not.a.table]
key = "inside a string \\"\"\"\\"
\"\"\"
[[tls]]
entryPoints = [
  "a", # ] is not the end
  "]",
]
  [tls.certificate]
  certFile = '''
fake = 1
'''
[[tls]]
  [tls.certificate]
  "certFile" = "x\\"]"

[a."b.c".'d e']
e . f = {g = 1, h = "]}", i = [
  1,
]}
j = 2
"\\u00e9" = 3
[[a.list]]
x = 1
[[a.list.inner]]
y = 1
[[a.list.inner]]
y = 2
"""

PLACES = [
    (("title",), "f.toml:2"),
    (("TITLE",), "f.toml:2"),
    (("text",), "f.toml:3"),
    (("not", "a", "table"), "f.toml"),
    (("tls",), "f.toml:7"),
    (("tls", "0", "entryPoints"), "f.toml:8"),
    (("tls", "0", "certificate", "certfile"), "f.toml:13"),
    (("tls", "1"), "f.toml:16"),
    (("tls", "1", "certificate", "certFile"), "f.toml:18"),
    (("a",), "f.toml:20"),
    (("a", "b.c", "d e"), "f.toml:20"),
    (("a", "b.c", "d e", "e"), "f.toml:21"),
    (("a", "b.c", "d e", "e", "f", "i"), "f.toml:21"),
    (("a", "b.c", "d e", "j"), "f.toml:24"),
    (("a", "b.c", "d e", "é"), "f.toml:25"),
    (("a", "list", "0", "inner", "1", "y"), "f.toml:31"),
    (("missing",), "f.toml"),
    ((), "f.toml"),
]

BROKEN = [
    ("unclosed string", b'a = 1\n[t]\nname = "x\nb = 1\n', "f.toml:3:10", "t.name"),
    ("unclosed list", b"[t]\nname = [1,\n", "f.toml:2:11", "t.name"),
    ("missing value", b"[t.u]\nname =\n", "f.toml:2:7", "t.u.name"),
    ("two values", b"[t]\na = 1\nb = 1 c = 2\n", "f.toml:3:9", "t.b"),
    ("key twice", b"[t]\na = 1\na = 2\n", "f.toml:3:1", "t.a"),
    ("table twice", b"[t]\na = 1\n[t]\nb = 2\n", "f.toml:3:2", "t"),
    ("value in the way", b"[a]\nb = 1\n[a.b]\nc = 1\n", "f.toml:3:4", "a.b"),
    ("NUL", b"[t]\na\x00 = 1\n", "f.toml:2:2", "t"),
    ("NUL in a string", b'a = "\x00"\n', "f.toml:1:6", "a"),
    ("bad escape", b'rule = "\\d"\n', "f.toml:1:10", "rule"),
    ("bare word", b"a = yes\n", "f.toml:1:5", "a"),
    ("second of a list of tables", b"[[tls]]\n[[tls]]\nx = 3 4\n", "f.toml:3:5", "tls.1.x"),
    ("not UTF-8", b"a = 1\nb = '\xff'\n", "f.toml:2:6", ""),
    ("UTF-16", "a = 1\n".encode("utf-16"), "f.toml:1:1", ""),
]

DEEP = [
    ("lists", b"a = " + b"[" * 100_000),
    ("inline tables", b"a = " + b"{b = " * 100_000),
    ("dotted key", b".".join([b"a"] * 100_000) + b" = 1"),
    ("header", b"[" + b".".join([b"a"] * 100_000) + b"]"),
]


@pytest.mark.parametrize(("path", "place"), PLACES, ids=[".".join(path) for path, _ in PLACES])
def test_where(path: tuple[str, ...], place: str) -> None:
    assert load_toml(TRICKY, "f.toml").where(path) == place


def test_data_is_that_of_an_independent_parser() -> None:
    assert load_toml(TRICKY.replace(b"[\n  1,\n]", b"[1]"), "f.toml").data == tomllib.loads(
        TRICKY.replace(b"[\n  1,\n]", b"[1]").decode()
    )


@pytest.mark.parametrize(
    ("text", "place", "path"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_error_names_place_and_key(text: bytes, place: str, path: str) -> None:
    with pytest.raises(TomlError) as raised:
        load_toml(text, "f.toml")
    problem = raised.value.problem
    assert (problem.where, problem.path) == (place, path)
    assert problem.fatal
    assert problem.message


@pytest.mark.parametrize("text", [text for _, text in DEEP], ids=[name for name, _ in DEEP])
def test_depth_is_bounded(text: bytes) -> None:
    with pytest.raises(TomlError):
        load_toml(text, "f.toml")


@pytest.mark.parametrize("text", [b"", b"\n", b"# only a comment", b"\xef\xbb\xbf"])
def test_nothing_is_an_empty_document(text: bytes) -> None:
    assert load_toml(text, "f.toml").data == {}


def test_byte_order_mark_and_windows_line_ends() -> None:
    document = load_toml(b"\xef\xbb\xbfa = 1\r\n[b]\r\nc = 2\r\n", "f.toml")
    assert document.data == {"a": 1, "b": {"c": 2}}
    assert document.where(("b", "c")) == "f.toml:3"


def test_too_large() -> None:
    with pytest.raises(
        TomlError, match=r"f\.toml: the file is too large; expected at most 9 bytes"
    ):
        load_toml(b"a = 1\nb = 2\n", "f.toml", maximum_bytes=9)


def test_a_file_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "huge.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TomlError, match="too large"):
        read_toml(path, maximum_bytes=1000)


def test_read_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "routes.toml"
    path.write_text("a = 1\n")
    assert read_toml(path).where(("a",)) == f"{path}:1"
    assert read_toml(path, "routes.toml").where(("a",)) == "routes.toml:1"


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_unreadable_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(TomlError, match="cannot be read"):
        read_toml(tmp_path / name)


def test_ten_megabytes_in_time() -> None:
    entry = (
        '[frontends.f{0}]\nbackend = "b{0}"\nentryPoints = ["http"]\n'
        '[frontends.f{0}.routes.main]\nrule = "Host:{0}.example.com"\n'
        '[backends.b{0}.servers.s]\nurl = "http://10.0.0.1:80"\nweight = 1\n'
    )
    text = "".join(entry.format(number) for number in range(53_000)).encode()
    assert len(text) > 10_000_000
    started = time.process_time()
    document = load_toml(text, "big.toml")
    assert time.process_time() - started < 6
    assert document.where(("backends", "b52999", "servers", "s", "weight")) == "big.toml:424000"


NAMES = st.sampled_from(["a", "B", "c-d", "e.f", "g h", "é", '"', "0"])
SCALARS = st.one_of(
    st.integers(-5, 5),
    st.booleans(),
    st.text(max_size=8),
    st.lists(st.text(alphabet='[]{}"#\\=\n', max_size=4), max_size=3),
)
DOCUMENTS = st.recursive(
    st.dictionaries(NAMES, SCALARS, max_size=3),
    lambda inner: st.dictionaries(
        NAMES, st.one_of(SCALARS, inner, st.lists(inner, min_size=1, max_size=2)), max_size=4
    ),
    max_leaves=12,
)


def paths_of(value: object, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found = {path} if path else set()
    if isinstance(value, dict):
        for name, item in value.items():
            found |= paths_of(item, (*path, name))
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            found |= paths_of(item, (*path, str(number)))
    return found


@settings(max_examples=150)
@given(DOCUMENTS)
def test_the_scan_finds_only_keys_that_are_there(document: dict[str, object]) -> None:
    text = rtoml.dumps(document)
    try:
        data = load_toml(text.encode(), "f.toml").data
    except TomlError:
        assert "\x7f" in text or any(ord(each) < 32 and each not in "\n\t" for each in text)
        return
    there = paths_of(data)
    lines = text.split("\n")
    scanned = scan_keys(text)
    for path, line, _ in scanned:
        assert path in there
        assert lines[line - 1].strip()
    leaves = {
        path
        for path in there
        if not any(other != path and other[: len(path)] == path for other in there)
    }
    assert leaves <= {path for path, _, _ in scanned}


@given(st.text(alphabet="[]{}\"#\\=\n'.a, ", max_size=40))
def test_the_scan_of_any_text_ends(text: str) -> None:
    for path, line, column in scan_keys(text):
        assert path
        assert 1 <= line <= text.count("\n") + 1
        assert column >= 1
