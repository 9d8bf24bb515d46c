"""The commands, by click. What they print is in the rooms' other files, imported when needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from afterglow.ui import failure, keep_commands, options, runline, serve_commands
from afterglow.ui.buffer_commands import buffer
from afterglow.ui.memory import memory
from afterglow.ui.sorting import SORTS
from afterglow.version import VERSION

if TYPE_CHECKING:
    from afterglow.store.read import Database

__all__ = ["afterglow", "run_commands"]

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(click.Group):
    """Turns whatever a command raises into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a pipe that closed can still be dealt with
            return result
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            raise click.exceptions.Exit(failure.ended_by(error)) from error


def run_commands(words: Sequence[str]) -> int:
    """Run one command line; its exit status."""
    _open_missing_streams()
    if hasattr(sys.stdout, "reconfigure"):
        # A name may hold what the terminal's encoding cannot: then it is escaped, not fatal.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = afterglow.main(list(words), prog_name="afterglow", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return failure.INTERRUPTED
    return result if isinstance(result, int) else 0


def _open_missing_streams() -> None:
    """Python has None for a standard stream that was closed before it began (`>&-`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  for good


@click.group(cls=_Commands, context_settings=_HELP)
@click.version_option(VERSION, prog_name="afterglow", message="%(prog)s %(version)s")
def afterglow() -> None:
    """See where a Python program spends its time, without slowing it down.

    \b
    afterglow run script.py       record a program
    afterglow report              see where its time went
    """


# --- what commands share ------------------------------------------------------------------

_database = options.database
_json = options.as_json


def _limit(default: int, what: str) -> Callable[..., Any]:
    help_text = f"How many {what} to show; 0 for all.  [default: {default}]"
    return click.option(
        "--limit", type=click.IntRange(0), metavar="N", default=default, help=help_text
    )


def _run_option(help_text: str) -> Callable[..., Any]:
    return click.option("--run", "run_name", metavar="ID", help=help_text)


@contextmanager
def _opened(database: str | None, project: str | None = None) -> Iterator[Database]:
    """The database of a command, folded, with a progress bar if that takes long."""
    from afterglow.ui.opening import open_store
    from afterglow.ui.progress import Progress
    from afterglow.ui.units import size

    with Progress("folding", size) as progress:
        opened = open_store(
            options.place_of(database, project), options.project_of(project), progress=progress
        )
    for problem in opened.folded.problems:
        failure.say(problem)
    with opened:
        yield opened


# --- run ----------------------------------------------------------------------------------


class _RunCommand(click.Command):
    """Reads its line by runline.parse, as the straight way in cli.py does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            ctx.params["line"] = runline.parse(args)
        except runline.RunLineError as error:
            raise click.UsageError(str(error), ctx) from None
        except runline.HelpWanted:
            click.echo(ctx.get_help())
            ctx.exit()
        return []

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS] (SCRIPT | -m MODULE) [ARGUMENTS]..."]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        options = [
            click.Option([option], metavar=value_name, help=text)
            for option, (_, value_name, text) in runline.VALUES.items()
        ]
        flags = [
            click.Option([option], is_flag=True, help=text)
            for option, (_, text) in runline.FLAGS.items()
            if text
        ]
        return [*options, *flags, *super().get_params(ctx)]


@afterglow.command("run", cls=_RunCommand, context_settings=_HELP)
@click.pass_context
def run_program(ctx: click.Context, line: runline.RunLine) -> NoReturn:
    """Run a Python program and record it, with no change to its code.

    Options stand before the script; whatever follows it is the program's own. The exit status
    is the program's.
    """
    from afterglow.ui.launch import launch

    ctx.exit(launch(line))


# --- reading ------------------------------------------------------------------------------


@afterglow.command()
@_database
@_run_option(
    "Which run: an id, the beginning of one, the name of a service that spans were received from,"
    " latest, or all.  [default: latest]"
)
@click.option("--tree", "as_tree", is_flag=True, help="The slowest traces as trees.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    metavar="N",
    help="How many names (20) or traces (3); 0 for all.",
)
@click.option("--name", "name_glob", metavar="GLOB", help="Only names like this: 'app.*'.")
@click.option(
    "--sort",
    type=click.Choice(list(SORTS)),
    default="self",
    show_default=True,
    help="What the table goes by.",
)
@click.option(
    "--lines",
    type=click.IntRange(1),
    metavar="N",
    default=40,
    help="Lines a tree, about.  [default: 40]",
)
@click.option(
    "--depth",
    type=click.IntRange(0),
    metavar="N",
    default=16,
    help="Levels of a tree.  [default: 16]",
)
@options.project
@_json
def report(
    database: str | None,
    run_name: str | None,
    as_tree: bool,
    limit: int | None,
    name_glob: str | None,
    sort: str,
    lines: int,
    depth: int,
    project: str | None,
    as_json: bool,
) -> None:
    """Where a run spent its time: statistics by name, or its slowest traces as trees."""
    if as_tree and name_glob:
        raise click.UsageError("--name goes with the table, not with --tree")
    from afterglow.ui import reading

    with _opened(database, project) as opened:
        run = reading.one_run(opened, run_name)
        if as_tree:
            most = 3 if limit is None else limit
            reading.trees(opened, run, limit=most, lines=lines, depth=depth, as_json=as_json)
        else:
            most = 20 if limit is None else limit
            found = reading.figures(opened, run, limit=most, name_glob=name_glob, sort=sort)
            reading.table(found, sort=sort, limit=most, as_json=as_json)


@afterglow.command()
@_database
@_limit(20, "runs")
@options.project
@_json
def runs(database: str | None, limit: int, project: str | None, as_json: bool) -> None:
    """The recorded runs, the newest first."""
    from afterglow.ui import reading

    with _opened(database, project) as opened:
        reading.runs(opened, limit=limit, as_json=as_json)


@afterglow.command()
@_database
@_run_option("Only this run: an id, the beginning of one, or latest.")
@options.project
@click.option("--buffer", "url", metavar="URL", help="The collectors around this Redis instead.")
@_json
@click.pass_context
def audit(
    ctx: click.Context,
    database: str | None,
    run_name: str | None,
    project: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Where every span went: recorded = written + dropped + in flight.

    Where a service has run on the file, its books, too: received = delivered + dropped + in flight.
    Exit status 1 when books do not balance, or when rows are missing.
    """
    from afterglow.ui import reading, service_books

    if url is not None:
        ctx.exit(0 if service_books.cluster(url, as_json=as_json) else failure.PROBLEMS)
    place = options.place_of(database, project)
    service = service_books.beside(options.place_of(database, "default"))
    if service is not None and isinstance(place, Path) and not place.exists():
        # Each project has a file of its own: `default` may have none.
        fine = service_books.show(service, as_json=as_json)
    else:
        with _opened(database, project) as opened:
            fine = reading.audit(opened, run_name, service, as_json=as_json)
    ctx.exit(0 if fine else failure.PROBLEMS)


@afterglow.command()
@click.argument("words", nargs=-1, required=True, metavar="[DB] QUERY")
@_json
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
def sql(words: tuple[str, ...], as_json: bool, as_csv: bool) -> None:
    """Ask the database in SQL; nothing can be changed by it.

    Tables: runs, processes, spans, events, links (docs/tables.md).
    """
    if len(words) > 2:
        raise click.UsageError("one query at most, in quotes: afterglow sql [DB] 'SELECT ...'")
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    from afterglow.ui import reading

    with _opened(words[0] if len(words) == 2 else None) as opened:
        reading.query(opened, words[-1], "json" if as_json else "csv" if as_csv else "table")


@afterglow.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--db", "database", metavar="FILE", help="Into this database.")
@click.option("--namespace", metavar="NAME", help="The namespace that the file was written with.")
@_json
def import_file(file: Path, database: str | None, namespace: str | None, as_json: bool) -> None:
    """Copy the runs of a file that ferret-io wrote into a database of ours."""
    from afterglow.ui import reading

    reading.import_file(file, options.path_of(database), namespace, as_json=as_json)


@afterglow.command()
@_json
def settings(as_json: bool) -> None:
    """Every setting, its value now, and where that came from."""
    from afterglow.ui.settings import print_settings, settings_now

    found = settings_now()
    if as_json:
        from afterglow.ui.documents import write_document

        write_document(sys.stdout, found)
    else:
        from afterglow.ui.screen import Screen

        print_settings(Screen(), found)


# --- from files of their own --------------------------------------------------------------

for _command in (*keep_commands.COMMANDS, *serve_commands.COMMANDS, memory, buffer):
    afterglow.add_command(_command)
