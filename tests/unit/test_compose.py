"""``compose.yaml`` and ``Dockerfile``: their structure, and every command line of them.

No container engine runs here. What the files say is checked strictly, and each stack is run without
containers: the same commands, with addresses of this machine in the place of names of services.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.backend import ReservedPort
from tests.support.consul import ConsulServer
from tests.support.deadline import wait_until
from tests.support.etcd import EtcdServer
from tests.support.http_client import ConnectionEndedError, TooSlowError, build_request, fetch
from tests.support.store_server import free_ports
from tests.support.zookeeper import ZookeeperServer
from tests.unit.cli.support import kvproxy

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROFILES = {"consul", "etcd", "zookeeper"}

# What each key of a service may be; anything else is a typing error.
LIST, TEXT, MAP = list, str, dict
SERVICE_KEYS: dict[str, tuple[type, ...]] = {
    "build": (TEXT,),
    "command": (LIST,),
    "configs": (LIST,),
    "depends_on": (LIST, MAP),
    "environment": (MAP,),
    "healthcheck": (MAP,),
    "image": (TEXT,),
    "ports": (LIST,),
    "profiles": (LIST,),
    "restart": (TEXT,),
    "stop_grace_period": (TEXT,),
    "volumes": (LIST,),
}
HEALTHCHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
DURATION = re.compile(r"\d+(?:ms|s|m)")
IMAGE = re.compile(r"[a-z0-9-]+(?:/[a-z0-9-]+)?:v?\d+\.\d+\.\d+")
PORT = re.compile(r"127\.0\.0\.1:(\d+):8080")


def ours(service: dict[str, Any]) -> bool:
    return bool(service["image"] == "kvproxy")


def test_the_top_level() -> None:
    known = {"services", "volumes", "configs"}
    assert {key for key in COMPOSE if not key.startswith("x-")} == known
    assert all(value is None for value in COMPOSE["volumes"].values())
    assert all(set(value) == {"content"} for value in COMPOSE["configs"].values())


@pytest.mark.parametrize("name", SERVICES)
def test_service(name: str) -> None:
    service = SERVICES[name]
    for key, value in service.items():
        assert isinstance(value, SERVICE_KEYS[key]), key
    assert ours(service) or IMAGE.fullmatch(service["image"]), "a version that never moves"
    assert service.get("restart", "no") in ("no", "always", "on-failure", "unless-stopped")
    assert set(service.get("profiles", [])) <= PROFILES
    for part in service.get("command", []):
        assert isinstance(part, str)
    for published in service.get("ports", []):
        assert PORT.fullmatch(published), "reachable from this machine only"
    for volume in service.get("volumes", []):
        source, _, target = volume.partition(":")
        assert source in COMPOSE["volumes"]
        assert target.startswith("/")
    for config in service.get("configs", []):
        assert set(config) == {"source", "target"}
        assert config["source"] in COMPOSE["configs"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for(name: str) -> None:
    depends = SERVICES[name].get("depends_on", {})
    conditions = {"service_started", "service_healthy", "service_completed_successfully"}
    for other in depends:
        assert other in SERVICES
        # A service without a profile is always there; others are there together.
        profiles = set(SERVICES[other].get("profiles", []))
        assert not profiles or profiles == set(SERVICES[name].get("profiles", []))
        if isinstance(depends, dict):
            assert set(depends[other]) == {"condition"}
            condition = depends[other]["condition"]
            assert condition in conditions
            assert condition != "service_healthy" or "healthcheck" in SERVICES[other]


@pytest.mark.parametrize(
    "name", [name for name, service in SERVICES.items() if "healthcheck" in service]
)
def test_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert set(check) <= HEALTHCHECK_KEYS
    assert check["test"][0] == "CMD"
    assert all(isinstance(part, str) for part in check["test"])
    for key in ("interval", "timeout", "start_period"):
        assert DURATION.fullmatch(check.get(key, "1s"))


def test_every_volume_config_and_port_is_used_once() -> None:
    volumes = [v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])]
    assert set(volumes) == set(COMPOSE["volumes"])
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == len(set(ports))


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_profile_has_all_that_it_needs(profile: str) -> None:
    names = {name for name, s in SERVICES.items() if profile in s.get("profiles", [])}
    assert names == {profile, f"storeconfig-{profile}", f"kvproxy-{profile}"}
    assert "healthcheck" in SERVICES[profile]
    assert "healthcheck" in SERVICES[f"kvproxy-{profile}"]
    assert {"blue", "green"} <= {name for name, s in SERVICES.items() if "profiles" not in s}


OURS = [(name, s["command"]) for name, s in SERVICES.items() if ours(s) and "command" in s]


def image_command() -> list[str]:
    """Return the command that the image runs when compose names none."""
    found: list[str] = json.loads(re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[-1])
    return found


@pytest.mark.parametrize(
    "command",
    [*(command for _, command in OURS), image_command()],
    ids=[*(name for name, _ in OURS), "Dockerfile"],
)
def test_every_command_line_is_one_of_ours(command: list[str], tmp_path: Path) -> None:
    """Parsed by the real command line: a flag that does not exist ends with exit code 2."""
    file = tmp_path / "kvproxy.toml"
    file.write_text(COMPOSE["configs"]["kvproxy"]["content"])
    local = [part.replace("/etc/kvproxy/kvproxy.toml", str(file)) for part in command]
    result = kvproxy(*local, "--no-such-flag-anywhere")
    assert result.exit_code == 2
    assert "--no-such-flag-anywhere" in result.stderr
    assert result.stderr.count("No such option") == 1


def test_the_parser_of_these_tests_refuses_a_wrong_flag() -> None:
    result = kvproxy("run", "--consul.endpont=consul:8500")
    assert result.exit_code == 2


# The stacks, without containers.


class Stack:
    """The services of one profile as processes of this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []
        self.resources = ExitStack()
        self.names: dict[str, str] = {}
        self.log = directory / "log"

    def local(self, text: str) -> str:
        for name, address in self.names.items():
            text = text.replace(name, address)
        return text

    def start(self, command: list[str]) -> None:
        with self.log.open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "kvproxy", *map(self.local, command)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.directory,
                    start_new_session=True,
                )
            )

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        self.resources.close()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    yield made
    made.stop()
    print(made.log.read_text() if made.log.exists() else "")


SERVERS: dict[str, Any] = {
    "consul": ConsulServer,
    "etcd": EtcdServer,
    "zookeeper": ZookeeperServer,
    "": None,
}


@pytest.mark.parametrize("profile", SERVERS, ids=[profile or "embedded" for profile in SERVERS])
def test_the_commands_of_a_stack_make_a_proxy_that_serves(profile: str, stack: Stack) -> None:
    suffix = f"-{profile}" if profile else ""
    entrance = stack.resources.enter_context(ReservedPort()).port
    blue, green = free_ports(2)
    stack.names = {
        ":8080": f":{entrance}",
        "http://blue:8000": f"http://127.0.0.1:{blue}",
        "http://green:8000": f"http://127.0.0.1:{green}",
        "/var/lib/kvproxy": str(stack.directory),
        "/etc/kvproxy/kvproxy.toml": str(stack.directory / "once.toml"),
    }
    if profile:
        directory = stack.directory / "server"
        directory.mkdir()
        server = stack.resources.enter_context(SERVERS[profile](directory))
        stack.names[re.search(rf"{profile}:\d+", str(SERVICES[f"kvproxy{suffix}"]))[0]] = (  # type: ignore[index]
            server.endpoint
        )
    content = stack.local(COMPOSE["configs"]["kvproxy"]["content"])
    # Under a name that the proxy itself does not look for.
    (stack.directory / "once.toml").write_text(content)
    for name, port in (("blue", blue), ("green", green)):
        command = SERVICES[name]["command"]
        stack.start([part.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for part in command])
    once = SERVICES["routes" if not profile else f"storeconfig{suffix}"]["command"]
    done = kvproxy(*map(stack.local, once))
    assert done.exit_code == 0, done.output
    stack.start(SERVICES[f"kvproxy{suffix}"].get("command") or image_command())

    def serves() -> bool:
        assert stack.processes[-1].poll() is None
        try:
            answer = fetch(entrance, build_request("/", host="anything"))
        except (OSError, ConnectionEndedError, TooSlowError):
            return False
        return answer.status == 200 and b"Name: blue" in answer.body

    wait_until(serves, "an answer of blue", 20)
    test = SERVICES[f"kvproxy{suffix}"]["healthcheck"]["test"]
    healthy = kvproxy(*map(stack.local, test[2:]))
    assert healthy.exit_code == 0, healthy.output


def test_a_server_is_healthy_by_its_own_check(stack: Stack) -> None:
    (port,) = free_ports(1)
    stack.start(
        [p.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for p in SERVICES["blue"]["command"]]
    )
    check = SERVICES["blue"]["healthcheck"]["test"]
    assert check[1] == "python"
    command = [part.replace(":8000", f":{port}") for part in check[2:]]

    def healthy() -> bool:
        done = subprocess.run([sys.executable, *command], capture_output=True, timeout=20)
        return done.returncode == 0

    wait_until(healthy, "a healthy server", 20)


def test_the_image_is_built_in_two_steps_and_runs_without_rights() -> None:
    steps = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", DOCKERFILE, re.MULTILINE)
    assert [name for _, name in steps] == ["build", ""]
    for image, _ in steps:
        assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", image)
    last = DOCKERFILE.rpartition("FROM ")[2]
    instructions = re.findall(r"^([A-Z]+) (.*)$", last, re.MULTILINE)
    assert ("USER", "kvproxy") in instructions
    assert instructions.index(("USER", "kvproxy")) < len(instructions) - 2
    assert ("ENTRYPOINT", '["kvproxy"]') in instructions
    assert "gcc" not in last
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = [source for each in copied for source in each.split()]
    assert sources
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in kept
