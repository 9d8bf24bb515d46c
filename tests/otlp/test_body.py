"""Bodies are decompressed whole, or refused, and never into more than is allowed."""

from __future__ import annotations

import contextlib
import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.errors import MalformedOtlpError, OtlpError, OtlpLimitError
from afterglow.otlp.body import decompress

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def bare(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


WAYS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", bare),
    ("zstd", zstd.compress),
]
ways = pytest.mark.parametrize(("encoding", "compress"), WAYS, ids=lambda way: str(way)[:16])


@ways
@given(body=st.binary(max_size=5_000))
def test_what_was_compressed_comes_out(
    encoding: str, compress: Callable[[bytes], bytes], body: bytes
) -> None:
    assert decompress(compress(body), encoding, 5_000) == body


@pytest.mark.parametrize(("encoding", "compress"), [WAYS[0], WAYS[3]], ids=["gzip", "zstd"])
def test_members_behind_one_another_are_one_body(
    encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    assert decompress(compress(b"one ") + compress(b"two"), encoding, 100) == b"one two"


@ways
@given(data=st.data())
def test_a_cut_or_damaged_body_is_malformed_or_read(
    encoding: str, compress: Callable[[bytes], bytes], data: st.DataObject
) -> None:
    whole = compress(bytes(range(256)) * 4)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(MalformedOtlpError):
        decompress(cut, encoding, 10_000)
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(OtlpError):
        decompress(bytes(damaged), encoding, 10_000)


@ways
def test_a_bomb_is_refused_before_it_is_unpacked(
    encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    bomb = compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(OtlpLimitError, match="more than 1,000,000 bytes"):
            decompress(bomb, encoding, 1_000_000)
        with pytest.raises(OtlpLimitError):
            decompress(bomb * 3, encoding, 1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


def test_the_limit_itself_is_allowed_and_plain_bodies_have_one_too() -> None:
    assert decompress(gzip.compress(b"x" * 100), "gzip", 100) == b"x" * 100
    assert decompress(b"x" * 100, "identity", 100) == b"x" * 100
    with pytest.raises(OtlpLimitError):
        decompress(b"x" * 101, "", 100)


def test_other_encodings_are_named() -> None:
    with pytest.raises(MalformedOtlpError, match="br is no encoding of ours: identity, gzip"):
        decompress(b"x", "br", 100)
