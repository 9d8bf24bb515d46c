"""`afterglow buffer ...`: what operators ask of a span buffer in Redis, and do to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afterglow.ui import failure, options

if TYPE_CHECKING:
    from afterglow.buffering import Desk
    from afterglow.config import BufferConfig

__all__ = ["buffer"]

_url = click.option(
    "--url",
    metavar="URL",
    help="Which buffer: redis://host:port, or redis+cluster://host:port,host:port.  "
    "[default: AFTERGLOW_BUFFER_URL]",
)


def _asks(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command here has."""
    return _url(options.as_json(command))


def _config(url: str | None) -> BufferConfig:
    from afterglow.config import BufferConfig, load

    return load(BufferConfig, {"url": url})


@contextmanager
def _desk(url: str | None) -> Iterator[Desk]:
    from afterglow import buffering

    with buffering.desk(_config(url)) as desk:
        yield desk


def _print(document: object, as_json: bool, show: Callable[[Any], None]) -> None:
    if as_json:
        from afterglow.ui.documents import write_document

        write_document(sys.stdout, document)
    else:
        show(document)


@click.group()
def buffer() -> None:
    """Look at the span buffer, flush it, and change its layout.

    It is the one in Redis that AFTERGLOW_BUFFER_URL names, or --url.
    """


@buffer.command()
@_asks
def stats(url: str | None, as_json: bool) -> None:
    """What waits in which shard, since when, and the memory of each node."""
    from afterglow import buffering
    from afterglow.ui import buffer_screen

    with _desk(url) as desk:
        _print(desk.inspector.stats(buffering.now_ns()), as_json, buffer_screen.show_stats)


@buffer.command()
@click.argument("trace")
@click.option("--project", metavar="NAME", help="Only in this project.")
@_asks
def inspect(trace: str, project: str | None, url: str | None, as_json: bool) -> None:
    """Where a trace is: what is held of it, who took it, when it is looked at next."""
    from afterglow import buffering
    from afterglow.ui import buffer_screen

    with _desk(url) as desk:
        found = desk.inspector.trace(trace, project, buffering.now_ns())
    _print(found, as_json, buffer_screen.show_traces)


@buffer.command()
@_asks
def check(url: str | None, as_json: bool) -> None:
    """Keys without TTL or owner, traces that nobody looks at, and what to do about them.

    Exit code 1 when something was found.
    """
    from afterglow.ui import buffer_screen

    with _desk(url) as desk:
        problems = desk.check()
    _print(problems, as_json, buffer_screen.show_problems)
    if problems:
        raise click.exceptions.Exit(failure.PROBLEMS)


_to = click.option(
    "--to",
    "path",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Into this file of JSON lines; what is in it already is not written twice.",
)


@buffer.command()
@_to
@click.option("--force", is_flag=True, help="Even while flushers run: some goes out twice then.")
@_asks
def drain(path: Path, force: bool, url: str | None, as_json: bool) -> None:
    """Flush all that is held into a file, whether due or not.

    Exit code 1 when something is held still: flushers had it, or somebody goes on adding.
    """
    from afterglow.errors import SpanBufferError
    from afterglow.ui import buffer_screen
    from afterglow.ui.progress import Progress

    with _desk(url) as desk:
        flushers = desk.flushers()
        if flushers and not force:
            raise SpanBufferError(
                f"flushers run ({', '.join(flushers[:3])}): stop them first, or what they hold "
                "goes to both (--force)"
            )
        with Progress("spans") as progress:
            drained = desk.drain(path, lambda spans: progress(spans, 0))
    _print(drained._asdict(), as_json, lambda _: buffer_screen.show_drained(drained, str(path)))
    if drained.held:
        raise click.exceptions.Exit(failure.PROBLEMS)


@buffer.command()
@_to
@click.option("--flushers", type=click.IntRange(1, 64), metavar="N", help="So many processes.")
@_url
def flush(path: Path, flushers: int | None, url: str | None) -> None:
    """Run flushers until SIGTERM or Ctrl-C, which write what is due to a file.

    Any number of hosts may do so: they share out the shards.
    """
    from afterglow import buffering
    from afterglow.config import FlushConfig, load

    config, settings = _config(url), load(FlushConfig, {"flushers": flushers})
    run = "1 flusher runs" if settings.flushers == 1 else f"{settings.flushers} flushers run"
    buffering.flush_service(config, settings, path, lambda: failure.say(run))


@buffer.group()
def rollout() -> None:
    """Go from one layout of payloads to the other, a phase at a time.

    0 colocated; 1 writes both, reads colocated; 2 writes both, reads distributed; 3 distributed.
    """


@rollout.command()
@_asks
def status(url: str | None, as_json: bool) -> None:
    """The phase, and which processes follow it."""
    from afterglow.ui import buffer_screen

    with _desk(url) as desk:
        _print(desk.rollout.status(), as_json, buffer_screen.show_rollout)


@rollout.command()
@_asks
def advance(url: str | None, as_json: bool) -> None:
    """One phase on; refused, with the reason, where spans could be lost."""
    from afterglow.ui import buffer_screen

    with _desk(url) as desk:
        _print(desk.rollout.advance(), as_json, buffer_screen.show_rollout)


@rollout.command()
@_asks
def back(url: str | None, as_json: bool) -> None:
    """One phase back; refused, with the reason, where spans could be lost."""
    from afterglow.ui import buffer_screen

    with _desk(url) as desk:
        _print(desk.rollout.back(), as_json, buffer_screen.show_rollout)
