"""``kvproxy check`` on stores and files: each problem with its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import authority
from tests.unit.cli.support import StoreFile, kvproxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD = """
[entryPoints.http]
address = "127.0.0.1:8000"
[file]
[backends.web.servers.one]
url = "http://127.0.0.1:9001"
[frontends.web]
backend = "web"
[frontends.web.routes.main]
rule = "Host:web.localhost"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kvproxy.toml"
    path.write_text(GOOD)
    return path


def check(*arguments: str) -> tuple[int, str, str]:
    result = kvproxy("check", *arguments)
    return result.exit_code, result.stdout, result.stderr


def test_a_good_file_is_valid(file: Path) -> None:
    assert check(f"--configFile={file}") == (
        0,
        "0 errors, 0 warnings; valid: 1 frontend, 1 backend from file\n",
        "",
    )


PROBLEMS = {
    "unknown-static-option": ("address =", "adress =", 3, "did you mean `address`?"),
    "wrong-static-type": ('"127.0.0.1:8000"', "8000", 3, "expected text in quotes"),
    "bad-address": ("127.0.0.1:8000", "127.0.0.1", 3, "expected `host:port` or `:port`"),
    "unknown-dynamic-option": ("backend =", "bakend =", 8, "did you mean `backend`?"),
    "missing-backend": ('backend = "web"', 'backend = "wob"', 8, "did you mean `web`?"),
    "bad-rule": ("Host:", "Hots:", 10, "did you mean `Host`?"),
    "bad-expression": ("Host:web.localhost", "HeadersRegexp:X,[", 10, "RE2"),
    "bad-url": ("http://127.0.0.1:9001", "127.0.0.1:9001", 6, "http"),
    "unknown-entry-point": ('= "web"\n', '= "web"\nentryPoints = ["htp"]\n', 9, "`http`?"),
    "security-option": ('= "web"\n', '= "web"\nbasicAuth = ["a:b:c"]\n', 9, "basicAuth"),
    "syntax": ("[frontends.web]", "[frontends.web", 7, "not TOML"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_error_in_a_file_has_its_line(file: Path, name: str) -> None:
    old, new, line, message = PROBLEMS[name]
    file.write_text(GOOD.replace(old, new, 1))
    code, output, errors = check(f"--configFile={file}")
    assert code == 1, output + errors
    matching = [each for each in errors.splitlines() if message in each]
    assert matching, errors
    assert f"{file}:{line}" in matching[0]


def test_every_problem_is_listed_not_only_the_first(file: Path) -> None:
    file.write_text(
        GOOD.replace("Host:", "Hots:")
        + '[frontends.two]\nbackend = "none"\n[frontends.two.routes.r]\nrule = "Path:x"\n'
        + "[backends.three.servers.s]\nweight = 3\n"
    )
    code, output, errors = check(f"--configFile={file}")
    assert code == 1
    for name in ("frontends.web", "frontends.two", "backends.three"):
        assert f"Error: {file}:" in errors
        assert name in errors
    assert "valid: 0 frontends, 1 backend from file" in output


def test_a_warning_is_no_error_unless_strict(file: Path) -> None:
    file.write_text(GOOD.replace("[file]", "[file]\nwacht = true"))
    code, output, errors = check(f"--configFile={file}")
    assert code == 0
    assert errors.startswith(f"Warning: {file}:5")
    assert "did you mean `watch`?" in errors
    assert output.startswith("0 errors, 1 warning;")
    assert check(f"--configFile={file}", "--strict")[0] == 1


def test_a_frontend_that_is_never_reached_is_named(file: Path) -> None:
    file.write_text(
        GOOD.replace('"web"\n', '"web"\npriority = 100\n')
        + '[frontends.api]\nbackend = "web"\n[frontends.api.routes.r]\n'
        + 'rule = "Host:web.localhost;PathPrefix:/api"\n'
    )
    code, _, errors = check(f"--configFile={file}")
    assert code == 0
    assert f"{file}:12: frontends.api: is never reached: `web` (file) comes first" in errors


def test_a_frontend_that_is_reached_on_one_entry_point_is_not_named(file: Path) -> None:
    file.write_text(
        GOOD.replace("[file]", '[entryPoints.admin]\naddress = ":8001"\n[file]').replace(
            '"web"\n', '"web"\npriority = 100\n'
        )
        + '[frontends.api]\nbackend = "web"\nentryPoints = ["http", "admin"]\n'
        + '[frontends.api.routes.r]\nrule = "Host:web.localhost;PathPrefix:/api"\n'
    )
    assert check(f"--configFile={file}")[0] == 0
    assert check(f"--configFile={file}", "--strict") == (
        0,
        "0 errors, 0 warnings; valid: 2 frontends, 1 backend from file\n",
        "",
    )


def test_a_missing_configuration_file_is_named() -> None:
    code, output, errors = check("--configFile=/no/such/file.toml")
    assert code == 1
    assert "`/no/such/file.toml` does not exist" in errors
    assert "nothing else was read" in output


def test_a_directory_names_the_file_of_each_problem(tmp_path: Path) -> None:
    directory = tmp_path / "routes"
    directory.mkdir()
    static, _, dynamic = GOOD.partition("[file]\n")
    (directory / "a.toml").write_text(dynamic)
    (directory / "b.toml").write_text('[frontends.x]\nbackend = "web"\npriority = "high"\n')
    main = tmp_path / "kvproxy.toml"
    main.write_text(f'{static}[file]\ndirectory = "{directory}"\n')
    code, _, errors = check(f"--configFile={main}")
    assert code == 1
    assert f"{directory / 'b.toml'}:3" in errors


@pytest.fixture
def store(tmp_path: Path) -> StoreFile:
    found = StoreFile(tmp_path / "store.db")
    found.done(
        "put",
        *("kvproxy/backends/web/servers/one/url", "http://127.0.0.1:9001"),
        *("kvproxy/frontends/web/backend", "web"),
        *("kvproxy/frontends/web/routes/main/rule", "Host:web.localhost"),
    )
    return found


def test_a_good_store_is_valid(store: StoreFile) -> None:
    code, output, _ = check("--embedded", store.flag)
    assert (code, output) == (
        0,
        "0 errors, 0 warnings; valid: 1 frontend, 1 backend from embedded\n",
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kvproxy/frontends/web/priority", "high", "`high` is not a whole number"),
        ("kvproxy/frontends/web/backend", "wob", "did you mean `web`?"),
        ("kvproxy/frontends/web/routes/main/rule", "Hots:a", "did you mean `Host`?"),
        ("kvproxy/backends/web/servers/one/url", "10.0.0.1:80", "scheme://host"),
        ("kvproxy/backends/web/servers/one/weight", "-1", "negative"),
    ],
)
def test_an_error_in_a_store_has_its_key(
    store: StoreFile, key: str, value: str, message: str
) -> None:
    store.done("put", "--", key, value)
    code, _, errors = check("--embedded", store.flag)
    assert code == 1
    matching = [each for each in errors.splitlines() if each.startswith(f"Error: {key}: ")]
    assert matching, errors
    assert message in matching[0]


def test_a_name_with_dots_is_found_again(store: StoreFile) -> None:
    key = "kvproxy/frontends/web.example.com/routes/main/rule"
    store.done("put", key, "Hots:a", "kvproxy/frontends/web.example.com/backend", "web")
    _, _, errors = check("--embedded", store.flag)
    assert f"Error: {key}: " in errors


def test_json_holds_the_same_facts(store: StoreFile) -> None:
    store.done("put", "kvproxy/frontends/web/prio", "1")
    code, output, errors = check("--embedded", store.flag, "--output", "json")
    assert (code, errors) == (0, "")
    report = json.loads(output)
    assert report["valid"] is True
    assert report["providers"] == ["embedded"]
    assert (report["frontends"], report["backends"]) == (1, 1)
    (problem,) = report["problems"]
    assert problem["where"] == "kvproxy/frontends/web/prio"
    assert problem["nearest"] == "priority"
    assert problem["fatal"] is False


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--embeded", "Did you mean `--embedded`?"),
        ("--embedded.pth=x", "Did you mean `--embedded.path`?"),
        ("--strct", "Did you mean `--strict`?"),
        ("--qwertzuiop", "No such option `--qwertzuiop`."),
    ],
)
def test_an_unknown_flag_is_a_usage_error_with_the_nearest(flag: str, message: str) -> None:
    code, _, errors = check(flag)
    assert code == 2
    assert message in errors


def test_a_store_that_does_not_exist_is_named_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "no-store.db"
    code, _, errors = check("--embedded", f"--embedded.path={path}")
    assert code == 1
    assert errors == f"Error: {path}: there is no store\n"
    assert not path.exists()


STORES_NOT_OPENED = {
    "old-interface": (["--etcd", "--etcd.useAPIV3=false"], "etcd: version 2 of its interface"),
    "missing-ca": (["--consul", "--consul.tls.ca=/no/file"], "`consul.tls.ca` is neither PEM text"),
    "no-endpoint": (["--etcd.endpoint="], "`etcd.endpoint` is empty; expected host:port"),
    "no-address": (["--consul.endpoint=x:99999"], "`consul.endpoint` `x:99999` is no address"),
    "chroot": (["--zookeeper.endpoint=a/b"], "zookeeper: the endpoint `a/b` names the node `/b`"),
    **{
        f"password-in-{name}": (
            [f"--{name}.endpoint=me:secret@127.0.0.1:1"],
            f"`{name}.endpoint` holds a user or password",
        )
        for name in ("etcd", "consul", "zookeeper")
    },
}


@pytest.mark.parametrize(
    ("flags", "message"), STORES_NOT_OPENED.values(), ids=list(STORES_NOT_OPENED)
)
def test_a_store_that_cannot_be_opened_is_named(
    tmp_path: Path, flags: list[str], message: str
) -> None:
    result = kvproxy("check", f"--stateDir={tmp_path}", *flags)
    assert result.exit_code == 1
    assert f"Error: {message}" in result.output
    assert "secret" not in result.output


def test_nothing_is_written(tmp_path: Path, file: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    check(f"--configFile={file}", f"--stateDir={tmp_path / 'state'}")
    assert sorted(tmp_path.rglob("*")) == before


TLS = """defaultEntryPoints = ["https"]
[entryPoints.https]
address = "127.0.0.1:8443"
[entryPoints.https.tls]
minVersion = "VersionTLS12"
cipherSuites = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
[[entryPoints.https.tls.certificates]]
certFile = "{folder}/one.crt"
keyFile = "{folder}/one.key"
[entryPoints.https.tls.clientCA]
files = ["{folder}/authority.crt"]
[entryPoints.https.tls.defaultCertificate]
certFile = "{folder}/two.crt"
keyFile = "{folder}/two.key"
"""


@pytest.fixture
def tls_file(tmp_path: Path) -> Path:
    """Return a configuration whose certificates are files beside it, all good."""
    for name in ("one", "two"):
        pair = authority().issue(f"{name}.test")
        (tmp_path / f"{name}.crt").write_text(pair.certificate)
        (tmp_path / f"{name}.key").write_text(pair.key)
    (tmp_path / "authority.crt").write_text(authority().pem)
    path = tmp_path / "kvproxy.toml"
    path.write_text(TLS.format(folder=tmp_path))
    return path


def test_good_certificates_are_valid(tls_file: Path) -> None:
    code, output, errors = check(f"--configFile={tls_file}")
    assert (code, errors) == (0, ""), output


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def take_other_key(folder: Path) -> None:
    (folder / "one.key").write_text((folder / "two.key").read_text())


def expire(folder: Path) -> None:
    pair = authority().issue("one.test", expired=True)
    (folder / "one.crt").write_text(pair.certificate)
    (folder / "one.key").write_text(pair.key)


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "kvproxy.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


FIRST = "entryPoints.https.tls.certificates.0"
DEFAULT = "entryPoints.https.tls.defaultCertificate"
AUTHORITIES = "entryPoints.https.tls.clientCA.files"
CERTIFICATE_PROBLEMS: dict[str, tuple[Callable[[Path], None], int, str, str]] = {
    "missing-certificate": (unlink("one.crt"), 8, f"{FIRST}.certFile", "cannot be read: No such"),
    "missing-key": (unlink("one.key"), 9, f"{FIRST}.keyFile", "cannot be read: No such"),
    "garbage": (write("one.crt", "garbage"), 8, f"{FIRST}.certFile", "holds no certificate"),
    "broken-certificate": (
        write("one.crt", "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"),
        8,
        f"{FIRST}.certFile",
        "cannot be parsed",
    ),
    "no-key": (write("one.key", "garbage"), 9, f"{FIRST}.keyFile", "holds no private key"),
    "other-key": (take_other_key, 9, f"{FIRST}.keyFile", "is not the key of the certificate"),
    "expired": (expire, 8, f"{FIRST}.certFile", "has expired on"),
    "default": (unlink("two.crt"), 13, f"{DEFAULT}.certFile", "cannot be read: No such"),
    "missing-authority": (unlink("authority.crt"), 11, AUTHORITIES, "cannot be read: No such"),
    "no-authority": (write("authority.crt", ""), 11, AUTHORITIES, "holds no certificate"),
    "a-folder": (
        edit("/authority.crt", ""),
        11,
        AUTHORITIES,
        "cannot be read: Is a directory",
    ),
    "min-version": (
        edit("VersionTLS12", "VersionTLS21"),
        5,
        "entryPoints.https.tls.minVersion",
        "`VersionTLS21` is no version",
    ),
    "cipher-suite": (
        edit("AES_128_GCM", "AES_129_GCM"),
        6,
        "entryPoints.https.tls.cipherSuites",
        "is no cipher suite",
    ),
}


@pytest.mark.parametrize("name", CERTIFICATE_PROBLEMS)
def test_what_tls_could_not_use_has_its_line(tls_file: Path, name: str) -> None:
    spoil, line, path, message = CERTIFICATE_PROBLEMS[name]
    spoil(tls_file.parent)
    code, _, errors = check(f"--configFile={tls_file}")
    assert code == 1
    (found,) = errors.splitlines()
    assert found.startswith(f"Error: {tls_file}:{line}: {path}: ")
    assert message in found


def test_every_bad_certificate_is_named(tls_file: Path) -> None:
    unlink("one.crt")(tls_file.parent)
    unlink("two.key")(tls_file.parent)
    unlink("authority.crt")(tls_file.parent)
    _, _, errors = check(f"--configFile={tls_file}")
    assert f"{AUTHORITIES}: " in errors
    write("authority.crt", authority().pem)(tls_file.parent)
    _, output, errors = check(f"--configFile={tls_file}")
    assert f"{FIRST}.certFile: " in errors
    assert f"{DEFAULT}.keyFile: " in errors
    assert "2 errors" in output


def test_a_bad_certificate_of_a_flag_or_a_store_has_its_place(
    store: StoreFile, tmp_path: Path
) -> None:
    flag = (
        f"--entryPoints=Name:tls.one Address:127.0.0.1:8443 TLS:{tmp_path}/a.crt,{tmp_path}/a.key"
    )
    code, _, errors = check("--embedded", store.flag, flag)
    assert code == 1
    assert errors.startswith('Error: --entryPoints: entryPoints."tls.one".tls.certificates.0.')
    key = "kvproxy/entrypoints/https/tls/certificates/0"
    values = (f"{key}/certfile", f"{tmp_path}/b.crt", f"{key}/keyfile", f"{tmp_path}/b.key")
    store.done("put", "kvproxy/entrypoints/https/address", "127.0.0.1:8444", *values)
    code, _, errors = check("--embedded", store.flag)
    assert code == 1
    assert errors.startswith(f"Error: {key}/certfile: entryPoints.https.tls.certificates.0.")
