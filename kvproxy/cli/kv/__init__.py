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

HELP = """Read and write the keys of a store, the embedded one unless --store names another.

Keys are whole keys, with the prefix: `kvproxy/frontends/web/backend`. Where the store is comes
from the same options as for `kvproxy run`: --configFile, --embedded.path, --stateDir, ...

\b
Examples:
  kvproxy kv put kvproxy/frontends/web/backend blue --embedded.path=store.db
  kvproxy kv ls kvproxy/frontends --embedded.path=store.db
  kvproxy kv import routes.toml --embedded.path=store.db
"""

command = CommandGroup("kv", COMMANDS, help=HELP)
