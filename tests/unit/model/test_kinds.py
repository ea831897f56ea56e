from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from kvproxy.model.dynamic import (
    Auth,
    BasicAuth,
    Certificate,
    ClientTLS,
    DigestAuth,
    Frontend,
    Route,
)
from kvproxy.model.static import EntryPoint, StaticConfiguration
from kvproxy.model.static_providers import EtcdProvider

if TYPE_CHECKING:
    from msgspec import Struct

SECRET = "hunter2"  # what must never be shown
PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n"

SECTIONS: list[tuple[str, Struct]] = [
    ("basic users", BasicAuth(users=(f"u:{SECRET}",))),
    ("digest users", DigestAuth(users=(f"u:r:{SECRET}",))),
    ("deprecated users", Frontend(backend="b", basic_auth=(f"u:{SECRET}",))),
    ("key", ClientTLS(key=PEM)),
    ("certificate key", Certificate(key_file=PEM)),
    ("store password", EtcdProvider(password=SECRET)),
    (
        "deep inside",
        StaticConfiguration(
            entry_points={
                "http": EntryPoint(address=":80", auth=Auth(basic=BasicAuth(users=(SECRET,))))
            }
        ),
    ),
]


@pytest.mark.parametrize("section", [row[1] for row in SECTIONS], ids=[row[0] for row in SECTIONS])
def test_secrets_are_not_printed(section: Struct) -> None:
    console = Console(file=StringIO(), width=200)
    console.print(section)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    for text in (repr(section), str(section), f"{section}", printed):
        assert SECRET not in text
        assert "***" in text


def test_everything_else_is_printed() -> None:
    frontend = Frontend(backend="b", routes={"r": Route(rule="Host:a")})
    assert "Host:a" in repr(frontend)
    assert "***" not in repr(frontend)
    assert "key_file='/etc/key.pem'" in repr(Certificate(key_file="/etc/key.pem"))
