from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvproxy.control.generations.delta import compare
from kvproxy.control.generations.journal import FILE_NAME, Journal
from kvproxy.control.generations.journal_file import JournalDamagedError
from kvproxy.control.pipeline.pipeline import Pipeline
from kvproxy.model.static import EntryPoint, StaticConfiguration
from tests.unit.control.entries import (
    BAD_RULE,
    SETTINGS,
    ManualClock,
    backend,
    frontend,
    many,
    rules,
    snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kvproxy.control.generations.generation import Generation

WAIT_SECONDS = 20.0
ONE = {"one": backend()}


class Process:
    """A supervisor's pipeline and journal, without the supervisor."""

    def __init__(self, directory: Path, **options: int) -> None:
        self.journal = Journal(directory, **options)
        self.line = Pipeline(SETTINGS, self.journal, ManualClock())

    def serve(self, rule: str, provider: str = "file", revision: str = "1") -> Generation:
        """Make the provider say one frontend with this rule."""
        said = snapshot({"web": frontend(rule=rule)}, ONE, provider=provider, revision=revision)
        self.line.offer(said)
        return self.line.generation

    def written(self) -> None:
        assert self.journal.flush(WAIT_SECONDS)

    def stop(self) -> None:
        self.written()
        self.journal.close(WAIT_SECONDS)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    made.journal.close(WAIT_SECONDS)


def served_rules(line: Pipeline) -> set[str]:
    return {text.split(" -> ")[0] for text in rules(line.generation).values()}


def test_a_new_journal_knows_nothing(process: Process) -> None:
    assert process.journal.last_number == 0
    assert process.journal.history() == []
    assert process.journal.generation(1) is None
    assert process.line.restore(["file"]).generation is None
    assert process.journal.problems == ()


def test_only_this_user_can_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        directory = tmp_path / "state" / "deep"
        process = Process(directory)
        process.serve("Host:a")
        process.written()
    finally:
        os.umask(old)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = sorted(directory.iterdir())
    assert {file.name for file in files} == {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    process.stop()


def test_a_journal_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.touch(mode=0o644)
    process = Process(tmp_path)
    process.stop()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_was_served_last_is_served_after_a_restart(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.serve("Host:a", revision="7")
    generation = first.serve("Host:b", revision="8")
    first.stop()
    second = Process(tmp_path)
    outcome = second.line.restore(["file"])
    assert outcome.generation is not None
    assert rules(outcome.generation) == rules(generation)
    assert outcome.generation.digest == generation.digest
    assert outcome.generation.number == generation.number == 2
    assert outcome.generation.revisions == {"file": "8"}
    (status,) = second.line.providers()
    assert status.stale
    assert status.read_at == 1_700_000_000.0
    (notice,) = outcome.found
    assert "last known good" in notice.problem.message
    # The provider speaks: the same, so nothing changes but that it is fresh.
    outcome = second.line.offer(snapshot({"web": frontend(rule="Host:b")}, ONE))
    assert outcome.generation is None
    assert outcome.resolved == (notice,)
    assert not second.line.providers()[0].stale
    assert second.serve("Host:c").number == 3
    second.stop()


def test_what_has_spoken_is_not_restored(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.serve("Host:a", "file")
    first.serve("Host:b", "etcd")
    first.stop()
    second = Process(tmp_path)
    second.serve("Host:new", "file")
    second.line.restore(["file", "etcd"])
    assert served_rules(second.line) == {"Host:new", "Host:b"}
    assert [status.stale for status in second.line.providers()] == [False, True]
    second.stop()


def test_a_provider_that_was_not_restored_yet_is_not_forgotten(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.serve("Host:a", "file")
    first.serve("Host:b", "etcd")
    first.stop()
    second = Process(tmp_path)
    second.serve("Host:new", "file")
    second.stop()
    third = Process(tmp_path)
    third.line.restore(["file", "etcd"])
    assert served_rules(third.line) == {"Host:new", "Host:b"}
    third.stop()


def test_a_provider_that_is_not_configured_any_more_is_not_restored_and_forgotten(
    tmp_path: Path,
) -> None:
    first = Process(tmp_path)
    first.serve("Host:a", "file")
    first.serve("Host:b", "etcd")
    first.stop()
    second = Process(tmp_path)
    second.line.restore(["file"])
    assert served_rules(second.line) == {"Host:a"}
    assert second.line.generation.number == 3
    # The generation in which it took part can still be had.
    second.written()
    old = second.journal.generation(2)
    assert old is not None
    assert set(old.frontends) == {("file", "web"), ("etcd", "web")}
    second.stop()
    third = Process(tmp_path)
    third.line.restore(["file", "etcd"])
    assert served_rules(third.line) == {"Host:a"}
    third.stop()


def test_the_previous_good_version_survives_a_restart(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.serve("Host:good")
    first.serve(BAD_RULE)
    first.stop()
    second = Process(tmp_path)
    second.line.restore(["file"])
    second.serve(BAD_RULE)
    assert served_rules(second.line) == {"Host:good"}
    (refused,) = second.line.quarantined()
    assert refused.serving
    second.stop()


def test_an_empty_first_snapshot_after_a_restart_is_held(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.line.offer(many(20))
    first.stop()
    second = Process(tmp_path)
    second.line.restore(["file"])
    assert second.line.offer(snapshot()).generation is None
    assert len(second.line.generation.frontends) == 20
    (status,) = second.line.providers()
    assert status.stale
    assert status.held is not None
    second.stop()


def test_entries_that_todays_settings_do_not_allow_are_not_restored(tmp_path: Path) -> None:
    first = Process(tmp_path)
    said = {"web": frontend(entry_points=("http",)), "safe": frontend(entry_points=("https",))}
    first.line.offer(snapshot(said, ONE))
    first.stop()
    only_https = StaticConfiguration(entry_points={"https": EntryPoint(address=":443")})
    journal = Journal(tmp_path)
    line = Pipeline(only_https, journal, ManualClock())
    line.restore(["file"])
    assert set(line.generation.frontends) == {("file", "safe")}
    assert line.generation.number == 2
    journal.close(WAIT_SECONDS)


def test_the_history_tells_what_each_generation_changed(process: Process) -> None:
    process.line.offer(many(3, revision="1"))
    process.line.offer(many(4, revision="2"))
    process.line.offer(snapshot({"f0": frontend(rule="Host:new")}, ONE, revision="3"))
    process.written()
    newest, second, first = process.journal.history()
    assert [entry.number for entry in (first, second, newest)] == [1, 2, 3]
    assert newest.digest == process.line.generation.digest
    assert newest.created_at == process.line.generation.created_at
    assert newest.revisions == {"file": "3"}
    assert (first.frontends.added, first.backends.added) == (3, 1)
    assert (second.frontends.added, second.frontends.changed, second.frontends.removed) == (1, 0, 0)
    assert (newest.frontends.added, newest.frontends.changed, newest.frontends.removed) == (0, 1, 3)
    assert (newest.backends.added, newest.backends.changed, newest.backends.removed) == (0, 0, 0)


_SAYINGS = st.lists(
    st.tuples(
        st.sampled_from(["file", "etcd"]),
        st.dictionaries(st.sampled_from("abc"), st.sampled_from(["Host:x", "Host:y", BAD_RULE])),
        st.sampled_from(["http://one", "http://two"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_SAYINGS)
def test_every_generation_can_be_had_again_over_restarts(
    tmp_path_factory: pytest.TempPathFactory,
    sayings: list[tuple[str, dict[str, str], str, bool]],
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    process = Process(directory)
    made: dict[int, Generation] = {}
    for provider, frontends, url, restart in sayings:
        if restart:
            process.stop()
            process = Process(directory)
            process.line.restore(["file", "etcd"])
        said = {name: frontend(rule=rule) for name, rule in frontends.items()}
        process.line.offer(snapshot(said, {"one": backend(url)}, provider=provider))
        if process.line.generation.number:
            made[process.line.generation.number] = process.line.generation
    process.written()
    assert [entry.number for entry in process.journal.history()] == sorted(made, reverse=True)
    for number, generation in made.items():
        again = process.journal.generation(number)
        assert again is not None
        assert again.digest == generation.digest
        assert again.revisions == generation.revisions
        assert not compare(again, generation)
        assert not compare(generation, again)
    assert process.journal.problems == ()
    process.stop()


def test_the_history_is_bounded_in_number(tmp_path: Path) -> None:
    process = Process(tmp_path, keep_generations=5)
    for number in range(12):
        process.serve(f"Host:h{number}")
    process.written()
    assert [entry.number for entry in process.journal.history()] == [12, 11, 10, 9, 8]
    oldest = process.journal.generation(8)
    assert oldest is not None
    assert rules(oldest)["file", "web"].startswith("Host:h7 ")
    assert process.journal.generation(7) is None
    process.stop()


def test_the_history_is_bounded_in_bytes(tmp_path: Path) -> None:
    process = Process(tmp_path, keep_bytes=20_000)
    for number in range(60):
        # What a compressor can do nothing about.
        noise = os.urandom(1000).hex()
        process.serve(f"Host:h{number};Headers:X,{noise}")
    process.written()
    kept = process.journal.history()
    assert 1 < len(kept) < 40
    assert kept[0].number == 60
    process.stop()
    assert (tmp_path / FILE_NAME).stat().st_size < 400_000


def test_a_generation_costs_the_file_what_it_changed(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.line.offer(many(1000))
    process.stop()
    before = (tmp_path / FILE_NAME).stat().st_size
    process = Process(tmp_path)
    process.line.restore(["file"])
    for number in range(50):
        said = many(1000).configuration.frontends
        said["f7"] = frontend(rule=f"Host:new{number}")
        process.line.offer(snapshot(said, ONE))
    process.stop()
    assert (tmp_path / FILE_NAME).stat().st_size - before < 150_000


def damage_header(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"not a database at all, whatever")


def damage_middle(file: Path) -> None:
    data = bytearray(file.read_bytes())
    for place in range(4096, len(data)):
        data[place] ^= 0x5A
    file.write_bytes(data)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def tamper(statement: str) -> object:
    def change(file: Path) -> None:
        connection = sqlite3.connect(file)
        with connection:
            connection.execute(statement)
        connection.close()

    return change


DAMAGES = {
    "no-database": damage_header,
    "pages": damage_middle,
    "truncated": truncate,
    "content": tamper(
        "UPDATE entries SET content = CAST(replace(CAST(content AS TEXT), 'h1', 'evil') AS BLOB)"
    ),
    "entry-added": tamper(
        "INSERT INTO entries SELECT provider, section, 'other', digest, content FROM entries"
        " WHERE name = 'f1'"
    ),
    "entry-removed": tamper("DELETE FROM entries WHERE name = 'f1'"),
    "entry-renamed": tamper("UPDATE entries SET name = 'f999' WHERE name = 'f1'"),
    "content-no-bytes": tamper("UPDATE entries SET content = 'text' WHERE name = 'f1'"),
    "section-unknown": tamper("UPDATE entries SET section = 'x' WHERE name = 'f1'"),
    "table-gone": tamper("DROP TABLE providers"),
    "columns-gone": tamper("ALTER TABLE entries DROP COLUMN content"),
    "another-version": tamper("PRAGMA user_version = 99"),
    "another-application": tamper("PRAGMA application_id = 1"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_journal_is_moved_aside_and_said_and_a_new_one_is_written(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    first = Process(tmp_path)
    first.line.offer(many(300))
    first.stop()
    assert callable(damage)
    damage(tmp_path / FILE_NAME)
    second = Process(tmp_path)
    assert second.line.restore(["file"]).generation is None
    second.serve("Host:new")
    second.written()
    (problem,) = second.journal.problems
    assert "damaged" in problem.message
    assert any("damaged" in record.getMessage() for record in caplog.records)
    assert (tmp_path / f"{FILE_NAME}.damaged").stat().st_size > 0
    second.stop()
    third = Process(tmp_path)
    third.line.restore(["file"])
    assert served_rules(third.line) == {"Host:new"}
    assert third.journal.problems == ()
    third.stop()


def test_a_damaged_step_of_the_history_is_found_when_it_is_asked_for(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for number in range(4):
        process.serve(f"Host:h{number}")
    process.written()
    change = tamper("UPDATE undo SET entries = x'00' WHERE number = 3")
    assert callable(change)
    change(tmp_path / FILE_NAME)
    with pytest.raises(JournalDamagedError):
        process.journal.generation(1)
    # What is served now is written into a new journal.
    process.written()
    assert [entry.number for entry in process.journal.history()] == [4]
    assert "damaged" in process.journal.problems[0].message
    process.stop()


def test_a_journal_that_is_damaged_while_running_is_replaced(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.line.offer(many(300))
    process.written()
    change = tamper("DROP TABLE history")
    assert callable(change)
    change(tmp_path / FILE_NAME)
    process.line.offer(many(299))
    process.written()
    assert "damaged" in process.journal.problems[0].message
    process.stop()
    again = Process(tmp_path)
    again.line.restore(["file"])
    assert served_rules(again.line) == served_rules(process.line)
    again.stop()


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / FILE_NAME).symlink_to(target)
    process = Process(directory)
    process.serve("Host:a")
    assert not process.journal.flush(0.2)
    assert not target.exists()
    assert process.journal.problems
    assert served_rules(process.line) == {"Host:a"}
    process.journal.close(WAIT_SECONDS)


def test_a_directory_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = Process(tmp_path / "file" / "state")
    assert process.line.restore(["file"]).generation is None
    process.serve("Host:a")
    assert served_rules(process.line) == {"Host:a"}
    assert process.journal.problems
    with pytest.raises(OSError, match="file"):
        process.journal.history()
    process.journal.close(WAIT_SECONDS)


def test_a_locked_journal_is_written_whole_when_the_lock_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvproxy.control.generations.journal_file._BUSY_SECONDS", 0.05)
    monkeypatch.setattr("kvproxy.control.generations.journal._RETRY_SECONDS", 0.05)
    process = Process(tmp_path)
    process.serve("Host:a")
    process.written()
    lock = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    process.serve("Host:b")
    process.serve("Host:c")
    deadline = time.monotonic() + WAIT_SECONDS
    while not process.journal.problems and time.monotonic() < deadline:
        process.journal.flush(0.01)
    assert "cannot be written" in process.journal.problems[0].message
    lock.execute("ROLLBACK")
    lock.close()
    process.written()
    assert process.journal.problems == ()
    assert [entry.number for entry in process.journal.history()] == [3, 1]
    first, last = process.journal.generation(1), process.journal.generation(3)
    assert first is not None
    assert last is not None
    assert rules(first)["file", "web"].startswith("Host:a ")
    assert rules(last)["file", "web"].startswith("Host:c ")
    process.stop()


def test_the_version_that_is_replaced_stops_writing(tmp_path: Path) -> None:
    old = Process(tmp_path)
    old.serve("Host:a")
    old.written()
    new = Process(tmp_path)
    new.line.restore(["file"])
    # Both see the same change; the old process writes it first.
    old.serve("Host:b")
    old.written()
    new.serve("Host:b")
    new.serve("Host:c")
    new.written()
    old.serve("Host:late")
    old.written()
    assert old.journal.taken_over
    assert not new.journal.taken_over
    assert old.journal.problems == new.journal.problems == ()
    assert [entry.number for entry in new.journal.history()] == [3, 2, 1]
    for number, rule in ((1, "Host:a"), (2, "Host:b"), (3, "Host:c")):
        generation = new.journal.generation(number)
        assert generation is not None
        assert rules(generation)["file", "web"].startswith(rule)
    old.journal.close(WAIT_SECONDS)
    new.stop()


def test_generations_that_are_not_written_in_time_are_left_out_but_not_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvproxy.control.generations.journal._LONGEST_QUEUE", 4)
    process = Process(tmp_path)
    process.serve("Host:start")
    process.written()
    lock = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    for number in range(20):
        process.serve(f"Host:h{number}")
    lock.execute("ROLLBACK")
    lock.close()
    process.written()
    numbers = [entry.number for entry in process.journal.history()]
    assert numbers[0] == 21
    assert len(numbers) < 15
    for number in numbers:
        generation = process.journal.generation(number)
        assert generation is not None
    process.stop()


_CHILD = """
import sys
from pathlib import Path
from tests.unit.control.generations.test_journal import Process
from tests.unit.control.entries import backend, frontend, snapshot

process = Process(Path(sys.argv[1]))
process.line.restore(["file"])
number = process.line.generation.number
while True:
    number += 1
    # Never so many fewer than before that the guard against mass deletions holds them back.
    frontends = {f"f{i}": frontend(rule=f"Host:h{number}x{i % 7}") for i in range(number % 10 + 20)}
    frontends["stamp"] = frontend(rule=f"Host:g{process.line.generation.number + 1}")
    process.line.offer(snapshot(frontends, {"one": backend()}))
    if process.journal.last_number + 1 == number:
        process.written()
        print("ready", flush=True)
"""


def test_survives_being_killed_at_any_moment(tmp_path: Path) -> None:
    last = 0
    for moment in (0.0, 0.02, 0.07, 0.2):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(moment)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait(WAIT_SECONDS)
            assert child.stdout is not None
            child.stdout.close()
        process = Process(tmp_path)
        outcome = process.line.restore(["file"])
        assert process.journal.problems == ()
        history = process.journal.history()
        assert history[0].number > last
        last = history[0].number
        assert outcome.generation is not None
        assert outcome.generation.number == last
        stamp = rules(outcome.generation)["file", "stamp"].split(" -> ")[0]
        assert stamp == f"Host:g{last}"
        for entry in history[:: max(1, len(history) // 5)]:
            assert process.journal.generation(entry.number) is not None
        process.stop()
