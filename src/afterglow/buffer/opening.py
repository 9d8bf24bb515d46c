"""What a RedisBuffer is made of, built once and checked: the server must be fit to hold spans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from afterglow.buffer.adding import Adder
from afterglow.buffer.connect import Address, Nodes, saying_so
from afterglow.buffer.dictionaries import Dictionaries
from afterglow.buffer.keys import Keys
from afterglow.buffer.layouts import ChunkReader, ChunkWriter, reader_of, writer_of
from afterglow.buffer.routing import Router, command
from afterglow.buffer.sealing import Sealer
from afterglow.buffer.settling import Settler
from afterglow.buffer.squeeze import Squeezer
from afterglow.buffer.taking import Taker
from afterglow.clock import Clock
from afterglow.config.buffer import BufferConfig
from afterglow.errors import SpanBufferError
from afterglow.model.segment import BufferBooks

__all__ = ["Parts", "open_parts"]

_PHASES = range(4)


@dataclass(frozen=True)
class Parts:
    """The working parts of one RedisBuffer."""

    router: Router
    keys: Keys
    adder: Adder
    taker: Taker
    settler: Settler
    writers: tuple[ChunkWriter, ...]
    readers: tuple[ChunkReader, ...]

    def ledger(self) -> BufferBooks:
        """The sum of the books of all buckets."""
        answers = self.router.sure([command(key, b"HGETALL", key) for key in self.keys.books])
        total: dict[bytes, int] = {}
        for pairs in answers:
            for field, n in zip(pairs[::2], pairs[1::2], strict=True):
                total[field] = total.get(field, 0) + int(n)
        return books_of(total)


def books_of(fields: dict[bytes, int]) -> BufferBooks:
    """Books from their fields: i, d, h:<project>, x:<reason>:<project>."""
    held = 0
    dropped: dict[str, dict[str, int]] = {}
    for field, n in fields.items():
        kind, _, rest = field.partition(b":")
        if kind == b"h":
            held += n
        elif kind == b"x" and n:
            reason, _, project = rest.partition(b":")
            name = project.decode("utf-8", "surrogatepass")
            dropped.setdefault(name, {})[reason.decode()] = n
    return BufferBooks(fields.get(b"i", 0), fields.get(b"d", 0), held, dropped)


def open_parts(nodes: Nodes, config: BufferConfig, clock: Clock | None) -> Parts:
    """Build everything. Raises SpanBufferError for a server that may evict keys."""
    refuse_eviction(nodes)
    address = nodes.address
    router = Router(
        connector(address, config, nodes),
        address.hosts or (("", 0),),
        url=address.url,
        is_cluster=address.is_cluster,
        timeout_s=config.redis_timeout_s,
        clock=clock,
    )
    keys = Keys(config.key_prefix)
    squeezer = Squeezer()
    replicas = config.wait_replicas
    if replicas is None:
        replicas = 1 if address.is_cluster else 0
    dictionaries = Dictionaries(router, keys, squeezer, max(round(config.ttl_s), 1))
    sealer = Sealer(router, keys, config, squeezer, dictionaries, replicas)
    settler = Settler(router, keys, config, replicas)
    return Parts(
        router,
        keys,
        Adder(router, keys, config, squeezer, dictionaries, replicas),
        Taker(keys, config, sealer, settler, squeezer),
        settler,
        tuple(writer_of(phase, keys) for phase in _PHASES),
        tuple(reader_of(phase, keys) for phase in _PHASES),
    )


def refuse_eviction(nodes: Nodes) -> None:
    """Spans may not vanish because memory is full. Raises SpanBufferError if they could."""
    with saying_so(nodes.address):
        for name, client in nodes.masters():
            policy = client.info("memory").get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                raise SpanBufferError(
                    f"{name} has maxmemory-policy {policy}, which lets spans vanish when memory is "
                    "full: CONFIG SET maxmemory-policy noeviction"
                )


def connector(address: Address, config: BufferConfig, nodes: Nodes) -> Callable[[str, int], Any]:
    """How to make a connection of redis-py's to one node."""
    timeout_s = config.redis_timeout_s
    if not address.is_cluster:
        pool = nodes.client.connection_pool
        settings = {**pool.connection_kwargs, "protocol": 2}
        return lambda host, port: pool.connection_class(**settings)
    kind = redis.SSLConnection if address.is_tls else redis.Connection

    def connect(host: str, port: int) -> Any:
        return kind(
            host=host,
            port=port,
            username=address.username,
            password=address.password,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )

    return connect
