"""The supervisor as processes: death and replacement of workers, stop, hand-over, orphans."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.control.administration.control_socket import ControlError, ask
from kvproxy.control.workers.records import process_name
from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore
from tests.support.backend import Answer, Backend, Gate, LoopThread, ReservedPort, plain_answer
from tests.support.deadline import wait_until
from tests.support.http_client import ConnectionEndedError, build_request, fetch
from tests.support.load import Load
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTE = "route.test"
GRACE = {"lifeCycle": {"graceTimeOut": 5}}


class Program:
    """The real program on an embedded store of its own."""

    def __init__(self, backend: Backend, *, workers: int = 2, **static: Any) -> None:
        self.backend = backend
        self.process = ProxyProcess(
            None, workers=workers, static={"embedded": {"path": "store.db"}, **GRACE, **static}
        )
        self.store = self.process.directory / "store.db"
        self.state = self.process.directory / "state"
        self.port = self.process.port
        self.put(
            {
                "backends/b/servers/s/url": backend.url,
                "frontends/f/backend": "b",
                "frontends/f/routes/r/rule": f"Host:{ROUTE}",
            }
        )

    def put(self, values: dict[str, str]) -> str:
        """Write keys below the prefix and return the revision."""

        async def write() -> int:
            store = EmbeddedStore(self.store)
            try:
                pairs = {f"kvproxy/{key}": value.encode() for key, value in values.items()}
                return await store.write(Transaction(put=pairs))
            finally:
                await store.close()

        return str(asyncio.run(write()))

    def start(self) -> None:
        """Start and wait until the route is served by every worker."""
        self.process.start()
        self.ask("wait", provider="embedded", revision="1")

    def ask(self, command: str, seconds: float = 8.0, **arguments: Any) -> dict[str, Any]:
        """Ask the supervisor by its control socket."""
        path = self.state / "control.sock"
        return ask(path, command, seconds + 1, timeout=seconds, **arguments)

    def status(self) -> dict[str, Any]:
        """Return the status of the supervisor."""
        return self.ask("status")

    def supervisor(self) -> int:
        """Return the process id of the supervisor in charge; 0 when none answers."""
        try:
            return int(self.status()["pid"])
        except ControlError:
            return 0

    def workers(self) -> list[int]:
        """Return the process ids of the workers by slot; 0 where there is none."""
        found = {each["slot"]: each["pid"] for each in self.status()["workers"]}
        return [found.get(slot, 0) for slot in range(self.process.workers)]

    def get(self, host: str = ROUTE) -> int:
        """Return the status of a request on a connection of its own."""
        return fetch(self.port, build_request("/", host=host)).status

    def load(self, **options: Any) -> Load:
        """Return clients that ask for the route."""
        return Load(self.port, ROUTE, **options)

    def hand_over(self, seconds: float = 12.0) -> tuple[int, int]:
        """Send SIGUSR2 and wait until another supervisor is in charge; return both process ids."""
        old = self.supervisor()
        os.kill(old, signal.SIGUSR2)
        new = wait_until(
            lambda: (pid := self.supervisor()) not in (0, old) and pid, "a successor", seconds
        )
        return old, int(new)

    def end(self) -> None:
        """Stop the program; it can be started again."""
        self.process.signal(signal.SIGTERM)
        assert self.process.wait_for_exit(10) == 0

    def recorded(self) -> list[int]:
        """Return the process ids of all worker records."""
        names = (each.name for each in (self.state / "workers").iterdir())
        return sorted(int(name) for name in names if name.isdigit())

    def clean_up(self) -> None:
        """Stop whatever of this program still runs."""
        lock = self.state / "lock"
        for pid in {self.supervisor(), int(lock.read_text() or "0") if lock.exists() else 0}:
            if pid and not ended(pid):
                os.kill(pid, signal.SIGTERM)
                wait_until(partial(ended, pid), "the supervisor's end", 12)
        for worker in self.recorded() if self.state.exists() else ():
            if not ended(worker):
                os.kill(worker, signal.SIGKILL)
        self.process.stop()


def ended(pid: int) -> bool:
    """Tell whether a process has ended (a zombie has)."""
    try:
        return not process_name(pid).alive
    except ProcessLookupError:
        return True


def title(pid: int) -> str:
    """Return what a process calls itself."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().strip(b"\0").decode().strip()


@pytest.fixture
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread, script={"/": Answer((plain_answer(),))})
    yield made
    made.stop()


@pytest.fixture
def program(backend: Backend) -> Iterator[Program]:
    made = Program(backend)
    try:
        made.start()
        yield made
    finally:
        made.clean_up()


# --- workers


def test_a_killed_worker_costs_only_its_requests_in_flight(program: Program) -> None:
    with program.load(keep_alive=8, fresh=4) as load:
        for _ in range(2):
            before = program.workers()
            failed = load.failures.total()
            os.kill(before[0], signal.SIGKILL)
            wait_until(lambda before=before: program.workers()[0] not in (0, before[0]), "another")  # type: ignore[misc]
            program.ask("wait", generation=1)
            load.wait_for_answers(200)
            assert program.workers()[1] == before[1]
            # At most one request of each client can have been in flight.
            assert load.failures.total() - failed <= 12
    assert set(load.failures) <= {"cut", "reset"}, load.failures


def test_workers_do_not_depend_on_their_fork_server(program: Program) -> None:
    supervisor = program.supervisor()
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    (before,) = [pid for pid in map(int, children) if title(pid) == "kvproxy: fork server"]
    os.kill(before, signal.SIGKILL)
    wait_until(partial(ended, before), "the fork server's end")
    workers = program.workers()
    with program.load(keep_alive=0, fresh=4) as load:
        load.wait_for_answers(100)
        assert program.workers() == workers
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: program.workers()[0] not in (0, workers[0]), "another worker")
        program.ask("wait", generation=1)
        load.wait_for_answers(100)
    assert set(load.failures) <= {"cut", "reset"}, load.failures


def test_connections_that_wait_for_a_dead_worker_are_served_by_the_next(backend: Backend) -> None:
    program = Program(backend, workers=1)
    try:
        program.start()
        (before,) = program.workers()
        os.kill(before, signal.SIGSTOP)
        load = program.load(keep_alive=0, fresh=20)
        load.start()
        wait_until(lambda: waiting_connections(program.port) == 20, "a full queue")
        os.kill(before, signal.SIGKILL)
        load.wait_for_answers(40)
        load.close()
        assert load.failures == {}
    finally:
        program.clean_up()


def waiting_connections(port: int) -> int:
    """Return how many connections wait in the queues of the listening sockets of ``port``."""
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].partition(":")[2], 16) == port:
            found += int(fields[4].partition(":")[2], 16)
    return found


def test_a_replaced_worker_serves_the_newest_routes(program: Program) -> None:
    revision = program.put({"frontends/g/backend": "b", "frontends/g/routes/r/rule": "Host:new"})
    program.ask("wait", provider="embedded", revision=revision)
    before = program.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    statuses = {program.get("new") for _ in range(20)}
    assert statuses == {200}
    program.ask("wait", provider="embedded", revision=revision)
    assert not set(before) & set(program.workers())


def test_processes_say_what_they_are(program: Program) -> None:
    number = program.status()["generation"]["number"]

    assert title(program.supervisor()) == f"kvproxy: supervisor (generation {number})"
    titles = [title(pid) for pid in program.workers()]
    assert titles == [f"kvproxy: worker {slot} (generation {number})" for slot in (0, 1)]


# --- configuration


def test_a_written_key_is_served_by_every_worker_within_moments(program: Program) -> None:
    seconds = []
    for number in range(20):
        host = f"host-{number}"
        revision = program.put(
            {f"frontends/{host}/backend": "b", f"frontends/{host}/routes/r/rule": f"Host:{host}"}
        )
        began = time.perf_counter()
        program.ask("wait", provider="embedded", revision=revision)
        seconds.append(time.perf_counter() - began)
        assert program.get(host) == 200
    assert sorted(seconds)[10] < 0.05, seconds


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"generation": 10_000}, r"not served by every worker within 0\.2 s"),
        ({"provider": "embedded", "revision": "10000"}, "not served"),
        ({"provider": "nobody", "revision": "1"}, "is no provider of this proxy; it has embedded"),
        ({"generation": "twelve"}, "generation must be a number"),
    ],
)
def test_waiting_in_vain(program: Program, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ControlError, match=reason):
        program.ask("wait", 0.2, **arguments)
    assert program.status()["state"] == "running"


def test_the_status_says_what_is_going_on(program: Program) -> None:
    for _ in range(3):
        assert program.get() == 200
    revision = program.put({"frontends/bad/backend": "b", "frontends/bad/routes/r/rule": "Hots:x"})
    program.ask("wait", provider="embedded", revision=revision)
    wait_until(lambda: program.status()["statistics"]["requests"] >= 3, "counted requests")
    status = program.status()
    assert status["generation"]["frontends"] == 1
    assert status["generation"]["live"] is True
    assert status["entryPoints"]["http"] == [f"127.0.0.1:{program.port}"]
    assert [each["ready"] for each in status["workers"]] == [True, True]
    (provider,) = status["providers"]
    assert provider["revision"] == revision
    assert 0 <= time.time() - provider["freshAt"] < 10
    (entry,) = status["quarantined"]
    assert (entry["section"], entry["name"], entry["serving"]) == ("frontends", "bad", False)
    assert any("Hots" in problem["text"] for problem in status["problems"])


def test_without_routes_everything_is_404(backend: Backend) -> None:
    program = Program(backend)
    program.store.unlink()
    try:
        program.process.start()
        assert program.get() == 404
        program.put({"backends/b/servers/s/url": backend.url, "frontends/f/backend": "b"})
        revision = program.put({"frontends/f/routes/r/rule": f"Host:{ROUTE}"})
        program.ask("wait", provider="embedded", revision=revision)
        assert program.get() == 200
    finally:
        program.clean_up()


@pytest.mark.serial
def test_the_last_known_good_is_served_when_the_provider_does_not_answer(backend: Backend) -> None:
    program = Program(backend)
    try:
        program.start()
        good = program.status()["generation"]
        program.end()
        program.store.write_bytes(b"this is no database" * 1000)
        began = time.monotonic()
        program.process.start()
        wait_until(lambda: program.get() == 200, "the last known good route")
        # Two interpreters start in this time as well; the promise is a second on an idle machine.
        assert time.monotonic() - began < 4
        status = program.status()
        assert status["generation"]["digest"] == good["digest"]
        assert status["providers"][0]["stale"] is True
        # Routes may be served before the provider has had its say.
        wait_until(lambda: program.status()["providers"][0]["failedSince"], "the failure")
        assert "STALE" in program.process.log()
        program.store.unlink()
        revision = program.put({"backends/b/servers/s/url": backend.url})
        program.put({"frontends/f/backend": "b"})
        revision = program.put({"frontends/f/routes/r/rule": f"Host:{ROUTE}"})
        program.ask("wait", provider="embedded", revision=revision)
        assert program.status()["providers"][0]["stale"] is False
        assert program.get() == 200
    finally:
        program.clean_up()


# --- stop


@pytest.mark.serial
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_stop_under_load_loses_no_request(program: Program, number: signal.Signals) -> None:
    with program.load(keep_alive=8, fresh=0) as load:
        began = time.monotonic()
        program.process.signal(number)
        assert program.process.wait_for_exit(10) == 0
        assert time.monotonic() - began < 5
        # Connecting comes to an end, and that is all.
        wait_until(lambda: load.failures["refused"] > 0, "refused connections")
    # A connection that the kernel completes between the last accept and the close of a listening
    # socket is reset by the kernel; there is no call that does both at once.
    others = {kind: count for kind, count in load.failures.items() if kind != "refused"}
    assert sum(others.values()) <= 2, load.failures
    assert not (program.state / "control.sock").exists()
    assert program.recorded() == []


def test_a_request_in_progress_is_finished_before_the_end(program: Program) -> None:
    gate = Gate()
    program.backend.on("/slow", Answer((plain_answer(b"late")[:-4], gate, b"late")))
    with program.process.connect() as connection:
        connection.send(build_request("/slow", host=ROUTE))
        assert gate.reached.wait(5)
        program.process.signal(signal.SIGTERM)
        wait_until(lambda: not can_connect(program.port), "closed listeners")
        program.process.signal(signal.SIGTERM)
        program.process.signal(signal.SIGINT)
        gate.open()
        assert connection.read_response().body == b"late"
    assert program.process.wait_for_exit(5) == 0


def can_connect(port: int) -> bool:
    try:
        fetch(port, build_request("/", host=ROUTE))
    except (OSError, ConnectionEndedError):
        return False
    return True


def test_an_endless_request_is_cut_when_the_grace_is_over(backend: Backend) -> None:
    gate = Gate()
    backend.on("/endless", Answer((plain_answer(b"late")[:-4], gate, b"late")))
    program = Program(backend, lifeCycle={"graceTimeOut": 1})
    try:
        program.start()
        with program.process.connect() as connection:
            connection.send(build_request("/endless", host=ROUTE))
            assert gate.reached.wait(5)
            began = time.monotonic()
            program.process.signal(signal.SIGTERM)
            assert program.process.wait_for_exit(5) == 0
            assert 0.9 < time.monotonic() - began < 3
    finally:
        gate.open()
        program.clean_up()


@pytest.mark.serial
def test_requests_are_accepted_for_a_while_after_the_signal(backend: Backend) -> None:
    """Case E23: until requestAcceptGraceTimeout is over requests are served, and ping says 503."""
    program = Program(
        backend,
        lifeCycle={"graceTimeOut": 5, "requestAcceptGraceTimeout": "4s"},
        ping={"entryPoint": "http"},
    )
    try:
        program.start()
        ping = build_request("/ping", host="any")
        assert fetch(program.port, ping).status == 200
        began = time.monotonic()
        program.process.signal(signal.SIGTERM)
        wait_until(lambda: fetch(program.port, ping).status == 503, "ping's 503", 3)
        assert {program.get() for _ in range(20)} == {200}
        assert time.monotonic() - began < 4
        assert program.process.wait_for_exit(20) == 0
        assert time.monotonic() - began > 4
    finally:
        program.clean_up()


def test_a_signal_to_the_whole_group_is_the_supervisors_to_obey(backend: Backend) -> None:
    """What a terminal or a service manager does: workers must not stop by themselves."""
    life_cycle = {"graceTimeOut": 5, "requestAcceptGraceTimeout": "1s"}
    program = Program(backend, lifeCycle=life_cycle)
    try:
        program.start()
        began = time.monotonic()
        os.killpg(program.supervisor(), signal.SIGTERM)
        while time.monotonic() - began < 0.8:
            assert program.get() == 200
        assert program.process.wait_for_exit(20) == 0
        assert "worker died" not in program.process.log()
    finally:
        program.clean_up()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGHUP, "the settings are read again"),
        (signal.SIGUSR1, "the files of logs are opened again"),
    ],
    ids=["SIGHUP", "SIGUSR1"],
)
def test_other_signals_change_nothing(program: Program, number: signal.Signals, said: str) -> None:
    before = (program.supervisor(), program.workers())
    for pid in (before[0], *before[1]):
        os.kill(pid, number)
    wait_until(lambda: said in program.process.log(), "the line in the log")
    assert (program.supervisor(), program.workers()) == before
    assert program.get() == 200


# --- hand-over


@pytest.mark.serial
def test_hand_over_under_load_loses_nothing(program: Program) -> None:
    number = program.status()["generation"]["number"]
    workers = program.workers()
    with program.load(keep_alive=8, fresh=4) as load:
        old, _ = program.hand_over()
        load.wait_for_answers(200)
        assert program.process.wait_for_exit(20) == 0
        load.wait_for_answers(200)
        assert program.status()["generation"]["number"] == number
        assert not set(workers) & set(program.workers())
        assert all(ended(pid) for pid in (old, *workers))
        revision = program.put({"frontends/g/backend": "b", "frontends/g/routes/r/rule": "Host:n"})
        program.ask("wait", provider="embedded", revision=revision)
        assert program.get("n") == 200
    assert load.failures == {}
    assert program.recorded() == sorted(program.workers())


def test_a_hand_over_asked_for_during_the_start_comes_after_it(backend: Backend) -> None:
    program = Program(backend)
    try:
        with program.process.log_path.open("wb") as log:
            process = subprocess.Popen(
                command_of(program), cwd=program.process.directory, stdout=log, stderr=log
            )
        wait_until(lambda: "listening" in program.process.log(), "the start")
        process.send_signal(signal.SIGUSR2)
        wait_until(lambda: logged(program, "handed over"), "the hand-over", 12)
        assert process.wait(10) == 0
        assert program.get() == 200
    finally:
        program.clean_up()


def test_a_successor_knows_which_servers_are_down(program: Program) -> None:
    """Its workers send nothing to the dead server, from their first request on."""
    with ReservedPort() as dead:
        program.put(
            {
                "backends/b/servers/dead/url": f"http://127.0.0.1:{dead.port}",
                "backends/b/healthcheck/path": "/",
                "backends/b/healthcheck/interval": "1h",
            }
        )
        wait_until(lambda: program.status()["serversDown"], "the dead server to be found", 10)
        with program.load(keep_alive=1, fresh=3) as load:
            program.hand_over(30)
            assert program.process.wait_for_exit(20) == 0
            load.wait_for_answers(200)
    assert load.failures == {}


def test_hand_over_again_and_again(program: Program) -> None:
    with program.load(keep_alive=4, fresh=2) as load:
        seen = {program.hand_over()[0] for _ in range(3)}
        load.wait_for_answers(100)
    assert load.failures == {}
    assert len(seen) == 3


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)], ids=["more", "fewer"])
def test_hand_over_to_another_number_of_workers(backend: Backend, before: int, after: int) -> None:
    program = Program(backend, workers=before)
    try:
        program.start()
        rewrite(program, f"workers = {before}", f"workers = {after}")
        with program.load(keep_alive=4, fresh=4) as load:
            program.hand_over()
            assert program.process.wait_for_exit(20) == 0
            load.wait_for_answers(300)
        assert load.failures == {}
        program.process.workers = after
        assert all(program.workers())
    finally:
        program.clean_up()


def test_hand_over_to_another_state_directory(program: Program) -> None:
    rewrite(program, f'stateDir = "{program.state}"', f'stateDir = "{program.state}-new"')
    old = program.supervisor()
    os.kill(old, signal.SIGUSR2)
    program.state = program.state.with_name("state-new")
    wait_until(lambda: program.supervisor() not in (0, old), "a successor", 12)
    assert program.process.wait_for_exit(20) == 0
    assert program.get() == 200
    assert program.status()["generation"]["frontends"] == 1


def rewrite(program: Program, old: str, new: str) -> None:
    path = program.process.configuration_path
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_new_version_that_fails_changes_nothing(program: Program) -> None:
    before = (program.supervisor(), program.workers())
    rewrite(program, "workers = 2", 'workers = "many"')
    with program.load(keep_alive=4, fresh=2) as load:
        program.process.signal(signal.SIGUSR2)
        wait_until(lambda: "hand-over failed" in program.process.log(), "the failure", 20)
        load.wait_for_answers(100)
        assert (program.supervisor(), program.workers()) == before
        revision = program.put({"frontends/g/backend": "b", "frontends/g/routes/r/rule": "Host:n"})
        program.ask("wait", provider="embedded", revision=revision)
        rewrite(program, 'workers = "many"', "workers = 2")
        program.hand_over()
    assert load.failures == {}


def test_a_new_version_that_hangs_is_given_up_when_the_old_is_stopped(program: Program) -> None:
    before = program.workers()
    program.process.signal(signal.SIGUSR2)
    line = wait_until(lambda: logged(program, "handing over to a new supervisor"), "the successor")
    successor = int(line.rpartition("pid=")[2])
    os.kill(successor, signal.SIGSTOP)
    assert {program.get() for _ in range(5)} == {200}
    assert program.workers() == before
    program.process.signal(signal.SIGTERM)
    assert program.process.wait_for_exit(14) == 0
    wait_until(lambda: ended(successor), "the end of the successor")
    wait_until(lambda: all(ended(pid) for pid in program.recorded()), "the end of all workers")


def logged(program: Program, text: str) -> str:
    """Return the first line of the log that holds ``text``."""
    return next((line for line in program.process.log().splitlines() if text in line), "")


def test_an_old_supervisor_killed_during_the_hand_over_leaves_the_new_in_charge(
    program: Program,
) -> None:
    workers = program.workers()
    old = program.supervisor()
    with program.load(keep_alive=4, fresh=2) as load:
        os.kill(old, signal.SIGUSR2)
        wait_until(lambda: logged(program, "handing over to a new supervisor"), "the successor")
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: program.supervisor() not in (0, old), "a successor", 12)
        wait_until(lambda: all(ended(pid) for pid in workers), "the end of the old workers", 12)
        load.wait_for_answers(100)
    assert load.failures == {}


# --- a supervisor that was killed


def test_workers_outlive_a_killed_supervisor_and_are_replaced_by_the_next(
    program: Program,
) -> None:
    workers = program.workers()
    with program.load(keep_alive=8, fresh=4) as load:
        os.kill(program.supervisor(), signal.SIGKILL)
        program.process.wait_for_exit(5)
        load.wait_for_answers(300)
        assert not any(ended(pid) for pid in workers)
        program.process.start()
        wait_until(lambda: all(ended(pid) for pid in workers), "the end of the old workers", 12)
        load.wait_for_answers(100)
    # A connection can reach an old worker's queue in the very moment in which it closes it.
    assert load.failures.total() <= 1, load.failures
    assert not set(workers) & set(program.workers())
    wait_until(lambda: program.recorded() == sorted(program.workers()), "the end of old records")


# --- what cannot start


def command_of(program: Program) -> list[str]:
    configuration = f"--configFile={program.process.configuration_path}"
    return [sys.executable, "-m", "kvproxy", "run", configuration]


def run_beside(program: Program, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program once more with the same configuration, to its end."""
    return subprocess.run(
        [*command_of(program), *arguments],
        cwd=program.process.directory,
        capture_output=True,
        text=True,
        timeout=12,
        check=False,
    )


def test_two_supervisors_cannot_share_a_state_directory(program: Program) -> None:
    result = run_beside(program)
    assert result.returncode == 1
    assert f"in use by another supervisor (process {program.supervisor()})" in result.stderr
    assert program.get() == 200


def test_an_address_in_use_is_named(program: Program) -> None:
    other = program.process.directory / "other"
    result = run_beside(program, f"--stateDir={other}")
    assert result.returncode == 1
    expected = f"entry point `http` cannot listen on `127.0.0.1:{program.port}`: "
    assert expected in result.stderr
    assert "in use" in result.stderr
    assert program.get() == 200


def test_the_pid_file_follows_the_supervisor(backend: Backend) -> None:
    program = Program(backend, pidFile="kvproxy.pid")
    path = program.process.directory / "kvproxy.pid"
    try:
        program.start()
        assert path.read_text() == f"{program.supervisor()}\n"
        _, new = program.hand_over()
        wait_until(lambda: path.read_text() == f"{new}\n", "the new process id")
        program.process.wait_for_exit(20)
        os.kill(new, signal.SIGTERM)
        wait_until(lambda: not path.exists(), "the file's removal", 20)
    finally:
        program.clean_up()
