"""Serves the API and the metrics on the socket file that workers forward to.

The HTTP library is loaded when something of this is configured, and after requests are served: a
start must not wait for what few use.
"""

from __future__ import annotations

import asyncio
import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.log import pairs
from kvproxy.model.listening import API_SOCKET
from kvproxy.unix_socket import SocketFile

if TYPE_CHECKING:
    from aiohttp import web

    from kvproxy.control.administration.overview import Overview
    from kvproxy.model.static import StaticConfiguration

APPLICATION = "kvproxy.api.application"

BACKLOG = 1024

LONGEST_LINE = 65_536
"""The bound of the workers, which have read every head before."""

CLOSE_SECONDS = 1.0
"""How long answers in progress may take at the end."""

_logger = logging.getLogger("kvproxy.api")


class ApiService:
    """To be used inside the event loop of a supervisor."""

    def __init__(self, settings: StaticConfiguration, overview: Overview) -> None:
        """``settings``: with the state directory as found. Nothing is opened before `start`."""
        metrics = settings.metrics
        self._wanted = settings.api is not None or (
            metrics is not None and metrics.prometheus is not None
        )
        self._path = Path(settings.state_dir) / API_SOCKET
        self._overview = overview
        self._file: SocketFile | None = None
        self._runner: web.AppRunner | None = None

    async def prepare(self) -> None:
        """Load what `start` needs, beside the event loop."""
        if self._wanted:
            await asyncio.to_thread(import_module, APPLICATION)

    def listen(self) -> None:
        """Let who asks from now on wait for `start`, in place of another supervisor; raises
        OSError."""
        if self._wanted:
            self._file = SocketFile(self._path, BACKLOG)

    async def start(self) -> None:
        """Answer. Nothing happens unless `listen` went well."""
        if self._file is None:
            return
        await self.prepare()
        from aiohttp import web  # noqa: PLC0415

        from kvproxy.api.application import application  # noqa: PLC0415

        self._runner = web.AppRunner(
            application(self._overview),
            access_log=None,
            shutdown_timeout=CLOSE_SECONDS,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, self._file.socket).start()
        _logger.info("the API answers %s", pairs(socket=self._path))

    async def close(self) -> None:
        """Answer no more."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        if self._file is not None:
            self._file.remove()
