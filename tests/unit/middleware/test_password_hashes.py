"""Password hashes: what other programs wrote is read, and nothing else matches."""

from __future__ import annotations

import shutil
import subprocess

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.middleware.password_hashes import cost, is_slow, md5_crypt, verify

BCRYPT = bcrypt.hashpw(b"test", bcrypt.gensalt(4)).decode()
HASHES = {
    "A03-apr1": "$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/",
    "A06-sha": "{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=",
    "A07-md5": "$1$abcdefgh$irWbblnpmw.5z7wgBnprh0",
    **{f"bcrypt-2{letter}": f"$2{letter}{BCRYPT[3:]}" for letter in "abxy"},
}


@pytest.mark.parametrize("hashed", HASHES.values(), ids=HASHES)
def test_a_right_password_matches_and_others_do_not(hashed: str) -> None:
    assert verify(b"test", hashed)
    for wrong in (b"", b"Test", b"test ", b"test\x00", hashed.encode()):
        assert not verify(wrong, hashed), wrong


@pytest.mark.parametrize(
    "hashed",
    ["test", "", "{SHA}", "$2a$", "$2b$10$short", "$apr1$", "$1$salt$", "$6$salt$x", "{MD5}x"],
)
def test_what_is_no_hash_matches_nothing(hashed: str) -> None:
    assert not verify(hashed.encode(), hashed)
    assert not verify(b"", hashed)


def test_bcrypt_passes_over_what_is_beyond_72_bytes() -> None:
    hashed = bcrypt.hashpw(b"a" * 72, bcrypt.gensalt(4)).decode()
    assert verify(b"a" * 72 + b"beyond", hashed)
    assert not verify(b"a" * 71, hashed)


def test_the_cost_grows_with_the_time() -> None:
    kinds = ["{SHA}x", "$apr1$s$x", "$2y$05$x", "$2y$12$x"]
    assert [cost(each) for each in kinds] == sorted({cost(each) for each in kinds})
    assert [is_slow(each) for each in kinds] == [False, True, True, True]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
@settings(max_examples=15)
@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=70),
    st.text("./0123456789ABCXYZabcxyz", min_size=8, max_size=8),
    st.sampled_from([("-apr1", b"$apr1$"), ("-1", b"$1$")]),
)
def test_md5_crypt_is_that_of_openssl(password: str, salt: str, kind: tuple[str, bytes]) -> None:
    command = ["openssl", "passwd", kind[0], "-salt", salt, "-stdin"]
    done = subprocess.run(command, input=password.encode(), capture_output=True, check=True)
    assert md5_crypt(password.encode(), salt.encode(), kind[1]) == done.stdout.strip()
