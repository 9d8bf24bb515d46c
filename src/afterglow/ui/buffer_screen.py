"""What the commands of `afterglow buffer` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from afterglow.ui import screen as styles
from afterglow.ui.screen import Column, Screen
from afterglow.ui.units import count, duration, percent, plural, size

if TYPE_CHECKING:
    from afterglow.buffer.check import Problem
    from afterglow.buffer.inspect import BufferStats, TraceState
    from afterglow.buffer.rollout import RolloutStatus
    from afterglow.flush.drain import Drained

__all__ = ["show_drained", "show_problems", "show_rollout", "show_stats", "show_traces"]

_FULL = 0.8
_LATE_S = 60.0
_WRITES = {
    0: "writes and reads colocated",
    1: "writes both, reads colocated",
    2: "writes both, reads distributed",
    3: "writes and reads distributed",
}


def show_stats(stats: BufferStats) -> None:
    """Books, shards and nodes."""
    screen = Screen()
    books = stats.books
    dropped = sum(sum(reasons.values()) for reasons in books.dropped.values())
    screen.line(stats.url)
    screen.line(
        screen.joined(
            [
                (f"{count(books.ingested)} ingested", ""),
                (f"{count(books.delivered)} delivered", ""),
                (f"{count(books.held)} held", ""),
                (f"{count(dropped)} dropped", styles.WARM if dropped else ""),
                ("" if books.balanced else "they do not balance", styles.BAD),
            ]
        )
    )
    for project, reasons in sorted(books.dropped.items()):
        words = ", ".join(f"{count(n)} {reason}" for reason, n in sorted(reasons.items()))
        screen.line(f"  dropped of {project}: {words}")
    if stats.pressure:
        screen.line((f"ingest is refused: {stats.pressure}", styles.BAD))
    screen.line("")
    screen.grid(
        [
            Column("shard"),
            Column("traces"),
            Column("due"),
            Column("spans"),
            Column("oldest due"),
            Column("host", right=False),
        ],
        [
            [
                Text(str(shard.shard)),
                Text(count(shard.queued_traces)),
                Text(count(shard.due_traces)),
                Text(count(shard.held_spans)),
                _late(shard.oldest_due_s),
                Text(shard.host or "-", styles.QUIET),
            ]
            for shard in stats.shards
        ],
    )
    screen.line("")
    screen.grid(
        [
            Column("node", right=False),
            Column("memory"),
            Column("of its limit"),
            Column("keys"),
            Column("policy", right=False),
        ],
        [
            [
                Text(node.node),
                Text(size(node.used_bytes)),
                _share(node.used_bytes, node.maxmemory_bytes),
                Text(count(node.keys)),
                Text(node.policy, "" if node.policy == "noeviction" else styles.BAD),
            ]
            for node in stats.nodes
        ],
    )


def _late(seconds: float | None) -> Text:
    late = seconds is not None and seconds > _LATE_S
    return Text(duration(None if seconds is None else seconds * 1e9), styles.WARM if late else "")


def _share(used: int, limit: int) -> Text:
    if not limit:
        return Text("no limit", styles.QUIET)
    return Text(percent(used / limit), styles.WARM if used / limit > _FULL else "")


def show_traces(traces: Sequence[TraceState]) -> None:
    """A trace, in each project that has it."""
    screen = Screen()
    for number, trace in enumerate(traces):
        if number:
            screen.line("")
        screen.line(
            screen.joined(
                [
                    (trace.trace_id, styles.WARM),
                    (f"project {trace.project}", ""),
                    (f"shard {trace.shard}, bucket {trace.bucket}", styles.QUIET),
                ]
            )
        )
        layouts = {
            "inline": trace.inline,
            "colocated": trace.colocated_only,
            "distributed": trace.distributed_only,
            "in both layouts": trace.both,
        }
        words = ", ".join(f"{count(n)} {name}" for name, n in layouts.items() if n)
        entries = plural(trace.entries, "entry", "entries") + (f" ({words})" if words else "")
        screen.line(f"holds {count(trace.held_spans)} spans in {entries}")
        if trace.look_s is not None:
            when = duration(abs(trace.look_s) * 1e9)
            late = f"for {when}: it waits for a flusher" if trace.look_s < 0 else f"in {when}"
            screen.line(f"to be looked at {late}" if trace.look_s >= 0 else f"due {late}")
        if trace.seal is not None:
            lease = duration(abs(trace.seal.lease_s) * 1e9)
            screen.line(
                f"taken by {trace.seal.owner}: {count(trace.seal.entries)} entries, "
                + (f"lease for {lease} more" if trace.seal.lease_s >= 0 else f"lease over {lease}")
                + f", {count(trace.seal.acknowledged_parts)} parts acknowledged"
            )
        if trace.remembered_bytes:
            screen.line(
                f"some of it went out: {size(trace.remembered_bytes)} remembered, for late spans"
            )


def show_problems(problems: Sequence[Problem]) -> None:
    """What `check` found, and what to do."""
    screen = Screen()
    if not problems:
        screen.line(("nothing is wrong", styles.GOOD))
    for problem in problems:
        screen.line((f"{count(problem.count)} {problem.kind}", styles.BAD))
        for example in problem.examples:
            screen.line(f"  {example}")
        if problem.count > len(problem.examples):
            screen.line(
                (f"  and {count(problem.count - len(problem.examples))} more", styles.QUIET)
            )
        screen.prose(f"  {problem.what_to_do}")


def show_drained(drained: Drained, path: str) -> None:
    """What went out."""
    screen = Screen()
    screen.line(
        screen.joined(
            [
                (
                    f"{plural(drained.spans, 'span')} in {plural(drained.parts, 'part')} to {path}",
                    "",
                ),
                (size(drained.payload_bytes), styles.QUIET),
            ]
        )
    )
    if drained.held:
        screen.prose(
            (f"{count(drained.held)} spans are held still", styles.WARNING),
            ": flushers have them, or somebody goes on adding. Stop both, and drain again.",
        )


def show_rollout(status: RolloutStatus) -> None:
    """The phase, who follows it, which steps are open."""
    screen = Screen()
    by = "nobody ever took a step"
    if status.set_by is not None and status.set_s_ago is not None:
        by = f"by {status.set_by}, {duration(status.set_s_ago * 1e9)} ago"
    screen.line(
        screen.joined(
            [
                (f"phase {status.phase}", styles.WARM),
                (_WRITES.get(status.phase, "unknown to this version"), ""),
                (by, styles.QUIET),
            ]
        )
    )
    if status.processes:
        screen.line("")
        _show_processes(screen, status)
    screen.line("")
    for name, reasons in (("advance", status.advance), ("back", status.back)):
        if not reasons:
            screen.line(f"{name}: ", ("open", styles.GOOD))
        for reason in reasons:
            screen.prose(f"{name}: ", ("refused", styles.WARNING), f", for {reason}")


def _show_processes(screen: Screen, status: RolloutStatus) -> None:
    colours = {"follows": styles.GOOD, "behind": styles.WARNING, "pinned": styles.WARNING}
    screen.grid(
        [
            Column("process", right=False),
            Column("role", right=False),
            Column("phase", right=False),
            Column("", right=False),
            Column("since"),
            Column("heard of"),
            Column("version", right=False),
        ],
        [
            [
                Text(f"{one.host}:{one.pid}"),
                Text(one.role),
                Text(" and ".join(map(str, one.phases))),
                Text(one.standing, colours.get(one.standing, styles.QUIET)),
                Text(duration(one.since_s * 1e9)),
                Text(duration(one.silent_s * 1e9) + " ago"),
                Text(one.version, styles.QUIET),
            ]
            for one in status.processes
        ],
    )
