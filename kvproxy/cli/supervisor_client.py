"""Asking the running supervisor."""

from __future__ import annotations

from typing import Any

from kvproxy.cli.output import fail
from kvproxy.cli.settings import errors_end_the_command, local_sources, state_directory
from kvproxy.control.administration import control_socket
from kvproxy.control.state_directory import CONTROL_SOCKET


def ask(name: str, seconds: float, *, not_in_time: int = 1, **arguments: Any) -> dict[str, Any]:
    """Ask the supervisor that uses the state directory of the command's settings.

    Ends the command with exit code 1 when there is none or it cannot, with ``not_in_time`` when
    what it was to wait for did not come.
    """
    with errors_end_the_command():
        path = state_directory(local_sources()) / CONTROL_SOCKET
    try:
        return control_socket.ask(path, name, seconds, **arguments)
    except control_socket.NotInTimeError as error:
        fail(str(error), code=not_in_time)
    except control_socket.ControlError as error:
        fail(str(error))
