"""``kvproxy kv``: the keys of a store."""

from __future__ import annotations

from kvproxy.cli.group import CommandGroup

COMMANDS = {
    "del": ("kvproxy.cli.kv.delete", "Delete keys."),
    "export": ("kvproxy.cli.kv.export", "Print the configuration in the store as TOML."),
    "get": ("kvproxy.cli.kv.get", "Print the value of a key."),
    "import": ("kvproxy.cli.kv.load", "Write a TOML file to the store as one transaction."),
    "ls": ("kvproxy.cli.kv.ls", "List keys."),
    "put": ("kvproxy.cli.kv.put", "Write keys as one transaction."),
    "watch": ("kvproxy.cli.kv.watch", "Print changes as they happen."),
}

HELP = """Read and write the keys of a store: the one that is configured, or the embedded one.

Keys are whole keys, with the prefix: `kvproxy/frontends/web/backend`. Which store and where it is
comes from the same options as for `kvproxy run`: --configFile, --consul.endpoint, --embedded.path,
... Where several are configured, --store names one.

\b
Examples:
  kvproxy kv put kvproxy/frontends/web/backend blue --embedded.path=store.db
  kvproxy kv ls kvproxy/frontends --embedded.path=store.db
  kvproxy kv import routes.toml --consul.endpoint=127.0.0.1:8500
"""

command = CommandGroup("kv", COMMANDS, help=HELP)
