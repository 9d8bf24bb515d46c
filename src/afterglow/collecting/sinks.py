"""Where assembled segments go: the store, and wherever else they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from afterglow.collecting.settings import ServeSettings
from afterglow.counts import Counts
from afterglow.errors import SettingError
from afterglow.ports import SegmentSink
from afterglow.sink.counted import CountedSink
from afterglow.sink.project_files import DEFAULT_PROJECT, ProjectFiles
from afterglow.write.complaints import to_stderr

__all__ = ["Sinks", "in_postgres", "places_of", "projects_of", "stores_in_file"]


#: What [serve] store says for no store at all.
NO_STORE: Final = "none"


def stores_in_file(settings: ServeSettings) -> bool:
    """Whether spans are kept in the SQLite file."""
    return settings.serve.store is None


def projects_of(database: Path) -> Iterator[tuple[str, Path]]:
    """The projects that have a file now, and their files."""
    if database.exists():
        yield DEFAULT_PROJECT, database
    for path in sorted(database.parent.glob(f"{database.stem}.*{database.suffix}")):
        project = path.name[len(database.stem) + 1 : len(path.name) - len(database.suffix)]
        if project and path.is_file():
            yield project, path


def in_postgres(settings: ServeSettings) -> str | None:
    """The URL of the PostgreSQL that spans are kept in, if they are. Raises SettingError."""
    store = settings.serve.store
    if store is None or store == NO_STORE:
        return None
    if not store.startswith(("postgresql://", "postgres://")):
        raise SettingError(
            "store of [serve] is neither postgresql://HOST/DATABASE nor none; leave it out to keep "
            "spans in a file (--db)"
        )
    return store


def places_of(
    settings: ServeSettings,
) -> Callable[[], Iterable[tuple[str, Path | str]]] | None:
    """What says which projects the store has now, and where; None where there is no store."""
    if stores_in_file(settings):
        return lambda: projects_of(settings.database)
    url = in_postgres(settings)
    if url is None:
        return None
    from afterglow.store.postgres.read import projects_at

    timeout_s = settings.servers.postgres_connect_timeout_s
    return lambda: [(project, url) for project in projects_at(url, connect_timeout_s=timeout_s)]


@dataclass(frozen=True)
class Sinks:
    """Makes the sink of a flusher, here or in a process of its own, where it goes by pickle."""

    settings: ServeSettings
    report: Callable[[str], None] = to_stderr

    def __call__(self, number: int) -> SegmentSink:
        counts = Counts()
        return CountedSink(self.open(counts, self.report, number), counts)

    def open(
        self,
        counts: Counts,
        report: Callable[[str], None],
        number: int = 0,
        files: ProjectFiles | None = None,
    ) -> SegmentSink:
        """All that the settings name, as one; `files` are the caller's, where he has them open.

        Raises SettingError, SinkError, MissingExtraError.
        """
        sinks: dict[str, SegmentSink] = {}
        if stores_in_file(self.settings):
            from afterglow.sink.store import StoreSink

            database = files or self.settings.database
            sinks["store"] = StoreSink(database, counts=counts, report=report)
        elif (url := in_postgres(self.settings)) is not None:
            from afterglow.sink.postgres import PostgresSink

            sinks["postgres"] = PostgresSink(
                url,
                connect_timeout_s=self.settings.servers.postgres_connect_timeout_s,
                counts=counts,
                report=report,
            )
        if self.settings.send.url:
            sinks["otlp"] = self._otlp(counts, report, number)
        if self.settings.kafka_out.bootstrap_servers:
            sinks["kafka"] = self._kafka(counts, report, number)
        if not sinks:
            raise SettingError(
                "spans would go nowhere: leave [serve] store out (a file), or name what they are "
                "sent to"
            )
        if len(sinks) == 1:
            return next(iter(sinks.values()))
        from afterglow.sink.several import Several

        return Several(sinks, counts=counts, report=report)

    def _otlp(self, counts: Counts, report: Callable[[str], None], number: int) -> SegmentSink:
        from afterglow.collecting.sending import sending_to
        from afterglow.sink.otlp import OtlpSink

        def make() -> SegmentSink:
            # The queue before it counts what was sent: once.
            return OtlpSink(self.settings.send, report=report)

        return sending_to("otlp", make, self.settings, counts, report, number)

    def _kafka(self, counts: Counts, report: Callable[[str], None], number: int) -> SegmentSink:
        from afterglow.collecting.sending import sending_to
        from afterglow.sink.kafka import KafkaSink

        def make() -> SegmentSink:
            return KafkaSink(self.settings.kafka_out)

        return sending_to("kafka", make, self.settings, counts, report, number)
