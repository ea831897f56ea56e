"""The last static keys of a store that a proxy has started with, kept on disk for bad days.

One file in the state directory, for its owner only (the keys may hold passwords), written whole or
not at all, with a digest: a damaged file counts as none.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from kvproxy.config.static_keys import StaticKeys

if TYPE_CHECKING:
    from kvproxy.config.static_keys import StorePlace

FILE_NAME = "static-keys.json"


class _Content(Struct, frozen=True, rename="camel"):
    """What is kept; the values are in base64."""

    store: str
    address: str
    prefix: str
    version: int
    values: dict[str, bytes]


class _File(Struct, frozen=True):
    """The content and its digest (SHA-256, hexadecimal)."""

    content: msgspec.Raw
    digest: str


def keep(directory: Path, keys: StaticKeys) -> None:
    """Write ``keys`` into the state directory; raises `OSError`."""
    place = keys.place
    content = msgspec.json.encode(
        _Content(place.store, place.address, place.prefix, keys.version, dict(keys.values))
    )
    data = msgspec.json.encode(_File(msgspec.Raw(content), sha256(content).hexdigest()))
    path = directory / FILE_NAME
    with suppress(OSError):
        if path.read_bytes() == data:
            return
    new = path.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise


def recall(directory: Path, place: StorePlace) -> StaticKeys | None:
    """Return what `keep` wrote last for the same store, address and prefix, or None."""
    try:
        file = msgspec.json.decode((directory / FILE_NAME).read_bytes(), type=_File)
        if sha256(bytes(file.content)).hexdigest() != file.digest:
            return None
        content = msgspec.json.decode(file.content, type=_Content)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None
    if (content.store, content.address, content.prefix) != (
        place.store,
        place.address,
        place.prefix,
    ):
        return None
    return StaticKeys(place, content.version, content.values)
