from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kvproxy.control.administration.control_socket import ControlError, ControlServer, ask


async def echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"got": request}


async def refuse(request: dict[str, Any]) -> dict[str, Any]:
    raise ControlError("not today")


COMMANDS = {"echo": echo, "refuse": refuse}


async def asked(path: Path, command: str, **arguments: Any) -> dict[str, Any]:
    return await asyncio.to_thread(ask, path, command, 5.0, **arguments)


async def test_a_question_gets_its_answer(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "control.sock", COMMANDS)
    await server.start()
    answer = await asked(tmp_path / "control.sock", "echo", number=7)
    assert answer == {"got": {"command": "echo", "number": 7}}
    with pytest.raises(ControlError, match="not today"):
        await asked(tmp_path / "control.sock", "refuse")
    with pytest.raises(ControlError, match="unknown command 'x'; expected one of echo, refuse"):
        await asked(tmp_path / "control.sock", "x")
    server.close()


async def test_only_the_owner_may_ask(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "control.sock", COMMANDS)
    await server.start()
    assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["control.sock"]
    server.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_deep_directory(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    server = ControlServer(deep / "control.sock", COMMANDS)
    await server.start()
    assert await asked(deep / "control.sock", "echo") == {"got": {"command": "echo"}}
    server.close()
    assert list(deep.iterdir()) == []


async def test_the_socket_of_the_dead_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    first = ControlServer(path, COMMANDS)
    await first.start()
    second = ControlServer(path, {"second": echo})
    await second.start()
    first.close()
    assert await asked(path, "second") == {"got": {"command": "second"}}
    second.close()
    assert not path.exists()


@pytest.mark.parametrize(
    "line",
    [b"\n", b"nonsense\n", b"[]\n", b"{}\n", b'{"command": 1}\n', b'{"command": []}\n', b"\xff\n"],
)
async def test_what_is_no_question_is_answered_too(tmp_path: Path, line: bytes) -> None:
    server = ControlServer(tmp_path / "control.sock", COMMANDS)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
    writer.write(line + b'{"command": "echo"}\n')
    async with asyncio.timeout(5):
        assert json.loads(await reader.readline())["ok"] is False
        assert json.loads(await reader.readline())["ok"] is True
    writer.close()
    server.close()


async def test_an_endless_line_ends_the_connection_only(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "control.sock", COMMANDS)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
    writer.write(b"x" * 1_000_000)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    assert (await asked(tmp_path / "control.sock", "echo"))["got"]
    server.close()


def test_no_supervisor_is_named(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no supervisor answers"):
        ask(tmp_path / "control.sock", "status")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ControlError, match="no supervisor answers"):
        ask(tmp_path / "fifo", "status")


async def test_no_answer_in_time(tmp_path: Path) -> None:
    async def never(request: dict[str, Any]) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    server = ControlServer(tmp_path / "control.sock", {"never": never})
    await server.start()
    with pytest.raises(ControlError, match=r"no answer .* within 0\.1 s"):
        await asyncio.to_thread(ask, tmp_path / "control.sock", "never", 0.1)
    server.close()
