"""TLS towards a store, from the settings `ClientTLS`: files or PEM text."""

from __future__ import annotations

import os
import ssl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.provider import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvproxy.model.dynamic import ClientTLS

_PEM_MARK = "-----BEGIN"


def client_context(settings: ClientTLS, option: str) -> ssl.SSLContext:
    """Return the TLS settings of a client; without ``ca`` the system's authorities are trusted.

    ``option`` names the settings in errors, such as ``etcd.tls``. Raises `StoreError`.
    """
    authorities = _pem(settings.ca, f"{option}.ca")
    try:
        context = ssl.create_default_context(cadata=authorities)
    except (ssl.SSLError, ValueError) as error:
        raise StoreError(f"`{option}.ca` holds no certificate: {error}") from None
    if settings.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert or settings.key:
        _load_own_certificate(context, settings, option)
    return context


def _load_own_certificate(context: ssl.SSLContext, settings: ClientTLS, option: str) -> None:
    certificate = _pem(settings.cert, f"{option}.cert")
    key = _pem(settings.key, f"{option}.key")
    if certificate is None or key is None:
        absent, given = ("cert", "key") if certificate is None else ("key", "cert")
        raise StoreError(f"`{option}.{absent}` is missing: `{option}.{given}` is of no use alone")
    try:
        with _as_file(certificate) as certificate_path, _as_file(key) as key_path:
            # A key under a password would be asked for on the terminal.
            context.load_cert_chain(certificate_path, key_path, password=lambda: b"")
    except (ssl.SSLError, ValueError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise StoreError(
            f"`{option}.cert` and `{option}.key` are no certificate and its key: {reason}"
        ) from None


def _pem(value: str, option: str) -> str | None:
    """Return PEM text that ``value`` is or whose file it names; None when it is empty."""
    if not value.strip():
        return None
    if _PEM_MARK in value:
        return value
    try:
        return Path(value).read_text()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a PEM file"
        raise StoreError(
            f"`{option}` is neither PEM text nor a file that can be read: {reason}"
        ) from None


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Return the path of a file with ``text`` that never touches a disk: keys are secret."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"
