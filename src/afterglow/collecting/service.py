"""`afterglow serve` as one object: its parts start in order, and stop in the mirror of it.

    folder and store, buffer, flushers, retention, intake, faces; then it is ready

Stopping: not ready, the gate of the intake shut, the faces, retention, the flushers (the page in
hand; the rest is safe in the journal or in Redis), the buffer. A watchdog ends the process when
that takes longer than `drain_timeout_s`, for nothing that was acknowledged is lost by that.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from afterglow.clock import Clock, SystemClock
from afterglow.collecting.between import Between, start_cluster, start_embedded
from afterglow.collecting.exposition import CONTENT_TYPE, Sample, exposition
from afterglow.collecting.faces import Faces, Route
from afterglow.collecting.folder import Folder
from afterglow.collecting.health import Answer, Health
from afterglow.collecting.log import Log, LogReport, listen_to_logging
from afterglow.collecting.process import process_samples
from afterglow.collecting.reach import postgres_answers
from afterglow.collecting.retaining import Retaining
from afterglow.collecting.sending import queues_in
from afterglow.collecting.settings import ServeSettings
from afterglow.collecting.signals import Bell, stop_signals
from afterglow.collecting.sinks import Sinks, in_postgres, places_of, projects_of, stores_in_file
from afterglow.collecting.steps import Steps
from afterglow.counts import Counts
from afterglow.errors import AfterglowError
from afterglow.store.schema import verify
from afterglow.version import VERSION

__all__ = ["Service", "serve"]

#: Beyond the bound of a stop, until the process is ended.
_GRACE_S: Final = 2.0
_ENDED: Final = 3


class Service:
    """`start`, `wait`, `stop`; in one thread. `ask_to_stop` may be called by any."""

    def __init__(self, settings: ServeSettings, log: Log, clock: Clock | None = None) -> None:
        self.settings = settings
        self.log = log
        self.counts = Counts()
        self.health = Health()
        self.faces: Faces | None = None
        self._clock = clock or SystemClock()
        self._start_ns = self._clock.wall_ns()
        self._bell = Bell()
        self._steps = Steps(self._clock, lambda line: log.say(line, "error"))
        self._wakers: list[Callable[[], None]] = []
        self._between: Between | None = None
        self._retaining: Retaining | None = None

    # --- from start to stop

    def start(self) -> None:
        """Start all parts; what had started is stopped again if one does not.

        Raises an AfterglowError, or an OSError, that says in one line what is in the way.
        """
        try:
            self._start()
        except BaseException:
            self._steps.stop(self.settings.serve.drain_timeout_s)
            raise
        self.health.open()

    def ask_to_stop(self) -> None:
        """`wait` returns, and whatever waits while it starts gives up. Never blocks."""
        self._bell.ring()
        for wake in self._wakers:
            wake()

    @property
    def is_asked_to_stop(self) -> bool:
        return self._bell.has_rung

    def wait(self) -> None:
        """Until stopping is asked for, or a part ended by itself: what it raised is raised."""
        self._bell.wait()
        if self._between is not None and (failure := self._between.failure()) is not None:
            raise failure

    def stop(self) -> None:
        """Stop all parts within `drain_timeout_s`; may be called twice."""
        self.health.close("stopping")
        self._steps.stop(self.settings.serve.drain_timeout_s)

    def _start(self) -> None:
        settings, log, steps = self.settings, self.log, self._steps
        if stores_in_file(settings) and settings.database.exists():
            verify(settings.database)
        if in_postgres(settings) is not None:
            postgres_answers(settings)
        folder = Folder(settings.folder)
        steps.add("folder", lambda _left_s: folder.close())
        if not stores_in_file(settings):
            folder.note_elsewhere()
        sinks = Sinks(settings, LogReport(settings.serve, "flusher", log.secrets))
        if settings.is_embedded:
            self._between = start_embedded(
                settings, folder, sinks, self.counts, log, steps, self.health
            )
        else:
            self._between = start_cluster(
                settings, sinks, self.counts, log, steps, self.health, self._bell.ring,
                self._wakers.append,
            )  # fmt: skip
        if self._bell.has_rung:
            return  # stopping was asked for meanwhile: nothing is taken in any more
        if settings.serve.retention and places_of(settings) is not None:
            self._start_retention()
        self.faces = Faces(settings, self._between, self.counts, log, self._routes())
        self.faces.start(steps, self.health)

    def _start_retention(self) -> None:
        places = places_of(self.settings)
        assert places is not None
        retaining = Retaining(
            places,
            self.settings.retention,
            report=self.log.report,
        )
        retaining.start()
        self._steps.add("retention", lambda left_s: retaining.close(left_s()))
        self.health.alive("retention", lambda: None if retaining.is_alive else "it has ended")
        self._retaining = retaining

    # --- what it says of itself

    def _routes(self) -> dict[str, Route]:
        routes: dict[str, Route] = {
            "/healthz": lambda: _plain(self.health.healthz()),
            "/readyz": lambda: _plain(self.health.readyz()),
        }
        if self.settings.serve.metrics:
            routes["/metrics"] = lambda: (200, CONTENT_TYPE, self.metrics().encode())
        return routes

    def _queue_samples(self) -> Iterator[Sample]:
        spans, size = Counter[str](), Counter[str]()
        for name, books in queues_in(self.settings.folder):
            spans[name] += books.queued
            size[name] += books.queued_bytes
        for name in spans:
            yield Sample("afterglow_queue_spans", spans[name], (("sink", name),))
            yield Sample("afterglow_queue_bytes", size[name], (("sink", name),))

    def greeting(self) -> Iterator[str]:
        """For a person: where it listens, where spans go, what to set and what to ask."""
        settings = self.settings
        if self.faces is not None:
            yield from self.faces.greeting()
        if stores_in_file(settings):
            yield f"spans are kept in {settings.database}: afterglow report {settings.database}"
            if settings.ingest.tokens or settings.ingest.tokens_file:
                others = settings.database.with_suffix(f".PROJECT{settings.database.suffix}")
                yield f"those of other projects than default in {others}"
            if settings.serve.retention:
                yield (
                    f"retention: the file stays within {settings.retention.keep_max_bytes >> 20:,} "
                    "MiB, and what fades is forgotten (--no-retention keeps all)"
                )
        elif (url := in_postgres(settings)) is not None:
            from afterglow.store.postgres.failures import place_of

            place = place_of(url)
            yield f"spans are kept in PostgreSQL: afterglow report postgresql://{place}"
            if settings.serve.retention:
                yield "retention: what fades there is forgotten (--no-retention keeps all)"

    def metrics(self) -> str:
        """The text of a scrape; it asks the buffer for its books."""
        return exposition(self._samples())

    def _samples(self) -> Iterator[Sample]:
        yield Sample(
            "afterglow_build_info", 1,
            (("version", VERSION), ("python", platform.python_version())),
        )  # fmt: skip
        yield Sample("afterglow_ready", int(self.health.readyz().status == 200))
        yield Sample("afterglow_log_lines_left_out_total", self.log.left_out)
        counted = Counter(self.counts.read())
        if self._between is not None:
            counted.update(self._between.counted())
        for (name, labels), count in counted.items():
            yield Sample(f"afterglow_{name}_total", count, labels)
        if self._between is not None:
            yield from _buffer_samples(self._between)
            yield from self._between.samples()
        if stores_in_file(self.settings):
            for project, path in projects_of(self.settings.database):
                yield Sample("afterglow_store_bytes", _size(path), (("project", project),))
        with suppress(AfterglowError):
            yield from self._queue_samples()
        if self._retaining is not None:
            yield Sample("afterglow_retention_passes_total", self._retaining.passes)
            yield Sample(
                "afterglow_retention_forgotten_spans_total", self._retaining.forgotten_spans
            )
        yield from process_samples(self._start_ns)


def _size(database: Path) -> int:
    """Of a database and its log of changes, which is a part of it."""
    size = 0
    for path in (database, database.with_name(f"{database.name}-wal")):
        with suppress(OSError):
            size += path.stat().st_size
    return size


def _plain(answer: Answer) -> tuple[int, str, bytes]:
    return answer.status, "text/plain; charset=utf-8", answer.text.encode()


def _buffer_samples(between: Between) -> Iterator[Sample]:
    try:
        books = between.buffer.ledger()
    except AfterglowError:
        yield Sample("afterglow_buffer_up", 0)
        return
    yield Sample("afterglow_buffer_up", 1)
    yield Sample("afterglow_buffer_ingested_spans_total", books.ingested)
    yield Sample("afterglow_buffer_delivered_spans_total", books.delivered)
    yield Sample("afterglow_buffer_held_spans", books.held)
    for project, reasons in books.dropped.items():
        for reason, count in reasons.items():
            labels = (("project", project), ("reason", reason))
            yield Sample("afterglow_buffer_dropped_spans_total", count, labels)


def serve(
    settings: ServeSettings, log: Log, started: Callable[[Service], None] = lambda _: None
) -> None:
    """Run a service until SIGTERM or SIGINT, in the main thread; `started` is told when it is.

    Raises what kept it from starting, and FlusherError when it cannot go on.
    """
    heard = listen_to_logging(log)
    service = Service(settings, log)
    with stop_signals(service.ask_to_stop):
        try:
            service.start()
            if not service.is_asked_to_stop:
                started(service)
            service.wait()
            log.say("stopping")
        finally:
            watchdog = _watch(settings.serve.drain_timeout_s, log)
            service.stop()
            watchdog.set()
            logging.getLogger().removeHandler(heard)


def _watch(within_s: float, log: Log) -> threading.Event:
    """End the process when stopping takes longer than it may; the event calls that off."""
    done = threading.Event()

    def watch() -> None:
        if not done.wait(within_s + _GRACE_S):
            log.say(
                f"stopping took longer than drain_timeout_s={within_s:g}: ended; what was "
                "acknowledged is safe, and goes on with the next start", "error",
            )  # fmt: skip
            os._exit(_ENDED)

    threading.Thread(target=watch, name="afterglow watchdog", daemon=True).start()
    return done
