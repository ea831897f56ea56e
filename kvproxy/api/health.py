"""``/health``: counts of requests over all entry points (specification section 7.5)."""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from typing import TYPE_CHECKING, Any

from kvproxy.model.durations import NANOSECONDS, format_nanoseconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiohttp import web

    from kvproxy.control.administration.overview import Overview

SECOND = 1.0


class Health:
    """Remembers what the totals were a second ago, for the counts of the present second."""

    def __init__(self, overview: Overview) -> None:
        """Counts begin with `running`."""
        self._overview = overview
        self._before: Sequence[int] = ()
        self._last: Sequence[int] = ()

    async def running(self, application: web.Application) -> AsyncIterator[None]:
        """Look at the totals every second, for as long as the application runs."""
        self._before = self._last = self._overview.statistics().statuses
        task = asyncio.get_running_loop().create_task(self._look())
        yield
        task.cancel()
        await asyncio.wait([task])

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(SECOND)
            self._before, self._last = self._last, self._overview.statistics().statuses

    def document(self) -> dict[str, Any]:
        """Return the counts. Statuses are counted by their first digit."""
        now = time.time()
        uptime = now - self._overview.started_at
        statistics = self._overview.statistics()
        present = [last - before for last, before in zip(self._last, self._before, strict=True)]
        seconds = sum(each.seconds for each in statistics.entry_points)
        total = sum(statistics.statuses)
        average = seconds / total if total else 0.0
        return {
            "pid": os.getpid(),
            "hostname": "",
            "uptime": _text(uptime),
            "uptime_sec": uptime,
            "time": _moment(now),
            "unixtime": int(now),
            "status_code_count": _by_class(present),
            "total_status_code_count": _by_class(statistics.statuses),
            "count": sum(present),
            "total_count": total,
            "total_response_time": _text(seconds),
            "total_response_time_sec": seconds,
            "average_response_time": _text(average),
            "average_response_time_sec": average,
            "total_metrics_counts": {},
            "average_metrics_timers": {},
        }


def _by_class(statuses: Sequence[int]) -> dict[str, int]:
    return {f"{digit}xx": count for digit, count in enumerate(statuses) if count}


def _text(seconds: float) -> str:
    return format_nanoseconds(round(seconds * NANOSECONDS))


def _moment(now: float) -> str:
    """Return a time as Go prints it."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S.%f} +0000 UTC"
