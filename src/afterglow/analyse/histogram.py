"""Histograms of durations as bytes, so that a file can go on counting where rows are gone.

The buckets are those of `analyse/statistics.py`. A histogram is the msgpack array of bucket and
count in turn, ascending, each bucket as its distance from the one before: some 3 bytes a bucket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import ceil

import msgspec

from afterglow.analyse.statistics import bucket_value

__all__ = ["decode_histogram", "encode_histogram", "halved", "percentile"]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[int]).decode


def encode_histogram(counts: Mapping[int, int]) -> bytes:
    """The bytes of a histogram: count by bucket."""
    flat: list[int] = []
    before = 0
    for bucket in sorted(counts):
        flat += bucket - before, counts[bucket]
        before = bucket
    return _encode(flat)


def decode_histogram(encoded: bytes) -> Counter[int]:
    """Count by bucket. Raises ValueError for bytes that are no histogram."""
    try:
        flat = _decode(encoded)
    except msgspec.DecodeError as error:
        raise ValueError(f"no histogram: {error}") from error
    counts: Counter[int] = Counter()
    bucket = 0
    for distance, count in zip(flat[::2], flat[1::2], strict=True):
        bucket += distance
        counts[bucket] = count
    return counts


def percentile(counts: Mapping[int, int], share: float) -> float:
    """The duration (ns) below which `share` (0 to 1) lies, by nearest rank; 0 of nothing."""
    rank = max(1, ceil(share * sum(counts.values())))
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return bucket_value(bucket)
    return 0.0


def halved(counts: Mapping[int, int]) -> Counter[int]:
    """Half of each count, what comes to nothing left away: the past counts less."""
    return Counter({bucket: count // 2 for bucket, count in counts.items() if count > 1})
