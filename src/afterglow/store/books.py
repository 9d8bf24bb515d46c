"""The books in the file: per process as its writer states them, and held against the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from afterglow.errors import NotFoundError
from afterglow.ledger import Ledger, new_ledger
from afterglow.model.audit import Audit
from afterglow.model.run import Process, Run
from afterglow.store.schema import one_snapshot

__all__ = [
    "ALL_RUNS",
    "chosen_run",
    "named_run",
    "read_audits",
    "read_books",
    "read_deliveries",
    "read_processes",
    "read_runs",
    "sum_books",
]

_argv = msgspec.json.Decoder(tuple[str, ...])
_resource = msgspec.json.Decoder(dict[str, str])


#: What asks for all runs together, where none has this id.
ALL_RUNS: Final = "all"


def named_run(connection: sqlite3.Connection, path: Path, name: str) -> str | None:
    """The whole id of a run that somebody named; None for all of them. Raises NotFoundError."""
    rows = connection.execute("SELECT run_id, argv, state FROM runs ORDER BY start_ns DESC")
    runs = [(run_id, _argv.decode(argv), state) for run_id, argv, state in rows]
    if not runs:
        raise NotFoundError(f"{path} holds no run yet; record one: afterglow run SCRIPT")
    return chosen_run(runs, f"in {path}", name)


def chosen_run(
    runs: Sequence[tuple[str, tuple[str, ...], str]], where: str, name: str
) -> str | None:
    """The same, of runs (id, argv and state), the newest first, which are `where`."""
    known = [run_id for run_id, _, _ in runs]
    if name in known:
        return name
    if name == "latest":
        return known[0]
    if name == ALL_RUNS:
        return None
    alike = [run_id for run_id in known if run_id.startswith(name)] if name else []
    if len(alike) == 1:
        return alike[0]
    for run_id, argv, state in runs:
        if state == "received" and argv == (name,):
            return run_id
    listed = ", ".join((alike or known)[:5])
    what = f"{len(alike)} runs begin with {name!r}" if alike else f"there is no run {name!r}"
    raise NotFoundError(f"{what} {where}; there are: {listed}")


def read_runs(connection: sqlite3.Connection) -> list[Run]:
    """All runs, the earliest first."""
    rows = connection.execute(
        "SELECT run_id, argv, host, start_ns, end_ns, exit_status, state, processes, spans,"
        " errors, interrupted_spans, dropped, resource FROM runs ORDER BY start_ns, run_id"
    )
    return [
        Run(
            run_id=run_id,
            argv=_argv.decode(argv),
            host=host,
            start_ns=start,
            end_ns=end,
            exit_status=exit_status,
            state=state,
            processes=processes,
            spans=spans,
            errors=errors,
            interrupted_spans=interrupted,
            dropped=dropped,
            resource=_resource.decode(resource),
        )
        for (run_id, argv, host, start, end, exit_status, state, processes, spans, errors,
             interrupted, dropped, resource) in rows
    ]  # fmt: skip


def read_processes(
    connection: sqlite3.Connection, run_id: str | None
) -> list[tuple[int, str, Process]]:
    """Id, state and description of each process, the earliest first."""
    rows = connection.execute(
        "SELECT id, state, run_id, pid, parent_pid, argv, host, start_ns, end_ns, exit_status,"
        " resource FROM processes WHERE :run IS NULL OR run_id = :run ORDER BY start_ns, id",
        {"run": run_id},
    )
    return [
        (
            identity,
            state,
            Process(
                run_id=run,
                pid=pid,
                parent_pid=parent,
                argv=_argv.decode(argv),
                host=host,
                start_ns=start,
                end_ns=end,
                exit_status=exit_status,
                resource=_resource.decode(resource),
            ),
        )
        for (identity, state, run, pid, parent, argv, host, start, end, exit_status, resource)
        in rows
    ]  # fmt: skip


def read_books(connection: sqlite3.Connection, process: int) -> tuple[Ledger, int, int]:
    """The books of a process, how many spans are rescued in them, and its damaged batches.

    A span that was folded before its journal went by the writer's bound is there: what the
    writer calls dropped (`journal_limit`) is written after all.
    """
    ledger = new_ledger()
    rescued = damaged = 0
    rows = connection.execute(
        "SELECT counter, reason, spans FROM ledger WHERE process = ?", (process,)
    )
    for counter, reason, spans in rows:
        if counter == "dropped":
            ledger["dropped"][reason] = spans
        elif counter == "not_recorded":
            ledger["not_recorded"][reason] = spans
        elif counter == "changed":
            ledger["changed"][reason] = spans
        elif counter == "recorded":
            ledger["recorded"] = spans
        elif counter == "written":
            ledger["written"] = spans
        elif counter == "in_flight":
            ledger["in_flight"] = spans
        elif counter == "rescued":
            rescued = spans
        elif counter == "damaged":
            damaged = spans
    limited = ledger["dropped"].get("journal_limit", 0)
    rescued = min(rescued, limited)
    if rescued:
        ledger["written"] += rescued
        ledger["dropped"]["journal_limit"] -= rescued
        if rescued == limited:
            del ledger["dropped"]["journal_limit"]
    (still_there,) = connection.execute(
        "SELECT coalesce(sum(damaged), 0) FROM folded WHERE process = ?", (process,)
    ).fetchone()
    return ledger, rescued, damaged + still_there


def read_audits(connection: sqlite3.Connection, run_id: str | None) -> list[Audit]:
    """The books of each process beside the rows that are there, which are counted."""
    with one_snapshot(connection):
        return _audits(connection, run_id)


def _audits(connection: sqlite3.Connection, run_id: str | None) -> list[Audit]:
    found: dict[int, int] = dict(
        connection.execute(
            "SELECT process, count(*) FROM spans WHERE end_ns IS NOT NULL GROUP BY process"
        ).fetchall()
    )
    forgotten: dict[int, dict[str, int]] = {}
    for process, reason, spans in connection.execute(
        "SELECT process, reason, spans FROM ledger WHERE counter = 'forgotten'"
    ):
        forgotten.setdefault(process, {})[reason] = spans
    audits = []
    for identity, state, process in read_processes(connection, run_id):
        ledger, rescued, damaged = read_books(connection, identity)
        audits.append(
            Audit(
                process=process,
                state=state,
                ledger=ledger,
                found=found.get(identity, 0),
                rescued=rescued,
                damaged_batches=damaged,
                forgotten=forgotten.get(identity, {}),
            )
        )
    return audits


def read_deliveries(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many spans sinks brought, each time that they came, and how many of new parts."""
    row = connection.execute("SELECT brought, kept FROM deliveries").fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def sum_books(books: Sequence[Ledger]) -> Ledger:
    """The books of all together."""
    total = new_ledger()
    for ledger in books:
        total["recorded"] += ledger["recorded"]
        total["written"] += ledger["written"]
        total["in_flight"] += ledger["in_flight"]
        for sums, more in (
            (total["dropped"], ledger["dropped"]),
            (total["not_recorded"], ledger["not_recorded"]),
            (total["changed"], ledger["changed"]),
        ):
            for reason, spans in more.items():
                sums[reason] = sums.get(reason, 0) + spans
    return total
