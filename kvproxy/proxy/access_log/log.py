"""The access log of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.model.access_log import JSON
from kvproxy.proxy.access_log.choice import Fields, Filters
from kvproxy.proxy.access_log.formats import CommonFormat, Format, JsonFormat
from kvproxy.proxy.access_log.writer import LineWriter

if TYPE_CHECKING:
    from kvproxy.model.static_observability import AccessLog as Options
    from kvproxy.proxy.access_log.record import Record


class AccessLog:
    """Gives records their numbers, and makes lines of those that the settings want.

    ``wants_heads``: whether the heads of answers are needed. ``generation``: the number of the one
    that new requests are served by.
    """

    def __init__(self, options: Options, slot: int, slots: int) -> None:
        """``slot``: the worker's, of ``slots``: their numbers are never the same."""
        fields = Fields(options.fields)
        self._filters = Filters(options.filters)
        self._format: Format = (
            JsonFormat(fields) if options.format == JSON else CommonFormat(fields)
        )
        self._writer = LineWriter(options.file_path, options.buffering_size)
        self._next = slot + 1
        self._step = slots
        self.generation = 0
        self.wants_heads = self._format.wants_heads

    def number(self) -> int:
        """Return the number of a new request."""
        number = self._next
        self._next += self._step
        return number

    def write(self, record: Record) -> None:
        """Log a request that has ended."""
        filters = self._filters
        if filters.all or filters.keep(record.status, record.retries, record.seconds):
            self._writer.add(self._format.line(record))

    def reopen(self) -> None:
        """Open the file by its name again."""
        self._writer.reopen()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
