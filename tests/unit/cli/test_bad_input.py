"""What is wrong in a store is named by its key, and everything else is used."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING

import pytest

from kvproxy.model.packed import UNPACKED_BYTES
from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore
from tests.unit.cli.support import kvproxy

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {
    "backends/good/servers/s/url": b"http://127.0.0.1:9001",
    "frontends/good/backend": b"good",
    "frontends/good/routes/r/rule": b"Host:good.localhost",
}

# What is written beside the good entries; the key that is named; a part of what is said; whether it
# is an error (something is refused) or a warning.
Row = tuple[str, dict[str, bytes], str, str, bool]
ROWS: list[Row] = [
    ("garbage number", {"frontends/bad/backend": b"good", "frontends/bad/priority": b"high"},
     "frontends/bad/priority", "`high` is not a whole number", True),
    ("garbage bytes", {"frontends/bad/backend": b"\xff\xfe"}, "frontends/bad/backend",
     "the value is not UTF-8", True),
    ("garbage url", {"backends/bad/servers/s/url": b"::not a url::"}, "backends/bad/servers/s/url",
     "expected scheme://host", True),
    ("half written frontend", {"frontends/bad/routes/r/rule": b"Host:a"}, "frontends/bad/backend",
     "is required", True),
    ("half written backend", {"backends/bad/servers/s/weight": b"1"}, "backends/bad/servers/s/url",
     "is required", True),
    ("frontend before its backend", {"frontends/bad/backend": b"later"}, "frontends/bad/backend",
     "later", True),
    ("value and parent", {"frontends/bad/backend": b"good", "frontends/bad/routes": b"x",
                          "frontends/bad/routes/r/rule": b"Host:a"},
     "frontends/bad/routes", "is a value", True),
    ("list as value and parent",
     {"frontends/bad/backend": b"good", "frontends/bad/entrypoints": b"http",
      "frontends/bad/entrypoints/0": b"http"},
     "frontends/bad/entrypoints", "is both a value and the parent of other keys", False),
    ("section as value", {"frontends": b"x"}, "frontends", "is a value", False),
    ("rule of 1 MiB", {"frontends/bad/backend": b"good",
                       "frontends/bad/routes/r/rule": b"Host:" + b"a" * (1 << 20)},
     "frontends/bad/routes/r/rule", "at most 1048576 bytes", True),
    ("rule in another language", {"frontends/bad/backend": b"good",
                                  "frontends/bad/routes/r/rule": b"Host(`a`)"},
     "frontends/bad/routes/r/rule", "", True),
    ("gzip bomb", {"frontends/bad/backend": gzip.compress(b" " * (UNPACKED_BYTES * 16))},
     "frontends/bad/backend", "the value is gzip of more than 4,194,304 bytes", True),
    ("damaged gzip", {"frontends/bad/backend": gzip.compress(b"good")[:-3]},
     "frontends/bad/backend", "the value is damaged gzip", True),
    ("unknown option", {"frontends/bad/backend": b"good", "frontends/bad/prioity": b"1"},
     "frontends/bad/prioity", "did you mean `priority`?", False),
    ("unknown section", {"frontnds/bad/backend": b"good"}, "frontnds",
     "did you mean `frontends`?", False),
    ("unknown static option", {"logLevl": b"DEBUG"}, "logLevl", "did you mean `loglevel`?", False),
    ("unknown option of a static section", {"entrypoints/http/adress": b":1"},
     "entrypoints/http/adress", "did you mean `address`?", False),
    ("static garbage", {"entrypoints/http/compress": b"perhaps"}, "entrypoints/http/compress",
     "`perhaps` is not a boolean", True),
    ("static bytes", {"loglevel": b"\xff"}, "loglevel", "the value is not UTF-8", True),
    ("static gzip bomb", {"loglevel": gzip.compress(b" " * (UNPACKED_BYTES * 16))}, "loglevel",
     "the value is gzip of more than 4,194,304 bytes", True),
    ("static section as value", {"ping": b"true"}, "ping", "is a value", True),
    ("static list as value and parent", {"constraints": b"tag==a", "constraints/0": b"tag==b"},
     "constraints", "is both a value and the parent of other keys", False),
    ("duration without sense", {"lifecycle/gracetimeout": b"soon"}, "lifecycle/gracetimeout",
     "`soon` is not a duration", True),
    ("static keys half written", {"storeconfig": b"host, process 1"}, "",
     "left half written, by host, process 1", False),
    ("packed values are read", {"frontends/bad/backend": gzip.compress(b"nowhere")},
     "frontends/bad/backend", "nowhere", True),
]  # fmt: skip


def write(path: Path, values: dict[str, bytes]) -> None:
    async def put() -> None:
        store = EmbeddedStore(path)
        await store.write(Transaction(put={f"kvproxy/{key}": each for key, each in values.items()}))
        await store.close()

    asyncio.run(put())


@pytest.mark.parametrize(
    ("values", "key", "message", "wrong"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_it_is_named_and_the_rest_is_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, bytes],
    key: str,
    message: str,
    wrong: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kvproxy.config.startup.PATIENCE_SECONDS", 1.0)
    path = tmp_path / "store.db"
    static = {"entrypoints/http/address": b":8000"}
    write(path, {**GOOD, **static, **values})
    result = kvproxy("check", f"--embedded.path={path}", "--output=json")
    report = json.loads(result.stdout)
    named = [
        problem
        for problem in report["problems"]
        if problem["where"].rstrip("/") in (f"kvproxy/{key}", key or "embedded")
        and message
        in f"{problem['message']}; expected {problem['expected']}; "
        f"did you mean `{problem['nearest']}`?"
    ]
    assert named, report["problems"]
    assert any(problem["fatal"] for problem in named) is wrong
    assert report["valid"] is not wrong
    of_settings = wrong and not key.startswith(("frontends", "backends"))
    if not of_settings:
        exported = kvproxy("kv", "export", f"--embedded.path={path}").stdout
        assert "[frontends.good]" in exported
        assert report["frontends"] >= 1
