"""What a middleware is: one stage that a request passes on an entry point or in a frontend.

A chain is compiled when the plan is made: a method that a middleware does not override is never
called, and a frontend without middlewares takes none of this code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

from kvproxy.http.head import canonical_name, with_lines, without

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from kvproxy.http.answer import Answer
    from kvproxy.middleware.request_lines import RequestLines
    from kvproxy.middleware.response_lines import ResponseLines

    Outcome: TypeAlias = Answer | Awaitable[Answer | None] | None
    """None: go on. An answer: the request ends here. An awaitable: one of both, later."""


class Client(Protocol):
    """The facts of a client's connection that middlewares use."""

    @property
    def address(self) -> str:
        """The client's IP address, without zone; an IPv4-mapped one as IPv4."""
        ...

    @property
    def port(self) -> int:
        """The client's port."""
        ...

    @property
    def secure(self) -> bool:
        """Whether the connection is TLS."""
        ...

    @property
    def entry_point(self) -> str:
        """Name of the entry point."""
        ...

    def certificates(self) -> tuple[bytes, ...]:
        """Return the certificates that the client sent, DER, its own first."""
        ...


class AskedServer(Protocol):
    """A server of a backend."""

    @property
    def url(self) -> str:
        """Scheme, authority and path as configured, without user or password."""
        ...


class Request:
    """A request on its way through middlewares.

    ``method`` and ``host`` as sent (port and case kept), ``path`` percent-decoded and ``uri`` (the
    path as spelled and the query) both after the modifiers of the frontend, ``original_uri`` before
    them. ``headers``: values by lower-case name as received, without ``Host`` and without the
    forwarded headers of a client that is not believed; change them with `set` and `remove` only.
    ``head``: the outgoing head, to which the forwarded headers and ``Host`` are still to be added.
    ``forwarded``: names of the forwarded headers that a middleware has set. ``filter``: what a
    middleware has set to change the body of the answer. ``final_host``: a name that ``Host`` rules
    may match instead of that of ``host``, empty when there is none.

    What became of it, for who keeps account: ``user``: whose password was right; ``answered_by``:
    the `Middleware.request` that answered, None when none did; ``server``: the one asked last, of
    ``attempts`` that were made; ``unfiltered_bytes``: of the answer's body before ``filter``, -1
    when nothing was filtered.
    """

    __slots__ = (
        "_headers",
        "_read_headers",
        "answered_by",
        "attempts",
        "client",
        "filter",
        "final_host",
        "forwarded",
        "head",
        "host",
        "method",
        "original_uri",
        "path",
        "server",
        "unfiltered_bytes",
        "uri",
        "user",
    )

    def __init__(
        self,
        client: Client,
        *,
        method: bytes,
        host: bytes,
        path: bytes,
        uri: bytes,
        headers: Callable[[], dict[bytes, list[bytes]]],
        head: bytes,
        original_uri: bytes = b"",
    ) -> None:
        """Keep the parts; see the class. ``original_uri`` is ``uri`` when it is not given.

        ``headers`` is called when the first middleware asks for them.
        """
        self.client = client
        self.method = method
        self.host = host
        self.path = path
        self.uri = uri
        self.original_uri = original_uri or uri
        self._read_headers = headers
        self._headers: dict[bytes, list[bytes]] | None = None
        self.head = head
        self.forwarded: tuple[bytes, ...] = ()
        self.filter: AnswerFilter | None = None
        self.final_host = b""
        self.user = ""
        self.answered_by: Callable[[Request], Outcome] | None = None
        self.server: AskedServer | None = None
        self.attempts = 0
        self.unfiltered_bytes = -1

    @property
    def headers(self) -> dict[bytes, list[bytes]]:
        """See the class."""
        if self._headers is None:
            self._headers = self._read_headers()
        return self._headers

    def first(self, name: bytes) -> bytes:
        """Return the first value of a header (name in lower case), empty when there is none."""
        found = self.headers.get(name)
        return found[0] if found else b""

    def set(self, name: bytes, *values: bytes) -> None:
        """Make ``values`` the only ones of a header (name in lower case).

        What the client sent under the same name with hyphens or underscores goes too: many servers
        take the two for one.
        """
        self.remove(name)
        if not values:
            return
        self.headers[name] = list(values)
        if is_forwarded(name):
            self.forwarded = (*self.forwarded, name)
            return
        spelled = canonical_name(name)
        lines = b"".join([b"%b: %b\r\n" % (spelled, value) for value in values])
        self.head = with_lines(self.head, lines)

    def remove(self, name: bytes) -> None:
        """Remove a header (name in lower case) in all its spellings."""
        folded = name.replace(b"_", b"-")
        for alias in [each for each in self.headers if each.replace(b"_", b"-") == folded]:
            del self.headers[alias]
            self.head = without(self.head, alias)


def is_forwarded(name: bytes) -> bool:
    """Tell whether a header (name in lower case, with hyphens) is one that is written at the end,
    with those of the proxy itself."""
    return name.startswith(b"x-forwarded-") or name == b"x-real-ip"


class BodyFilter(Protocol):
    """Changes one body on its way to the client."""

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on after ``data``."""
        ...

    def finish(self) -> bytes:
        """Return what is passed on at the end."""
        ...


class AnswerFilter:
    """Changes whole answers: also those of the proxy's own, made after it was set."""

    __slots__ = ()

    def of_answer(self, request: Request, answer: Answer) -> Answer:
        """Return an answer of the proxy's own, changed or not."""
        raise NotImplementedError

    def of_head(
        self, request: Request, head: bytes, status: int, length: int | None
    ) -> tuple[bytes, BodyFilter | None]:
        """Return the head of a server's answer, changed or not, and what its body passes through.

        ``length``: of the body, None when nobody knows. The lines that frame the body are not its
        business.
        """
        raise NotImplementedError


class Middleware:
    """One stage. It belongs to one frontend on one entry point, or to an entry point.

    It lives as long as its settings stay the same, so it may keep state from request to request.
    None of its methods may block.
    """

    __slots__ = ("__weakref__",)

    title: ClassVar[str] = ""
    """What an answer of this stage is called in the access log, before ``for NAME``."""

    def sets(self) -> Iterable[bytes]:
        """Return the names (lower case) of request headers that the server believes because this
        middleware sets them: clients must not send them as trailers either."""
        return ()

    def request(self, request: Request) -> Outcome:
        """Look at a request, perhaps change it; see `Outcome`."""
        return None

    def response(self, request: Request, head: bytes, status: int) -> bytes:
        """Return the head of a server's answer, changed or not.

        Not called for answers of the proxy's own, nor for 1xx. ``head`` is without its empty last
        line.
        """
        return head

    def request_lines(self) -> RequestLines | None:
        """Return the lines that `request` sets, where that is all it does to any request; None: it
        must be called."""
        return None

    def response_lines(self, *, secure: bool) -> ResponseLines | None:
        """Return the lines that `response` sets, where that is all it does to any answer on a
        connection with TLS (``secure``) or without; None: it must be called."""
        return None

    def finished(self, request: Request, status: int, seconds: float) -> None:
        """Take note that a request which this middleware let pass has ended.

        Called once for each, whatever ended it. ``status``: what the client was told, 499 when it
        left first; ``seconds``: since the request reached this middleware.
        """
