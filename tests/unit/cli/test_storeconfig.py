"""``kvproxy storeconfig`` on a real embedded store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvproxy.config.settings import LocalSources
from kvproxy.config.startup import examine
from kvproxy.model.static import StaticConfiguration
from tests.support.certificates import authority
from tests.unit.cli.support import StoreFile, kvproxy

if TYPE_CHECKING:
    from click.testing import Result

STATIC = """
logLevel = "DEBUG"
defaultEntryPoints = ["web"]
workers = 2
[entryPoints.web]
address = "127.0.0.1:8000"
[lifeCycle]
graceTimeOut = "1500ms"
[ping]
[retry]
attempts = 4
"""
ROUTES = """
[file]
[backends.blue.servers.one]
url = "http://127.0.0.1:9001"
weight = 3
[backends.blue.loadBalancer.stickiness]
cookieName = "c"
[frontends.web]
backend = "blue"
priority = 7
[frontends.web.routes.main]
rule = "HeadersRegexp:X,\\\\d+"
"""


class World:
    """A configuration file and a store."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = StoreFile(directory / "store.db")
        self.file = directory / "kvproxy.toml"
        self.file.write_text(STATIC)

    def run(self, *arguments: str) -> Result:
        return kvproxy("storeconfig", f"--configFile={self.file}", self.store.flag, *arguments)

    def done(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def held(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.store.done("ls", "--output", "json"))["keys"]
        return {key.removeprefix("kvproxy/"): value for key, value in found.items()}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    return World(tmp_path)


def effective(*arguments: str) -> StaticConfiguration:
    """Return the settings of a proxy with these arguments, without what belongs to the machine."""
    sources = LocalSources(arguments, {})
    static = asyncio.run(examine(sources, sources.stores())).static
    return StaticConfiguration(
        **{
            name: getattr(static, name)
            for name in static.__struct_fields__
            if name not in ("config_file", "file", "workers", "embedded")
        }
    )


def test_a_proxy_with_nothing_but_the_store_has_the_same_settings(world: World) -> None:
    world.done()
    from_file = effective(f"--configFile={world.file}", world.store.flag)
    world.file.unlink()
    from_store = effective(world.store.flag)
    assert from_store == from_file
    assert from_store.log_level == "DEBUG"
    assert from_store.life_cycle.grace_time_out == 1.5
    assert set(from_store.entry_points) == {"web", "traefik"}
    assert from_store.ping is not None


def test_what_is_written_is_what_traefik_writes(world: World) -> None:
    output = world.done()
    keys = world.held()
    assert output == (
        f"revision 1: {len(keys)} keys written, 0 deleted in embedded "
        f"({world.store.path}, prefix kvproxy), read back and compared\n"
    )
    for key, value in {
        "loglevel": "DEBUG",
        "defaultentrypoints/0": "web",
        "entrypoints/web/address": "127.0.0.1:8000",
        "lifecycle/gracetimeout": "1500000000",
        "ping/entrypoint": "traefik",
        "retry/attempts": "4",
        "accesslogsfile": "",
        "checknewversion": "true",
    }.items():
        assert keys[key] == value
    assert not {"workers", "configfile", "statedir", "file/watch"} & keys.keys()


def test_what_belongs_to_the_machine_is_named(world: World) -> None:
    result = world.run("--stateDir=state")
    assert "Not written, of this machine alone: stateDir, workers\n" in result.stderr


def test_a_second_run_writes_nothing_and_says_so(world: World) -> None:
    world.done()
    result = world.run()
    assert result.exit_code == 0
    assert result.stdout == (
        f"nothing to write: embedded ({world.store.path}, prefix kvproxy) says all of it, "
        "revision 1\n"
    )


def test_the_routes_of_a_file_provider_are_written(world: World) -> None:
    world.file.write_text(STATIC + ROUTES)
    world.done()
    keys = world.held()
    assert keys["backends/blue/servers/one/url"] == "http://127.0.0.1:9001"
    assert keys["backends/blue/servers/one/weight"] == "3"
    assert keys["backends/blue/loadbalancer/stickiness"] == "true"
    assert keys["frontends/web/routes/main/rule"] == "HeadersRegexp:X,\\\\d+"
    assert not any(key.startswith("file") for key in keys)
    exported = world.store.done("export")
    again = StoreFile(world.directory / "again.db")
    (world.directory / "routes.toml").write_text(exported)
    again.done("import", str(world.directory / "routes.toml"))
    assert again.done("export").splitlines()[1:] == exported.splitlines()[1:]
    world.file.unlink()
    assert "valid: 1 frontend, 1 backend from embedded" in kvproxy("check", world.store.flag).stdout


def test_wrong_routes_are_not_written_and_nothing_else(world: World) -> None:
    world.file.write_text(STATIC + ROUTES.replace("HeadersRegexp", "HeaderRegexp"))
    result = world.run()
    assert result.exit_code == 1
    assert "did you mean `HeadersRegexp`?" in result.stderr
    assert "nothing was written" in result.stderr
    assert not world.store.path.exists()


def test_certificates_are_written_as_contents(world: World) -> None:
    bundle = authority().bundle("web.localhost")
    world.file.write_text(
        STATIC
        + f'[file]\n[[tls]]\nentryPoints = ["web"]\n[tls.certificate]\ncertFile = "{bundle}"\n'
        + f'keyFile = "{bundle}"\n'
    )
    world.done()
    keys = world.held()
    assert keys["tls/0/entrypoints/0"] == "web"
    assert keys["tls/0/certificate/certfile"] == bundle.read_text()
    assert keys["tls/0/certificate/keyfile"] == bundle.read_text()


def test_a_dry_run_shows_the_difference_and_writes_nothing(world: World) -> None:
    first = world.done("--dry-run")
    assert not world.store.path.exists()
    assert "+ kvproxy/loglevel = DEBUG\n" in first
    world.done()
    world.store.done("put", "kvproxy/loglevel", "INFO", "kvproxy/docker/endpoint", "x")
    world.file.write_text(STATIC.replace("attempts = 4", "attempts = 5"))
    before = world.held()
    output = world.done("--dry-run", "--prune")
    assert output.splitlines() == [
        "- kvproxy/docker/endpoint",
        "~ kvproxy/loglevel = DEBUG (was INFO)",
        "~ kvproxy/retry/attempts = 5 (was 4)",
        f"3 keys would change in embedded ({world.store.path}, prefix kvproxy)",
    ]
    assert world.held() == before


def test_stale_keys_are_named_and_stay_until_they_are_pruned(world: World) -> None:
    world.done()
    world.file.write_text(STATIC.partition("[retry]")[0])
    result = world.run()
    assert result.exit_code == 0
    assert "1 key of the store that this configuration does not have stay" in result.stderr
    assert result.stderr.endswith("--prune deletes them: retry/attempts\n")
    assert world.held()["retry/attempts"] == "4"
    assert "0 keys written, 1 deleted" in world.done("--prune")
    assert "retry/attempts" not in world.held()
    assert effective(world.store.flag).retry is None


def test_pruning_leaves_routes_alone_without_a_file_provider(world: World) -> None:
    world.store.done("put", "kvproxy/frontends/f/backend", "b", "kvproxy/other", "1", "x/y", "1")
    world.done("--prune")
    keys = world.held()
    assert (keys["frontends/f/backend"], keys["other"]) == ("b", "1")
    assert world.store.done("get", "x/y") == "1\n"


def test_pruning_deletes_routes_that_the_file_provider_does_not_have(world: World) -> None:
    world.store.done("put", "kvproxy/frontends/f/backend", "b")
    world.file.write_text(STATIC + ROUTES)
    assert "frontends/f/backend" in world.run().stderr
    world.done("--prune")
    assert "frontends/f/backend" not in world.held()


def test_what_the_store_says_is_not_asked_for(world: World) -> None:
    world.store.done("put", "kvproxy/workers", "many", "kvproxy/loglevel", "\x00")
    result = world.run("--prune")
    assert result.exit_code == 0, result.output
    assert world.held()["loglevel"] == "DEBUG"
    assert "workers" not in world.held()


SECRETS = """
defaultEntryPoints = ["web"]
[entryPoints.web]
address = "127.0.0.1:8000"
[consul]
password = "secret-one"
[consul.tls]
key = "-----BEGIN KEY-----secret-two"
[kubernetes]
token = "secret-three"
[file]
[backends.b]
"""


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("flags", [["--dry-run"], []], ids=["dry", "written"])
def test_secrets_are_never_printed(world: World, output: str, flags: list[str]) -> None:
    world.file.write_text(SECRETS)
    world.store.done(
        "put", "kvproxy/ping/x", "secret-four", "kvproxy/frontends/f/basicauth", "u:H6u"
    )
    arguments = ["--prune", "--store=embedded", "--output", output, *flags]
    shown = world.run(*arguments).output
    for secret in ("secret-", "H6u"):
        assert secret not in shown
    if flags:
        assert "kvproxy/consul/password" in shown
        assert "***" in shown


def test_json(world: World) -> None:
    world.store.done("put", "kvproxy/docker/endpoint", "x")
    found = json.loads(world.done("--output", "json"))
    assert found["put"]["kvproxy/loglevel"] == "DEBUG"
    assert {name: found[name] for name in found if name != "put"} == {
        "store": "embedded",
        "prefix": "kvproxy",
        "revision": 2,
        "dryRun": False,
        "deleted": [],
        "stale": ["docker/endpoint"],
        "switchedTo": None,
    }
    found = json.loads(world.done("--output", "json", "--prune", "--dry-run"))
    assert (found["dryRun"], found["revision"]) == (True, 2)
    assert (found["put"], found["deleted"]) == ({}, ["kvproxy/docker/endpoint"])


def test_no_store_is_an_error(world: World) -> None:
    result = kvproxy("storeconfig", f"--configFile={world.file}")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: no key-value store is configured; expected one of "
        "--consul, --etcd, --zookeeper, --boltdb, --embedded\n"
    )


def test_several_stores_need_a_name(world: World) -> None:
    result = world.run("--consul")
    assert result.exit_code == 2
    assert "Several stores are configured (consul, embedded): give --store." in result.stderr
    world.done("--consul", "--store=embedded")
    assert world.held()["consul/endpoint"] == "127.0.0.1:8500"


def test_boltdb_is_said_to_be_read_only_before_anything_is_done(world: World) -> None:
    world.file.write_text("[boltdb]\nendpoint = '/no/such.db'\n")
    result = kvproxy("storeconfig", f"--configFile={world.file}")
    assert result.exit_code == 1
    assert "a boltdb store is read-only" in result.stderr
    assert "--embedded" in result.stderr


def test_arguments_name_the_store_rather_than_the_file(world: World) -> None:
    world.file.write_text(STATIC + "[etcd]\n")
    world.done()
    assert world.held()["etcd/endpoint"] == "127.0.0.1:2379"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--store=consl"], 2, "Did you mean `consul`?"),
        (["--prun"], 2, "Did you mean `--prune`?"),
        (["--workers=many"], 1, "`many` is not a whole number"),
        (["stray"], 2, "stray"),
        (["--ping.entryPoint="], 1, "a store cannot say so, the default `traefik` would count"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use(world: World, arguments: list[str], code: int, message: str) -> None:
    result = world.run(*arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.output
    assert not world.store.path.exists()


def test_a_store_that_cannot_be_written_is_named(world: World) -> None:
    world.store.path.write_bytes(b"no database" * 100)
    result = world.run()
    assert result.exit_code == 1
    assert "not an embedded store" in result.stderr


def test_an_interrupted_run_stops_the_next_until_it_is_taken_over(world: World) -> None:
    world.store.done("put", "kvproxy/storeconfig", "host, process 1")
    result = world.run()
    assert result.exit_code == 1
    assert "left half written, by host, process 1" in result.stderr
    assert "--take-over" in result.stderr
    world.done("--take-over")
    assert "storeconfig" not in world.held()
