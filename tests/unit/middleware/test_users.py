"""Users from lists and files."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from kvproxy.middleware import users as module
from kvproxy.middleware.basic_auth import parse_user
from kvproxy.middleware.users import MAX_FILE_BYTES, Users, UsersError, read_users

if TYPE_CHECKING:
    from pathlib import Path


def test_a14_a_file_with_a_comment(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("# people\n\n  test:hash1  \n\ttest2:hash2\n")
    found = read_users(parse_user, (), str(file))
    assert found == {"test": "hash1", "test2": "hash2"}


def test_the_file_wins_over_the_list(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("ann:of-the-file\n")
    found = read_users(parse_user, ("ann:of-the-list", "bob:of-the-list"), str(file))
    assert found == {"ann": "of-the-file", "bob": "of-the-list"}


def test_problems_name_the_place_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("ann:x\nbob:secret:extra\n")
    with pytest.raises(UsersError, match=rf"^{file}:2: expected `name:hash`") as caught:
        read_users(parse_user, (), str(file))
    assert "secret" not in str(caught.value)
    with pytest.raises(UsersError, match=r"^user 2: "):
        read_users(parse_user, ("ann:x", "nothing"), "")
    with pytest.raises(UsersError, match="control character"):
        read_users(parse_user, ("a\rnn:x",), "")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsersError, match="No such file"):
        read_users(parse_user, (), str(tmp_path / "nowhere"))
    with pytest.raises(UsersError, match="directory"):
        read_users(parse_user, (), str(tmp_path))
    with pytest.raises(UsersError, match="cannot be read"):
        read_users(parse_user, (), "a\x00b")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(UsersError, match="larger than 4 MiB"):
        read_users(parse_user, (), str(large))


async def refreshed(users: Users[str]) -> None:
    """Look at the file now, and wait until that is over."""
    users._next_check = 0.0
    users.refresh()
    async with asyncio.timeout(5):
        while users._reading is not None:
            await asyncio.sleep(0)


async def test_a_changed_file_is_read_again_and_a_bad_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "users"
    file.write_text("ann:1\n")
    users = Users(parse_user, ("bob:2",), str(file))
    assert users.present == {"bob": "2", "ann": "1"}
    before = users.present
    await refreshed(users)
    assert users.present is before
    file.write_text("ann:other\ncarol:3\n")
    await refreshed(users)
    assert users.present == {"bob": "2", "ann": "other", "carol": "3"}
    with caplog.at_level(logging.ERROR):
        file.write_text("ann:yet-another\nbroken\n")
        await refreshed(users)
        file.unlink()
        await refreshed(users)
    assert users.present == {"bob": "2", "ann": "other", "carol": "3"}
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    file.write_text("dave:4\n")
    await refreshed(users)
    assert users.present == {"bob": "2", "dave": "4"}


async def test_the_file_is_not_looked_at_too_often(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("ann:1\n")
    users = Users(parse_user, (), str(file))
    file.write_text("bob:2\n")
    users.refresh()
    assert users._reading is None
    assert users.present == {"ann": "1"}
    assert module.CHECK_SECONDS <= 1
