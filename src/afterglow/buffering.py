"""Builds and joins the span buffer, its flushers and their sinks, by URL.

In a service the parts start in this order, and stop in the mirror of it:

1. the connection of the control side, and through it the host's share of the shards;
2. the flusher processes, each with its own buffer (connections), then its sink;
3. whoever adds: only once all flushers are healthy is anything taken in.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from afterglow.clock import SystemClock
from afterglow.config import BufferConfig, FlushConfig, IntakeConfig
from afterglow.errors import SettingError
from afterglow.flush.drain import Drained, drain
from afterglow.flush.flusher import Flusher
from afterglow.flush.service import FlusherThread, serve
from afterglow.flush.supervisor import Supervisor
from afterglow.ports import SegmentBuffer, SegmentSink
from afterglow.sink.counted import CountedSink
from afterglow.sink.segment_file import SegmentFile
from afterglow.write.complaints import to_stderr

if TYPE_CHECKING:
    from afterglow.buffer.check import Problem
    from afterglow.buffer.connect import Nodes
    from afterglow.buffer.inspect import Inspector
    from afterglow.buffer.journaled import JournaledBuffer
    from afterglow.buffer.rollout import Rollout

__all__ = [
    "Desk",
    "FileSinks",
    "FlusherProcess",
    "desk",
    "flush_in_thread",
    "flush_service",
    "looked_at",
    "open_buffer",
    "open_journaled",
    "supervised",
]

MEMORY = "memory:"


def open_buffer(config: BufferConfig, *, role: str = "library") -> SegmentBuffer:
    """The buffer that `config.url` names.

    `role` is what `afterglow buffer rollout status` calls this process. Raises SettingError for
    what is no URL of ours, SpanBufferError for a server that cannot be used, MissingExtraError.
    """
    if config.url == MEMORY:
        from afterglow.buffer.memory import MemoryBuffer

        return MemoryBuffer(config)
    from afterglow.buffer.connect import address_of

    address_of(config.url)
    from afterglow.buffer.redis import RedisBuffer

    return RedisBuffer.from_url(config.url, config, role=role)


def open_journaled(
    config: BufferConfig,
    folder: str | os.PathLike[str],
    intake: IntakeConfig | None = None,
    *,
    now_ns: int | None = None,
    report: Callable[[str], None] = to_stderr,
) -> JournaledBuffer:
    """A buffer in memory that survives `kill -9` by a journal in this folder.

    What it held came by `now_ns` at the latest, whatever the clock said then.

    Raises SpoolBusyError where another process has the folder, and SpoolError.
    """
    from afterglow.buffer.journaled import JournaledBuffer

    return JournaledBuffer.open(folder, config, intake, now_ns=now_ns, report=report)


def flush_in_thread(
    buffer: SegmentBuffer,
    sink: SegmentSink,
    config: BufferConfig,
    flush: FlushConfig,
    report: Callable[[str], None] = to_stderr,
) -> FlusherThread:
    """A flusher of all shards in a thread of this process, as a buffer in memory needs it."""
    flusher = Flusher(
        buffer, sink, owner=owner_name(0), config=flush, lease_s=config.lease_s, report=report
    )
    return FlusherThread(flusher, config=flush, report=report)


@dataclass(frozen=True)
class FileSinks:
    """The sink of every flusher process: one file, which they share."""

    path: str

    def __call__(self, number: int) -> SegmentSink:
        return SegmentFile(self.path)


@dataclass(frozen=True)
class FlusherProcess:
    """Makes the flusher of a process; `sinks(number)` makes its sink. Goes there by pickle."""

    config: BufferConfig
    flush: FlushConfig
    sinks: Callable[[int], SegmentSink]
    report: Callable[[str], None] = to_stderr

    def __call__(self, number: int) -> Flusher:
        from afterglow.buffer.connect import connect
        from afterglow.buffer.pressure import RedisPressure
        from afterglow.buffer.redis import RedisBuffer

        nodes = connect(self.config.url, self.config.redis_timeout_s)
        sink = self.sinks(number)
        return Flusher(
            RedisBuffer(nodes, self.config, role="flusher"),
            sink,
            owner=owner_name(number),
            shards=(),  # until the supervisor says which
            config=self.flush,
            lease_s=self.config.lease_s,
            pressure=RedisPressure(nodes, self.config),
            report=self.report,
            owns_buffer=True,
            counted=sink.counted if isinstance(sink, CountedSink) else dict,
        )


@contextmanager
def supervised(
    config: BufferConfig,
    flush: FlushConfig,
    sinks: Callable[[int], SegmentSink],
    report: Callable[[str], None] = to_stderr,
    *,
    host: str | None = None,
    child_report: Callable[[str], None] = to_stderr,
) -> Iterator[Supervisor]:
    """A supervisor of this host's flushers, not started; whoever starts it stops it.

    `child_report` goes to the processes by pickle, as `sinks` does: each says there what is wrong.
    `host` is what the others know it by; its name and this process if left out. Raises what
    `open_buffer` does, before any process is started.
    """
    from afterglow.buffer.shard_leases import ShardLeases

    with _connected(config) as nodes:
        yield Supervisor(
            FlusherProcess(config, flush, sinks, child_report),
            config=flush,
            leases=ShardLeases(
                nodes,
                host=host or f"{socket.gethostname()}:{os.getpid()}",
                key_prefix=config.key_prefix,
                shards=config.shards,
                lease_s=flush.shard_lease_s,
            ),
            report=report,
        )


def flush_service(
    config: BufferConfig,
    flush: FlushConfig,
    path: str | os.PathLike[str],
    started: Callable[[], None] = lambda: None,
) -> None:
    """Flush into a file until SIGTERM or SIGINT. Raises FlusherError when that cannot go on."""
    with supervised(config, flush, FileSinks(str(Path(path).absolute()))) as supervisor:
        SegmentFile(path).close()  # a path that cannot be is said here, once
        serve(supervisor, started)


def looked_at(config: BufferConfig) -> str:
    """Whether a buffer could be opened, in words; nothing is written. Raises SpanBufferError."""
    with _connected(config) as nodes:
        from afterglow.buffer.opening import refuse_eviction

        refuse_eviction(nodes)
        masters = sum(1 for _ in nodes.masters())
        shown = nodes.address.url
    return f"{shown} answers, {masters} {'master' if masters == 1 else 'masters'}"


# --- for operators ------------------------------------------------------------------------


class Desk:
    """What an operator may ask and do; made by `desk`, which closes it."""

    def __init__(self, nodes: Nodes, config: BufferConfig) -> None:
        from afterglow.buffer.inspect import Inspector
        from afterglow.buffer.rollout import Rollout

        self._nodes = nodes
        self._config = config
        #: The URL, as it may be shown.
        self.address = nodes.address.url
        self.inspector: Inspector = Inspector(nodes, config)
        self.rollout: Rollout = Rollout(nodes, config, self.inspector.held)

    def check(self) -> list[Problem]:
        """Everything in Redis that is not as it should be."""
        from afterglow.buffer.check import check

        return check(self._nodes, self._config, now_ns())

    def flushers(self) -> list[str]:
        """The flushers that run now, as (host:pid)."""
        return [
            f"{one.host}:{one.pid}"
            for one in self.rollout.processes()
            if one.role == "flusher" and one.standing != "gone"
        ]

    def drain(
        self, path: str | os.PathLike[str], progress: Callable[[int], None] = lambda _: None
    ) -> Drained:
        """Write all that is held to a file. Raises SinkError, SpanBufferError."""
        sink = SegmentFile(path)
        try:
            buffer = open_buffer(self._config, role="drain")
            try:
                return drain(
                    buffer, sink, now_ns(), owner=owner_name(0), config=self._config,
                    progress=progress,
                )  # fmt: skip
            finally:
                buffer.close()
        finally:
            sink.close()


@contextmanager
def desk(config: BufferConfig) -> Iterator[Desk]:
    """The operator's view of the buffer at `config.url`. Raises as `open_buffer` does."""
    with _connected(config) as nodes:
        yield Desk(nodes, config)


@contextmanager
def _connected(config: BufferConfig) -> Iterator[Nodes]:
    if config.url == MEMORY:
        raise SettingError(
            "a buffer in memory is in its collector alone: name one in Redis with --url or "
            "AFTERGLOW_BUFFER_URL, such as redis://host:6379"
        )
    from afterglow.buffer.connect import connect

    nodes = connect(config.url, config.redis_timeout_s)
    try:
        yield nodes
    finally:
        nodes.close()


def owner_name(number: int) -> str:
    """Who a lease belongs to: no two flushers that ever lived have the same."""
    return f"{socket.gethostname()}:{os.getpid()}:{number}:{os.urandom(4).hex()}"


def now_ns() -> int:
    """Nanoseconds since 1970."""
    return SystemClock().wall_ns()
