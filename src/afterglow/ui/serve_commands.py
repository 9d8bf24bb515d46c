"""`afterglow serve`: the collector as a service (docs/collect.md)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afterglow.errors import AfterglowError
from afterglow.ui import failure, options

if TYPE_CHECKING:
    from afterglow.collecting.service import Service
    from afterglow.collecting.settings import ServeSettings

__all__ = ["COMMANDS"]


@click.command()
@click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings, in TOML: one table a room. Environment and options come before it.",
)
@click.option("--db", "database", metavar="FILE", help="Keep spans in this file.  [afterglow.db]")
@click.option(
    "--store", metavar="URL", help="Keep them in PostgreSQL instead; none: only send them on."
)
@click.option(
    "--buffer",
    "buffer_url",
    metavar="URL",
    help="One of many around a Redis: redis://host:port, redis+cluster://host:port,host:port.",
)
@click.option("--http", metavar="HOST:PORT", help="Listen here; off: not.  [127.0.0.1:4318]")
@click.option("--grpc", metavar="HOST:PORT", help="Listen here; off: not.  [127.0.0.1:4317]")
@click.option(
    "--kafka-in", metavar="SERVERS/TOPIC", help="Read OTLP from Kafka: host:port,host:port/topic."
)
@click.option("--to-otlp", metavar="URL", help="Send on to another backend, besides the store.")
@click.option("--to-kafka", metavar="SERVERS/TOPIC", help="Send on to Kafka, too.")
@click.option("--flushers", type=click.IntRange(1, 64), metavar="N", help="With Redis: processes.")
@click.option(
    "--token-file", metavar="FILE", help="Who may send: a token and its project on each line."
)
@click.option(
    "--retention/--no-retention", default=None, help="Let traces fade, and forget.  [yes]"
)
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Of what is said.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--check", is_flag=True, help="Only say whether it would start; changes nothing.")
@options.as_json
def serve(file: Path | None, check: bool, as_json: bool, **given: Any) -> None:
    """Take spans in by OTLP, assemble their traces, keep them.

    With no options: from programs on this machine, into afterglow.db. A program needs only
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318. Until SIGTERM or Ctrl-C.

    --check looks at files, ports and servers, one line each: exit code 1 when it would not start.
    """
    if as_json and not check:
        raise click.UsageError("--json goes with --check")
    from afterglow.collecting.settings import load_settings

    settings = load_settings(file, _flags(given))
    if check:
        if not _check(settings, as_json=as_json):
            raise click.exceptions.Exit(failure.PROBLEMS)
        return
    from afterglow.collecting.log import Log
    from afterglow.collecting.service import serve as run

    log = Log(settings.serve, secrets=settings.secrets())
    try:
        run(settings, log, _say_where)
    except AfterglowError as error:
        if settings.serve.log_format == "text":
            raise
        log.say(str(error), "error")  # an object, as all that it says
        raise click.exceptions.Exit(failure.status_of(error)) from error


def _flags(given: dict[str, Any]) -> dict[str, dict[str, object]]:
    """What was said on the line, by table and key."""
    return {
        "serve": {
            "database": given["database"],
            "store": given["store"],
            "retention": given["retention"],
            "log_format": given["log_format"],
            "log_level": given["log_level"],
        },
        "buffer": {"url": given["buffer_url"]},
        "ingest": {
            "http": given["http"],
            "grpc": given["grpc"],
            "tokens_file": given["token_file"],
        },
        "kafka_in": _kafka(given["kafka_in"], "--kafka-in"),
        "kafka_out": _kafka(given["to_kafka"], "--to-kafka"),
        "send": {"url": given["to_otlp"]},
        "flush": {"flushers": given["flushers"]},
    }


def _kafka(text: str | None, option: str) -> dict[str, object]:
    if text is None:
        return {}
    servers, slash, topic = text.partition("/")
    if not (servers and slash and topic):
        raise click.UsageError(f"{option} takes SERVERS/TOPIC, such as 127.0.0.1:9092/otlp_spans")
    return {"bootstrap_servers": servers, "topic": topic}


def _check(settings: ServeSettings, *, as_json: bool) -> bool:
    from afterglow.collecting.check import check

    found = []
    for one in check(settings):
        found.append(one)
        if not as_json:
            click.echo(f"{'ok     ' if one.ok else 'PROBLEM'}  {one.name}: {one.message}")
    if as_json:
        from afterglow.ui.documents import write_document

        write_document(sys.stdout, [one._asdict() for one in found])
    return all(one.ok for one in found)


def _say_where(service: Service) -> None:
    for line in service.greeting():
        service.log.say(line)


COMMANDS = (serve,)
