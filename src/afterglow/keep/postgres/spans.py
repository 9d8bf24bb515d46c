"""What retention asks of the spans of one project in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from afterglow.errors import NotFoundError
from afterglow.keep.keeper import Stand
from afterglow.keep.postgres.transactions import Transactions
from afterglow.ledger import ForgetReason
from afterglow.model.kept import History, TraceSummary
from afterglow.store.forget import Forgotten
from afterglow.store.postgres import summaries
from afterglow.store.postgres.connections import Connection, Connections
from afterglow.store.postgres.failures import explained
from afterglow.store.postgres.forget import forget_traces
from afterglow.store.postgres.schema import migrate_spans
from afterglow.store.postgres.text import kept, read
from afterglow.store.room import Room
from afterglow.store.summaries import TRACE_BYTES, Looked

__all__ = ["ProjectSpans"]

T = TypeVar("T")

#: Rows of a page's names and links that are taken at once: each stands for many spans.
_TAKEN: Final = 2_048
_PROJECT: Final = "SELECT project_id FROM afterglow_spans.project WHERE name = %s"
_COUNT: Final = "SELECT count(*) FROM afterglow_spans.trace WHERE project_id = %(project_id)s"
_BYTES: Final = f"""SELECT (coalesce(sum(bytes), 0) + count(*) * {TRACE_BYTES})::bigint
  FROM afterglow_spans.trace WHERE project_id = %(project_id)s"""
_UNCHANGED: Final = """SELECT encode(trace_id, 'hex') FROM afterglow_spans.trace
  WHERE project_id = %(project_id)s AND NOT changed AND trace_id > %(after)s
  ORDER BY trace_id LIMIT 16384"""
_PINNED_IDS: Final = """SELECT encode(trace_id, 'hex') FROM afterglow_spans.trace
  WHERE project_id = %(project_id)s AND pinned"""
_NEIGHBOURS: Final = """SELECT
  (SELECT encode(trace_id, 'hex') FROM afterglow_spans.trace
    WHERE project_id = %(project_id)s AND trace_id < %(trace)s ORDER BY trace_id DESC LIMIT 1),
  (SELECT encode(trace_id, 'hex') FROM afterglow_spans.trace
    WHERE project_id = %(project_id)s AND trace_id > %(trace)s ORDER BY trace_id LIMIT 1)"""
_BEGINNING: Final = """SELECT encode(trace_id, 'hex') FROM afterglow_spans.trace
  WHERE project_id = %(project_id)s AND trace_id BETWEEN %(low)s AND %(high)s
  ORDER BY trace_id LIMIT %(most)s"""
_KINDS: Final = """SELECT kind, count(*), sum(spans)::bigint, sum(errors)::bigint,
    sum(bytes)::bigint
  FROM afterglow_spans.trace WHERE project_id = %(project_id)s GROUP BY kind"""
_FORGOTTEN: Final = """SELECT 'forgotten_' || reason, traces FROM afterglow_spans.forgotten_traces
    WHERE project_id = %(project_id)s
  UNION ALL SELECT 'forgotten_spans', coalesce(sum(spans), 0)::bigint FROM afterglow_spans.book
    WHERE project_id = %(project_id)s AND counter = 'forgotten'"""
_FADED: Final = """SELECT count(*) FROM afterglow.partition p
  JOIN afterglow.entry e USING (partition_id)
  WHERE p.name = %(partition)s AND e.prune_tick <= %(tick)s"""
_LISTED: Final = """SELECT e.trace_id, e.prune_tick, t.kind, t.why, t.service, t.name, t.start_ns,
    t.duration_ns, t.spans
  FROM (SELECT e.* FROM afterglow.partition p JOIN afterglow.entry e USING (partition_id)
    WHERE p.name = %(partition)s AND {which} LIMIT %(limit)s) e
  CROSS JOIN LATERAL (SELECT * FROM afterglow_spans.trace x WHERE x.project_id = %(project_id)s
    AND x.trace_id = decode(e.trace_id, 'hex') OFFSET 0) t"""
_SOONEST: Final = _LISTED.format(
    which="e.prune_tick IS NOT NULL ORDER BY e.prune_tick, e.last_reinforced, e.trace_id"
)
_LATEST: Final = _LISTED.format(which="e.prune_tick IS NOT NULL ORDER BY e.prune_tick DESC")
_PINNED: Final = _LISTED.format(which="e.kind = 'pinned' ORDER BY e.created_at DESC")


class ProjectSpans:
    """A keeper.KeptSpans. A server that goes away is waited for as long as `connections` says."""

    def __init__(self, connections: Connections, project: str, partition: str) -> None:
        self._connections = connections
        self._transactions = Transactions(connections)
        self._partition = kept(partition)
        self.place = f"{connections.place} (project {project})"
        with explained(connections.place), connections.lent() as connection:
            migrate_spans(connection, connections.place, read_only=True)
            row = connection.execute(_PROJECT, (kept(project),)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no project {project!r} at {connections.place}")
        self._project_id: int = row[0]

    def close(self) -> None:
        self._connections.close()

    def _do(self, work: Callable[[Connection, int], T]) -> T:
        """Do `work` in a transaction; again if the connection was lost, for all of it may be."""

        def whole(connection: Connection) -> T:
            with connection.transaction():
                return work(connection, self._project_id)

        return self._transactions.read(whole)

    def _rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        values |= {"project_id": self._project_id, "partition": self._partition}
        return self._do(lambda connection, _: connection.execute(query.encode(), values).fetchall())

    # --- keeper.KeptSpans -----------------------------------------------------------------

    def look(self, most_spans: int) -> Looked:
        return self._do(lambda c, project: summaries.take_new(c, project, _TAKEN))

    def changed(self, most: int) -> list[TraceSummary]:
        return self._do(lambda c, project: summaries.changed_traces(c, project, most))

    def histories(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], History]:
        wanted = list(keys)
        return self._do(lambda c, project: summaries.histories(c, project, wanted))

    def mark_entered(self, traces: Sequence[tuple[TraceSummary, str, str]]) -> None:
        self._do(lambda c, project: summaries.mark_entered(c, project, traces))

    def mark_changed(self, ids: Sequence[str]) -> None:
        self._do(lambda c, project: summaries.mark_changed(c, project, ids))

    def set_pinned(self, trace_id: str, pinned: bool) -> bool:
        return self._do(lambda c, project: summaries.set_pinned(c, project, trace_id, pinned))

    def pinned(self) -> list[str]:
        return [trace for (trace,) in self._rows(_PINNED_IDS)]

    def count(self) -> int:
        return int(self._rows(_COUNT)[0][0])

    def entered(self) -> Iterator[list[str]]:
        after = b""
        while portion := [trace for (trace,) in self._rows(_UNCHANGED, after=after)]:
            after = bytes.fromhex(portion[-1])
            yield portion

    def forget(self, connection: Any, ids: Sequence[str], why: ForgetReason) -> Forgotten:
        return forget_traces(connection, self._project_id, ids, why)

    def stand(self, tick: int, limit: int) -> Stand:
        pinned = self._listed(_PINNED, limit)
        used = self.used_bytes()
        return Stand(
            room=Room(used, used),
            numbers=dict(self._rows(_FORGOTTEN)),
            kinds=self._rows(_KINDS),
            pinned=pinned,
            latest=self._listed(_LATEST, limit - len(pinned)),
            soonest=self._listed(_SOONEST, limit),
            faded=int(self._rows(_FADED, tick=tick)[0][0]),
        )

    def _listed(self, query: str, limit: int) -> list[tuple[Any, ...]]:
        return [
            (read(trace), tick, kind, why, read(service), read(name), *rest)
            for trace, tick, kind, why, service, name, *rest in self._rows(query, limit=limit)
        ]

    def neighbours(self, trace_id: str) -> tuple[str | None, str | None]:
        ((before, after),) = self._rows(_NEIGHBOURS, trace=bytes.fromhex(trace_id))
        return before, after

    def beginning_with(self, digits: str, most: int) -> list[str]:
        low, high = (bytes.fromhex(digits.ljust(32, end)) for end in "0f")
        return [trace for (trace,) in self._rows(_BEGINNING, low=low, high=high, most=most)]

    # --- room -----------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """About what the project's traces take, with their entries."""
        return int(self._rows(_BYTES)[0][0])

    def tidy(self) -> None:
        """Add up what pages left in the books."""
        self._do(summaries.add_up_books)
