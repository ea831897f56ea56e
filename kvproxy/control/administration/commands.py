"""What the commands of the control socket do (`kvproxy.control.administration.control_socket`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from kvproxy.control.administration.control_socket import ControlError, NotInTimeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvproxy.control.administration.control_socket import Answer
    from kvproxy.control.administration.overview import Overview
    from kvproxy.control.control_plane import ControlPlane
    from kvproxy.control.entry_points import EntryPoints
    from kvproxy.control.reload import Reload
    from kvproxy.control.workers.fleet import Fleet

DEFAULT_WAIT_SECONDS = 10.0
PROOF_SECONDS = 0.25
"""How long a wait for a revision trusts the watch before it has the store asked."""
LONGEST_PROOF_SECONDS = 4.0


class Commands:
    """Answers questions about one supervisor."""

    def __init__(
        self,
        fleet: Fleet,
        plane: ControlPlane,
        points: EntryPoints,
        reload: Reload,
        overview: Overview,
    ) -> None:
        """``overview``: what ``status`` tells."""
        self._fleet = fleet
        self._plane = plane
        self._points = points
        self._reload = reload
        self._overview = overview

    @property
    def table(self) -> Mapping[str, Answer]:
        """Command to what answers it."""
        return {
            "status": self._status,
            "wait": self._wait,
            "confirm": self._confirm,
            "reload": self._read_again,
        }

    async def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.to_builtins(self._overview.status())
        return document

    async def _wait(self, request: dict[str, Any]) -> dict[str, Any]:
        seconds = request.get("timeout", DEFAULT_WAIT_SECONDS)
        if not isinstance(seconds, int | float):
            raise ControlError("timeout must be a number of seconds")
        if not isinstance(request.get("generation", 0), int):
            raise ControlError("generation must be a number")
        if "revision" in request and "provider" not in request:
            request = {**request, "provider": self._only_store()}
        provider = request.get("provider")
        if provider is not None and provider not in self._plane.names:
            names = ", ".join(self._plane.names) or "none"
            raise ControlError(f"`{provider}` is no provider of this proxy; it has {names}")
        try:
            async with asyncio.timeout(seconds):
                pause = PROOF_SECONDS
                while not (self._reached(request) and self._fleet.live):
                    if await self._changed_within(pause) or self._reached(request):
                        continue
                    if provider is not None:
                        # Of a write that changed nothing of the configuration no watch tells.
                        self._plane.prove(provider)
                    pause = min(2 * pause, LONGEST_PROOF_SECONDS)
        except TimeoutError:
            reached = self._progress(str(provider)) if provider is not None else ""
            raise NotInTimeError(
                f"not served by every worker within {seconds:g} s{reached}"
            ) from None
        return await self._status(request)

    def _only_store(self) -> str:
        stores = self._plane.stores
        if len(stores) != 1:
            names = ", ".join(stores) or "none"
            raise ControlError(f"which store's revision? This proxy has {names}")
        return stores[0]

    async def _changed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._fleet.changed()
        except TimeoutError:
            return False
        return True

    def _progress(self, provider: str) -> str:
        """Say how far a provider has come."""
        pipeline = self._plane.pipeline
        for status in pipeline.providers() if pipeline else ():
            if status.provider != provider:
                continue
            if status.held is not None:
                return (
                    f": the mass-deletion guard holds revision {status.held.revision}, "
                    f"`kvproxy confirm {provider}` applies it"
                )
            failing = ", and it does not answer" if status.failed_since is not None else ""
            return f": `{provider}` is at revision {status.revision}{failing}"
        return f": `{provider}` has not answered yet"

    async def _confirm(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"confirmed": self._plane.confirm(str(request.get("provider", "")))}

    async def _read_again(self, request: dict[str, Any]) -> dict[str, Any]:
        problems = await self._reload.reload()
        return {
            "entryPoints": self._points.addresses,
            "problems": [{"text": str(each), "fatal": each.fatal} for each in problems],
        }

    def _reached(self, request: dict[str, Any]) -> bool:
        """Tell whether the newest generation is what a ``wait`` asks for."""
        generation = self._fleet.generation
        if generation is None:
            return False
        provider = request.get("provider")
        if provider is None:
            return bool(generation.number >= request.get("generation", 0))
        pipeline = self._plane.pipeline
        for status in pipeline.providers() if pipeline else ():
            if status.provider == provider and not status.stale:
                return _at_least(status.revision, str(request.get("revision", "")))
        return False


def _at_least(revision: str, wanted: str) -> bool:
    """Compare revisions: as numbers where both are, else they must be equal."""
    if revision.isdigit() and wanted.isdigit():
        return int(revision) >= int(wanted)
    return revision == wanted
