"""The only place that builds and joins parts.

A tracer's parts start in this order: hand-over, core, sink, writer (its thread). They stop in
the mirror of it: `Tracer.close` closes the hand-over, the writer drains it and closes the sink.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from afterglow.clock import Clock, SystemClock, monotonic_ns
from afterglow.config import (
    JournalConfig,
    RecordConfig,
    RetentionConfig,
    RunConfig,
    SendConfig,
    WriteConfig,
    is_url,
    load,
    room_fields,
)
from afterglow.errors import MissingExtraError, SettingError, StoreError
from afterglow.handover import Handover
from afterglow.model.run import Process
from afterglow.model.span import trace_id_hex
from afterglow.ports import SpanSink
from afterglow.record import tracer as record_tracer
from afterglow.record.context import remote_parent
from afterglow.record.core import Core
from afterglow.record.follow import follow_threads
from afterglow.record.identity import identity
from afterglow.record.resource import process_resource
from afterglow.record.sampler import Budget, Sampler
from afterglow.store.journal import JournalSink
from afterglow.store.read import Database
from afterglow.store.schema import journals_of, verify
from afterglow.write.writer import Writer

if TYPE_CHECKING:
    from afterglow.keep.retention import Retention

__all__ = [
    "Tracer",
    "flush_live",
    "looked_at",
    "open_database",
    "open_retention",
    "run_program",
]

#: A look waits no longer than this for whoever writes the file.
_LOOK_BUSY_MS: Final = 250
_NAMED_BY: Final = "--db, AFTERGLOW_DATABASE"

#: Tracers that are not closed, for fork, exit and readers in the same process.
_live: weakref.WeakSet[Tracer] = weakref.WeakSet()
_hooked = False


class Tracer(record_tracer.Tracer):
    """Records spans into a file, into any `SpanSink`, or sends them to an OTLP URL (docs/send.md).

    `path_or_sink` names the database that readers open; this process writes only to a journal
    of its own in the folder `<path>.d` beside it. `run_id` names this run (32 hexadecimal
    digits if left out, or AFTERGLOW_RUN_ID). Every setting of recording, writing and journals
    can be given by name (docs/settings.md); SettingError says what is wrong with one.
    """

    def __init__(
        self,
        path_or_sink: str | os.PathLike[str] | SpanSink | None = None,
        *,
        run_id: str | None = None,
        clock: Clock | None = None,
        report: Callable[[str], None] | None = None,
        resource: Callable[[], Mapping[str, str]] | None = None,
        **settings: Any,
    ) -> None:
        record, write, journal = checked_settings(settings)
        clock = clock or SystemClock()
        if path_or_sink is None:
            path_or_sink = load(SendConfig, {}).url or "afterglow.db"
        self.run_id = _valid_run_id(
            run_id or os.environ.get("AFTERGLOW_RUN_ID") or os.urandom(16).hex()
        )
        #: What the process will end with, where somebody knows (`afterglow run` does).
        self.exit_status: int | None = None
        self._clock = clock
        #: The resource attributes of this process, asked for by each batch.
        self.resource: Callable[[], Mapping[str, str]] = resource or (
            lambda: process_resource(record.service_name)
        )
        self._start_ns = clock.wall_ns()
        #: The database this tracer's spans can be read from; None with a sink of your own.
        self.path: Path | None = None
        if isinstance(path_or_sink, str) and is_url(path_or_sink):
            from afterglow.sink.otlp_spans import spans_to

            sink: SpanSink = spans_to(path_or_sink, settings, clock, report)
        elif isinstance(path_or_sink, str | os.PathLike):
            self.path = Path(path_or_sink).absolute()
            sink = JournalSink(self.path, journal, run_id=self.run_id, pid=os.getpid())
        else:
            sink = path_or_sink
        self.sink = sink
        handover = Handover(write)
        core = Core(handover, record)
        core.base = remote_parent(
            {k: v for k, v in os.environ.items() if k in ("TRACEPARENT", "TRACESTATE")},
            parent_based=record.parent_based,
        )
        self.counts: Callable[[], Mapping[str, int]] = dict
        writer = Writer(
            handover,
            sink,
            process=self._process,
            seed=lambda: identity.seed,
            open_rows=core.open_rows,
            counts=lambda: dict(self.counts()),
            record=record,
            config=write,
            clock=clock,
            **({"report": report} if report is not None else {}),
        )
        core.wall_offset = lambda: writer.wall_offset_ns
        super().__init__(core, writer, _sampler(record, core))
        #: In the parent, round a fork: the writer's thread rests, and goes on.
        self.before_fork = writer.before_fork
        self.after_fork_in_parent = writer.after_fork_in_parent
        if record.follow_threads and record.enabled:
            follow_threads()
        writer.start()
        _live.add(self)
        _hook_process()

    def close(self) -> None:
        super().close()
        _live.discard(self)

    def _process(self, end_ns: int | None = None) -> Process:
        """This process, as its batches describe it; the writer gives the end with the last."""
        return Process(
            run_id=self.run_id,
            pid=os.getpid(),
            parent_pid=os.getppid(),
            argv=tuple(getattr(sys, "argv", None) or [sys.executable]),
            host=socket.gethostname(),
            start_ns=self._start_ns,
            end_ns=end_ns,
            exit_status=self.exit_status,
            resource=dict(self.resource()),
        )

    def after_fork(self) -> None:
        self._start_ns = self._clock.wall_ns()
        super().after_fork()


def checked_settings(
    settings: Mapping[str, Any],
) -> tuple[RecordConfig, WriteConfig, JournalConfig]:
    """The settings of a tracer, by room; SettingError for what cannot be used."""
    known = room_fields(RecordConfig, WriteConfig, JournalConfig)
    known |= {f"send_{name}" for name in room_fields(SendConfig)}
    unknown = sorted(settings.keys() - known)
    if unknown:
        raise SettingError(f"unknown setting {unknown[0]!r}: there are {', '.join(sorted(known))}")
    return load(RecordConfig, settings), load(WriteConfig, settings), load(JournalConfig, settings)


def is_enabled(settings: Mapping[str, Any]) -> bool:
    """Whether these settings, and the environment, have spans recorded."""
    return load(RecordConfig, settings).enabled


def open_database(
    path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> Database:
    """Open a file for reading; what processes have written beside it is folded in first.

    `progress(done, total)` is called while folding, in bytes of journal. Raises StoreError,
    with one line that says what to do, for a file that is missing, not ours, newer or damaged.
    Nothing is forgotten by it, unless the setting `keep_when_read` says so.
    """
    flush_live(path)
    if load(RetentionConfig, {}).keep_when_read:
        with open_retention(path) as retention:
            retention.step(progress=progress)
    return Database(Path(path), progress=progress)


def open_retention(
    path: str | os.PathLike[str], *, clock: Clock | None = None, **settings: Any
) -> Retention:
    """Open a file to let its traces fade (keep/retention.py). `settings` are RetentionConfig's.

    Raises SettingError and StoreError.
    """
    from afterglow.keep.retention import Retention

    config = load(RetentionConfig, settings)
    flush_live(path)
    return Retention(Path(path), config, clock=clock)


def looked_at(path: str | os.PathLike[str], trace_ids: Iterable[int]) -> None:
    """Somebody looked at these traces of a file, or exported them: they stay longer.

    Only where `afterglow keep` knows them. It never fails: looking needs no writing.
    """
    from afterglow.keep.retention import Retention

    config = load(RetentionConfig, {})
    ids = {trace_id_hex(trace) for trace in trace_ids}
    if not (config.keep_looks and ids and Path(path).exists()):
        return
    with suppress(StoreError), Retention(Path(path), config, busy_ms=_LOOK_BUSY_MS) as retention:
        retention.reinforce(ids)


def flush_live(path: str | os.PathLike[str]) -> None:
    """Write out what tracers of this process hold for a file, so that a reader finds it."""
    wanted = Path(path).absolute()
    for tracer in list(_live):
        if tracer.path == wanted:
            tracer.flush()


def _sampler(config: RecordConfig, core: Core) -> Sampler | None:
    budget = None
    if config.max_spans_per_second is not None:
        handover, registry = core.handover, core.registry
        budget = Budget(
            config.max_spans_per_second,
            lambda: handover.passed + len(registry),
            monotonic_ns(),
        )
    if budget is None and config.sample_ratio >= 1.0:
        return None
    return Sampler(config.sample_ratio, budget)


def _valid_run_id(run_id: str) -> str:
    if not 0 < len(run_id) <= 128 or not run_id.isprintable():
        raise SettingError(f"run_id={run_id!r} is not 1 to 128 printable characters")
    return run_id


# --- the process: fork and exit -----------------------------------------------------------


def _hook_process() -> None:
    global _hooked  # noqa: PLW0603  once a process
    if not _hooked:
        _hooked = True
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child,
        )
        atexit.register(_close_all)
    _hook_multiprocessing()


def _before_fork() -> None:
    if _live:
        _hook_multiprocessing()
    before, threads = _system_threads(), threading.active_count()
    for tracer in list(_live):
        tracer.before_fork()
    if threading.active_count() < threads:
        # A joined thread is still the system's for a moment: Python (from 3.12 on) would see it,
        # and warn of forking beside threads. A hundred turns are a millisecond.
        for _ in range(100):
            if _system_threads() < before:
                break
            os.sched_yield()


def _system_threads() -> int:
    """How many threads the system sees in this process; 0 where it does not say."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 0


def _after_fork_in_parent() -> None:
    for tracer in list(_live):
        tracer.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for tracer in list(_live):
        tracer.after_fork()


def _close_all() -> None:
    for tracer in list(_live):
        tracer.close()


def _hook_multiprocessing() -> None:
    """multiprocessing's children leave by os._exit, without atexit; it has exits of its own."""
    util = sys.modules.get("multiprocessing.util")
    if util is None or getattr(util, "_afterglow_hooked", False):
        return
    util._afterglow_hooked = True  # type: ignore[attr-defined]
    _close_with_multiprocessing(_close_all)
    # A forked child clears the finalisers it inherited, then runs what is registered here.
    util.register_after_fork(_close_all, _close_with_multiprocessing)


def _close_with_multiprocessing(_registered: object) -> None:
    util = sys.modules["multiprocessing.util"]
    util.Finalize(None, _close_all, exitpriority=-100)  # after all the program's own


# --- afterglow run ------------------------------------------------------------------------


def run_program(
    target: str,
    arguments: Sequence[str],
    *,
    is_module: bool,
    run_id: str | None = None,
    otel: bool = False,
    closing: Callable[[Path, str], Sequence[str]] | None = None,
    settings: Mapping[str, Any],
) -> NoReturn:
    """Run a program and record it: this process becomes the Python that does (instrument/).

    `settings` are any of RunConfig, RecordConfig, WriteConfig and JournalConfig; None means not
    given. `otel`: what is instrumented with OpenTelemetry is recorded, too. `closing(database,
    run id)` names a command to run when the program has ended; its output shows on a terminal
    only. Raises SettingError, StoreError, MissingExtraError or OSError before anything runs.
    """
    from afterglow.instrument.carried import Carried
    from afterglow.instrument.runner import become, roots_of

    given = {name: value for name, value in settings.items() if value is not None}
    run = load(RunConfig, given)
    for room in (RecordConfig, WriteConfig, JournalConfig):
        load(room, given)
    send = run.database if is_url(run.database) else ""
    if send := send or ("" if given.get("database") else load(SendConfig, {}).url):
        from afterglow.sink.otlp_spans import spans_to

        spans_to(send, given, SystemClock()).close()  # what is wrong with it is said now
    database = Path(run.database).absolute()
    if not send:
        check_writable(database)
    if otel and find_spec("opentelemetry") is None:
        raise MissingExtraError("afterglow run --otel", "otel")
    run_id = _valid_run_id(run_id or os.environ.get("AFTERGLOW_RUN_ID") or os.urandom(16).hex())
    carried = Carried(
        database=send or str(database),
        run_id=run_id,
        roots=roots_of(target, is_module),
        include=run.include,
        exclude=run.exclude,
        settings={k: v for k, v in given.items() if k not in room_fields(RunConfig)},
        collapse=run.collapse,
        collapse_calls=run.collapse_calls,
        collapse_below_us=run.collapse_below_us,
        prefix=sys.prefix,
        home=str(Path(__file__).resolve().parent.parent),
        closing=tuple(closing(database, run_id)) if closing is not None and not send else (),
        otel=otel,
    )
    become(carried, target, is_module, arguments)


def check_writable(database: Path) -> None:
    """Raises StoreError where a run could not be recorded, before the program begins."""
    if database.exists():
        verify(database)
    folder = journals_of(database)
    place = folder if folder.exists() else database.parent
    if not place.is_dir():
        raise StoreError(f"{place} is no directory: name a database elsewhere ({_NAMED_BY})")
    if not os.access(place, os.W_OK | os.X_OK):
        raise StoreError(f"cannot write in {place}: name a database elsewhere ({_NAMED_BY})")
