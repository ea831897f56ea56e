from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from kvproxy.config.last_keys import FILE_NAME, keep, recall
from kvproxy.config.static_keys import StaticKeys, StorePlace
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import ConsulProvider, EtcdProvider

if TYPE_CHECKING:
    from pathlib import Path

PLACE = StorePlace("etcd", EtcdProvider(), StaticConfiguration())
KEYS = StaticKeys(PLACE, 7, {"loglevel": b"DEBUG", "rootcas/0": b"\xff\x00"})


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    assert recall(tmp_path, PLACE) is None
    keep(tmp_path, KEYS)
    assert recall(tmp_path, PLACE) == KEYS
    keep(tmp_path, replace(KEYS, values={}))
    assert recall(tmp_path, PLACE) == replace(KEYS, values={})
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    keep(tmp_path, KEYS)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_the_same_again_is_not_written(tmp_path: Path) -> None:
    keep(tmp_path, KEYS)
    before = (tmp_path / FILE_NAME).stat().st_ino
    keep(tmp_path, KEYS)
    assert (tmp_path / FILE_NAME).stat().st_ino == before


@pytest.mark.parametrize(
    "other",
    [
        StorePlace("consul", ConsulProvider(endpoint="127.0.0.1:2379"), StaticConfiguration()),
        StorePlace("etcd", EtcdProvider(endpoint="10.0.0.1:2379"), StaticConfiguration()),
        StorePlace("etcd", EtcdProvider(prefix="/other"), StaticConfiguration()),
    ],
    ids=["store", "address", "prefix"],
)
def test_keys_of_another_store_do_not_count(tmp_path: Path, other: StorePlace) -> None:
    keep(tmp_path, KEYS)
    assert recall(tmp_path, other) is None


@pytest.mark.parametrize("position", [0, 30, 120, -3])
def test_a_damaged_file_counts_as_none(tmp_path: Path, position: int) -> None:
    keep(tmp_path, KEYS)
    path = tmp_path / FILE_NAME
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert recall(tmp_path, PLACE) is None


def test_a_truncated_file_counts_as_none(tmp_path: Path) -> None:
    keep(tmp_path, KEYS)
    path = tmp_path / FILE_NAME
    os.truncate(path, path.stat().st_size // 2)
    assert recall(tmp_path, PLACE) is None


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        keep(tmp_path / "missing", KEYS)
