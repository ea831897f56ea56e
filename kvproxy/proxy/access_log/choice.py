"""What the settings choose: which requests are logged, which fields and headers of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.http.head import canonical_name
from kvproxy.middleware.error_pages import StatusRanges
from kvproxy.model.access_log import DROP, FIELDS, HEADER_MODES, KEEP
from kvproxy.model.static_observability import AccessLogFields, AccessLogFilters
from kvproxy.model.statuses import is_status_range

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

REDACTED = b"REDACTED"

REMEMBERED_NAMES = 1024
"""Names of headers that are remembered; clients may send any."""


class Filters:
    """Keeps a request that any filter keeps; without filters, all (specification section 8.4)."""

    def __init__(self, options: AccessLogFilters | None) -> None:
        """Statuses that cannot be read are passed over: the supervisor has named them."""
        options = options or AccessLogFilters()
        self._statuses = StatusRanges(filter(is_status_range, options.status_codes))
        self._retried = options.retry_attempts
        self._seconds = options.min_duration
        self.all = not (self._statuses or self._retried or self._seconds > 0)

    def keep(self, status: int, retries: int, seconds: float) -> bool:
        """Tell whether a request is logged."""
        return (
            self.all
            or status in self._statuses
            or (self._retried and retries > 0)
            or (0 < self._seconds < seconds)
        )


class Fields:
    """Which fields and headers are logged.

    ``kept``: names of the fields that are. ``headers``: whether any header may be.
    """

    def __init__(self, options: AccessLogFields | None) -> None:
        """Anything but ``keep`` (for headers: or ``redact``) drops."""
        options = options or AccessLogFields()
        self.kept = frozenset(
            name for name in FIELDS if options.names.get(name, options.default_mode) == KEEP
        )
        headers = options.headers
        self._header_default = KEEP if headers is None else headers.default_mode
        names = {} if headers is None else headers.names
        self._header_modes = {
            canonical_name(name.encode()): mode if mode in HEADER_MODES else DROP
            for name, mode in names.items()
        }
        if self._header_default not in HEADER_MODES:
            self._header_default = DROP
        self.headers = self._header_default != DROP or any(
            mode != DROP for mode in self._header_modes.values()
        )

    def mode(self, name: bytes) -> str:
        """Return the mode of a header (``name`` in canonical form)."""
        return self._header_modes.get(name, self._header_default)


class HeaderFields:
    """Makes fields of headers; remembers what the names of headers come to."""

    __slots__ = ("_fields", "_known", "_prefix")

    def __init__(self, prefix: str, fields: Fields) -> None:
        """``prefix``: of the names of the fields."""
        self._prefix = prefix
        self._fields = fields
        self._known: dict[bytes, tuple[str, str]] = {}

    def add(self, facts: dict[str, Any], headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Add what is logged of ``headers`` to ``facts``.

        Of several values the first one counts, as in Traefik 1.7.
        """
        known = self._known
        for name, value in headers:
            field, mode = known.get(name) or self._learn(name)
            if mode != DROP and field not in facts:
                logged = value if mode == KEEP else REDACTED
                facts[field] = logged.decode("utf-8", "replace")

    def _learn(self, name: bytes) -> tuple[str, str]:
        if len(self._known) >= REMEMBERED_NAMES:
            self._known.clear()
        canonical = canonical_name(name)
        found = (self._prefix + canonical.decode("latin-1"), self._fields.mode(canonical))
        self._known[name] = found
        return found
