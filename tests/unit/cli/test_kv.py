"""``kvproxy kv`` on a real embedded store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.support import StoreFile, kvproxy

ROUTES = """
[backends.web.servers.one]
url = "http://127.0.0.1:9001"
weight = 3
[frontends.web]
backend = "web"
[frontends.web.routes.main]
rule = "Host:web.localhost"
"""


@pytest.fixture
def store(tmp_path: Path) -> StoreFile:
    return StoreFile(tmp_path / "store.db")


def test_put_prints_the_revision_and_get_the_value(store: StoreFile) -> None:
    assert store.done("put", "kvproxy/frontends/web/backend", "blue") == "revision 1\n"
    assert store.done("put", "kvproxy/frontends/web/backend", "green") == "revision 2\n"
    assert store.done("get", "kvproxy/frontends/web/backend") == "green\n"


def test_several_keys_are_one_transaction(store: StoreFile) -> None:
    assert store.done("put", "kvproxy/a", "1", "kvproxy/b", "2") == "revision 1\n"
    assert store.done("ls", "--values") == "kvproxy/a = 1\nkvproxy/b = 2\n"


def test_slashes_at_the_ends_of_a_key_do_not_count(store: StoreFile) -> None:
    store.done("put", "/kvproxy/a/", "1")
    assert store.done("get", "kvproxy/a") == "1\n"


@pytest.mark.parametrize(
    "value", ["", "-x", "--embedded.path=no", "ü", "a b\nc", '"quoted"', "\\d+", "x" * 100_000]
)
def test_values_come_back_as_they_are(store: StoreFile, value: str) -> None:
    store.done("put", "kvproxy/a", "-", stdin=value)
    assert store.done("get", "--raw", "kvproxy/a") == value


def test_binary_values_pass(store: StoreFile) -> None:
    store.done("put", "kvproxy/a", "-", stdin=b"\x00\xff\n")
    result = store.kv("get", "--raw", "kvproxy/a")
    assert result.stdout_bytes == b"\x00\xff\n"


def test_get_of_a_missing_key_names_the_nearest(store: StoreFile) -> None:
    store.done("put", "kvproxy/frontends/web/backend", "blue")
    result = store.kv("get", "kvproxy/frontends/web/bakend")
    assert result.exit_code == 1
    assert "no key `kvproxy/frontends/web/bakend` at revision 1" in result.stderr
    assert "did you mean `kvproxy/frontends/web/backend`?" in result.stderr


def test_get_as_json_says_the_revision(store: StoreFile) -> None:
    store.done("put", "kvproxy/a", "1")
    found = json.loads(store.done("get", "kvproxy/a", "--output", "json"))
    assert found == {"key": "kvproxy/a", "value": "1", "revision": 1}


def test_a_key_outside_the_prefix_is_written_with_a_warning(store: StoreFile) -> None:
    result = store.kv("put", "frontends/web/backend", "blue")
    assert result.exit_code == 0
    assert "`frontends/web/backend` is outside the proxy's prefix `kvproxy`" in result.stderr
    assert store.done("ls") == ""
    assert store.done("ls", "frontends") == "frontends/web/backend\n"
    assert store.done("ls", "/") == "frontends/web/backend\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kvproxy/a"], "`kvproxy/a` has no value"),
        (["kvproxy/a", "1", "kvproxy/b"], "`kvproxy/b` has no value"),
        (["/", "1"], "the key is empty"),
        (["kvproxy//a", "1"], "has an empty part between two slashes"),
        ([], "Missing argument"),
        (["--if", "x", "--if-absent", "a", "1"], "exclude each other"),
        (["a", "-", "b", "-"], "only one VALUE can be read from standard input"),
        (["--if-absnet", "a", "1"], "No such option"),
    ],
)
def test_wrong_use_of_put(store: StoreFile, arguments: list[str], message: str) -> None:
    result = store.kv("put", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not store.path.exists()


def test_a_conditional_put_that_fails_writes_nothing(store: StoreFile) -> None:
    store.done("put", "kvproxy/a", "1")
    result = store.kv("put", "--if", "2", "kvproxy/a", "3", "kvproxy/b", "4")
    assert result.exit_code == 1
    assert "kvproxy/a" in result.stderr
    assert store.done("ls", "--values") == "kvproxy/a = 1\n"
    assert store.done("put", "--if", "1", "kvproxy/a", "3") == "revision 2\n"


def test_if_absent_writes_only_new_keys(store: StoreFile) -> None:
    assert store.done("put", "--if-absent", "kvproxy/a", "1") == "revision 1\n"
    assert store.kv("put", "--if-absent", "kvproxy/a", "2").exit_code == 1
    assert store.done("get", "kvproxy/a") == "1\n"


def test_del_removes_keys(store: StoreFile) -> None:
    store.done("put", "kvproxy/a", "1", "kvproxy/b", "2")
    assert store.done("del", "kvproxy/a") == "revision 2\n"
    assert store.done("ls") == "kvproxy/b\n"


def test_del_of_a_missing_key_deletes_nothing_at_all(store: StoreFile) -> None:
    store.done("put", "kvproxy/alpha", "1")
    result = store.kv("del", "kvproxy/alpha", "kvproxy/alphaa")
    assert result.exit_code == 1
    assert "no key `kvproxy/alphaa`; did you mean `kvproxy/alpha`?" in result.stderr
    assert store.done("ls") == "kvproxy/alpha\n"


def test_del_of_a_directory_needs_a_word(store: StoreFile) -> None:
    store.done("put", "kvproxy/a/b", "1", "kvproxy/a/c", "2", "kvproxy/ab", "3")
    result = store.kv("del", "kvproxy/a")
    assert result.exit_code == 1
    assert "--recursive" in result.stderr
    deleted = json.loads(store.done("del", "-r", "kvproxy/a", "--output", "json"))
    assert deleted == {"revision": 2, "keys": ["kvproxy/a/b", "kvproxy/a/c"]}
    assert store.done("ls") == "kvproxy/ab\n"


def test_import_is_one_transaction_and_export_gives_it_back(
    store: StoreFile, tmp_path: Path
) -> None:
    file = tmp_path / "routes.toml"
    file.write_text(ROUTES)
    assert store.done("import", str(file)) == "revision 1: 5 keys written, 0 deleted\n"
    assert store.done("ls", "--values").splitlines() == [
        "kvproxy/backends/web/servers/one/url = http://127.0.0.1:9001",
        "kvproxy/backends/web/servers/one/weight = 3",
        "kvproxy/frontends/web/backend = web",
        "kvproxy/frontends/web/passhostheader = false",
        "kvproxy/frontends/web/routes/main/rule = Host:web.localhost",
    ]
    copy = tmp_path / "copy.toml"
    copy.write_text(store.done("export"))
    other = StoreFile(tmp_path / "other.db")
    other.done("import", str(copy))
    assert other.done("ls", "--values") == store.done("ls", "--values")


def test_import_replaces_an_entry_as_a_whole_and_leaves_others(
    store: StoreFile, tmp_path: Path
) -> None:
    store.done(
        "put",
        *("kvproxy/frontends/web/priority", "7", "kvproxy/frontends/other/backend", "web"),
        *("kvproxy/loglevel", "DEBUG"),
    )
    file = tmp_path / "routes.toml"
    file.write_text(ROUTES)
    assert store.done("import", str(file)) == "revision 2: 5 keys written, 1 deleted\n"
    keys = store.done("ls").splitlines()
    assert "kvproxy/frontends/web/priority" not in keys
    assert "kvproxy/frontends/other/backend" in keys
    store.done("import", str(file), "--replace")
    keys = store.done("ls").splitlines()
    assert "kvproxy/frontends/other/backend" not in keys
    assert "kvproxy/loglevel" in keys


def test_a_dry_run_writes_nothing(store: StoreFile, tmp_path: Path) -> None:
    store.done("put", "kvproxy/frontends/web/priority", "7")
    file = tmp_path / "routes.toml"
    file.write_text(ROUTES)
    lines = store.done("import", str(file), "--dry-run").splitlines()
    assert lines[0] == "del kvproxy/frontends/web/priority"
    assert "put kvproxy/frontends/web/backend = web" in lines
    assert store.done("ls") == "kvproxy/frontends/web/priority\n"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("[frontends.web\n", ":1", "not TOML"),
        (ROUTES.replace("weight = 3", 'weight = "three"'), ":4", "weight"),
        (ROUTES.replace("Host:", "Hots:"), ":7", "did you mean `Host`?"),
        (ROUTES.replace("Host:web.localhost", "HeadersRegexp:X,["), ":7", "HeadersRegexp"),
        ("[frontends.web]\npriority = 1\n", ":1", "backend"),
    ],
    ids=["syntax", "type", "matcher", "expression", "required"],
)
def test_a_file_with_an_error_changes_nothing(
    store: StoreFile, tmp_path: Path, text: str, place: str, message: str
) -> None:
    file = tmp_path / "routes.toml"
    file.write_text(text)
    result = store.kv("import", str(file))
    assert result.exit_code == 1
    assert f"{file}{place}" in result.stderr
    assert message in result.stderr
    assert not store.path.exists()


def test_import_goes_where_the_alias_leads_and_export_comes_from_there(
    store: StoreFile, tmp_path: Path
) -> None:
    store.done("put", "kvproxy/alias", "/two/", "two/frontends/web/priority", "7")
    file = tmp_path / "routes.toml"
    file.write_text(ROUTES)
    assert store.done("import", str(file)) == "revision 2: 5 keys written, 1 deleted\n"
    assert "two/frontends/web/backend" in store.done("ls", "two").splitlines()
    assert store.done("ls") == "kvproxy/alias\n"
    assert "[frontends.web]" in store.done("export")


def test_import_of_the_same_again_writes_nothing(store: StoreFile, tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    file.write_text(ROUTES)
    store.done("import", str(file))
    assert store.done("import", str(file)) == "revision 1: 0 keys written, 0 deleted\n"


def test_import_prints_no_secret(store: StoreFile, tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    store.done("put", "kvproxy/a", "1")
    file.write_text(ROUTES.replace('"web"\n', '"web"\nbasicAuth = ["test:$apr1$H6uskkkW$Ig"]\n'))
    for flags in (["--dry-run"], ["--dry-run", "-o", "json"], ["-o", "json"]):
        output = store.kv("import", str(file), *flags).output
        assert "***" in output
        assert "H6uskkkW" not in output
    assert store.done("get", "kvproxy/frontends/web/basicauth/0") == "test:$apr1$H6uskkkW$Ig\n"


def test_a_key_that_the_alias_hides_is_written_with_a_warning(store: StoreFile) -> None:
    store.done("put", "kvproxy/alias", "two")
    result = store.kv("put", "kvproxy/frontends/web/backend", "blue", "kvproxy/loglevel", "DEBUG")
    assert result.stderr == (
        "Warning: `kvproxy/frontends/web/backend` is not read: `kvproxy/alias` names `two`\n"
    )
    assert store.kv("put", "two/frontends/web/backend", "blue").stderr == ""


def test_an_unknown_option_in_a_file_is_a_warning(store: StoreFile, tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    file.write_text(ROUTES.replace("weight", "wieght"))
    result = store.kv("import", str(file))
    assert result.exit_code == 0
    assert f"Warning: {file}:4" in result.stderr
    assert "did you mean `weight`?" in result.stderr


def test_import_of_a_missing_file_is_a_usage_error(store: StoreFile) -> None:
    result = store.kv("import", "no-such-file.toml")
    assert result.exit_code == 2
    assert "no-such-file.toml" in result.stderr


def test_export_names_what_it_cannot_read(store: StoreFile) -> None:
    store.done(
        "put",
        *("kvproxy/frontends/good/backend", "b", "kvproxy/frontends/bad/backend", "b"),
        *("kvproxy/frontends/bad/priority", "high"),
    )
    result = store.kv("export")
    assert result.exit_code == 1
    assert "[frontends.good]" in result.stdout
    assert "bad" not in result.stdout
    assert "kvproxy/frontends/bad/priority" in result.stderr


def test_watch_prints_changes_as_they_happen(store: StoreFile, tmp_path: Path) -> None:
    store.done("put", "kvproxy/a", "1")
    watching = subprocess.Popen(
        [sys.executable, "-m", "kvproxy", "kv", "watch", "--once", store.flag],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stderr is not None
    assert watching.stderr.readline() == "watching `kvproxy` from revision 1\n"
    store.done("put", "kvproxy/b", "2", "other/c", "3")
    output, _ = watching.communicate(timeout=20)
    assert output == "2 put kvproxy/b = 2\n"
    assert watching.returncode == 0


def test_an_unknown_store_names_the_known_ones() -> None:
    result = kvproxy("kv", "ls", "--store", "embeded")
    assert result.exit_code == 2
    assert "did you mean `embedded`?" in result.stderr.lower()


def test_a_provider_that_is_no_store_is_named() -> None:
    result = kvproxy("kv", "ls", "--store", "file")
    assert result.exit_code == 2
    assert "`file` is not a store" in result.stderr


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    file.write_text("this is not a database, it is only text that fills a page" * 100)
    result = kvproxy("kv", "ls", f"--embedded.path={file}")
    assert result.exit_code == 1
    assert str(file) in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["get", "kvproxy/a"], ["ls"], ["del", "kvproxy/a"], ["export"], ["watch"]],
    ids=lambda a: a[0],
)
def test_reading_makes_no_store(tmp_path: Path, arguments: list[str]) -> None:
    path = tmp_path / "no-store.db"
    result = StoreFile(path).kv(*arguments)
    assert result.exit_code == 1
    assert f"there is no store at `{path}`" in result.stderr
    assert not path.exists()


def test_without_a_path_the_store_is_in_the_state_directory(tmp_path: Path) -> None:
    flag = f"--stateDir={tmp_path / 'state'}"
    assert kvproxy("kv", "put", flag, "kvproxy/a", "1").exit_code == 0
    assert (tmp_path / "state" / "kvproxy.db").exists()
    assert kvproxy("kv", "get", flag, "kvproxy/a").stdout == "1\n"
