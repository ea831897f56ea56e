from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvproxy.config.files import expand, find_configuration_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home" / ".kvproxy").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(
        "kvproxy.config.files.SEARCHED",
        (f"{tmp_path}/etc.toml", "$HOME/.kvproxy/kvproxy.toml", "./kvproxy.toml"),
    )
    return tmp_path


def find(here: Path, given: str = "") -> Path | str | None:
    path, problem = find_configuration_file(given, {"HOME": str(here / "home")})
    assert path is None or problem is None
    return str(problem) if problem else path


def test_search_order(here: Path) -> None:
    assert find(here) is None
    for path in (
        here / "work" / "kvproxy.toml",
        here / "home" / ".kvproxy" / "kvproxy.toml",
        here / "etc.toml",
    ):
        path.touch()
        assert find(here) == path


def test_a_directory_in_the_search_path_is_no_file(here: Path) -> None:
    (here / "work" / "kvproxy.toml").mkdir()
    assert find(here) is None


def test_without_a_home(here: Path) -> None:
    (here / "work" / "kvproxy.toml").touch()
    path, problem = find_configuration_file("", {})
    assert (path, problem) == (here / "work" / "kvproxy.toml", None)


def test_given_file(here: Path) -> None:
    (here / "work" / "kvproxy.toml").touch()
    (here / "my-conf.toml").touch()
    assert find(here, "../my-conf.toml") == here / "work" / ".." / "my-conf.toml"
    assert find(here, "$HOME/../my-conf.toml") == here / "home" / ".." / "my-conf.toml"


def test_given_directory(here: Path) -> None:
    directory = here / "given"
    directory.mkdir()
    message = "holds no configuration; expected kvproxy.toml or traefik.toml in it"
    assert message in str(find(here, str(directory)))
    (directory / "traefik.toml").touch()
    assert find(here, str(directory)) == directory / "traefik.toml"
    (directory / "kvproxy.toml").touch()
    assert find(here, str(directory)) == directory / "kvproxy.toml"


def test_missing_file_is_an_error_and_no_reason_to_search(here: Path) -> None:
    (here / "work" / "kvproxy.toml").touch()
    found = find(here, "missing.toml")
    assert found == "--configFile: `missing.toml` does not exist; expected a file or a directory"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A/x", "1/x"), ("${A}x", "1x"), ("$B", ""), ("a$", "a$"), ("$Ax", ""), ("$$A", "$1"),
    ],
)  # fmt: skip
def test_expand(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected
