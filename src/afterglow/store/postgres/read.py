"""A project's spans in PostgreSQL, opened for reading: what `store/read.py` is for a file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import msgspec
import psycopg

from afterglow.analyse.histogram import decode_histogram
from afterglow.analyse.statistics import Statistics
from afterglow.clock import Clock, SystemClock
from afterglow.errors import NotAStoreError, NotFoundError, StoreError
from afterglow.ledger import Ledger, new_ledger
from afterglow.model.audit import Audit
from afterglow.model.run import Process, Run
from afterglow.model.span import STATUS_CODES, Span
from afterglow.model.statistics import NameStatistics
from afterglow.model.tree import SpanNode
from afterglow.store.books import ALL_RUNS, chosen_run, sum_books
from afterglow.store.fold import Folded
from afterglow.store.postgres import queries as sql
from afterglow.store.postgres.connections import Connection, Connections
from afterglow.store.postgres.failures import explained
from afterglow.store.postgres.schema import migrate_spans
from afterglow.store.postgres.spans import COLUMNS, TraceTrees, span_of
from afterglow.store.postgres.text import kept, read
from afterglow.store.spans import matches, trace_number

__all__ = ["PostgresDatabase", "projects_at"]

_PORTION: Final = 2_000
_STATE: Final = "received"


def projects_at(url: str, *, connect_timeout_s: float = 5.0) -> list[str]:
    """The projects that have spans in a database; none where nobody wrote any yet.

    Raises SettingError, and StoreError where the server cannot be used.
    """
    connections = Connections(
        url, limit=1, connect_timeout_s=connect_timeout_s, patience_s=0.0, clock=SystemClock()
    )
    try:
        with explained(connections.place), connections.lent() as connection:
            migrate_spans(connection, connections.place, read_only=True)
            return sorted(read(name) for name, _ in connection.execute(sql.PROJECTS))
    except NotAStoreError:
        return []
    finally:
        connections.close()


class _Received(NamedTuple):
    """A process with the sums of its books."""

    process_id: int
    process: Process
    spans: int
    errors: int
    end_ns: int

    @property
    def ledger(self) -> Ledger:
        books = new_ledger()
        books["recorded"] = books["written"] = self.spans
        return books


class PostgresDatabase:
    """One project's spans at `url`, for whoever reads; close it, or use `with`.

    Each resource that sent spans is a run of one process, which may be named as in a file. What
    is asked for is answered as `store.read.Database` does, from one snapshot; a trace is held in
    memory while it is looked at. Raises NotFoundError for a project or run that is not there,
    StoreError where the server cannot be used, SettingError for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        project: str = "default",
        *,
        connect_timeout_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self.url, self.project = url, project
        self._connections = Connections(
            url, limit=4, connect_timeout_s=connect_timeout_s, patience_s=0.0,
            clock=clock or SystemClock(),
        )  # fmt: skip
        self.place = self._connections.place
        #: Nothing waits in journals here.
        self.folded = Folded()
        try:
            with explained(self.place), self._connections.lent() as connection:
                migrate_spans(connection, self.place, read_only=True)
                names = {read(n): i for n, i in connection.execute(sql.PROJECTS)}
            if project not in names:
                known = ", ".join(sorted(names)) or "none yet"
                raise NotFoundError(
                    f"there is no project {project!r} at {self.place}; there are: {known}"
                )
        except BaseException:
            self._connections.close()
            raise
        self._project_id = names[project]

    def close(self) -> None:
        """Give the connections back."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """All that is read inside is of one moment."""
        with explained(self.place), self._connections.lent() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            try:
                # Whoever reads this may take his time: it holds nobody up.
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                yield connection
            finally:
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")

    # --- runs and their books -------------------------------------------------------------

    def runs(self) -> list[Run]:
        """All runs, the earliest first."""
        with self._snapshot() as connection:
            found = self._received(connection)
        return [
            Run(
                run_id=one.process.run_id, argv=one.process.argv, host=one.process.host,
                start_ns=one.process.start_ns, end_ns=one.end_ns, exit_status=None, state=_STATE,
                processes=1, spans=one.spans, errors=one.errors, interrupted_spans=0, dropped=0,
                resource=one.process.resource,
            )
            for one in found
        ]  # fmt: skip

    def processes(self, run: str | None = None) -> list[Process]:
        """The processes of a run, the earliest first."""
        with self._snapshot() as connection:
            return [one.process for one in self._received(connection, run)]

    def ledger(self, run: str | None = None) -> Ledger:
        """The books of all processes together."""
        with self._snapshot() as connection:
            return sum_books([one.ledger for one in self._received(connection, run)])

    def audit(self, run: str | None = None) -> list[Audit]:
        """The books of each process beside the spans that are there, which are counted."""
        with self._snapshot() as connection:
            received = self._received(connection, run)
            found: dict[int, int] = dict(connection.execute(sql.FOUND, self._here()).fetchall())
            forgotten: defaultdict[int, dict[str, int]] = defaultdict(dict)
            for process, reason, spans in connection.execute(sql.FORGOTTEN_BOOKS, self._here()):
                forgotten[process][reason] = int(spans)
        return [
            Audit(
                process=one.process, state=_STATE, ledger=one.ledger,
                found=found.get(one.process_id, 0), rescued=0, damaged_batches=0,
                forgotten=forgotten.get(one.process_id, {}),
            )
            for one in received
        ]  # fmt: skip

    def totals(self) -> dict[str, int]:
        """The project's books: spans received = stored + duplicate + unreadable, and how many of
        the stored ones were forgotten."""
        counted: Counter[str] = Counter()
        with self._snapshot() as connection:
            for counter, spans in connection.execute(sql.TOTALS, self._here()):
                counted[counter] = int(spans)
        came = ("stored", "duplicate", "unreadable")
        return {"received": sum(counted[name] for name in came)} | {
            name: counted[name] for name in (*came, "forgotten")
        }

    def counts(self, run: str | None = None) -> dict[str, int]:
        """Nothing: no sender counts calls instead of recording them."""
        return {}

    def _here(self) -> dict[str, Any]:
        return {"project_id": self._project_id}

    def _received(self, connection: Connection, run: str | None = None) -> list[_Received]:
        rows = connection.execute(sql.RECEIVED, self._here())
        found = [
            _Received(
                row[0],
                Process(
                    run_id=row[1], pid=row[2], parent_pid=0, argv=(read(row[3]),),
                    host=read(row[4]), start_ns=row[5], end_ns=row[9],
                    resource=msgspec.json.decode(read(row[6]), type=dict[str, str]),
                ),
                int(row[7]), int(row[8]), row[9],
            )
            for row in rows
        ]  # fmt: skip
        if run is None:
            return found
        if not found:
            raise NotFoundError(f"project {self.project!r} at {self.place} holds no spans yet")
        runs = [(one.process.run_id, one.process.argv, _STATE) for one in reversed(found)]
        wanted = chosen_run(runs, f"at {self.place}", run)
        return [one for one in found if wanted in (None, one.process.run_id)]

    def _of_run(self, connection: Connection, run: str | None) -> dict[str, Any]:
        """The parameters of a query for a run's processes, or for all."""
        ids = None
        if run not in (None, ALL_RUNS):
            ids = [one.process_id for one in self._received(connection, run)]
        return {**self._here(), "processes": ids}

    # --- spans ----------------------------------------------------------------------------

    def statistics(
        self,
        *,
        run: str | None = None,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[NameStatistics]:
        """Figures for each name of a span, most self time first; forgotten spans count."""
        statistics = Statistics()
        with self._snapshot() as connection:
            where = self._of_run(connection, run)
            where["name"] = None if name is None else kept(name)
            groups: defaultdict[str, list[Sequence[Any]]] = defaultdict(list)
            for of, *figures in connection.execute(sql.FIGURES, where):
                groups[of].append(figures)
            gone = connection.execute(sql.FORGOTTEN_FIGURES, where).fetchall()
        for of, rows in groups.items():
            buckets, counts, totals, selves, lows, highs, errors = zip(*rows, strict=True)
            statistics.add_counted(
                read(of), dict(zip(buckets, counts, strict=True)), total_ns=int(sum(totals)),
                self_ns=int(sum(selves)), min_ns=min(lows), max_ns=max(highs), errors=sum(errors),
            )  # fmt: skip
        for of, total, self_ns, low, high, errors, histogram in gone:
            statistics.add_counted(
                read(of), decode_histogram(histogram), total_ns=int(total), self_ns=int(self_ns),
                min_ns=low, max_ns=high, errors=errors,
            )  # fmt: skip
        return statistics.result()

    def traces(self, *, run: str | None = None, limit: int | None = None) -> Iterator[SpanNode]:
        """The trees of spans, slowest first; their roots have no parent in the store, or in the
        run where one is named."""
        with self._snapshot() as connection:
            where = self._of_run(connection, run)
            where["limit"] = None if limit is None else max(0, limit)
            query = sql.ROOTS if where["processes"] is None else sql.TOPS
            tops = connection.execute(query, where).fetchall()
            trees = TraceTrees(connection, self._project_id, self._names(connection))
            for trace, span in tops:
                node = trees.node(trace, span)
                if node is not None:
                    yield node

    def spans(
        self,
        *,
        run: str | None = None,
        name: str | None = None,
        trace_id: int | str | None = None,
        status: str | None = None,
        min_duration_ns: int | None = None,
        attributes: Mapping[str, Any] | None = None,
        limit: int | None = None,
        slowest: bool = False,
    ) -> Iterator[Span]:
        """Spans for which all of it is true, by trace and start; as store.read.Database.spans."""
        trace = None if trace_id is None else trace_number(trace_id).to_bytes(16)
        if status is not None and status not in STATUS_CODES:
            return
        with self._snapshot() as connection:
            where = self._of_run(connection, run) | {
                "name": None if name is None else kept(name), "trace": trace, "status": status,
                "least": min_duration_ns,
            }  # fmt: skip
            order = "s.end_ns - s.start_ns DESC, s.trace_id, s.span_id" if slowest else sql.ORDER
            names = self._names(connection)
            left = limit
            with connection.cursor("spans", binary=True) as cursor:
                cursor.execute(f"{sql.SPANS.format(columns=COLUMNS)} ORDER BY {order}".encode(),
                               where)  # fmt: skip
                while left is None or left > 0:
                    rows = cursor.fetchmany(_PORTION)
                    if not rows:
                        return
                    for row in rows:
                        span = span_of(row, names)
                        if matches(span.attributes, attributes or {}):
                            if left is not None:
                                if left <= 0:
                                    return
                                left -= 1
                            yield span

    def _names(self, connection: Connection) -> dict[int, tuple[str, int]]:
        rows = connection.execute(sql.PROCESS_NAMES, self._here())
        return {process: (run_id, pid) for process, run_id, pid in rows}

    def query(
        self, text: str, values: Sequence[Any] = ()
    ) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """Not here: PostgreSQL has tools of its own."""
        raise StoreError(
            f"afterglow sql asks files; ask {self.place} with psql: the tables are in schema "
            "afterglow_spans (docs/postgres-store.md)"
        )
