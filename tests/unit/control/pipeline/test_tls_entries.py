"""Certificates of providers on the way to workers: judged, quarantined, merged, journalled."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from kvproxy.control.generations.delta import compare, delta, full
from kvproxy.control.generations.journal import Journal
from kvproxy.control.pipeline.pipeline import Pipeline
from kvproxy.model.digest import certificate_digest
from kvproxy.model.dynamic import Certificate, Configuration, TLSCertificate
from kvproxy.model.problem import Problem
from kvproxy.model.static import EntryPoint, EntryPointTLS, StaticConfiguration
from kvproxy.provider import Snapshot
from tests.support.certificates import Pair, authority
from tests.unit.control.entries import ManualClock

TLS = EntryPointTLS()
SETTINGS = StaticConfiguration(
    entry_points={
        "http": EntryPoint(address=":80"),
        "https": EntryPoint(address=":443", tls=TLS),
        "other": EntryPoint(address=":8443", tls=TLS),
    },
    default_entry_points=("http", "https"),
)
ONE, TWO, THREE = (authority().issue(f"{name}.test") for name in ("one", "two", "three"))
MIXED = Pair(ONE.certificate, TWO.key)


class NowClock(ManualClock):
    """Stands still at a time at which the certificates of the tests are valid."""

    def time(self) -> float:
        return datetime.datetime.now(datetime.UTC).timestamp()


def entry(pair: Pair, *entry_points: str) -> TLSCertificate:
    return TLSCertificate(
        certificate=Certificate(cert_file=pair.certificate, key_file=pair.key),
        entry_points=entry_points,
    )


class Line:
    """A pipeline that is told of certificates."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.pipeline = Pipeline(SETTINGS, journal, NowClock())
        self._revision = 0

    def say(self, *problems: Problem, **certificates: TLSCertificate) -> dict[str, Any]:
        """Take a snapshot; return the names of the certificate that is served, by entry."""
        self._revision += 1
        self.pipeline.offer(
            Snapshot(
                provider="file",
                revision=str(self._revision),
                configuration=Configuration(tls=certificates),
                problems=problems,
                read_at=0.0,
            )
        )
        return self.served()

    def served(self) -> dict[str, Any]:
        held = self.pipeline.generation.certificates
        return {name: each.certificate.names[0] for (_, name), each in held.items()}

    def points(self, name: str) -> tuple[str, ...]:
        held = self.pipeline.generation.certificates
        return held["file", name].certificate.entry_points

    def problems(self) -> list[str]:
        return [str(each.problem) for each in self.pipeline.problems()]

    def quarantined(self) -> dict[str, bool]:
        return {each.name: each.serving for each in self.pipeline.quarantined()}


def test_a_good_certificate_is_served_on_its_entry_points_with_tls() -> None:
    line = Line()
    assert line.say(a=entry(ONE), b=entry(TWO, "other", "https"), c=entry(THREE, "http")) == {
        "a": "one.test",
        "b": "two.test",
        "c": "three.test",
    }
    assert line.points("a") == ("https",), "of the default entry points, those with TLS"
    assert line.points("b") == ("other", "https")
    assert line.points("c") == ()
    assert line.problems() == ["tls.c.entryPoints: no TLS on `http`: it is not offered"]
    for each in line.pipeline.generation.certificates.values():
        assert each.digest == certificate_digest(each)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry(MIXED), "tls.a.certificate.keyFile: is not the key of the certificate"),
        (entry(Pair("", "")), "tls.a.certificate.certFile: is missing"),
        (
            entry(authority().issue("one.test", expired=True)),
            "tls.a.certificate.certFile: has expired on",
        ),
        (entry(ONE, "htps"), "tls.a.entryPoints: no entry point is named `htps`"),
    ],
)
def test_a_bad_one_is_quarantined_alone_and_the_old_one_stays(
    bad: TLSCertificate, message: str
) -> None:
    line = Line()
    assert line.say(a=bad, b=entry(TWO)) == {"b": "two.test"}
    assert line.quarantined() == {"a": False}
    assert any(text.startswith(message) for text in line.problems())
    assert line.say(a=entry(ONE), b=entry(TWO)) == {"a": "one.test", "b": "two.test"}
    assert line.problems() == []
    assert line.say(a=bad, b=entry(THREE)) == {"a": "one.test", "b": "three.test"}
    assert line.quarantined() == {"a": True}
    assert line.say(b=entry(THREE)) == {"b": "three.test"}
    assert line.quarantined() == {}
    assert line.problems() == []


def test_one_that_could_not_be_decoded_keeps_the_old_one() -> None:
    line = Line()
    line.say(a=entry(ONE), b=entry(TWO))
    problem = Problem(message="wrong type", entry=("tls", "a"))
    assert line.say(problem, b=entry(TWO)) == {"a": "one.test", "b": "two.test"}
    assert line.quarantined() == {"a": True}
    assert line.say(b=entry(TWO)) == {"b": "two.test"}


def test_an_unknown_entry_point_among_known_ones_is_a_warning() -> None:
    line = Line()
    line.say(a=entry(ONE, "https", "htps"))
    assert line.points("a") == ("https",)
    assert line.problems() == [
        "tls.a.entryPoints: no entry point is named `htps`; "
        "expected one of http, https, other; did you mean `https`?"
    ]


def test_unchanged_certificates_stay_the_same_objects() -> None:
    line = Line()
    one, two = entry(ONE), entry(TWO)
    line.say(a=one, b=two)
    before = line.pipeline.generation
    line.say(a=one, b=entry(THREE))
    after = line.pipeline.generation
    assert after.certificates["file", "a"] is before.certificates["file", "a"]
    assert list(after.changes.certificates) == [("file", "b")]
    assert after.digest != before.digest
    line.say(a=entry(ONE), b=entry(THREE))
    assert line.pipeline.generation is after, "equal content is no change"


def test_deltas_hold_what_changed() -> None:
    line = Line()
    one = entry(ONE)
    line.say(a=one, b=entry(TWO))
    first = line.pipeline.generation
    line.say(a=one, c=entry(THREE))
    second = line.pipeline.generation
    (part,) = delta(first, second)
    assert [each.name for each in part.certificates] == ["c"]
    assert part.removed_certificates == [("file", "b")]
    (whole,) = full(second)
    assert sorted(each.name for each in whole.certificates) == ["a", "c"]
    apart = second.__class__(
        number=9,
        digest="",
        revisions={},
        frontends={},
        backends={},
        certificates={},
        created_at=0.0,
        base=-1,
        changes=second.changes.__class__(),
    )
    assert set(compare(second, apart).certificates) == {("file", "a"), ("file", "c")}


def test_the_journal_brings_them_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    line = Line(journal)
    line.say(a=entry(ONE), b=entry(TWO))
    line.say(a=entry(ONE), b=entry(THREE))
    assert journal.flush(20)
    journal.close()

    journal = Journal(tmp_path)
    again = Line(journal)
    again.pipeline.restore(["file"])
    assert again.served() == {"a": "one.test", "b": "three.test"}
    assert again.pipeline.generation.number == line.pipeline.generation.number
    earlier = journal.generation(1)
    assert earlier is not None
    assert earlier.certificates["file", "b"].certificate.names == ("two.test",)
    assert [each.tls.changed for each in journal.history()] == [1, 0]
    # The provider speaks: what it does not say any more goes.
    assert again.say(b=entry(THREE)) == {"b": "three.test"}
    journal.close()


def test_restored_ones_need_their_entry_points(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    line = Line(journal)
    line.say(a=entry(ONE, "https"), b=entry(TWO, "other"))
    assert journal.flush(20)
    fewer = {name: SETTINGS.entry_points[name] for name in ("http", "https")}
    other = Pipeline(
        StaticConfiguration(entry_points=fewer, default_entry_points=("https",)),
        journal,
        NowClock(),
    )
    other.restore(["file"])
    assert [name for _, name in other.generation.certificates] == ["a"]
    journal.close()


def test_secrets_are_not_shown() -> None:
    line = Line()
    line.say(a=entry(ONE))
    (held,) = line.pipeline.generation.certificates.values()
    body = ONE.key.split("\n")[1]
    assert body in held.certificate.key
    assert body not in repr(held)
