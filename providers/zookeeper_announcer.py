"""Keys that live as long as their client: ephemeral nodes, made again in each new session."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from kazoo.protocol.serialization import Create, Delete, SetData

from kvproxy.provider import StoreError
from providers.checks import check_value
from providers.zookeeper_nodes import MAXIMUM_VALUE_BYTES, ancestors_of, check_path, path_of

if TYPE_CHECKING:
    from providers.zookeeper_session import Session
    from providers.zookeeper_writer import Node, Writer

_EPHEMERAL = 1
_LOOK_SECONDS = 1.0
"""How often a session that is not connected is asked to become so."""
_ATTEMPTS = 20

_logger = logging.getLogger(__name__)


class Announcer:
    """Keeps keys in the session that there is."""

    def __init__(self, session: Session, writer: Writer) -> None:
        """Announce nothing yet."""
        self._session = session
        self._writer = writer
        self._values: dict[str, bytes] = {}
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def announce(self, key: str, value: bytes) -> None:
        """Make the ephemeral node of ``key``, or change its value; raises `StoreError`."""
        check_path(key)
        check_value(key, value, MAXIMUM_VALUE_BYTES)
        await self._place(path_of(key), value)
        self._values[path_of(key)] = value
        if self._task is None:
            self._session.on_connect = self._connected.set
            self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Keep nothing any more; the nodes go with the session."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        """Look after each new connection whether the nodes are there; make those that are not."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._connected.wait()
            except TimeoutError:
                if self._session.is_connected:
                    continue
            self._connected.clear()
            try:
                for path, value in list(self._values.items()):
                    await self._place(path, value)
            except StoreError as error:
                _logger.warning("announced keys cannot be kept: %s", error)
                self._connected.set()
                await asyncio.sleep(_LOOK_SECONDS)

    async def _place(self, path: str, value: bytes) -> None:
        for _ in range(_ATTEMPTS):
            await self._session.ready()
            nodes, _ = await self._writer.look(dict.fromkeys((*ancestors_of(path), path), False))
            operations = await self._operations(path, value, nodes)
            if not operations or await self._writer.carry_out(operations) is not None:
                return
        raise self._session.error(f"others write the node `{path}` all the time")

    async def _operations(self, path: str, value: bytes, nodes: dict[str, Node]) -> list[Any]:
        """Return what makes the node ours; nothing when it is as it should be."""
        node = nodes.get(path)
        if node is not None and node.stat.ephemeral_owner == self._session.number:
            return [] if node.data == value else [SetData(path, value, node.stat.version)]
        created = [each for each in (*ancestors_of(path), path) if each not in nodes]
        operations: list[Any] = []
        if node is not None:
            # Of our session before, which the server still waits for, or of somebody else.
            operations.append(Delete(path, node.stat.version))
            created.append(path)
        permissions = await self._writer.permissions(created, nodes)
        for each in created:
            mode = _EPHEMERAL if each == path else 0
            operations.append(Create(each, value if mode else None, permissions[each], mode))
        return operations
