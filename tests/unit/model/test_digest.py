from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.model.digest import (
    add_digests,
    backend_digest,
    digest_text,
    encode_content,
    encoded_digest,
    entry_digest,
    frontend_digest,
)
from kvproxy.model.dynamic import Backend, Frontend, Route, Server
from kvproxy.model.messages import BackendEntry, FrontendEntry

FRONTEND = Frontend(backend="one", routes={"a": Route(rule="Host:a"), "b": Route(rule="Path:/b")})


def test_the_same_entry_has_the_same_digest_whatever_the_order_of_its_maps() -> None:
    turned = Frontend(backend="one", routes={"b": Route(rule="Path:/b"), "a": Route(rule="Host:a")})
    one = entry_digest("frontends", "file", "web", FRONTEND)
    assert entry_digest("frontends", "file", "web", turned) == one
    assert encoded_digest("frontends", "file", "web", encode_content(FRONTEND)) == one
    assert frontend_digest(FrontendEntry("file", "web", b"", FRONTEND)) == one
    assert len(one) == 32


def test_everything_about_an_entry_counts() -> None:
    backend = Backend(servers={"s": Server(url="http://a")})
    digests = [
        entry_digest("frontends", "file", "web", FRONTEND),
        entry_digest("backends", "file", "web", FRONTEND),
        entry_digest("frontends", "etcd", "web", FRONTEND),
        entry_digest("frontends", "file", "other", FRONTEND),
        entry_digest("frontends", "filew", "eb", FRONTEND),
        entry_digest("frontends", "file", "web", Frontend(backend="one", priority=1)),
        backend_digest(BackendEntry("file", "web", b"", backend)),
    ]
    assert len(set(digests)) == len(digests)


def test_nothing_has_the_digest_zero() -> None:
    assert digest_text(add_digests(0, ())) == "0" * 64


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=20), st.randoms())
def test_the_order_does_not_matter_and_removing_undoes_adding(
    digests: list[bytes], chance: random.Random
) -> None:
    total = add_digests(0, digests)
    shuffled = digests.copy()
    chance.shuffle(shuffled)
    stepwise = 0
    for digest in shuffled:
        stepwise = add_digests(stepwise, [digest])
    assert stepwise == total
    assert len(digest_text(total)) == 64
    half = len(shuffled) // 2
    assert add_digests(total, [], shuffled[:half]) == add_digests(0, shuffled[half:])
    assert add_digests(total, [], digests) == 0
