"""A proxy on a BoltDB file, such as one that Traefik 1.7 has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.backend import Answer, Backend, LoopThread, plain_answer
from tests.support.bolt import BoltWriter
from tests.support.deadline import wait_until
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from pathlib import Path


def frontend(host: str) -> dict[str, bytes]:
    stem = f"/traefik/frontends/{host}"
    return {
        f"{stem}/backend": b"web",
        f"{stem}/routes/main/rule": f"Host:{host}".encode(),
    }


def test_a_proxy_serves_and_follows_what_is_written(
    loop_thread: LoopThread, tmp_path: Path
) -> None:
    path = tmp_path / "traefik.db"
    backend = Backend(loop_thread, script={"/": Answer((plain_answer(),))})
    writer = BoltWriter(path)
    try:
        writer.write(
            put={
                **frontend("first.localhost"),
                "/traefik/backends/web/servers/one/url": backend.url.encode(),
                "/traefik/loglevel": b"INFO",
            }
        )
        arguments = (f"--boltdb.endpoint={path}", "--boltdb.prefix=/traefik")
        with ProxyProcess(None, arguments=arguments) as proxy:

            def serves(host: str) -> bool:
                return proxy.fetch(host=host).status == 200

            wait_until(lambda: serves("first.localhost"), "the routes of the file", 15)
            answer = writer.write(put=frontend("second.localhost"))
            wait_until(lambda: serves("second.localhost"), "what was written", 20)
            (provider,) = proxy.ask("status")["providers"]
            assert provider["provider"] == "boltdb"
            assert provider["revision"] == str(answer["version"])
            # A broken file takes nothing away; nor does a missing one.
            aside = path.rename(tmp_path / "aside.db")
            wait_until(lambda: "No such file" in proxy.log(), "the error", 10)
            path.write_bytes(b"garbage")
            wait_until(lambda: "too short for a BoltDB" in proxy.log(), "the error", 10)
            assert serves("first.localhost")
            aside.replace(path)
            writer.write(deletePrefixes=["/traefik/frontends/second.localhost"])
            wait_until(lambda: not serves("second.localhost"), "the repaired file", 20)
            assert serves("first.localhost")
    finally:
        writer.close()
        backend.stop()
