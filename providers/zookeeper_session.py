"""A session with ZooKeeper: requests, watch events and lost connections, in the server's order.

ZooKeeper promises that a client hears of a change before it sees any answer that knows of it.
kazoo keeps that order only on its connection thread (it hands events to one thread and answers to
another), so both are taken there and put into one queue that the event loop empties. All that
reaches into kazoo's inside is in this module: `_Connection`, and the three methods of `_Client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kazoo import exceptions
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.hosts import collect_hosts
from kazoo.protocol.connection import CLOSE_RESPONSE, ConnectionHandler
from kazoo.protocol.states import KazooState, KeeperState

from kvproxy.provider import StoreError
from providers.zookeeper_requests import AddWatch, RemoveWatches, event_of

if TYPE_CHECKING:
    from collections.abc import Callable

SESSION_SECONDS = 6.0
"""What the server is asked to keep a silent session for; it answers with its own bounds.

Ephemeral nodes outlive their client for so long, so it is less than `ANNOUNCEMENT_SECONDS`.
"""
CONNECT_SECONDS = 4.0
"""How long a call waits for a connection while no server has refused it."""
REQUEST_SECONDS = 5.0
"""How long a call waits for an answer."""
_CLOSE_SECONDS = 1.0
"""How long closing waits for the server to end the session."""
_REFUSALS = 2
"""After so many refusals by each server the client is replaced, unless they choose a leader."""
_EVENTS_PER_TURN = 1000
"""So many answers and events are handled before the event loop gets its next turn."""
_READ_BYTES = 64 * 1024
_LENGTH = struct.Struct("!i")
_NONSENSE = (struct.error, IndexError, RuntimeError, ValueError)
"""What kazoo raises for messages that no ZooKeeper sends."""
_NODE_EVENTS = range(1, 5)
"""Types of the events created, deleted, data changed, children changed."""

_kazoo_logger = logging.getLogger("kvproxy.zookeeper.kazoo")
# Its debug lines hold passwords and values; its warnings come back as errors of our calls.
_kazoo_logger.setLevel(logging.CRITICAL)


class Reply(NamedTuple):
    """An answer, and the last transaction that the server had carried out when it gave it."""

    value: Any
    zxid: int


class Watcher(Protocol):
    """Who wants to know what happens at and below a node."""

    def touched(self, path: str) -> None:
        """A node was created, changed or deleted."""

    def lost(self, reason: str) -> None:
        """Nothing more will be told; ``reason`` says why."""


class Session:
    """Connected to one of several servers as long as one of them lives; made by the first call.

    All methods belong to one event loop. ``on_connect`` is called after each new connection.
    """

    def __init__(
        self,
        endpoint: str,
        credentials: tuple[str, str] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Connect later. ``endpoint``: ``host:port``, several separated by commas.

        ``credentials``: user and password. ``context``: TLS. Raises `StoreError` for an endpoint
        that is none.
        """
        self.endpoint = ",".join(part.strip() for part in endpoint.split(","))
        self.on_connect: Callable[[], None] | None = None
        _check_endpoint(self.endpoint)
        self._credentials = credentials
        self._context = context
        self._client: _Client | None = None
        self._connected = asyncio.Event()
        self._tried = asyncio.Event()
        self._down_since = 0.0
        self._closed = False
        self._watchers: dict[str, set[Watcher]] = {}
        self._inbox: deque[tuple[Any, ...]] = deque()
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_connected(self) -> bool:
        """Whether a request can be sent now."""
        return self._connected.is_set()

    @property
    def number(self) -> int:
        """The number by which the server knows the session; 0 without one."""
        identity = self._client.client_id if self._client is not None else None
        return int(identity[0]) if identity else 0

    @property
    def has_credentials(self) -> bool:
        """Whether the session has told the server a user."""
        return self._credentials is not None

    async def ready(self) -> None:
        """Wait until there is a connection; raises `StoreError` when every server was tried."""
        if self._closed:
            raise self.error("closed")
        if self._client is not None and self._is_spent(self._client):
            self._retire()
        if self._client is None:
            self._start()
        if self._connected.is_set():
            return
        self._tried.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._tried.wait()
        if self._closed:
            raise self.error("closed")
        if not self._connected.is_set():
            reason = self._client.failure if self._client is not None else ""
            raise self.error(f"no connection: {reason or 'no answer'}")

    def submit(self, request: Any) -> asyncio.Future[Reply]:
        """Send a request; requests are answered in the order in which they were sent.

        The future fails with an exception of kazoo; `answer` waits for it and translates.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        # Of several requests that fail together only the first is waited for.
        future.add_done_callback(_ignore)
        if self._client is None or self._closed:
            future.set_exception(exceptions.ConnectionClosedError())
        else:
            self._client.submit(request, future)
        return future

    async def answer(
        self, future: asyncio.Future[Reply], seconds: float = REQUEST_SECONDS
    ) -> Reply:
        """Wait for the answer to a request; raises `StoreError`."""
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise self.error(f"no answer within {seconds:g} s") from None
        except exceptions.KazooException as error:
            raise self.error(reason_of(error)) from error

    async def call(self, request: Any) -> Reply:
        """Send a request when there is a connection and return the answer."""
        await self.ready()
        return await self.answer(self.submit(request))

    def watch(self, path: str, watcher: Watcher) -> asyncio.Future[Reply]:
        """Tell ``watcher`` what happens at and below ``path`` until `unwatch` or a lost connection.

        The answer to the request comes before the first event.
        """
        self._watchers.setdefault(path, set()).add(watcher)
        return self.submit(AddWatch(path))

    def unwatch(self, path: str, watcher: Watcher) -> None:
        """Tell ``watcher`` no more."""
        watchers = self._watchers.get(path)
        if watchers is None or watcher not in watchers:
            return
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[path]
            if self.is_connected and not self._closed:
                # Whatever becomes of it: events that nobody wants are harmless.
                self.submit(RemoveWatches(path))

    def error(self, reason: str) -> StoreError:
        """Return an error that names the servers."""
        return StoreError(f"zookeeper `{self.endpoint}`: {reason}")

    async def close(self) -> None:
        """End the session: its ephemeral nodes go at once if the server can be reached."""
        if self._closed:
            return
        self._closed = True
        connected = self._connected.is_set()
        self._tried.set()
        self._tell_lost()
        if self._client is not None:
            client, self._client = self._client, None
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            _end(client, lambda: _call_threadsafe(loop, ended.set))
            if not connected:
                # There is no session to end, and nothing to wait for.
                return
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await ended.wait()
            except TimeoutError:
                return

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._down_since = time.monotonic()
        self._client = _Client(self, self._credentials, self._context)
        self._client.start_async()

    def _is_spent(self, client: _Client) -> bool:
        """Whether a client is better replaced by a new one.

        A server that was wiped or restored hangs up on a client that has seen newer transactions,
        for ever; one that was away for longer than a session lasts has nothing of it worth keeping.
        Servers that have lost their leader hang up too, until they have chosen another one: then
        the session goes on.
        """
        if client.client_state in (KeeperState.AUTH_FAILED, KeeperState.CLOSED):
            return True
        if self.is_connected:
            return False
        down = time.monotonic() - self._down_since
        if client.refusals >= _REFUSALS * len(client.hosts):
            return len(client.hosts) == 1 or down > SESSION_SECONDS / 2
        return down > SESSION_SECONDS

    def _retire(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            self._connected.clear()
            _end(client, lambda: None)

    def post(self, handle: Callable[..., None], *arguments: Any) -> None:
        """Let the event loop call ``handle``, in the order of the posts; for kazoo's threads."""
        self._inbox.append((handle, *arguments))
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            _call_threadsafe(self._loop, self._drain)

    def _drain(self) -> None:
        # Before the first look: whoever posts from now on schedules another turn.
        self._scheduled = False
        for _ in range(_EVENTS_PER_TURN):
            if not self._inbox:
                return
            handle, *arguments = self._inbox.popleft()
            handle(*arguments)
        if self._inbox and not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def state_changed(self, client: _Client, state: str) -> None:
        """Take note that a client has, or has lost, a connection."""
        if client is not self._client:
            return
        if state == KazooState.CONNECTED:
            self._connected.set()
            self._tried.set()
            if self.on_connect is not None:
                self.on_connect()
            return
        if self._connected.is_set():
            self._connected.clear()
            self._down_since = time.monotonic()
        self._tell_lost()

    def all_failed(self, client: _Client) -> None:
        """Take note that a client has tried all servers in vain."""
        if client is self._client:
            self._tried.set()

    def event(self, client: _Client, kind: int, path: str) -> None:
        """Tell the watchers of a node, and of those above it, what happened to it."""
        if client is not self._client or kind not in _NODE_EVENTS:
            return
        watched = path
        while True:
            for watcher in self._watchers.get(watched, ()):
                watcher.touched(path)
            if watched == "/":
                return
            watched = watched.rpartition("/")[0] or "/"

    def _tell_lost(self) -> None:
        watchers, self._watchers = self._watchers, {}
        for watcher in {each for those in watchers.values() for each in those}:
            watcher.lost("the connection was lost")


class _Client(KazooClient):  # type: ignore[misc]
    """A kazoo client whose answers, events and changes of state go to a session."""

    def __init__(
        self,
        session: Session,
        credentials: tuple[str, str] | None,
        context: ssl.SSLContext | None,
    ) -> None:
        """Does not connect yet."""
        handler = _Handler(context)
        super().__init__(
            hosts=session.endpoint,
            timeout=SESSION_SECONDS,
            handler=handler,
            auth_data=[("digest", ":".join(credentials))] if credentials else None,
            connection_retry={"max_tries": -1, "delay": 0.05, "max_delay": 1.0},
            logger=_kazoo_logger,
        )
        self.session = session
        self.refusals = 0
        """How often in a row a server took the connection and hung up."""
        self._failures = handler
        self._connection = _Connection(self, self._conn_retry.copy(), logger=_kazoo_logger)
        self.add_listener(self._listen)

    @property
    def failure(self) -> str:
        """Why the last attempt to connect failed."""
        if self.client_state == KeeperState.AUTH_FAILED:
            return "the server refused user and password"
        return self._failures.failure

    def submit(self, request: Any, future: asyncio.Future[Reply]) -> None:
        """Put a request into the queue; ``future`` belongs to the event loop."""
        self._call(request, _Outcome(self, future))

    def _listen(self, state: str) -> None:
        self.session.post(self.session.state_changed, self, state)


class _Outcome:
    """What kazoo's connection thread calls when a request has been answered or has failed."""

    def __init__(self, client: _Client, future: asyncio.Future[Reply]) -> None:
        self._client = client
        self._future = future

    def set(self, value: Any) -> None:
        """Take the answer; kazoo has just noted the transaction that came with it."""
        self._client.session.post(_succeed, self._future, Reply(value, self._client.last_zxid))

    def set_exception(self, error: BaseException) -> None:
        """Take the failure."""
        self._client.session.post(_fail, self._future, error)


class _Connection(ConnectionHandler):  # type: ignore[misc]
    """kazoo's connection; it gives watch events to the session, and reads many at once.

    kazoo itself looks for who watches exactly the path of an event, which a recursive watch is not,
    and makes several system calls for each event: after a large transaction there are thousands.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what kazoo's connection takes."""
        super().__init__(*arguments, **options)
        self._arrived = bytearray()
        self._had_connection = False

    def _read_watch_event(self, buffer: bytes, offset: int) -> None:
        session = self.client.session
        session.post(session.event, self.client, *event_of(buffer, offset))

    def _connect_loop(self, retry: Any) -> Any:
        """Try all servers; kazoo calls this again and again, with pauses."""
        self._had_connection = False
        try:
            return super()._connect_loop(retry)
        finally:
            if not self._had_connection:
                self.client.session.post(self.client.session.all_failed, self.client)

    def _connect(self, *arguments: Any) -> Any:
        """Connect to one server."""
        self._arrived.clear()
        try:
            timeouts = super()._connect(*arguments)
        except ConnectionDropped:
            if self._socket is not None:
                self.client.refusals += 1
            raise
        self._had_connection = True
        self.client.refusals = 0
        return timeouts

    def _read_socket(self, read_timeout: float) -> Any:
        """Handle all messages that have arrived; kazoo waits for the socket before the next."""
        while True:
            try:
                outcome = super()._read_socket(read_timeout)
            except _NONSENSE as error:
                # kazoo would give up for ever.
                raise ConnectionDropped(f"an answer that makes no sense: {error}") from error
            if outcome == CLOSE_RESPONSE or not self._has_message():
                return outcome

    def _read(self, length: int, timeout: float) -> bytes:
        """Return the next ``length`` bytes."""
        arrived = self._arrived
        with self._socket_error_handling():
            while len(arrived) < length:
                # Under TLS there may be bytes for which the socket shows nothing.
                if not self._pending_bytes() and not self._is_readable(timeout):
                    raise self.handler.timeout_exception("the server does not answer")
                try:
                    chunk = self._socket.recv(max(_READ_BYTES, length - len(arrived)))
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue
                if not chunk:
                    raise ConnectionDropped("the server closed the connection")
                arrived += chunk
        part = bytes(arrived[:length])
        del arrived[:length]
        return part

    def _is_readable(self, timeout: float) -> bool:
        return bool(self.handler.select([self._socket], [], [], timeout)[0])

    def _has_message(self) -> bool:
        """Whether a whole message is here, or TLS holds bytes that no wait would show."""
        arrived = self._arrived
        if len(arrived) >= _LENGTH.size:
            length: int = _LENGTH.unpack_from(arrived)[0]
            if len(arrived) >= _LENGTH.size + length:
                return True
        return self._pending_bytes() > 0

    def _pending_bytes(self) -> int:
        return self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's threads, with connections that verify the name of the server under TLS."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self.failure = ""
        self._context = context

    def create_connection(
        self,
        address: tuple[str, int],
        hostname: str | None = None,
        timeout: float | None = None,
        **_options: Any,
    ) -> socket.socket:
        """Return a connected socket; ``hostname`` is the name of the server in the endpoint."""
        try:
            connection = socket.create_connection(address, timeout)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._context is not None:
                    return self._context.wrap_socket(
                        connection, server_hostname=hostname or address[0]
                    )
            except BaseException:
                connection.close()
                raise
        except OSError as error:
            reason = getattr(error, "verify_message", "") or error.strerror or str(error)
            self.failure = f"{hostname or address[0]}:{address[1]}: {reason}"
            raise
        self.failure = f"{hostname or address[0]}:{address[1]}: the server does not answer"
        return connection


def _succeed(future: asyncio.Future[Reply], reply: Reply) -> None:
    if not future.done():
        future.set_result(reply)


def _fail(future: asyncio.Future[Reply], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _ignore(future: asyncio.Future[Reply]) -> None:
    if not future.cancelled():
        future.exception()


def _end(client: _Client, then: Callable[[], None]) -> None:
    """End a client in a thread that nobody waits for: a frozen server can hold it for long."""

    def work() -> None:
        try:
            client.stop()
            client.close()
        except Exception as error:
            _kazoo_logger.debug("the client could not be closed: %r", error)
        then()

    threading.Thread(target=work, name="zookeeper-close", daemon=True).start()


def _call_threadsafe(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        # The event loop has been closed: nobody is left to be told.
        return


def _check_endpoint(endpoint: str) -> None:
    """Raise `StoreError` unless ``endpoint`` is a list of ``host:port``."""
    if "@" in endpoint:
        raise StoreError(
            "`zookeeper.endpoint` holds a user or password; set them as options of their own"
        )
    try:
        hosts, chroot = collect_hosts(endpoint)
    except ValueError:
        hosts, chroot = [], None
    if chroot:
        raise StoreError(
            f"zookeeper: the endpoint `{endpoint}` names the node `{chroot}`; "
            "name it in `zookeeper.prefix`"
        )
    if not hosts or not all(host for host, _ in hosts):
        raise StoreError(
            f"zookeeper: the endpoint `{endpoint}` is not `host:port`, or several of these "
            "separated by commas"
        )


def reason_of(error: BaseException) -> str:
    """Return words for an exception of kazoo."""
    reasons: dict[type[BaseException], str] = {
        exceptions.AuthFailedError: "the server refused user and password",
        exceptions.ConnectionClosedError: "the connection was closed",
        exceptions.ConnectionLoss: "the connection was lost",
        exceptions.NoAuthError: "no permission",
        exceptions.SessionExpiredError: "the session has expired",
        exceptions.UnimplementedError: (
            "the server has no recursive watches: ZooKeeper 3.6 or newer is needed"
        ),
    }
    return reasons.get(type(error)) or str(error) or type(error).__name__
