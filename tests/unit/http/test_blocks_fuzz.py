"""The two implementations of the codec of header blocks against each other, for a short while."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("kvproxy.http._http2", reason="not compiled")

from kvproxy.http import _http2
from kvproxy.http.frames import headers
from tests.fuzz import blocks as fuzzer
from tests.fuzz import scan


@given(
    st.sampled_from(["request", "response", "trailers"]),
    st.lists(st.binary(max_size=40), max_size=4),
    st.booleans(),
)
def test_blocks_of_any_bytes(kind: str, blocks: list[bytes], ended: bool) -> None:
    connection = fuzzer.Connection()
    for block in blocks:
        if connection.check(kind, block, 300, 5, ended) == "9":
            break


@given(st.sampled_from(["request", "response", "trailers"]), st.binary(max_size=80))
def test_encoding_of_any_bytes(kind: str, data: bytes) -> None:
    if data:
        fuzzer.check_encoding(data, kind)


def test_fuzzer() -> None:
    outcomes = fuzzer.run(seed=1, inputs=1500)
    for outcome in (
        *("decode request accepted", "decode request 1", "decode request 9"),
        *("frame request", "frame other"),
        *("decode response accepted", "decode trailers accepted", "encode response encoded"),
    ):
        assert outcomes[outcome] > 20
    fuzzer.run(seed=2, inputs=10**9, seconds=4)


def test_no_reference_is_leaked() -> None:
    rng = random.Random(3)
    maker, heads = fuzzer.Maker(rng), scan.Maker(rng)
    blocks = [maker.block("request") for _ in range(500)]
    answers = [heads.response() for _ in range(500)]

    def codec_all() -> int:
        for start in range(0, len(blocks), 10):
            decoder = _http2.BlockDecoder()
            for block in blocks[start : start + 10]:
                decoder.request(block, 4096, 100, True)
                decoder.response(block, 4096, 100)
                decoder.trailers(block, 4096, 100)
        for block in blocks:
            _http2.request_block(headers(1, block, ended=True, frame_size=16_384), 0, 1)
        for answer in answers:
            try:
                _http2.encode_response(answer)
                _http2.encode_request(answer, b"http")
            except ValueError:
                pass
        return sys.getallocatedblocks()

    codec_all()
    before = codec_all()
    for _ in range(20):
        after = codec_all()
    assert after - before < 100


@pytest.mark.parametrize(
    "arguments",
    [(), (b"",), (b"", 1), ("", 1, 1, 1), (b"", "1", 1, 1), (b"", 1, None, 1), (b"",) * 5],
    ids=repr,
)
def test_wrong_arguments(arguments: tuple[object, ...]) -> None:
    decoder = _http2.BlockDecoder()
    with pytest.raises(TypeError):
        decoder.request(*arguments)  # type: ignore[call-arg, arg-type]
    with pytest.raises(TypeError):
        decoder.response(*arguments)  # type: ignore[call-arg, arg-type]
    for argument in (None, "", bytearray()):
        with pytest.raises(TypeError):
            _http2.encode_response(argument)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            _http2.encode_trailers(argument)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [(), (b"", 0), ("", 0, 1), (b"", "0", 1), (b"", 0, None)])
def test_wrong_arguments_for_a_frame(arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        _http2.request_block(*arguments)  # type: ignore[call-arg, arg-type]


@pytest.mark.parametrize("limits", [(0, 1), (1, 0), (1, 257), (-1, 1)])
def test_limits_out_of_range(limits: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        _http2.BlockDecoder().trailers(b"", *limits)


def test_decoders_of_many_connections_keep_their_tables_apart() -> None:
    decoders = [_http2.BlockDecoder() for _ in range(50)]
    for number, decoder in enumerate(decoders):
        decoder.trailers(b"\x40\x01a\x02%02d" % number, 4096, 100)
    for number, decoder in enumerate(decoders):
        assert decoder.trailers(b"\xbe", 4096, 100) == b"A: %02d\r\n" % number
