"""`afterglow memory`: a trace store by hand. What is printed is in memory_view.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from afterglow.errors import EntryError, NotFoundError, StoreError
from afterglow.ui.failure import say

if TYPE_CHECKING:
    from afterglow.keep.entry import Entry
    from afterglow.keeping import TraceStore

__all__ = ["memory"]

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_HELP)
def memory() -> None:
    """A memory whose entries fade unless they are used.

    \b
    afterglow memory add "The deploy key is in the safe." --tag deploy
    afterglow memory recall deploy

    It is kept in memory.db, or where --db or AFTERGLOW_MEMORY_DATABASE says. Time that went by
    since the last command is caught up by the next one.
    """


# --- what commands share ------------------------------------------------------------------


class _Where(NamedTuple):
    """Which memory, and how to print."""

    database: str
    partition: str
    as_json: bool


_OPTIONS = (
    click.option(
        "--db", "database", metavar="FILE|URL", help="The database.  [default: memory.db]"
    ),
    click.option("--partition", metavar="NAME", help="Which memory of the database."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
)


def _placed(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all have, as one argument `where`."""

    @wraps(command)
    def called(
        *, database: str | None, partition: str | None, as_json: bool, **others: Any
    ) -> None:
        from afterglow.config import MemoryConfig, load

        given = {"memory_database": database, "memory_partition": partition}
        config = load(MemoryConfig, given)
        command(_Where(config.memory_database, config.memory_partition, as_json), **others)

    decorated: Callable[..., None] = called
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


@contextmanager
def _opened(
    where: _Where, *, new: bool = False, catch_up: bool = True, look: bool = False
) -> Iterator[TraceStore]:
    """The store, as of now; `new`: it may begin here. What was changed is written at the end.

    A `look` changes nothing but the time, and so does without that where nobody may write.
    """
    from afterglow.keeping import TraceStore

    if not new and "://" not in where.database and not Path(where.database).exists():
        raise NotFoundError(
            f"there is no memory at {where.database}: `afterglow memory add` begins one, --db "
            "names another"
        )
    with TraceStore(where.database, where.partition, maintenance=False) as store:
        if catch_up:
            try:
                store.decay_cycle(ticks=None)
            except StoreError as error:
                if not look:
                    raise
                say(f"{error} (shown as it was when last written)")
        yield store


def _kind_option(default: str | None = None) -> Callable[..., Any]:
    text = "The kind of entry, which says how it fades"
    shown = f"{text}.  [default: {default}]" if default else f"{text}; only these."
    return click.option("--kind", metavar="KIND", default=default, help=shown)


def _share(
    name: str, text: str, low: float = 0.0, default: float | None = None
) -> Callable[..., Any]:
    return click.option(
        name, type=click.FloatRange(low, 1.0), metavar="X", default=default, help=text
    )


def _print(where: _Where, draw: Callable[..., None], document: object, *shown: Any) -> None:
    """One document for programs, or what `draw` makes of it for people."""
    if where.as_json:
        from afterglow.ui.documents import write_document

        write_document(sys.stdout, document)
    else:
        from afterglow.ui.screen import Screen

        draw(Screen(), *shown)


def _print_entries(where: _Where, entries: Sequence[Entry], nothing: str) -> None:
    from afterglow.ui import memory_view as view

    documents = [view.entry_document(entry) for entry in entries]
    _print(where, view.print_entries, documents, entries, nothing)


def _print_line(where: _Where, document: dict[str, Any], line: str) -> None:
    _print(where, lambda screen: screen.line(line), document)


# --- put in -------------------------------------------------------------------------------


@memory.command()
@click.argument("text", metavar="TEXT|-")
@_kind_option("semantic")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="May be repeated.")
@_share("--valence", "How good or bad it is: -1 to 1.", low=-1.0, default=0.0)
@_share("--intensity", "How strongly it was felt, 0 to 1; slows its fading.", default=0.0)
@_share("--confidence", "How sure it is, 0 to 1.  [default: the kind's]")
@click.option("--id", "trace_id", metavar="ID", help="Its id; what has this id gets this content.")
@click.option("--parent", "parent_id", metavar="ID", help="The entry that it belongs to.")
@click.option("--unresolved", is_flag=True, help="Something is still to be done about it.")
@click.option("--parse", is_flag=True, help="TEXT is a JSON value, and kept as that.")
@_placed
def add(where: _Where, text: str, parse: bool, tags: Sequence[str], **fields: Any) -> None:
    """Remember a text, or what stdin says (-); prints the id."""
    if text == "-":
        text = _stdin()
    if not text.strip():
        raise EntryError("there is nothing to remember: give a text, or - to read stdin")
    payload = _parsed(text) if parse else text
    with _opened(where, new=True) as store:
        trace_id = store.store(payload, tags=tags, **fields)
        store.flush()
        evicted = store.enforce_quota()
    document = {"trace_id": trace_id, "evicted": evicted}
    _print_line(where, document, trace_id)
    if evicted and not where.as_json:
        # Not on stdout: scripts take the id from there.
        say(f"forgotten to make room for it (the memory's quota): {', '.join(evicted)}")


def _stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise EntryError(f"stdin is no UTF-8 text ({error.reason}): convert it first") from None


def _parsed(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EntryError(
            f"TEXT is no JSON value ({error}): leave --parse out to keep it as text"
        ) from None


# --- look up ------------------------------------------------------------------------------


@memory.command()
@click.argument("trace_id", metavar="ID")
@_placed
def get(where: _Where, trace_id: str) -> None:
    """One entry, with all that is known of it. An id may be cut short."""
    from afterglow.keep.recall import resolved
    from afterglow.ui import memory_view as view

    with _opened(where, look=True) as store:
        entry = resolved(store, trace_id)
    _print(where, view.print_entry, view.entry_document(entry), entry)


@memory.command()
@click.argument("words", nargs=-1, metavar="[WORDS]...")
@_kind_option()
@click.option("--tag", metavar="TAG", help="Only entries with exactly this tag.")
@click.option("--limit", type=click.IntRange(1), default=10, metavar="N", show_default=True,
              help="How many at most.")  # fmt: skip
@_share("--min-strength", "Only entries of at least this strength.", default=0.0)
@click.option("--peek", is_flag=True, help="Look without strengthening what is found.")
@_placed
def recall(where: _Where, words: Sequence[str], **choice: Any) -> None:
    """What has all these words; what is found gets stronger by it.

    The best first: strong, used not long ago, and felt.
    """
    with _opened(where, look=choice["peek"]) as store:
        found = store.recall(" ".join(words), **choice)
    _print_entries(where, found, "nothing is remembered that fits")


@memory.command("list")
@_kind_option()
@click.option("--tag", metavar="TAG", help="Only entries with exactly this tag.")
@click.option("--limit", type=click.IntRange(0), default=20, metavar="N", show_default=True,
              help="How many at most; 0 for all.")  # fmt: skip
@_share("--min-strength", "Only entries of at least this strength.", default=0.0)
@_placed
def list_entries(
    where: _Where, kind: str | None, tag: str | None, limit: int, min_strength: float
) -> None:
    """Entries, the strongest first; changes nothing of them."""
    with _opened(where, look=True) as store:
        most = limit or None
        if kind is not None and tag is not None:
            found = [e for e in store.by_kind(kind, min_strength) if tag in e.tags][:most]
        elif kind is not None:
            found = store.by_kind(kind, min_strength, most)
        elif tag is not None:
            found = store.by_tag(tag, min_strength, most)
        else:
            found = store.all(min_strength, most)
    _print_entries(where, found, "nothing is remembered here")


# --- use and forget -------------------------------------------------------------------------


@memory.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--imprinting", is_flag=True, help="By 0.30 instead of 0.10.")
@_placed
def reinforce(where: _Where, ids: Sequence[str], imprinting: bool) -> None:
    """Strengthen entries; their fading begins anew."""
    from afterglow.keep.recall import resolved

    with _opened(where) as store:
        entries = [resolved(store, trace_id) for trace_id in ids]
        for entry in entries:
            done = store.reinforce(entry.trace_id, imprinting=imprinting)
            if not done:
                raise EntryError(f"{entry.trace_id} was not reinforced: {done.reason}")
        after = [resolved(store, entry.trace_id) for entry in entries]
    _print_entries(where, after, "")


@memory.command()
@click.argument("a", metavar="ID")
@click.argument("b", metavar="ID")
@click.option("--once", is_flag=True, help="Only count that they were active together.")
@_placed
def link(where: _Where, a: str, b: str, once: bool) -> None:
    """Link two entries, as being active together three times does."""
    from afterglow.keep.backend import LINK_AT
    from afterglow.keep.recall import resolved

    with _opened(where) as store:
        first, second = resolved(store, a).trace_id, resolved(store, b).trace_id
        for _ in range(1 if once else LINK_AT):
            done = store.record_coactivation(first, second)
            if not done:
                raise EntryError(f"{a} and {b} were not linked: {done.reason}")
        if not once and second not in resolved(store, first).associated:
            raise EntryError(f"{a} and {b} were not linked: one of them has all 20 links already")
    word = "linked" if done.linked else "not linked yet"
    document = {"a": first, "b": second, "count": done.count, "linked": done.linked}
    _print_line(where, document, f"{word}: active together {done.count} times")


@memory.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_kind_option()
@click.option("--everything", is_flag=True, help="All entries of the partition.")
@_placed
def forget(where: _Where, ids: Sequence[str], kind: str | None, everything: bool) -> None:
    """Forget entries for good: some, all of a kind, or everything."""
    from afterglow.keep.recall import resolved

    if sum((bool(ids), kind is not None, everything)) != 1:
        raise click.UsageError("name entries by their ids, or give --kind, or --everything")
    with _opened(where) as store:
        if everything:
            forgotten = store.erase_by_partition(where.partition)
        elif kind is not None:
            forgotten = store.erase_by_kind(kind)
        else:
            found = {resolved(store, trace_id).trace_id for trace_id in ids}
            forgotten = sum(store.delete(trace_id) for trace_id in found)
    _print_line(where, {"forgotten": forgotten}, f"{forgotten:,} forgotten")


@memory.command()
@click.option("--ticks", type=click.IntRange(0, (1 << 62) - 1), metavar="N", default=0,
              help="So many besides those that are due.  [default: 0]")  # fmt: skip
@_placed
def decay(where: _Where, ticks: int) -> None:
    """Let time go by (a tick is a minute), and forget what has faded."""
    from afterglow.ui import memory_view as view

    with _opened(where, catch_up=False) as store:
        due = store.decay_cycle(ticks=None)
        more = store.decay_cycle(ticks=ticks) if ticks else None
    document = view.cycle_document(due, more)
    _print(where, view.print_cycle, document, document)


@memory.command()
@_placed
def stats(where: _Where) -> None:
    """How much is remembered, by kind, and how fast each kind fades."""
    from afterglow.ui import memory_view as view

    with _opened(where, look=True) as store:
        document = view.stats_document(store, where.database)
    _print(where, view.print_stats, document, document)


# --- snapshots ------------------------------------------------------------------------------


@memory.command()
@click.argument("name", required=False)
@_placed
def snapshot(where: _Where, name: str | None) -> None:
    """Write everything into a file that AFTERGLOW_SNAPSHOT_KEY seals.

    NAME is a name in the folder of snapshots, or a path; the time if left out.
    """
    from afterglow.ui import memory_view as view

    with _opened(where, catch_up=False) as store:
        taken = store.snapshot(name)
    _print(where, view.print_snapshots, view.snapshot_document(taken), [taken])


@memory.command()
@click.argument("name", required=False)
@click.option("--force", is_flag=True, help="Also over what is newer, or another memory's.")
@_placed
def restore(where: _Where, name: str | None, force: bool) -> None:
    """Put everything back as a snapshot has it.

    NAME is a name of the list, or a path; the newest if left out.
    """
    from afterglow.ui import memory_view as view

    with _opened(where, new=True, catch_up=False) as store:
        done = store.restore(name, force=force)
    _print(where, view.print_snapshots, view.snapshot_document(done), [done])


@memory.command()
@click.option("--prune", is_flag=True, help="Remove all but the newest.")
@click.option("--keep", type=click.IntRange(1), default=10, metavar="N", show_default=True,
              help="How many --prune leaves.")  # fmt: skip
@_placed
def snapshots(where: _Where, prune: bool, keep: int) -> None:
    """The snapshots there are, the newest first."""
    from afterglow.ui import memory_view as view

    with _opened(where, catch_up=False) as store:
        gone = store.prune_snapshots(keep) if prune else []
        found = store.list_snapshots()
    document = {
        "snapshots": [view.snapshot_document(one) for one in found],
        "removed": [one.name for one in gone],
    }
    _print(where, view.print_snapshots, document, found)
