"""``kvproxy version``."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import click

import kvproxy
from kvproxy.cli.output import output_option, print_json
from kvproxy.http.scan import IMPLEMENTATION

SCANNERS = {"c": "C extension", "python": "pure Python"}


@click.command("version")
@output_option
def command(output: str) -> None:
    """Print the version of kvproxy and what it runs on.

    \b
    Scanner says which of the two request scanners is in use: the C extension or its
    pure-Python twin (no compiler at install time, or KVPROXY_PURE_PYTHON=1).

    \b
    Examples:
      kvproxy version
      kvproxy version --output json
    """
    facts = {
        "Version": kvproxy.__version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "Scanner": SCANNERS[IMPLEMENTATION],
        "Built": build(),
        "OS/Arch": f"{platform.system().lower()}/{platform.machine()}",
    }
    if output == "json":
        print_json({name.lower(): value for name, value in facts.items()})
        return
    for name, value in facts.items():
        click.echo(f"{name + ':':<14}{value}")


def build() -> str:
    """Return commit and date: what the image was built with, or the checkout it runs from."""
    stamped = os.environ.get("KVPROXY_BUILD")
    if stamped:
        return stamped
    root = Path(kvproxy.__file__).parent.parent
    if not (root / ".git").exists():
        return "release"
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "log", "-1", "--format=%h %cs"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "checkout"
    return found.stdout.strip()
