"""Rows H12 and H13: ``Host`` rules and the names that hosts lead to (specification section 2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.cases import frontend
from tests.support.dns_server import DnsServer
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.cases import Servers
    from tests.support.backend import LoopThread

NAME_SERVER = "127.0.0.53"
RECORDS = {
    "alias.test": ("target.test", 300),
    "both.test": ("target.test", 300),
    "pattern.test": ("x.matched.test", 300),
}


@pytest.fixture(scope="module")
def proxy(
    servers: Servers, loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    try:
        names = DnsServer(loop_thread, RECORDS, address=NAME_SERVER, port=53)
    except OSError as error:
        pytest.skip(f"no DNS server of the test's own can listen: {error}")
    resolver = tmp_path_factory.mktemp("dns") / "resolv.conf"
    resolver.write_text(f"nameserver {NAME_SERVER}\n")

    def to(server: str, rule: str, priority: int = 0) -> dict[str, object]:
        return frontend(rule, backend=server, priority=priority)

    routes = {
        "backends": {
            name: {"servers": {"one": {"url": servers[name].url}}}
            for name in ("target", "both", "pattern", "path")
        },
        "frontends": {
            "target": to("target", "Host:target.test"),
            "both": to("both", "Host:both.test", 99),
            "pattern": to("pattern", "HostRegexp:{any:.+}.matched.test"),
            "path": to("path", "Host:target.test;Path:/deep", 999),
        },
    }
    static = {"hostResolver": {"cnameFlattening": True, "resolvConfig": str(resolver)}}
    with ProxyProcess(routes, static=static) as running:
        yield running
    names.stop()


ROWS = {
    "H12": ("alias.test", "/", "target"),
    "H12-case-and-port": ("ALIAS.test:81", "/", "target"),
    "H13": ("unrelated.test", "/", None),
    "2.6-the-name-itself": ("target.test", "/", "target"),
    "2.6-the-first-in-order-of-both": ("both.test", "/", "both"),
    "2.6-the-other-conditions-hold": ("both.test", "/deep", "path"),
    "2.6-host-alone": ("pattern.test", "/", None),
}


@pytest.mark.parametrize(("host", "target", "server"), ROWS.values(), ids=ROWS)
def test_rows(proxy: ProxyProcess, host: str, target: str, server: str | None) -> None:
    for _ in range(2):
        answer = proxy.fetch(target, host=host)
        assert answer.status == (404 if server is None else 200)
        assert answer.value("X-Server") == (None if server is None else server.encode())


def test_the_server_is_told_the_host_that_was_asked_for(proxy: ProxyProcess) -> None:
    assert b"X-Forwarded-Host: alias.test\r\n" in proxy.fetch(host="alias.test").body
