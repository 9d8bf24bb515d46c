"""What the reading commands do once the database is open: ask it, then print."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from afterglow.errors import NotFoundError
from afterglow.ledger import Ledger
from afterglow.model.run import Run

if TYPE_CHECKING:
    from afterglow.collecting.books import ServiceAudit
    from afterglow.model.statistics import NameStatistics
    from afterglow.model.tree import SpanNode
    from afterglow.store.read import Database
    from afterglow.ui.screen import Screen

__all__ = ["Figures", "audit", "draw_table", "draw_trees", "figures", "import_file", "one_run",
           "query", "runs", "table", "trees"]  # fmt: skip


def _newest_first(found: list[Run]) -> list[Run]:
    return sorted(found, key=lambda run: (run.start_ns, run.run_id), reverse=True)


def one_run(database: Database, name: str | None) -> Run:
    """The run that a person named: an id, the beginning of one, a service, the latest, or all.

    Raises NotFoundError, which says what there is.
    """
    from afterglow.store.books import ALL_RUNS

    found = {process.run_id for process in database.processes(name or "latest")}
    runs = [run for run in database.runs() if run.run_id in found]
    if name == ALL_RUNS and found != {ALL_RUNS}:
        return _together(runs)
    (run,) = runs
    return run


def _together(runs: Sequence[Run]) -> Run:
    """All runs as if they were one."""
    states = {run.state for run in runs}
    ends = [run.end_ns for run in runs]
    return Run(
        run_id="all",
        argv=("all", "runs"),
        host="",
        start_ns=min(run.start_ns for run in runs),
        end_ns=None if None in ends else max(end for end in ends if end is not None),
        exit_status=None,
        state="running" if "running" in states else (states.pop() if len(states) == 1 else ""),
        processes=sum(run.processes for run in runs),
        spans=sum(run.spans for run in runs),
        errors=sum(run.errors for run in runs),
        interrupted_spans=sum(run.interrupted_spans for run in runs),
        dropped=sum(run.dropped for run in runs),
    )


class Figures(NamedTuple):
    """What a report says of one run."""

    run: Run
    #: The names that were asked for, sorted and cut to the limit.
    names: list[NameStatistics]
    #: How many more were asked for.
    left_out: int
    left_out_self_ns: int
    #: The self time of all names, asked for or not: shares are shares of this.
    whole_self_ns: int
    counts: Mapping[str, int]
    ledger: Ledger


def figures(
    database: Database, run: Run, *, limit: int, name_glob: str | None, sort: str
) -> Figures:
    """Ask for statistics; `limit` 0 is no limit. Raises NotFoundError if no name is like that."""
    from afterglow.ui.progress import Progress
    from afterglow.ui.sorting import sorted_by

    with Progress("reading") as progress:
        everything = database.statistics(run=run.run_id, progress=progress)
    counts = database.counts(run.run_id)
    wanted = everything
    if name_glob is not None:
        wanted = [s for s in everything if fnmatchcase(s.name, name_glob)]
        counts = {name: n for name, n in counts.items() if fnmatchcase(name, name_glob)}
        if not wanted and not counts:
            raise NotFoundError(f"no name in this run is like {name_glob!r}; try '*{name_glob}*'")
    wanted = sorted_by(wanted, sort)
    shown = wanted[:limit] if limit else wanted
    whole_self_ns = sum(s.self_ns or 0 for s in everything)
    books = database.ledger(run.run_id)
    rest = wanted[len(shown) :]
    rest_self_ns = sum(s.self_ns or 0 for s in rest)
    return Figures(run, shown, len(rest), rest_self_ns, whole_self_ns, counts, books)


def table(found: Figures, *, sort: str, limit: int, as_json: bool) -> None:
    """Print statistics by name."""
    if as_json:
        from afterglow.ui.documents import statistics_document, write_document

        document = statistics_document(found.run, found.names, found.counts, found.ledger)
        write_document(sys.stdout, document)
    else:
        from afterglow.ui.screen import Screen

        draw_table(Screen(), found, sort=sort, limit=limit)


def draw_table(screen: Screen, found: Figures, *, sort: str, limit: int) -> None:
    """The same, on a screen."""
    from afterglow.ui import report
    from afterglow.ui.runs import print_run

    print_run(screen, found.run)
    if found.names:
        report.print_statistics(
            screen,
            found.names,
            whole_self_ns=found.whole_self_ns,
            sort=sort,
            left_out=found.left_out,
            left_out_self_ns=found.left_out_self_ns,
        )
    elif not found.counts:
        screen.prose("no spans: nothing in this run was traced")
    report.print_counted(screen, found.counts, report.rule_text(found.run), limit=limit)
    report.print_lost(screen, found.ledger)


def trees(
    database: Database, run: Run, *, limit: int, lines: int, depth: int, as_json: bool
) -> None:
    """Print the slowest traces; those that a limit chose are looked at, and stay longer."""
    from afterglow.ui.opening import looked_at

    seen: list[int] = []
    if as_json:
        from afterglow.ui.documents import write_traces

        roots = database.traces(run=run.run_id, limit=limit or None)
        write_traces(sys.stdout, run, _noted(roots, seen))
    else:
        from afterglow.ui.screen import Screen

        draw_trees(Screen(), database, run, limit=limit, lines=lines, depth=depth, seen=seen)
    if limit:
        looked_at(database, seen)


def _noted(roots: Iterable[SpanNode], seen: list[int]) -> Iterator[SpanNode]:
    for root in roots:
        seen.append(root.span.trace_id)
        yield root


def draw_trees(
    screen: Screen,
    database: Database,
    run: Run,
    *,
    limit: int,
    lines: int,
    depth: int,
    seen: list[int] | None = None,
) -> None:
    """The same, on a screen; the ids of the traces that were drawn are added to `seen`."""
    from afterglow.ui.report import print_lost
    from afterglow.ui.runs import print_run
    from afterglow.ui.tree import print_trace

    print_run(screen, run)
    drawn = 0
    roots = database.traces(run=run.run_id, limit=limit or None)
    for root in _noted(roots, [] if seen is None else seen):
        if drawn:
            screen.line()
        print_trace(screen, root, lines=lines, depth=depth)
        drawn += 1
    if not drawn:
        screen.prose("no spans: nothing in this run was traced")
    print_lost(screen, database.ledger(run.run_id))


def runs(database: Database, *, limit: int, as_json: bool) -> None:
    """Print the list of runs, the newest first."""
    found = _newest_first(database.runs())
    shown = found[:limit] if limit else found
    if as_json:
        from afterglow.ui.documents import write_document

        write_document(sys.stdout, shown)
    else:
        from afterglow.ui.runs import print_runs
        from afterglow.ui.screen import Screen

        print_runs(Screen(), shown, left_out=len(found) - len(shown))


def audit(
    database: Database, run_name: str | None, service: ServiceAudit | None, *, as_json: bool
) -> bool:
    """Print the books; whether they balance and every row is there."""
    from afterglow.ui import books, service_books

    run_id = None if run_name is None else one_run(database, run_name).run_id
    audits = database.audit(run_id)
    if as_json:
        from afterglow.ui.documents import write_document

        document = books.audit_document(audits)
        if service is not None:
            document["service"] = service_books.service_document(service)
        write_document(sys.stdout, document)
    else:
        from afterglow.ui.screen import Screen

        screen = Screen()
        books.print_books(screen, audits)
        if service is not None:
            screen.line()
            service_books.print_service(screen, service)
    return not books.problems(audits) and (service is None or not service.problems)


def query(database: Database, text: str, form: Literal["table", "json", "csv"]) -> None:
    """Print the rows of a query."""
    from afterglow.ui import rows

    titles, found = database.query(text)
    with ExitStack() as stack:
        if isinstance(found, Generator):
            # Before the database closes, also where the reader of our output went away.
            stack.callback(found.close)
        if form == "json":
            rows.write_json_rows(sys.stdout, titles, found)
        elif form == "csv":
            rows.write_csv(sys.stdout, titles, found)
        else:
            from afterglow.ui.screen import Screen

            rows.print_rows(Screen(), titles, found)


def import_file(source: Path, database: Path, namespace: str | None, *, as_json: bool) -> None:
    """Copy the runs of a file of ferret-io's that are not there yet, and say what came."""
    from afterglow.model.profile import DEFAULT_NAMESPACE
    from afterglow.store.ferret import read_ferret
    from afterglow.store.insert import insert_spans
    from afterglow.ui.progress import Progress

    imported = []
    with (
        Progress(f"reading {source.name}") as progress,
        read_ferret(source, namespace or DEFAULT_NAMESPACE, progress=progress) as file,
    ):
        for process in file.processes():
            spans = insert_spans(database, file.spans(process.run_id), process)
            imported.append({"run_id": process.run_id, "spans": spans, "known": spans == 0})
        unreadable = file.unreadable
    if as_json:
        from afterglow.ui.documents import write_document

        document = {"database": str(database), "runs": imported, "unreadable_rows": unreadable}
        write_document(sys.stdout, document)
    else:
        _print_imported(database, imported, unreadable)


def _print_imported(database: Path, imported: list[dict[str, Any]], unreadable: int) -> None:
    from afterglow.ui.screen import Screen
    from afterglow.ui.units import plural

    screen = Screen()
    new = [run for run in imported if not run["known"]]
    spans = plural(sum(run["spans"] for run in new), "span")
    screen.prose(f"{spans} of {plural(len(new), 'run')} copied into {database}")
    if known := len(imported) - len(new):
        screen.prose(f"{plural(known, 'run')} passed over: there already")
    if unreadable:
        screen.prose(f"{plural(unreadable, 'row')} passed over: no spans as ferret-io writes them")
