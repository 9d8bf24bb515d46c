"""Runs: one line each for `afterglow runs`, two above everything that is said of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.text import Text

from afterglow.model.run import Run
from afterglow.ui import screen as styles
from afterglow.ui.screen import Column, Screen
from afterglow.ui.text import clip, command_line, printable
from afterglow.ui.units import count, duration, moment, plural, short_moment

__all__ = ["print_run", "print_runs", "short_id", "state_text", "what"]


def state_text(run: Run) -> tuple[str, str]:
    """How a run stands, and the style that it is said in."""
    if run.state == "running":
        return "running", styles.GOOD
    if run.state == "interrupted":
        return "interrupted", styles.WARNING
    if run.exit_status:
        return f"exit {run.exit_status}", styles.BAD
    return ("exit 0" if run.exit_status == 0 else run.state), styles.QUIET


def what(run: Run) -> str:
    """What was run: its command line; of spans that were received, the service they came from."""
    if run.state != "received" or len(run.argv) != 1:
        return command_line(run.argv)
    resource = run.resource
    name = printable(" ".join(["service", run.argv[0], resource.get("service.version", "")]))
    instance = run.host or resource.get("service.instance.id", "")
    return name.rstrip() + (f" on {printable(instance)}" if instance else "")


def print_run(screen: Screen, run: Run) -> None:
    """Two lines about a run: what was run, and what came of it."""
    width = screen.width or 200
    screen.line((clip(what(run), width, mark=screen.glyphs.cut), "bold"))
    facts = [
        (f"run {printable(run.run_id[:12])}", styles.QUIET),
        (moment(run.start_ns), styles.QUIET),
        (_took(run), ""),
        state_text(run),
        (plural(run.spans, "span"), ""),
        (plural(run.processes, "process", "processes") if run.processes != 1 else "", ""),
        (plural(run.errors, "error") if run.errors else "", styles.BAD),
    ]
    screen.prose(screen.joined(facts))
    screen.line()


def short_id(run_id: str, all_ids: Sequence[str]) -> str:
    """The shortest beginning of a random id, eight digits at least, that no other id has.

    An id that somebody chose stays whole.
    """
    if len(run_id) != 32 or not all(c in "0123456789abcdef" for c in run_id):
        return run_id
    length = 8
    while length < 32 and any(i != run_id and i.startswith(run_id[:length]) for i in all_ids):
        length += 2
    return run_id[:length]


def print_runs(screen: Screen, runs: Sequence[Run], *, left_out: int) -> None:
    """The table; the command takes what room is left."""
    ids = [run.run_id for run in runs]
    began = short_moment if screen.width is not None and screen.width < 100 else moment
    fields: list[tuple[Column, Callable[[Run], Text]]] = [
        (Column("run", right=False), lambda r: Text(printable(short_id(r.run_id, ids)), "bold")),
        (Column("began", right=False), lambda r: Text(began(r.start_ns))),
        (Column("took"), lambda r: Text(_took(r) or "-")),
        (Column("state", right=False), lambda r: Text(*state_text(r))),
        (Column("spans"), lambda r: Text(count(r.spans))),
    ]
    if any(run.errors for run in runs):
        fields.append((Column("errors"), lambda r: _marked(r.errors, styles.BAD)))
    if any(run.dropped for run in runs):
        fields.append((Column("lost"), lambda r: _marked(r.dropped, styles.WARNING)))
    rows = [[cell(run) for _, cell in fields] for run in runs]
    columns = [column for column, _ in fields]
    widths = [
        2 + max([len(column.title), *(len(row[i].plain) for row in rows)])
        for i, column in enumerate(columns)
    ]
    room = 200 if screen.width is None else max(screen.width - sum(widths), 8)
    for run, row in zip(runs, rows, strict=True):
        row.append(Text(clip(what(run), room, mark=screen.glyphs.cut)))
    screen.grid([*columns, Column("command", right=False)], rows)
    if left_out:
        more = plural(left_out, "older run")
        screen.line((f"{screen.glyphs.cut} {more} (--limit 0 shows all)", styles.QUIET))


def _took(run: Run) -> str:
    return "" if run.end_ns is None else duration(run.end_ns - run.start_ns)


def _marked(n: int, style: str) -> Text:
    return Text(count(n), style) if n else Text("-", styles.QUIET)
