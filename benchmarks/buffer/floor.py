"""The least that keeping spans in Redis can cost: compress, and SET ... EX the same bytes.

Blobs are cut as the buffer cuts them: the spans of one trace in one batch, of at most a chunk's
size. No ids, no index, no books: what is kept so cannot be found again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import hiredis
import zstandard
from redis import Redis
from redis.crc import key_slot

from afterglow.buffer.connect import address_of
from afterglow.config import BufferConfig
from afterglow.model.segment import BufferedSpan

__all__ = ["Floor", "blobs_of"]

#: As in afterglow.buffer.squeeze.
_LEVEL = 1
_PAGE_BLOBS = 2_000
_TTL_S = b"1209600"


def blobs_of(batch: Sequence[BufferedSpan]) -> list[bytes]:
    """The payloads of a batch by trace, cut at the size of a chunk."""
    most = BufferConfig().chunk_bytes
    by_trace: dict[bytes, list[bytes]] = {}
    for span in batch:
        by_trace.setdefault(span.trace_id, []).append(span.payload)
    return [blob for payloads in by_trace.values() for blob in _cut(payloads, most)]


def _cut(payloads: Sequence[bytes], most: int) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for payload in payloads:
        if held and size + len(payload) > most:
            yield b"".join(held)
            held, size = [], 0
        held.append(payload)
        size += len(payload)
    yield b"".join(held)


class Floor:
    """One plain connection to each master, and one pipeline each a call."""

    def __init__(self, url: str) -> None:
        host, port = address_of(url).hosts[0]
        self._clients: list[Redis] = []
        self._connections: list[Any] = []
        with Redis(host=host, port=port, protocol=2) as client:
            table = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        self._node_of = [0] * 16_384
        for first, last, (address, its_port, *_), *_replicas in table:
            master = Redis(host=address.decode(), port=its_port, protocol=2)
            self._clients.append(master)
            self._connections.append(master.connection_pool.get_connection())
            self._node_of[first : last + 1] = [len(self._clients) - 1] * (last + 1 - first)
        self._compress = zstandard.ZstdCompressor(level=_LEVEL).compress
        self._decompress = zstandard.ZstdDecompressor().decompress
        self._numbers = count()
        self.keys: list[bytes] = []

    def put(self, blobs: Sequence[bytes]) -> None:
        """Compress and SET ... EX each."""
        compress, pack = self._compress, hiredis.pack_command
        packed: list[list[bytes]] = [[] for _ in self._clients]
        for blob in blobs:
            key = b"floor:%d" % next(self._numbers)
            self.keys.append(key)
            node = self._node_of[key_slot(key)]
            packed[node].append(pack((b"SET", key, compress(blob), b"EX", _TTL_S)))
        for answers in self._exchange(packed):
            assert all(answer == b"OK" for answer in answers)

    def take(self) -> int:
        """GET, decompress and UNLINK all; how many bytes they were."""
        payload_bytes = 0
        pack = hiredis.pack_command
        for begin in range(0, len(self.keys), _PAGE_BLOBS):
            gets: list[list[bytes]] = [[] for _ in self._clients]
            unlinks: list[list[bytes]] = [[] for _ in self._clients]
            for key in self.keys[begin : begin + _PAGE_BLOBS]:
                node = self._node_of[key_slot(key)]
                gets[node].append(pack((b"GET", key)))
                unlinks[node].append(pack((b"UNLINK", key)))
            for answers in self._exchange(gets):
                payload_bytes += sum([len(self._decompress(blob)) for blob in answers])
            for _ in self._exchange(unlinks):
                pass
        self.keys = []
        return payload_bytes

    def _exchange(self, packed: Sequence[Sequence[bytes]]) -> Iterator[list[Any]]:
        for connection, commands in zip(self._connections, packed, strict=True):
            if commands:
                connection.send_packed_command([b"".join(commands)], check_health=False)
        for connection, commands in zip(self._connections, packed, strict=True):
            read = connection.read_response
            yield [read(disable_decoding=True) for _ in commands]

    def close(self) -> None:
        for client in self._clients:
            client.close()
