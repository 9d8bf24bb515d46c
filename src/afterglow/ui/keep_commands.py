"""`afterglow keep`, `pin`, `unpin` and `forget`: which recorded traces stay (docs/retention.md)."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afterglow.ui import failure, options

if TYPE_CHECKING:
    from afterglow.keep.keeper import Keeper

__all__ = ["COMMANDS"]


@click.command()
@options.database
@options.project
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C or SIGTERM: fold, fade, forget.")
@click.option("--dry-run", is_flag=True, help="Forget nothing: show what is due.")
@click.option(
    "--limit",
    type=click.IntRange(0, 10_000),
    metavar="N",
    default=5,
    help="How many traces to name in each list.  [default: 5]",
)
@click.option("--max-bytes", type=int, metavar="N", help="The file stays within so many bytes.")
@click.option("--max-traces", type=int, metavar="N", help="No more traces than this stay.")
@options.as_json
def keep(
    database: str | None,
    project: str | None,
    follow: bool,
    dry_run: bool,
    limit: int,
    max_bytes: int | None,
    max_traces: int | None,
    as_json: bool,
) -> None:
    """Let recorded traces fade, and forget those that have faded or have no room.

    One pass; then what is kept and why, and what goes next. What is forgotten goes on counting in
    the statistics. Settings: afterglow settings, keep_... (docs/retention.md).
    """
    if follow and dry_run:
        raise click.UsageError("--follow or --dry-run, not both")
    quota = {"keep_max_bytes": max_bytes, "keep_max_traces": max_traces}
    from afterglow.ui import keeping

    if follow:
        _follow(database, project, quota, as_json=as_json)
        return
    with _opened(database, project, quota) as (retention, progress):
        result = retention.step(progress=progress, forget=not dry_run)
        for problem in result.folded.problems:
            failure.say(problem)
        found = keeping.stand(retention, limit=limit)
    keeping.show(result, found, dry_run=dry_run, as_json=as_json)


def _follow(
    database: str | None, project: str | None, quota: dict[str, Any], *, as_json: bool
) -> None:
    from afterglow.config import RetentionConfig, load
    from afterglow.keep.follow import Follower
    from afterglow.store.schema import verify
    from afterglow.ui import keeping
    from afterglow.ui.opening import shown

    place = options.place_of(database, project)
    config = load(RetentionConfig, quota)
    if isinstance(place, Path) and place.exists():
        verify(place)  # a file that is not ours will not become so
    stop = threading.Event()
    # The pass in hand is finished: each of its transactions is short.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if not as_json:
        keeping.say_beginning(shown(place), config)
    Follower(
        place,
        config,
        project=options.project_of(project),
        done=lambda result: keeping.say_pass(result, config, as_json=as_json),
        complain=failure.say,
    ).run(stop)


@contextmanager
def _opened(
    database: str | None, project: str | None, settings: dict[str, Any]
) -> Iterator[tuple[Keeper, Callable[[int, int], None]]]:
    from afterglow.ui.opening import open_keeper
    from afterglow.ui.progress import Progress
    from afterglow.ui.units import size

    with (
        open_keeper(
            options.place_of(database, project), options.project_of(project), **settings
        ) as retention,
        Progress("folding", size) as progress,
    ):
        yield retention, progress


# --- one trace ----------------------------------------------------------------------------

_trace = click.argument("trace", metavar="TRACE")
_db = click.option("--db", "database", metavar="DB", help="In this database: a file, or a URL.")


def _with_trace(
    database: str | None, project: str | None, beginning: str,
    do: Callable[[Keeper, str], dict[str, Any]],
    say: Callable[[dict[str, Any]], str], *, as_json: bool,
) -> None:  # fmt: skip
    from afterglow.keep.standing import find_trace

    with _opened(database, project, {}) as (retention, progress):
        # What has just been recorded can be named, too; nothing is forgotten by that.
        retention.step(progress=progress, forget=False, mend=False)
        trace_id = find_trace(retention.spans, beginning)
        document = {"trace_id": trace_id, **do(retention, trace_id)}
    if as_json:
        from afterglow.ui.documents import write_document

        write_document(sys.stdout, document)
    else:
        from afterglow.ui.screen import Screen

        Screen().prose(say(document))


@click.command()
@_trace
@_db
@options.project
@options.as_json
def pin(trace: str, database: str | None, project: str | None, as_json: bool) -> None:
    """Keep a trace for good: it never fades, and no quota takes it.

    TRACE is its id, or the first digits of it that no other trace has.
    """
    _set_pinned(database, project, trace, pinned=True, as_json=as_json)


@click.command()
@_trace
@_db
@options.project
@options.as_json
def unpin(trace: str, database: str | None, project: str | None, as_json: bool) -> None:
    """Let a pinned trace fade again, from now on.

    TRACE is its id, or the first digits of it that no other trace has.
    """
    _set_pinned(database, project, trace, pinned=False, as_json=as_json)


def _set_pinned(
    database: str | None, project: str | None, trace: str, *, pinned: bool, as_json: bool
) -> None:
    def do(retention: Keeper, trace_id: str) -> dict[str, Any]:
        was = retention.pin(trace_id, pinned)
        return {"pinned": pinned, "changed": was != pinned}

    def say(document: dict[str, Any]) -> str:
        how = ("pinned" if pinned else "not pinned") + ("" if document["changed"] else " already")
        return f"trace {document['trace_id']} is {how}"

    _with_trace(database, project, trace, do, say, as_json=as_json)


@click.command()
@_trace
@_db
@options.project
@options.as_json
def forget(trace: str, database: str | None, project: str | None, as_json: bool) -> None:
    """Forget a trace now, pinned or not; its figures stay in the statistics.

    TRACE is its id, or the first digits of it that no other trace has.
    """

    def do(retention: Keeper, trace_id: str) -> dict[str, Any]:
        return {"spans": retention.forget(trace_id).spans}

    def say(document: dict[str, Any]) -> str:
        from afterglow.ui.units import plural

        return f"trace {document['trace_id']} is forgotten: {plural(document['spans'], 'span')}"

    _with_trace(database, project, trace, do, say, as_json=as_json)


COMMANDS = (keep, pin, unpin, forget)
