"""The control socket: ask a running supervisor, one JSON line for one JSON line.

It is ``control.sock`` in the state directory, mode 0600: who may open it may ask. A request is an
object with ``command`` and its arguments; the answer is an object with ``ok`` true and the result's
members, or with ``ok`` false and ``error`` (and ``notInTime`` true when a ``wait`` was in vain). A
connection may ask any number of times.

- ``status``: what `kvproxy.control.administration.status.Status` holds
- ``wait`` with ``generation``, or with ``revision`` and ``provider`` (the only store when it is not
  named), and with ``timeout`` in seconds (10): the status, as soon as every worker serves that
  generation or revision, or a later
- ``confirm`` with ``provider``: ``confirmed``, whether a held snapshot was applied
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from kvproxy.unix_socket import SocketFile, short_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

MAX_REQUEST_BYTES = 64 * 1024
BACKLOG = 64


class ControlError(Exception):
    """No supervisor answers, or it answered that it cannot; the message says which."""


class NotInTimeError(ControlError):
    """What a ``wait`` was for did not come in time; the message says how far it came."""


class ControlServer:
    """Answers on the socket file ``path``. ``commands``: name to what answers a request."""

    def __init__(self, path: Path, commands: Mapping[str, Answer]) -> None:
        """Nothing is opened before `start`."""
        self._path = path
        self._commands = commands
        self._server: asyncio.Server | None = None
        self._file: SocketFile
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Open the socket in place of one that is there; raises OSError."""
        self._file = SocketFile(self._path, BACKLOG)
        self._server = await asyncio.start_unix_server(
            self._serve, sock=self._file.socket, limit=MAX_REQUEST_BYTES
        )

    def close(self) -> None:
        """Close the socket, and remove the file unless it is another supervisor's by now."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in self._tasks:
            task.cancel()
        self._file.remove()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
            name = request.get("command")
            command = self._commands.get(name) if isinstance(name, str) else None
            if command is None:
                known = ", ".join(sorted(self._commands))
                raise ControlError(f"unknown command {name!r}; expected one of {known}")
            return {"ok": True, **await command(request)}
        except NotInTimeError as error:
            return {"ok": False, "error": str(error), "notInTime": True}
        except (ControlError, msgspec.DecodeError) as error:
            return {"ok": False, "error": str(error)}


def ask(path: Path, command: str, seconds: float = 10.0, **arguments: Any) -> dict[str, Any]:
    """Ask the supervisor whose control socket is ``path`` and return the result.

    ``seconds``: how long to wait for the answer. Raises `ControlError`.
    """
    request = msgspec.json.encode({"command": command, **arguments}) + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            with short_name(path) as name:
                connection.connect(name)
            connection.sendall(request)
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except TimeoutError:
            raise ControlError(f"no answer on {path} within {seconds:g} s") from None
        except OSError as error:
            raise ControlError(
                f"no supervisor answers on {path}: {error.strerror or error}"
            ) from error
    if not line:
        raise ControlError(f"the supervisor ended before it answered on {path}")
    answer: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
    if not answer.pop("ok", False):
        kind = NotInTimeError if answer.get("notInTime") else ControlError
        raise kind(str(answer.get("error", "no reason given")))
    return answer
