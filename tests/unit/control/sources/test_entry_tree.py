"""The incremental tree equals a whole decode, whatever happens in whatever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.control.sources.entry_tree import EntryTree

NAMES = st.sampled_from(["a", "b", "C"])
KEYS = st.one_of(
    st.builds("p/frontends/{}/{}".format, NAMES, st.sampled_from(["backend", "priority", "x/y"])),
    st.builds("p/frontends/{}/routes/{}/rule".format, NAMES, NAMES),
    st.builds("p/Backends/{}/servers/{}/url".format, NAMES, NAMES),
    st.builds("p/tls/{}/certificate/certfile".format, NAMES),
    st.sampled_from(["p", "p/", "p/alias", "p/frontends", "p/nonsense/x", "p/loglevel", "p//a"]),
    st.text(max_size=6).map("p/frontends/{}".format),
    st.text(max_size=6).map("p/{}".format),
)
VALUES = st.one_of(
    st.sampled_from([b"b", b"7", b"Host:a", b"http://127.0.0.1:1", b"", b"\xff"]),
    st.binary(max_size=8),
)
CHANGES = st.dictionaries(KEYS, st.one_of(VALUES, st.none()), max_size=6)


@given(st.lists(st.tuples(CHANGES, st.booleans()), max_size=8))
@settings(max_examples=300)
def test_changes_one_by_one_equal_a_whole_decode(
    steps: list[tuple[dict[str, bytes | None], bool]],
) -> None:
    tree = EntryTree("p")
    values: dict[str, bytes] = {}
    for changes, whole in steps:
        before = tree.configuration
        copied = {name: dict(getattr(before, name)) for name in ("frontends", "backends", "tls")}
        for key, value in changes.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        if whole:
            tree.replace(dict(values))
        else:
            tree.apply(changes)
        tree.refresh()
        fresh = EntryTree("p")
        fresh.replace(values)
        fresh.refresh()
        assert tree.values == values
        assert tree.configuration == fresh.configuration
        assert set(map(str, tree.problems)) == set(map(str, fresh.problems))
        assert tree.alias() == fresh.alias()
        for section, entries in copied.items():
            # What was handed out stays as it was, and equal entries stay the same objects.
            assert getattr(before, section) == entries
            now = getattr(tree.configuration, section)
            assert all(now[name] is held for name, held in entries.items() if now.get(name) == held)


def test_nothing_changed_is_the_same_object() -> None:
    tree = EntryTree("p")
    tree.replace({"p/frontends/a/backend": b"b"})
    assert tree.refresh()
    before = tree.configuration
    assert not tree.refresh()
    tree.apply({"p/frontends/a/backend": b"b"})
    assert tree.refresh()
    assert tree.configuration is before
