"""Joins `Profiler` and `Report`, for programs that come from ferret-io: see docs/profiler.md.

A floor above wiring.py, for it puts a Tracer under the Profiler, and a reader under the Report:

    given              recorded into                    read from
    ":memory:"         a MemorySink                     the same
    a path             a journal, as by any Tracer      the database, folded first
    a BeaverDB file    its log, by a BeaverSink         its log, in plain SQL
    an open BeaverDB   its log, by a BeaverSink         its file, or itself if in memory
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from afterglow.analyse.profile import AggregatedStats, TraceNode, aggregated, trees
from afterglow.errors import NotFoundError, SettingError, StoreError
from afterglow.model.profile import DEFAULT_NAMESPACE, ProfileSpan, profile_span
from afterglow.model.span import Span
from afterglow.ports import SpanSink
from afterglow.record import profiler as record_profiler
from afterglow.sink.beaver import BeaverSink, beaver_path, is_beaver_db, stored_in_memory
from afterglow.sink.memory import MemorySink
from afterglow.store.beaver import is_beaver_file
from afterglow.store.ferret import profile_spans
from afterglow.wiring import Tracer, open_database

__all__ = ["Profiler", "ProfilerDatabase", "Report"]

_MEMORY = ":memory:"

#: Where Profilers' tracers record into, for Reports in the same process. A tracer lives until it
#: is closed, whatever becomes of its Profiler: its writer holds it.
_places: weakref.WeakKeyDictionary[Tracer, Any] = weakref.WeakKeyDictionary()


class ProfilerDatabase:
    """What a Profiler records into, as its `db`: to be given to `Report`, or to open()."""

    def __init__(self, path: str, memory: MemorySink | None = None) -> None:
        #: The file's path, or ":memory:".
        self.path = path
        self.memory = memory

    def __fspath__(self) -> str:
        return self.path

    def close(self) -> None:
        """Nothing: it is the Profiler's to close."""

    def __repr__(self) -> str:
        return f"ProfilerDatabase({self.path!r})"


class Profiler(record_profiler.Profiler):
    """Measures named operations, under the names of ferret-io's profiler.

    `db_path` is a file, ":memory:", or an open BeaverDB (extra `beaver`). A file that
    beaver-db made stays a BeaverDB. `buffer_size` spans are written at once, or whatever there
    is every half second; `namespace` keeps apart what goes into one file; `run_id` names this
    run, 32 hexadecimal digits if left out.
    """

    def __init__(
        self,
        db_path: Any = _MEMORY,
        buffer_size: int = 100,
        namespace: str = DEFAULT_NAMESPACE,
        run_id: str | None = None,
    ) -> None:
        db: Any = db_path if is_beaver_db(db_path) else _database(db_path)
        into: SpanSink | Path
        if isinstance(db, ProfilerDatabase) and (db.memory or not is_beaver_file(Path(db.path))):
            into = db.memory or Path(db.path)
            scope = "" if namespace == DEFAULT_NAMESPACE else namespace
        else:
            into, scope = BeaverSink(db, namespace), ""
        tracer = Tracer(
            into,
            run_id=None if run_id is None else str(run_id),
            batch_size=min(max(buffer_size, 1), 1_000_000),
        )
        super().__init__(tracer, db=db, scope=scope)
        _places[tracer] = _place(db)


class Report:
    """What a run came to, read anew at each question, with all that ended before it.

    `db_path` is a file that a Profiler or Tracer of ours recorded into, or ferret-io; a
    Profiler's `db`; or an open BeaverDB.
    """

    def __init__(self, db_path: Any, namespace: str = DEFAULT_NAMESPACE) -> None:
        #: What it reads, as it was given.
        self.db = db_path
        self._namespace = namespace
        self._place = _place(db_path)

    def analyze_run(self, run_id: str) -> dict[str, AggregatedStats]:
        """The finished spans of a run by name; empty for a run that is not there."""
        return aggregated(self._spans(run_id))

    def build_trees(self, run_id: str) -> list[TraceNode]:
        """The finished spans of a run as trees, roots in order of start."""
        return trees(self._spans(run_id))

    def close(self) -> None:
        """Nothing is held between questions; a BeaverDB that was given stays open."""

    def _spans(self, run_id: str) -> Iterator[ProfileSpan]:
        place = self._place
        tracers = [tracer for tracer, its_place in list(_places.items()) if its_place == place]
        for tracer in tracers:
            tracer.flush()
        if isinstance(place, MemorySink):
            yield from self._ours(place.spans(), run_id)
        elif not isinstance(place, Path):
            for span in stored_in_memory(place, self._namespace):
                if span.run_id == run_id:
                    yield span
        elif is_beaver_file(place):
            yield from profile_spans(place, self._namespace, run_id)
        else:
            yield from self._ours(_of_file(place, run_id, may_miss=bool(tracers)), run_id)

    def _ours(self, spans: Iterator[Span], run_id: str) -> Iterator[ProfileSpan]:
        for span in spans:
            if span.run_id == run_id and (span.scope or DEFAULT_NAMESPACE) == self._namespace:
                yield profile_span(span)


def _of_file(path: Path, run_id: str, *, may_miss: bool) -> Iterator[Span]:
    try:
        database = open_database(path)
    except StoreError:
        # A Profiler that has recorded nothing yet has not made a file either.
        if may_miss and not path.exists():
            return
        raise
    with database:
        try:
            yield from database.spans(run=run_id)
        except NotFoundError:
            return


def _place(given: Any) -> Path | MemorySink | Any:
    """Where something that a Report was given, or a Profiler has, keeps its spans."""
    if is_beaver_db(given):
        return beaver_path(given) or given
    database = _database(given)
    return database.memory or Path(database.path)


def _database(given: Any) -> ProfilerDatabase:
    if isinstance(given, ProfilerDatabase):
        return given
    if given == _MEMORY:
        return ProfilerDatabase(_MEMORY, MemorySink())
    if isinstance(given, str | os.PathLike) and os.fspath(given):
        return ProfilerDatabase(str(Path(os.fspath(given)).absolute()))
    raise SettingError(f"db_path={given!r} is no path, no ':memory:' and no open BeaverDB")
