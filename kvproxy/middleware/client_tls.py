"""TLS towards a server that middlewares ask (specification section 9.5, ``tls``)."""

from __future__ import annotations

import ssl
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvproxy.model.dynamic import ClientTLS

_PEM = "-----BEGIN"


def client_tls_context(options: ClientTLS) -> ssl.SSLContext:
    """Return the context; raises ValueError or OSError.

    The authority is the only one that is trusted: without it, no server is, unless verification
    is switched off.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not (options.cert and options.key):
        raise ValueError("a certificate and its key are needed, unless `insecureSkipVerify` is set")
    if options.ca:
        context.load_verify_locations(cadata=_content(options.ca, "authority"))
    if options.cert and options.key:
        _load_pair(context, options.cert, options.key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _content(text: str, what: str) -> str:
    """Return PEM text, from a file unless it is given as such."""
    if _PEM in text:
        return text
    try:
        return Path(text).read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ValueError(f"the {what} cannot be read: {reason}") from None


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    texts = [_PEM in text for text in (certificate, key)]
    if any(texts) and not all(texts):
        raise ValueError("certificate and key must both be files or both be PEM text")
    with ExitStack() as stack:
        if all(texts):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            paths = [directory / "certificate", directory / "key"]
            for path, text in zip(paths, (certificate, key), strict=True):
                path.touch(0o600)
                path.write_text(text)
            certificate, key = map(str, paths)
        try:
            # A password would be asked for on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
            raise ValueError(f"certificate and key cannot be used: {reason}") from None
