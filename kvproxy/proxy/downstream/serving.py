"""What serves the requests of an entry point, chosen when its listener is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kvproxy.proxy.downstream.http1 import ClientConnection
from kvproxy.proxy.downstream.http2_exchange import Http2Exchange
from kvproxy.proxy.request.passage import begin

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.http.answer import Answer
    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.downstream.peer import Peer
    from kvproxy.proxy.exchange import Exchange
    from kvproxy.proxy.plan.internal import Inside
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.request.decision import Asked

    Begin: TypeAlias = Callable[
        [Exchange, Listener, Peer, Asked | Answer | Inside], tuple[Chain, bytes] | None
    ]


class Serving(NamedTuple):
    """``begin`` decides what becomes of a request that cannot take the direct way (see
    `kvproxy.proxy.request.passage.begin`); ``connection``: of a client of HTTP/1.1; ``exchange``:
    of a request of HTTP/2."""

    begin: Begin
    connection: type[ClientConnection]
    exchange: type[Http2Exchange]


PLAIN = Serving(begin, ClientConnection, Http2Exchange)
"""Nobody looks on."""
