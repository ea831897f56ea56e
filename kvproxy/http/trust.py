"""Which servers are trusted: the TLS context of all connections to servers."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PEM = "-----BEGIN"


def server_context(root_cas: Iterable[str], *, verify: bool) -> ssl.SSLContext:
    """Build the context; ``root_cas`` (files or PEM texts), if any, replace the system's pool.

    Raises OSError (ssl.SSLError is one) or ValueError when an authority cannot be read.
    """
    authorities = list(root_cas)
    if authorities:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for authority in authorities:
            text = authority if _PEM in authority else Path(authority).read_text()
            context.load_verify_locations(cadata=text)
    else:
        context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


@cache
def system_context() -> ssl.SSLContext:
    """Return the context that trusts the system's pool, always the same one: not to be changed.

    Reading the pool takes some 50 ms. Processes that are forked after the first call have it.
    """
    return server_context((), verify=True)
