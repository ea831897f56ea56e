"""What a command says when a real server refuses it, or is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.backend import Backend, LoopThread
from tests.support.certificates import authority
from tests.support.consul import ConsulServer
from tests.support.etcd import EtcdServer
from tests.support.store_server import free_ports
from tests.unit.cli.support import kvproxy

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, PASSWORD = "proxy", "right-password"


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """An etcd with TLS and authentication; the user may read and write below /kvproxy."""
    with EtcdServer(tmp_path_factory.mktemp("etcd"), tls=True) as server:
        server.enable_authentication(USER, PASSWORD, "/kvproxy")
        yield server


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ConsulServer, str]]:
    """A Consul with tokens, and one that may read and write below kvproxy."""
    with ConsulServer(tmp_path_factory.mktemp("consul"), acl=True) as server:
        yield server, server.make_token("proxy", 'key_prefix "kvproxy" { policy = "write" }')


def said(*arguments: str) -> tuple[int, str]:
    result = kvproxy(*arguments)
    return result.exit_code, result.output


def etcd_flags(server: EtcdServer, *, password: str = PASSWORD, prefix: str = "") -> list[str]:
    return [
        f"--etcd.endpoint={server.endpoint}",
        f"--etcd.username={USER}",
        f"--etcd.password={password}",
        f"--etcd.tls.ca={authority().path}",
        *([f"--etcd.prefix={prefix}"] if prefix else []),
    ]


def test_what_is_allowed_works(etcd: EtcdServer, consul: tuple[ConsulServer, str]) -> None:
    server, token = consul
    flags = [f"--consul.endpoint={server.endpoint}", f"--consul.token={token}"]
    assert said("kv", "put", "kvproxy/loglevel", "INFO", *etcd_flags(etcd))[0] == 0
    assert said("kv", "put", "kvproxy/loglevel", "INFO", *flags)[0] == 0


COMMANDS = [["kv", "ls"], ["storeconfig"]]


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(each) for each in COMMANDS])
def test_a_wrong_password_is_named_and_not_shown(etcd: EtcdServer, command: list[str]) -> None:
    code, output = said(*command, *etcd_flags(etcd, password="wrong-password"))
    assert code == 1
    assert "etcd" in output
    assert "password" in output
    assert "wrong-password" not in output


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(each) for each in COMMANDS])
def test_a_prefix_that_is_not_allowed_is_named(etcd: EtcdServer, command: list[str]) -> None:
    code, output = said(*command, *etcd_flags(etcd, prefix="/other"))
    assert code == 1
    assert "permission" in output
    assert PASSWORD not in output


def test_a_certificate_of_another_authority_is_named(etcd: EtcdServer) -> None:
    flags = [each for each in etcd_flags(etcd) if "tls.ca" not in each]
    code, output = said("kv", "ls", *flags, "--etcd.tls.insecureSkipVerify=false", "--etcd.tls")
    assert code == 1
    assert "certificate" in output.lower()


@pytest.mark.parametrize("token", ["", "99999999-2222-3333-4444-555555555555"])
@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(each) for each in COMMANDS])
def test_a_token_that_may_not_is_named_and_not_shown(
    consul: tuple[ConsulServer, str], command: list[str], token: str
) -> None:
    server, _ = consul
    flags = [f"--consul.endpoint={server.endpoint}"] + ([f"--consul.token={token}"] * bool(token))
    code, output = said(*command, *flags)
    assert code == 1
    assert "consul" in output
    assert "permission" in output.lower() or "ACL" in output
    assert not token or token not in output


def test_a_prefix_that_a_token_may_not_read_is_not_an_empty_one(
    consul: tuple[ConsulServer, str],
) -> None:
    server, token = consul
    flags = [f"--consul.endpoint={server.endpoint}", f"--consul.token={token}"]
    code, output = said("kv", "ls", *flags, "--consul.prefix=other")
    assert code == 1
    assert token not in output


STORES = {
    "consul": ["--consul.endpoint={}"],
    "etcd": ["--etcd.endpoint={}"],
    "zookeeper": ["--zookeeper.endpoint={}"],
}


@pytest.mark.parametrize("store", STORES)
def test_nobody_at_the_endpoint_is_named(store: str) -> None:
    (port,) = free_ports(1)
    endpoint = f"127.0.0.1:{port}"
    code, output = said("kv", "ls", *(each.format(endpoint) for each in STORES[store]))
    assert code == 1
    assert endpoint in output


@pytest.mark.parametrize("store", ["consul", "etcd"])
def test_another_server_at_the_endpoint_is_named(store: str) -> None:
    thread = LoopThread()
    server = Backend(thread)
    endpoint = f"127.0.0.1:{server.port}"
    try:
        code, output = said("kv", "ls", *(each.format(endpoint) for each in STORES[store]))
    finally:
        server.stop()
        thread.stop()
    assert code == 1
    assert store in output
    assert "Traceback" not in output


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("endpoint", ["nowhere.invalid:1", "127.0.0.1:99999", "127.0.0.1:port"])
def test_an_endpoint_that_is_none_is_named(store: str, endpoint: str) -> None:
    code, output = said("kv", "ls", *(each.format(endpoint) for each in STORES[store]))
    assert code == 1
    assert store in output
    assert endpoint in output or endpoint.partition(":")[2] in output
