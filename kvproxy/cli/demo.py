"""``kvproxy demo``: a key is changed, the route is live."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvproxy.cli.output import fail
from kvproxy.cli.visitor import Visitor, free_port
from kvproxy.control import state_directory
from kvproxy.control.administration import control_socket
from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

START_SECONDS = 30.0
CHANGE_SECONDS = 10.0
STOP_SECONDS = 20.0
HOST = "demo.localhost"
VISITS = 50
"""Requests before and after each change."""


@click.command("demo")
@click.option("--once", is_flag=True, help="Exit after the demonstration instead of at Ctrl-C.")
def command(once: bool) -> None:
    """Start two small servers and kvproxy, change a key, and watch the route change.

    Everything runs on free ports of 127.0.0.1 and in a temporary directory. It stays up until
    Ctrl-C, so that you can try commands of your own; --once ends it.

    \b
    Examples:
      kvproxy demo
      kvproxy demo --once
    """
    # Also where Ctrl-C is ignored from the start: what a script runs in the background is.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kvproxy-demo-")))
        demo = Demo(directory, stack)
        demo.show()
        if not once:
            demo.stay()
    click.echo("\nEverything is stopped.")


class Demo:
    """The demonstration. What it starts ends with the ``stack``."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        """Keep store, state and logs in ``directory``."""
        self._directory = directory
        self._stack = stack
        self._path = directory / "store.db"
        self._state = directory / "state"
        self._runner = stack.enter_context(asyncio.Runner())
        self._store = EmbeddedStore(self._path)
        stack.callback(lambda: self._runner.run(self._store.close()))
        self._port = free_port()
        self._visitor = Visitor(self._port, HOST)
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def show(self) -> None:
        """Run and print all steps; ends the command with exit code 1 when one fails."""
        step("Two small servers")
        addresses = {name: self._start_whoami(name) for name in ("blue", "green")}

        step("kvproxy, with its routes in a key-value store (one file, nothing to install)")
        self._start_proxy()

        step("A route is a few keys, written as one transaction")
        keys = {
            "kvproxy/backends/blue/servers/one/url": addresses["blue"],
            "kvproxy/backends/green/servers/one/url": addresses["green"],
            "kvproxy/frontends/demo/backend": "blue",
            "kvproxy/frontends/demo/routes/main/rule": f"Host:{HOST}",
        }
        self._put(keys)
        self._wait(lambda: self._visitor.ask() == "blue", CHANGE_SECONDS, "the route is not live")
        say(f"$ curl -H 'Host: {HOST}' http://127.0.0.1:{self._port}/")
        say("Name: blue")

        step("One key is changed, while requests run without a pause")
        for name in ("green", "blue", "green"):
            self._change(name)

        step("A mistake: a rule that cannot be read")
        self._put({"kvproxy/frontends/demo/routes/main/rule": f"Hots:{HOST}"})
        self._print(["check", "--embedded", f"--embedded.path={self._path}"])
        self._wait(self._quarantined, CHANGE_SECONDS, "the bad rule is not noticed")
        answer = self._visitor.ask()
        if answer != "green":
            fail(f"the route should still be served by green, not by {answer or 'nobody'}")
        click.echo()
        say("The bad version is in quarantine, the last good one goes on being served:")
        say(f"$ curl -H 'Host: {HOST}' http://127.0.0.1:{self._port}/")
        say("Name: green")
        self._put({"kvproxy/frontends/demo/routes/main/rule": f"Host:{HOST}"}, shown=False)

        step("Which frontend takes a request, and why")
        flags = ["--embedded", f"--embedded.path={self._path}"]
        self._print(["explain", *flags, "GET", f"http://{HOST}/"])

    def stay(self) -> None:
        """Say what to try, and wait until Ctrl-C or the end of a process."""
        step("Now you. In another terminal:")
        kvproxy = f"{sys.executable} -m kvproxy"
        say(f"curl -H 'Host: {HOST}' http://127.0.0.1:{self._port}/")
        say(f"{kvproxy} kv ls --values --embedded.path={self._path}")
        say(f"{kvproxy} kv put kvproxy/frontends/demo/backend blue --embedded.path={self._path}")
        say(f"{kvproxy} status --stateDir={self._state}")
        click.echo("\nCtrl-C ends everything.")
        while True:
            for name, process in self._processes.items():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                    fail(f"`{name}` has ended with exit code {process.returncode}")

    def _start_whoami(self, name: str) -> str:
        """Start a server on a free port and return its URL."""
        process = self._start(name, ["whoami", "--name", name], subprocess.PIPE)
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            fail(f"the server `{name}` did not start")
        say(line)
        return line.rpartition(" ")[2]

    def _start_proxy(self) -> None:
        flags = [
            "--embedded",
            f"--embedded.path={self._path}",
            f"--stateDir={self._state}",
            f"--entryPoints=Name:http Address:127.0.0.1:{self._port}",
        ]
        say("$ kvproxy run " + " ".join(f"'{flag}'" if " " in flag else flag for flag in flags))
        with (self._directory / "kvproxy.log").open("w") as log:
            self._start("kvproxy", ["run", *flags], log.fileno())
        self._wait(
            lambda: self._visitor.ask() is not None, START_SECONDS, "the proxy does not answer"
        )

    def _start(self, name: str, arguments: list[str], output: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "kvproxy", *arguments],
            stdout=output,
            stderr=None if output == subprocess.PIPE else output,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            # Ctrl-C is meant for the demonstration; it ends the others in order.
            start_new_session=True,
        )
        self._processes[name] = process
        self._stack.callback(_stop, process)
        return process

    def _put(self, keys: Mapping[str, str], *, shown: bool = True) -> None:
        """Write keys as one transaction, and print the command that does the same."""
        if shown:
            lines = [f"{key} {value}" for key, value in keys.items()]
            lines[0] = f"$ kvproxy kv put {lines[0]}"
            for number, line in enumerate(lines):
                say(("    " if number else "") + line + " \\" * (number < len(lines) - 1))

        values = {key: value.encode() for key, value in keys.items()}
        self._runner.run(self._store.write(Transaction(put=values)))

    def _change(self, name: str) -> None:
        """Point the route to another backend and print how long it took to be served."""
        with self._visitor.visiting() as visits:
            self._wait(lambda: visits.answered > VISITS, CHANGE_SECONDS, "nobody answers")
            written = time.perf_counter()
            self._put({"kvproxy/frontends/demo/backend": name})
            self._wait(lambda: name in visits.first, CHANGE_SECONDS, "the change is not live")
            enough = visits.answered + VISITS
            self._wait(lambda: visits.answered > enough, CHANGE_SECONDS, "nobody answers")
        milliseconds = (visits.first[name] - written) * 1000
        say(
            f"served by {name} {milliseconds:.1f} ms after the write began; "
            f"{visits.answered} requests meanwhile, {visits.failed} failed"
        )

    def _quarantined(self) -> bool:
        """Whether the running proxy has refused an entry."""
        answer = control_socket.ask(self._state / state_directory.CONTROL_SOCKET, "status")
        return bool(answer["quarantined"])

    def _print(self, arguments: list[str]) -> None:
        """Run a command and show it with its output."""
        say("$ kvproxy " + " ".join(arguments))
        result = subprocess.run(
            [sys.executable, "-m", "kvproxy", *arguments],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        for line in (result.stdout + result.stderr).splitlines():
            say(line)

    def _wait(self, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        """Wait until the condition holds; ends the command when it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended = [
                name for name, process in self._processes.items() if process.poll() is not None
            ]
            if ended or time.monotonic() > deadline:
                log = (self._directory / "kvproxy.log").read_text(errors="replace")
                click.echo(log, err=True)
                fail(f"`{ended[0]}` has ended" if ended else f"{otherwise} within {seconds:g} s")
            time.sleep(0.01)


def step(text: str) -> None:
    """Print the heading of a step."""
    click.secho(f"\n{text}", bold=True)


def say(text: str) -> None:
    """Print a line of a step."""
    click.echo(f"  {text}")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
