"""TLS of an entry point in a worker: its certificates, and the context for each server name."""

from __future__ import annotations

import logging
import ssl
from collections import OrderedDict
from typing import TYPE_CHECKING

from kvproxy.proxy.tls.context import build_context
from kvproxy.proxy.tls.openssl import set_ticket_keys
from kvproxy.proxy.tls.server_names import ServerNames
from kvproxy.proxy.tls.ticket_keys import ticket_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kvproxy.model.messages import EntryKey
    from kvproxy.model.tls import ServedCertificate, ServedTLS
    from kvproxy.proxy.tls.server_names import Rank

logger = logging.getLogger("kvproxy.proxy")

KEPT_CONTEXTS = 2048
"""Contexts kept ready in each entry point of a worker: some 25 KB and 1 ms of work each."""


class EntryPointTLS:
    """Chooses certificates and makes TLS objects for the connections of one entry point.

    What changes takes effect with the next handshake; open connections keep what they have.
    """

    def __init__(
        self, entry_point: str, tls: ServedTLS, protocols: Sequence[str], ticket_secret: bytes
    ) -> None:
        """``protocols``: what ALPN offers, the preferred one first; ``ticket_secret``: known to all
        workers, empty for tickets that only this worker can read. Raises ssl.SSLError."""
        self._entry_point = entry_point
        self._protocols = protocols
        self._ticket_secret = ticket_secret
        self.names: ServerNames[ServedCertificate] = ServerNames()
        self._contexts: OrderedDict[int, tuple[ServedCertificate, ssl.SSLContext]] = OrderedDict()
        self._local_address: Callable[[], str] = str
        self._take(tls, build_context(tls, tls.default, protocols))

    @property
    def served(self) -> ServedTLS:
        """The static settings."""
        return self._tls

    def configure(self, tls: ServedTLS) -> None:
        """Take other static settings; raises ssl.SSLError, and then changes nothing."""
        context = build_context(tls, tls.default, self._protocols)
        self.close()
        for number in range(len(self._tls.certificates)):
            self.names.remove((0, number))
        self._contexts.clear()
        self._take(tls, context)

    def _take(self, tls: ServedTLS, context: ssl.SSLContext) -> None:
        self._tls = tls
        self._context = context
        context.sni_callback = self._choose
        self._set_ticket_keys()
        for number, certificate in enumerate(tls.certificates):
            self.names.put((0, number), certificate, certificate.names)

    def set_ticket_secret(self, secret: bytes) -> None:
        """Make tickets with other keys; clients with older ones make a full handshake."""
        self._ticket_secret = secret
        self._set_ticket_keys()

    def _set_ticket_keys(self) -> None:
        # The keys of the context that a connection began with are the ones that count.
        if self._ticket_secret:
            keys = ticket_keys(self._ticket_secret, self._entry_point, self._tls)
            if not set_ticket_keys(self._context, keys):
                logger.warning(
                    "TLS sessions can be resumed with the same worker only entryPoint=%s reason=%s",
                    self._entry_point,
                    "the keys of tickets cannot be set in this Python",
                )

    def close(self) -> None:
        """Begin no more connections; those that have begun go on."""
        # The context and its callback hold each other.
        self._context.sni_callback = None

    def install(
        self, names: ServerNames[ServedCertificate], gone: Iterable[ServedCertificate]
    ) -> None:
        """Choose from ``names``, a changed copy of what there was; ``gone`` are not in it."""
        self.names = names
        for certificate in gone:
            self._contexts.pop(id(certificate), None)

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the TLS object of a new connection."""
        return self._context.wrap_bio(incoming, outgoing, server_side=True)

    def handshake(self, connection: ssl.SSLObject, local_address: Callable[[], str]) -> None:
        """Go on with a handshake; raises what `ssl.SSLObject.do_handshake` raises.

        ``local_address`` tells the address that the client connected to, which is the name that
        counts when the client names none.
        """
        self._local_address = local_address
        try:
            connection.do_handshake()
        finally:
            self._local_address = str

    def _choose(
        self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        """Choose the certificate; what is returned is an alert that ends the handshake."""
        try:
            certificate = self.names.find(name or self._local_address())
            if certificate is None:
                return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR if self._tls.sni_strict else None
            if certificate is not self._tls.default:
                connection.context = self._context_of(certificate)
        except Exception:
            logger.exception("no certificate can be offered serverName=%s", name)
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None

    def _context_of(self, certificate: ServedCertificate) -> ssl.SSLContext:
        contexts = self._contexts
        held = contexts.get(id(certificate))
        if held is not None:
            contexts.move_to_end(id(certificate))
            return held[1]
        context = build_context(self._tls, certificate, self._protocols)
        contexts[id(certificate)] = (certificate, context)
        if len(contexts) > KEPT_CONTEXTS:
            contexts.popitem(last=False)
        return context


def rank_of(key: EntryKey) -> Rank:
    """Return where a provider's certificate stands among those of the same name: after static ones.

    Names that are numbers are positions in a list.
    """
    provider, name = key
    if name.isascii() and name.isdigit():
        return (1, provider, 0, int(name), name)
    return (1, provider, 1, 0, name)
