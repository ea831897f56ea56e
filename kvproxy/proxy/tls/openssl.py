"""What OpenSSL can do and Python's `ssl` has no name for, by ctypes.

Why, and why it is safe: docs/decisions/ticket-keys.md. The pointer to OpenSSL's context is the
first member of CPython's context object; that is so in every version from 3.2 to 3.14, and nothing
is touched in any other. Functions are looked up in the very library that Python's `_ssl` is linked
to.
"""

from __future__ import annotations

import _ssl
import ctypes
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

TICKET_KEY_BYTES = 80
"""Name, HMAC key and AES-256 key of session tickets (OpenSSL 1.1.1 and later)."""

_GET_TICKET_KEYS = 58
_SET_TICKET_KEYS = 59
_KNOWN_PYTHONS = ((3, 11), (3, 14))


@cache
def _library() -> Any | None:
    """Return OpenSSL's library as Python uses it, None where that cannot be told for sure."""
    path = getattr(_ssl, "__file__", None)
    known = _KNOWN_PYTHONS[0] <= sys.version_info[:2] <= _KNOWN_PYTHONS[1]
    if path is None or sys.implementation.name != "cpython" or not known:
        return None
    try:
        library = ctypes.CDLL(path)
        library.SSL_CTX_ctrl.argtypes = [
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_long,
            ctypes.c_void_p,
        ]
        library.SSL_CTX_ctrl.restype = ctypes.c_long
        library.SSL_load_client_CA_file.argtypes = [ctypes.c_char_p]
        library.SSL_load_client_CA_file.restype = ctypes.c_void_p
        library.SSL_CTX_set_client_CA_list.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.SSL_CTX_set_client_CA_list.restype = None
    except (OSError, AttributeError):
        return None
    return library


def _pointer(context: ssl.SSLContext) -> int | None:
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value


def set_ticket_keys(context: ssl.SSLContext, keys: bytes) -> bool:
    """Encrypt session tickets of ``context`` with ``keys``; False where that cannot be done.

    Tickets that were made with other keys are not accepted from now on: such a client makes a full
    handshake. ``keys`` has `TICKET_KEY_BYTES`.
    """
    assert len(keys) == TICKET_KEY_BYTES
    library, pointer = _library(), _pointer(context)
    if library is None or pointer is None:
        return False
    library.SSL_CTX_ctrl(pointer, _SET_TICKET_KEYS, len(keys), ctypes.create_string_buffer(keys))
    held = ctypes.create_string_buffer(TICKET_KEY_BYTES)
    library.SSL_CTX_ctrl(pointer, _GET_TICKET_KEYS, len(keys), held)
    return held.raw[:TICKET_KEY_BYTES] == keys


def name_client_authorities(context: ssl.SSLContext, path: str) -> bool:
    """Tell clients which authorities in the PEM file ``path`` are accepted; False: cannot be done.

    A client with a certificate of another authority then sends none, instead of a wrong one.
    """
    library, pointer = _library(), _pointer(context)
    if library is None or pointer is None:
        return False
    names = library.SSL_load_client_CA_file(path.encode())
    if names is None:
        return False
    # The context owns the list from now on.
    library.SSL_CTX_set_client_CA_list(pointer, names)
    return True
