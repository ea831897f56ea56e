"""How keys and ZooKeeper's nodes correspond.

The node ``/kvproxy/frontends/web/backend`` is the key ``kvproxy/frontends/web/backend``. In
ZooKeeper a node may have a value and children, and every directory is a node with a value, so it
takes a rule to tell keys from directories: see `value_of`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.provider import StoreError
from providers.checks import check_key

if TYPE_CHECKING:
    from providers.zookeeper_requests import Stat

SYSTEM = "/zookeeper"
"""ZooKeeper's own nodes; they are no keys."""

MAXIMUM_REQUEST_BYTES = 0xFFFFF
"""The largest request that a server takes (``jute.maxbuffer``, 1 MiB less one byte by default)."""
MAXIMUM_KEY_BYTES = 4096
MAXIMUM_VALUE_BYTES = MAXIMUM_REQUEST_BYTES + 1 - 16 * 1024
"""Leaves room in a request for the names of the node, of its parents, and their permissions."""


def path_of(key: str) -> str:
    """Return the node of a key or of a prefix; the empty prefix is the root."""
    return "/" + key.strip("/")


def key_of(path: str) -> str:
    """Return the key of a node."""
    return path[1:]


def child_of(path: str, name: str) -> str:
    """Return the node ``name`` directly below ``path``."""
    return f"/{name}" if path == "/" else f"{path}/{name}"


def parent_of(path: str) -> str:
    """Return the node above ``path``; the root's is the root."""
    return path.rpartition("/")[0] or "/"


def ancestors_of(path: str) -> list[str]:
    """Return the nodes above ``path`` without the root, the topmost first."""
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(2, len(parts))]


def covers(root: str, path: str) -> bool:
    """Tell whether ``path`` is ``root`` or below it; the system's nodes are below nothing."""
    if path == SYSTEM or path.startswith(SYSTEM + "/"):
        return False
    return root == "/" or path == root or path.startswith(root + "/")


def value_of(data: bytes | None, stat: Stat) -> bytes | None:
    """Return the value of the key that a node is, or None when it is only a directory.

    A node with a value is a key, with children or without. Without data at all it is a directory:
    so does this store make the parents of keys. Empty data are ambiguous, for other clients
    (Traefik 1.7 among them) make directories with empty data. Traefik writes an empty value in two
    steps, create and set, which raises the version of the data; so does this store. Empty data at
    version 0 are a directory if there are children or ever were any, else an empty value.
    """
    if data is None:
        return None
    if not data and stat.version == 0 and (stat.num_children or stat.cversion):
        return None
    return data


def check_path(key: str) -> None:
    """Raise `StoreError` for a key that ZooKeeper does not take as a node's name.

    The characters refused are those of ``PathUtils.validatePath`` of ZooKeeper: it looks at UTF-16
    units, so every character above U+FFFF is refused as two surrogates.
    """
    check_key(key, MAXIMUM_KEY_BYTES)
    for character in key:
        if _is_refused(ord(character)):
            raise StoreError(
                f"key {key!r} holds the character U+{ord(character):04X}, which ZooKeeper refuses"
            )
    parts = key.split("/")
    if "." in parts or ".." in parts:
        raise StoreError(f"key `{key}` has a part `.` or `..`, which ZooKeeper refuses")
    if parts[0] == key_of(SYSTEM):
        raise StoreError(f"key `{key}` is among ZooKeeper's own nodes")


def _is_refused(code: int) -> bool:
    return (
        code <= 0x1F
        or 0x7F <= code <= 0x9F
        or 0xD800 <= code <= 0xF8FF
        or 0xFFF0 <= code <= 0x10FFFF
    )
