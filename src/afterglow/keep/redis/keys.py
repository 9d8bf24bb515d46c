"""Every Redis key of the trace store's hot tier (docs/redis-keys.md).

The braces are Redis Cluster's hash tag: what is within decides the slot. A partition is spread
over BUCKETS of them, so that it uses the whole cluster; all keys of a bucket are in one slot, so
that one script may touch them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from zlib import crc32

__all__ = ["BUCKETS", "Bucket", "bucketed"]

BUCKETS: Final = 64
_PREFIX: Final = b"afterglow:keep"


class Bucket:
    """The keys of one bucket of a partition of a database."""

    def __init__(self, identity: str, partition_id: int, number: int) -> None:
        self._start = b"%s:{%s.%d.%d}:" % (_PREFIX, identity.encode(), partition_id, number)

    @property
    def index(self) -> bytes:
        """Sorted set: keys of entries, by when they were filled (ms since 1970)."""
        return self._start + b"filled"

    def entry(self, trace_id: str) -> bytes:
        """String: version, epoch, and an entry; nothing after those marks it as changed."""
        return self._start + b"entry:" + trace_id.encode("utf-8", "surrogatepass")


def bucketed(
    identity: str, partition_id: int, ids: Iterable[str]
) -> list[tuple[Bucket, list[str]]]:
    """Ids by the bucket that they are in."""
    by_number: dict[int, list[str]] = {}
    for trace_id in ids:
        number = crc32(trace_id.encode("utf-8", "surrogatepass")) % BUCKETS
        by_number.setdefault(number, []).append(trace_id)
    return [(Bucket(identity, partition_id, n), some) for n, some in sorted(by_number.items())]
