"""From the intake to the sinks: the buffer, and who flushes it.

Embedded is one process: a buffer with a journal, a flusher in a thread. Cluster is one of many: a
buffer in Redis, flushers in processes under a supervisor. Each starts its parts through `Steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from afterglow import buffering
from afterglow.clock import Clock, SteadyClock
from afterglow.collecting.exposition import Sample
from afterglow.collecting.folder import Folder
from afterglow.collecting.health import Health
from afterglow.collecting.log import Log, LogReport
from afterglow.collecting.reaching import Reaching
from afterglow.collecting.settings import ServeSettings
from afterglow.collecting.sinks import Sinks, stores_in_file
from afterglow.collecting.steps import Steps
from afterglow.collecting.supervising import SupervisorThread
from afterglow.counts import Counted, Counts
from afterglow.flush.flusher import FlushCounts, Flusher
from afterglow.flush.service import FlusherThread
from afterglow.model.segment import BufferedSpan
from afterglow.ports import SegmentBuffer
from afterglow.sink.project_files import ProjectFiles
from afterglow.sink.visible import Visible

__all__ = ["Between", "start_cluster", "start_embedded"]

#: Of the time for stopping, so much is for the flushers.
_FLUSH_SHARE: Final = 0.6
#: ... and so much for what was accepted and is not in the file yet.
_VISIBLE_SHARE: Final = 0.3
#: ... and so much for a question to Redis that is under way.
_REACH_SHARE: Final = 0.1


@dataclass(frozen=True)
class Between:
    """What the rest of a service sees. `samples` never raises; `failure` is what ended it."""

    buffer: SegmentBuffer
    #: What spans are timed by as they come.
    clock: Clock
    samples: Callable[[], Iterable[Sample]]
    #: What sinks in other processes counted.
    counted: Callable[[], Counted] = dict
    failure: Callable[[], BaseException | None] = lambda: None
    on_accepted: Callable[[list[BufferedSpan]], None] | None = None


def start_embedded(
    settings: ServeSettings,
    folder: Folder,
    sinks: Sinks,
    counts: Counts,
    log: Log,
    steps: Steps,
    health: Health,
) -> Between:
    """Read the journal back into the buffer, then flush. Raises what keeps it from that."""
    files = visible = None
    if stores_in_file(settings):
        files = ProjectFiles(settings.database)
        steps.add("store", lambda _left_s: files.close())
        visible = Visible(files, max_span_bytes=settings.buffer.max_span_bytes, report=log.report)
    sink = sinks.open(counts, log.report, files=files)
    clock = SteadyClock()
    buffer = buffering.open_journaled(
        settings.buffer, folder.intake, settings.intake, now_ns=clock.wall_ns(), report=log.report
    )
    steps.add("buffer", lambda _left_s: buffer.close())
    flusher = Flusher(
        buffer, sink, owner=buffering.owner_name(0), config=settings.flush,
        lease_s=settings.buffer.lease_s, report=log.report, clock=clock,
    )  # fmt: skip
    thread = FlusherThread(
        flusher, config=msgspec.structs.replace(settings.flush, stop_timeout_s=1.0),
        report=log.report,
    )  # fmt: skip
    steps.add("flusher", lambda _left_s: thread.close())
    health.alive("flusher", lambda: None if thread.is_alive else "its thread has ended")
    if visible is not None:
        visible.start()
        steps.add("what is visible", lambda left_s: visible.close(left_s() * _VISIBLE_SHARE))

    def samples() -> Iterator[Sample]:
        yield Sample("afterglow_buffer_held_bytes", buffer.held_bytes)
        yield Sample("afterglow_journal_bytes", buffer.journal_bytes)
        yield from _flush_samples("0", flusher.counts, up=thread.is_alive, deaths=0)

    return Between(
        buffer, clock, samples, on_accepted=visible.accept if visible is not None else None
    )


def start_cluster(
    settings: ServeSettings,
    sinks: Sinks,
    counts: Counts,
    log: Log,
    steps: Steps,
    health: Health,
    ended: Callable[[], None],
    waking: Callable[[Callable[[], None]], None],
) -> Between:
    """Connect, then start flushers and wait until all are healthy.

    `ended` is called when the supervisor ended by itself; what `waking` is given is to be called
    when stopping is asked for meanwhile. Raises SpanBufferError, FlusherError.
    """
    buffer = buffering.open_buffer(settings.buffer, role="collector")
    steps.add("buffer", lambda _left_s: buffer.close())
    stop_s = min(settings.flush.stop_timeout_s, settings.serve.drain_timeout_s * _FLUSH_SHARE)
    flush = msgspec.structs.replace(settings.flush, stop_timeout_s=max(stop_s, 0.1))
    supervisor = SupervisorThread(
        partial(
            buffering.supervised, settings.buffer, flush, sinks, log.report,
            child_report=LogReport(settings.serve, "flusher", log.secrets),
        ),
        ended,
    )  # fmt: skip
    waking(supervisor.wake)
    steps.add("flushers", lambda _left_s: supervisor.close())
    supervisor.start()
    health.alive("flushers", lambda: _unwell(supervisor))
    reaching = Reaching(buffer.ledger, log.report)
    reaching.start()
    steps.add("reaching", lambda left_s: reaching.close(left_s() * _REACH_SHARE))
    health.ready("buffer", lambda: reaching.problem)

    def samples() -> Iterator[Sample]:
        for one in supervisor.status:
            up = one.state == "healthy" and supervisor.is_alive
            yield from _flush_samples(str(one.number), one.counts, up=up, deaths=one.deaths)

    return Between(
        buffer,
        SteadyClock(),
        samples,
        counted=lambda: _sum(one.counted for one in supervisor.status),
        failure=lambda: supervisor.failure,
    )


def _sum(counted: Iterable[Counted]) -> Counted:
    total: Counted = {}
    for one in counted:
        for key, count in one.items():
            total[key] = total.get(key, 0) + count
    return total


def _unwell(supervisor: SupervisorThread) -> str | None:
    if not supervisor.is_alive:
        return str(supervisor.failure or "the supervisor has ended")
    down = [one for one in supervisor.status if one.state != "healthy"]
    if down:
        return ", ".join(f"flusher {one.number} is {one.state}" for one in down)
    return None


def _flush_samples(flusher: str, counts: FlushCounts, *, up: bool, deaths: int) -> Iterator[Sample]:
    labels = (("flusher", flusher),)
    yield Sample("afterglow_flusher_up", int(up), labels)
    yield Sample("afterglow_flusher_deaths_total", deaths, labels)
    for name, value in (
        ("pages", counts.pages),
        ("parts", counts.parts),
        ("spans", counts.spans),
        ("payload_bytes", counts.payload_bytes),
        ("refused_spans", counts.refused_spans),
        ("retries", counts.retries),
        ("stale_parts", counts.stale),
        ("released_parts", counts.released),
    ):
        yield Sample(f"afterglow_flusher_{name}_total", value, labels)
