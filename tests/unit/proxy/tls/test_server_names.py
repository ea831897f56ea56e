from __future__ import annotations

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.proxy.tls.server_names import ServerNames, candidates, canonical_name

LABELS = st.sampled_from(["a", "b", "c", "*"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
ASKED = st.lists(st.sampled_from(["a", "b", "c", "A"]), min_size=1, max_size=4).map(".".join)
CERTIFICATES = st.dictionaries(
    st.tuples(st.integers(0, 1), st.integers(0, 5)), st.lists(NAMES, min_size=1, max_size=3)
)


def plain_scan(
    certificates: dict[tuple[int, int], list[str]], asked: str
) -> tuple[int, int] | None:
    """Choose as specification section 1.5 says it: the alphabetically last name that matches."""
    asked = asked.lower()
    labels = asked.split(".")
    fitting = {asked} | {
        ".".join(["*"] * count + labels[count:]) for count in range(1, len(labels) + 1)
    }
    found = [
        (name, rank) for rank, names in certificates.items() for name in names if name in fitting
    ]
    if not found:
        return None
    best = max(name for name, _ in found)
    return min(rank for name, rank in found if name == best)


@given(CERTIFICATES, ASKED)
def test_finds_what_a_plain_scan_finds(
    certificates: dict[tuple[int, int], list[str]], asked: str
) -> None:
    names: ServerNames[tuple[int, int]] = ServerNames()
    for rank, each in certificates.items():
        names.put(rank, rank, each)
    assert names.find(asked) == plain_scan(certificates, asked)


@given(CERTIFICATES, CERTIFICATES, ASKED)
def test_changes_leave_nothing_behind(
    before: dict[tuple[int, int], list[str]],
    after: dict[tuple[int, int], list[str]],
    asked: str,
) -> None:
    names: ServerNames[tuple[int, int]] = ServerNames()
    for rank, each in before.items():
        names.put(rank, rank, each)
    for rank in before.keys() - after.keys():
        assert names.remove(rank) == rank
    for rank, each in after.items():
        assert names.put(rank, rank, each) == (rank if rank in before else None)
    assert len(names) == len(after)
    assert names.find(asked) == plain_scan(after, asked)
    for rank in after:
        names.remove(rank)
    assert len(names) == 0
    assert names.find(asked) is None


@given(ASKED)
def test_candidates_are_from_the_best_to_the_worst(asked: str) -> None:
    found = list(candidates(asked.lower()))
    assert found == sorted(found, reverse=True)
    assert all(fnmatchcase(asked.lower(), candidate) for candidate in found)


def test_spelling() -> None:
    assert canonical_name(" WWW.Example.COM. ") == "www.example.com"
    names: ServerNames[str] = ServerNames()
    names.put((0,), "wild", ["*.Example.COM"])
    assert names.find("a.EXAMPLE.com.") == "wild"
    assert names.find("a.b.example.com") is None
    assert names.find("example.com") is None
    assert names.find("") is None


def test_a_name_that_two_certificates_have() -> None:
    names: ServerNames[str] = ServerNames()
    names.put((1, "kv", 0, 0, ""), "dynamic", ["both.test", "own.test"])
    names.put((0, 3), "static", ["both.test"])
    assert names.find("both.test") == "static"
    assert names.find("own.test") == "dynamic"
    names.remove((0, 3))
    assert names.find("both.test") == "dynamic"
