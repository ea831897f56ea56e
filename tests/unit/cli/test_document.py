"""Every configuration survives being written as TOML and read again."""

from __future__ import annotations

import rtoml
from hypothesis import HealthCheck, given, settings

from kvproxy.cli.kv.document import to_document
from kvproxy.model.decode import decode_configuration
from kvproxy.model.dynamic import (
    Backend,
    Configuration,
    Frontend,
    Route,
    Server,
)
from kvproxy.model.dynamic import (
    HealthCheck as ServerCheck,
)
from kvproxy.model.toml import load_toml
from tests.unit.model.test_keytree import structs_of


def read(text: str) -> Configuration:
    document = load_toml(text.encode(), "export")
    configuration, problems = decode_configuration(
        document.data, where=document.where, style="file"
    )
    assert problems == ()
    return configuration


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(structs_of(Configuration))
def test_every_configuration_survives(configuration: Configuration) -> None:
    assert read(rtoml.dumps(to_document(configuration))) == configuration


def test_only_what_differs_from_the_defaults_of_files_is_written() -> None:
    configuration = Configuration(
        frontends={
            "f": Frontend(backend="b", pass_host_header=True, routes={"r": Route(rule="Host:a")}),
        },
        backends={
            "b": Backend(
                servers={"zero": Server(url="http://a", weight=0), "one": Server(url="http://b")},
                health_check=ServerCheck(path="/health", interval=10.0),
            )
        },
    )
    assert to_document(configuration) == {
        "backends": {
            "b": {
                "servers": {
                    "zero": {"url": "http://a"},
                    "one": {"url": "http://b", "weight": 1},
                },
                "healthCheck": {"path": "/health", "interval": "10s"},
            }
        },
        "frontends": {
            "f": {"backend": "b", "passHostHeader": True, "routes": {"r": {"rule": "Host:a"}}}
        },
    }
