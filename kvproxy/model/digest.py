"""The digest of an entry and of a generation, computed alike by the supervisor and by every worker.

The digest of a generation is the sum, modulo 2**256, of the digests of its entries. So it does not
depend on their order, and a change of one entry costs one hash however many entries there are. It
proves that two processes hold the same configuration; it is no protection against somebody who may
write both the content and its digest.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.model.dynamic import Backend, Frontend
    from kvproxy.model.messages import BackendEntry, CertificateEntry, FrontendEntry
    from kvproxy.model.tls import ServedCertificate

    Content = Frontend | Backend | ServedCertificate

Section = Literal["frontends", "backends", "tls"]

_MODULUS = 1 << 256

# Keys of maps are sorted: the same content has the same bytes whatever order a store listed it in.
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def encode_content(content: Content) -> bytes:
    """Return the MessagePack bytes of an entry; equal contents give equal bytes."""
    return _encode(content)


def encoded_digest(section: Section, provider: str, name: str, encoded: bytes) -> bytes:
    """Return the 32 bytes that stand for an entry whose content was encoded by `encode_content`."""
    return sha256(_encode((section, provider, name)) + encoded).digest()


def entry_digest(section: Section, provider: str, name: str, content: Content) -> bytes:
    """Return the 32 bytes that stand for an entry: its section, provider, name and content."""
    return sha256(_encode((section, provider, name)) + _encode(content)).digest()


def frontend_digest(entry: FrontendEntry) -> bytes:
    """Compute anew the digest that ``entry.digest`` should hold."""
    return entry_digest("frontends", entry.provider, entry.name, entry.frontend)


def backend_digest(entry: BackendEntry) -> bytes:
    """Compute anew the digest that ``entry.digest`` should hold."""
    return entry_digest("backends", entry.provider, entry.name, entry.backend)


def certificate_digest(entry: CertificateEntry) -> bytes:
    """Compute anew the digest that ``entry.digest`` should hold."""
    return entry_digest("tls", entry.provider, entry.name, entry.certificate)


def add_digests(total: int, added: Iterable[bytes], removed: Iterable[bytes] = ()) -> int:
    """Return the sum of a set of entries after some were added and others removed; starts at 0."""
    total += sum(map(_number, added)) - sum(map(_number, removed))
    return total % _MODULUS


def digest_text(total: int) -> str:
    """Spell a sum as the 64 hexadecimal digits that name a generation's content."""
    return f"{total:064x}"


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "big")
