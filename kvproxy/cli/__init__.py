"""The command line: one module a command, imported when the command is used."""

from __future__ import annotations

import click

from kvproxy.cli.group import CommandGroup

COMMANDS = {
    "check": ("kvproxy.cli.check", "Validate a configuration or a live store without serving."),
    "completion": ("kvproxy.cli.completion", "Print the completion script of a shell."),
    "confirm": ("kvproxy.cli.confirm", "Apply a revision that the mass-deletion guard holds."),
    "demo": ("kvproxy.cli.demo", "Watch a key change become a live route."),
    "explain": ("kvproxy.cli.explain", "Say which frontend takes a request, and why."),
    "kv": ("kvproxy.cli.kv", "Read and write the keys of a store."),
    "nodes": ("kvproxy.cli.nodes", "List the running proxies on a store and what they serve."),
    "reload": ("kvproxy.cli.reload", "Change the entry points of a running proxy."),
    "run": ("kvproxy.cli.run", "Run the proxy (also without any command)."),
    "status": ("kvproxy.cli.status", "Show what a running proxy serves."),
    "storeconfig": ("kvproxy.cli.storeconfig", "Write the configuration into a key-value store."),
    "version": ("kvproxy.cli.version", "Print version and build."),
    "wait": ("kvproxy.cli.wait", "Wait until a revision of a store is served."),
    "whoami": ("kvproxy.cli.whoami", "Run a small HTTP server to try routes with."),
}

HELP = """A reverse proxy driven by a key-value store, in the configuration language of Traefik 1.7.

\b
Examples:
  kvproxy demo                                   # see it work
  kvproxy --configFile=traefik.toml              # as in Traefik 1.7: the same as `kvproxy run`
  kvproxy check --configFile=traefik.toml
  kvproxy run --embedded --entryPoints='Name:http Address::8080'
  kvproxy kv put kvproxy/frontends/web/backend blue

Options of the proxy: `kvproxy run --help`. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""


def group() -> click.Group:
    """Return the root command."""
    return CommandGroup("kvproxy", COMMANDS, help=HELP, default="run")


def main() -> None:
    """Entry point of the console script; exits with 0, 1 (failed) or 2 (wrong usage)."""
    group()(prog_name="kvproxy")
