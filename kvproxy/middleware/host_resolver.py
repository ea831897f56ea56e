"""CNAME flattening: rules may match the name that the host of a request leads to (specification
section 2.6)."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rdatatype

from kvproxy.middleware.contract import Middleware
from kvproxy.rules.matchers import canonical_host

if TYPE_CHECKING:
    from dns.message import Message

    from kvproxy.http.answer import Answer
    from kvproxy.middleware.contract import Outcome, Request

logger = logging.getLogger("kvproxy.middleware")

DNS_PORT = 53
LOOKUP_SECONDS = 5.0
"""How long one question may take; the request waits for it."""

ABSENT_SECONDS = 1800.0
"""How long it is remembered that a name leads nowhere."""

FAILED_SECONDS = 5.0
"""How long it is remembered that nobody could be asked."""

LONGEST_SECONDS = 86400.0
REMEMBERED = 4096
"""Hosts that are remembered: clients can make up more."""

MAX_LOOKUPS = 64
"""Hosts that are looked up at once; further ones are taken as they are."""

_NAMESERVER = re.compile(r"^\s*nameserver\s+(\S+)", re.MULTILINE)
_is_name = re.compile(
    rb"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)+"
)
_ADDRESS = re.compile(rb"[0-9.]+")


class Flattened(NamedTuple):
    """Where a host leads to (itself when nowhere else), and until when that is known."""

    name: bytes
    until: float


class HostResolver(Middleware):
    """Sets ``Request.final_host``; a host that is not known yet waits for the answer.

    Every server of the resolver file is asked, and the answer that lives longest counts, as in
    Traefik 1.7.
    """

    __slots__ = ("_depth", "_known", "_lookups", "_port", "_servers")

    def __init__(self, resolver_file: str, depth: int, *, port: int = DNS_PORT) -> None:
        """``depth``: longest chain that is followed. Raises OSError, ValueError."""
        self._servers = tuple(_NAMESERVER.findall(Path(resolver_file).read_text()))
        if not self._servers:
            raise ValueError(f"`{resolver_file}` names no DNS server")
        self._depth = depth
        self._port = port
        self._known: dict[bytes, Flattened] = {}
        self._lookups: dict[bytes, asyncio.Task[bytes]] = {}

    def request(self, request: Request) -> Outcome:
        """Find out where the host leads to."""
        host = canonical_host(request.host)
        known = self._known.get(host)
        if known is not None and known.until > monotonic():
            request.final_host = known.name
            return None
        if not _is_name.fullmatch(host) or _ADDRESS.fullmatch(host):
            return None
        if host not in self._lookups and len(self._lookups) >= MAX_LOOKUPS:
            return None
        return self._wait(request, host)

    async def _wait(self, request: Request, host: bytes) -> Answer | None:
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = asyncio.create_task(self._look_up(host))
        # One request that leaves must not take the answer from the others.
        request.final_host = await asyncio.shield(lookup)
        return None

    async def _look_up(self, host: bytes) -> bytes:
        name, seconds = host, ABSENT_SECONDS
        try:
            for step in range(self._depth):
                following = await self._ask(name)
                if following is None:
                    break
                name, lives = following
                if step == 0:
                    seconds = min(max(lives, 1.0), LONGEST_SECONDS)
        except (OSError, dns.exception.DNSException) as error:
            logger.warning("host=%s is taken as it is: %s", host.decode(), error)
            name, seconds = host, FAILED_SECONDS
        finally:
            del self._lookups[host]
        if len(self._known) >= REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[host] = Flattened(name, monotonic() + seconds)
        return name

    async def _ask(self, name: bytes) -> tuple[bytes, float] | None:
        """Return the name that ``name`` is another name of, and for how many seconds that is true.

        Raises OSError when no server answers.
        """
        question = dns.message.make_query(
            dns.name.from_text(name.decode()), dns.rdatatype.RdataType.CNAME
        )
        answers = await asyncio.gather(
            *(self._ask_server(question, server) for server in self._servers),
            return_exceptions=True,
        )
        heard = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not heard:
            failure = answers[0]
            raise OSError(f"no DNS server answered: {failure or type(failure).__name__}")
        found = [alias for alias in map(_alias, heard) if alias is not None]
        return max(found, key=lambda alias: alias[1], default=None)

    async def _ask_server(self, question: Message, server: str) -> Message:
        message, _ = await dns.asyncquery.udp_with_fallback(
            question, server, timeout=LOOKUP_SECONDS, port=self._port
        )
        return message


def _alias(answer: Message) -> tuple[bytes, float] | None:
    """Return target and TTL of the first record of an answer, if that is a CNAME."""
    if not answer.answer:
        return None
    first = answer.answer[0]
    if first.rdtype != dns.rdatatype.RdataType.CNAME or not len(first):
        return None
    target = first[0].target.to_text(omit_final_dot=True)
    return target.lower().encode(), float(first.ttl)
