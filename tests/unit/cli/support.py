"""Running commands in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.testing import CliRunner

from kvproxy import cli

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def kvproxy(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """Run ``kvproxy`` with these arguments; unexpected exceptions are raised."""
    result = CliRunner().invoke(cli.group(), list(arguments), input=stdin, prog_name="kvproxy")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


class StoreFile:
    """An embedded store of one test, used through the commands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flag = f"--embedded.path={path}"

    def kv(self, command: str, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Run ``kvproxy kv command`` on the store."""
        return kvproxy("kv", command, self.flag, *arguments, stdin=stdin)

    def done(self, command: str, *arguments: str, stdin: str | bytes | None = None) -> str:
        """Run a command that has to succeed; returns its standard output."""
        result = self.kv(command, *arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout
