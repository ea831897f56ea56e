"""A browser in front of the proxy: a page with many resources, over HTTP/2.

Only where ``KVPROXY_CHROMIUM=1`` asks for it: the browser is some 300 MB, and not among what
`scripts/servers` installs (``apt-get install chromium``).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.backend import Answer, Backend, plain_answer
from tests.support.certificates import authority
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.backend import LoopThread

pytestmark = pytest.mark.skipif(
    os.environ.get("KVPROXY_CHROMIUM") != "1", reason="asks for a browser: KVPROXY_CHROMIUM=1"
)

RESOURCES = 200
TITLE = """
addEventListener("load", () => {
  const entries = performance.getEntriesByType("resource");
  const over = [...new Set(entries.map((entry) => entry.nextHopProtocol))].join();
  document.title = `${ran} ran, ${entries.length} loaded over ${over}`;
});
"""


def page() -> bytes:
    """A page whose title tells in the end what has become of its scripts."""
    scripts = "".join(f'<script src="/{i}.js"></script>' for i in range(RESOURCES))
    return f"<!doctype html><script>let ran = 0;{TITLE}</script>{scripts}".encode()


def test_a_page_with_many_resources(loop_thread: LoopThread, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    assert chromium is not None, "chromium is missing"
    script = {
        f"/{i}.js": Answer(
            (plain_answer(b"ran++;" + b" " * i * 100, "Content-Type: text/javascript"),)
        )
        for i in range(RESOURCES)
    }
    script["/"] = Answer((plain_answer(page(), "Content-Type: text/html"),))
    server = Backend(loop_thread, script=script)
    routes = {
        "backends": {"a": {"servers": {"s": {"url": server.url}}}},
        "frontends": {"a": {"backend": "a", "routes": {"r": {"rule": "Host:a.test"}}}},
    }
    pair = authority().issue("a.test")
    proxy = ProxyProcess(routes, entry_points={"https": {"tls": {"certificates": [pair.option()]}}})
    proxy.start()
    try:
        done = subprocess.run(
            [
                *(
                    chromium,
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                ),
                *(f"--user-data-dir={tmp_path}", "--ignore-certificate-errors"),
                *("--host-resolver-rules=MAP a.test 127.0.0.1", "--dump-dom"),
                f"https://a.test:{proxy.ports['https']}/",
            ],
            capture_output=True,
            timeout=120,
            check=True,
        )
    finally:
        proxy.stop()
        server.stop()
    title = re.search(rb"<title>(.*?)</title>", done.stdout)
    assert title is not None, done
    assert title[1] == b"%d ran, %d loaded over h2" % (RESOURCES, RESOURCES)
    for number in range(RESOURCES):
        (request,) = server.requests_for(f"/{number}.js")
        assert request.value("X-Forwarded-Proto") == b"https"
