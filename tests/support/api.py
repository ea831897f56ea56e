"""Asking the API and the metrics of a running proxy."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.support.http_client import Response
    from tests.support.proxy_process import ProxyProcess

USER = "test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"
"""A user whose password is ``test``."""

AUTHORIZATION = ("Authorization", f"Basic {b64encode(b'test:test').decode()}")


class ApiClient:
    """``entry_point``: where the API is, behind `USER`."""

    def __init__(self, proxy: ProxyProcess, entry_point: str = "traefik") -> None:
        """The API answers the first who asks, although it begins after the routes are served."""
        self._proxy = proxy
        self._entry_point = entry_point
        assert self.get("/api/version").status == 200

    def get(self, path: str, method: str = "GET") -> Response:
        """Return the answer to a request on a connection of its own."""
        return self._proxy.fetch(
            path, entry_point=self._entry_point, method=method, headers=(AUTHORIZATION,)
        )

    def json(self, path: str) -> Any:
        """Return a document."""
        response = self.get(path)
        assert response.status == 200, response
        assert response.values("Content-Type") == [b"application/json; charset=UTF-8"]
        return json.loads(response.body)

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return every sample: name and labels to value."""
        response = self.get("/metrics")
        assert response.status == 200, response
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(response.body.decode())
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float | None:
        """Return the value of one sample, None when it is not there."""
        return self.metrics().get((name, frozenset(labels.items())))
