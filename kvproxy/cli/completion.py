"""``kvproxy completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from kvproxy import cli


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      kvproxy completion bash > /etc/bash_completion.d/kvproxy
      kvproxy completion zsh > "${fpath[1]}/_kvproxy"
      kvproxy completion fish > ~/.config/fish/completions/kvproxy.fish
    """
    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(cli.group(), {}, "kvproxy", "_KVPROXY_COMPLETE").source())
