from __future__ import annotations

from kvproxy.control.generations.generation import EMPTY
from kvproxy.control.generations.merger import Merger
from kvproxy.control.pipeline.quarantine import Served
from kvproxy.model.digest import add_digests, digest_text
from tests.unit.control.generations.test_delta import backend_entry, frontend_entry

ONE = frontend_entry("file", "web", 1)
TWO = frontend_entry("file", "web", 2)
SERVER = backend_entry("file", "one", 1)


def test_starts_with_generation_zero_that_serves_nothing() -> None:
    assert Merger(5).generation is EMPTY
    assert (EMPTY.number, EMPTY.digest, EMPTY.frontends, EMPTY.backends) == (0, "0" * 64, {}, {})


def test_counts_on_and_says_what_changed() -> None:
    merger = Merger(8)
    first = merger.merge(
        {"file": Served({"web": ONE}, {"one": SERVER})}, {"file": "3"}, created_at=1.5
    )
    assert first is not None
    assert (first.number, first.base, first.created_at) == (8, 0, 1.5)
    assert first.revisions == {"file": "3"}
    assert first.changes.frontends == {("file", "web"): (None, ONE)}
    assert first.changes.backends == {("file", "one"): (None, SERVER)}
    assert first.digest == digest_text(add_digests(0, [ONE.digest, SERVER.digest]))
    second = merger.merge({"file": Served({"web": TWO}, {})}, {"file": "4"}, 2.0)
    assert second is not None
    assert (second.number, second.base) == (9, 8)
    assert second.changes.frontends == {("file", "web"): (ONE, TWO)}
    assert second.backends is first.backends
    assert first.frontends == {("file", "web"): ONE}
    assert merger.generation is second


def test_nothing_changed_is_no_generation() -> None:
    merger = Merger(1)
    assert merger.merge({"file": Served({}, {})}, {"file": "1"}, 0.0) is None
    assert merger.generation is EMPTY


def test_equal_names_of_two_providers_do_not_collide() -> None:
    merger = Merger(1)
    other = frontend_entry("etcd", "web", 1)
    merger.merge({"file": Served({"web": ONE}, {}), "etcd": Served({"web": other}, {})}, {}, 0.0)
    assert merger.generation.frontends == {("file", "web"): ONE, ("etcd", "web"): other}
    merger.merge({"file": Served({"web": None}, {})}, {}, 0.0)
    assert merger.generation.frontends == {("etcd", "web"): other}
    assert merger.generation.digest == digest_text(add_digests(0, [other.digest]))


def test_the_same_content_gets_the_number_it_is_known_as() -> None:
    digest = digest_text(add_digests(0, [ONE.digest]))
    known = Merger(5).merge({"file": Served({"web": ONE}, {})}, {}, 0.0, known_as=(4, digest))
    other = Merger(5).merge({"file": Served({"web": TWO}, {})}, {}, 0.0, known_as=(4, digest))
    assert known is not None
    assert other is not None
    assert (known.number, other.number) == (4, 5)
