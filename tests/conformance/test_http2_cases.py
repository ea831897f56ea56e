"""The cases of h2spec through the proxy, in clear and over TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.http2_cases import CASES, WITHOUT_HANDSHAKE
from tests.support.backend import Answer, Backend, plain_answer
from tests.support.certificates import authority
from tests.support.http2_client import FrameClient
from tests.support.http2_frames import Goaway
from tests.support.proxy_process import ProxyProcess, single_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread


@pytest.fixture(scope="module")
def proxy(loop_thread: LoopThread) -> Iterator[ProxyProcess]:
    """A proxy whose server answers `/` and does not answer `/hold`."""
    script = {"/": Answer((plain_answer(b"a" * 200),)), "/hold": Answer((), after="hang")}
    server = Backend(loop_thread, script=script)
    routes = single_backend(server.url, {"all": "PathPrefix:/"})
    pair = authority().issue("a.test")
    points = {"http": {}, "https": {"tls": {"certificates": [pair.option()]}}}
    with ProxyProcess(routes, entry_points=points) as running:
        yield running
    server.stop()


# In clear, what is no preface is read as HTTP/1.1.
ROWS = [
    pytest.param(way, name, id=f"{way}-{name}")
    for way in ("http", "https")
    for name in CASES
    if (way, name) != ("http", "http2/3.5/2: Sends invalid connection preface")
]


@pytest.mark.parametrize(("way", "name"), ROWS)
def test_case(proxy: ProxyProcess, way: str, name: str) -> None:
    tls = authority().client_context(protocols=("h2",)) if way == "https" else None
    with FrameClient(proxy.ports[way], tls, handshake=name not in WITHOUT_HANDSHAKE) as client:
        for step in CASES[name]:
            if isinstance(step, bytes):
                client.send(step)
            else:
                client.expect(step)
        if any(isinstance(step, Goaway) for step in CASES[name]):
            client.wait_for_end()
