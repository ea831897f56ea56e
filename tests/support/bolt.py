"""Real BoltDB files: written, changed and read back by bbolt itself, in a small program in Go."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_SOURCES = Path("/usr/share/gocode")
_PROGRAM = Path(__file__).parent / "bolt_writer" / "main.go"


@cache
def bolt_program() -> Path:
    """Return the built program; skips the test where there is no Go or no bbolt."""
    compiler = shutil.which("go")
    if compiler is None or not (_SOURCES / "src/go.etcd.io/bbolt").is_dir():
        pytest.skip("no Go with bbolt on this machine; scripts/servers gets them")
    program = Path(tempfile.mkdtemp(prefix="kvproxy-bolt-")) / "bolt_writer"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(_SOURCES), "GOFLAGS": ""}
    built = subprocess.run(
        [compiler, "build", "-o", str(program), str(_PROGRAM)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    return program


class BoltWriter:
    """A process that writes transactions into the file at ``path``, which it makes."""

    def __init__(self, path: Path) -> None:
        """Start the process."""
        self._process = subprocess.Popen(
            [bolt_program(), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready\n"

    def write(self, **transaction: Any) -> dict[str, Any]:
        """Write one transaction and return the answer: ``version``, ``conflict`` or ``error``.

        ``put``, ``expect`` and the like hold keys as they are in the file.
        """
        for name in ("put", "expect"):
            transaction[name] = {
                key: None if value is None else base64.b64encode(value).decode()
                for key, value in transaction.get(name, {}).items()
            }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(transaction) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def close(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def dump(path: Path) -> dict[tuple[bytes, ...], dict[bytes, bytes]]:
    """Return what bbolt itself reads: for each bucket (with those it is in) its keys."""
    output = subprocess.run(
        [bolt_program(), path, "dump"], capture_output=True, check=True, timeout=60
    ).stdout
    return {
        tuple(part.encode() for part in name.split("\0")): {
            key.encode(): base64.b64decode(value) for key, value in keys.items()
        }
        for name, keys in json.loads(output).items()
    }


def churn(path: Path) -> subprocess.Popen[str]:
    """Start a process that changes the keys below ``/t`` as fast as it can, and never ends."""
    process = subprocess.Popen([bolt_program(), path, "churn"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process
