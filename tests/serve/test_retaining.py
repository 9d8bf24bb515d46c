"""Retention beside a service, of files and of projects on a server."""

from __future__ import annotations

from pathlib import Path

from afterglow.collecting.retaining import Retaining
from afterglow.config import RetentionConfig
from afterglow.ports import SegmentSink
from afterglow.sink.postgres import PostgresSink
from afterglow.sink.project_files import project_path
from afterglow.sink.store import StoreSink
from afterglow.store.postgres.read import PostgresDatabase, projects_at
from afterglow.store.read import Database
from afterglow.testing import ManualClock
from tests.sink.payloads import START_NS, buffered, part_with

CONFIG = RetentionConfig(keep_max_traces=1)


def fill(sink: SegmentSink) -> None:
    for project in ("default", "shop"):
        sink.write([part_with([buffered(1, trace=n, project=project)]) for n in (1, 2, 3)])
    sink.close()


def test_each_project_on_a_server_is_kept(postgres: str) -> None:
    said: list[str] = []
    assert projects_at(postgres) == []
    retaining = Retaining(
        lambda: [(project, postgres) for project in projects_at(postgres)],
        CONFIG, clock=ManualClock(wall_ns=START_NS), report=said.append,
    )  # fmt: skip
    retaining.step()
    fill(PostgresSink(postgres))
    retaining.step()
    assert (retaining.passes, retaining.forgotten_spans, said) == (2, 4, [])
    for project in projects_at(postgres):
        with PostgresDatabase(postgres, project) as opened:
            (audit,) = opened.audit()
            assert (audit.found, audit.forgotten) == (1, {"quota": 2})


def test_each_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "afterglow.db"
    fill(StoreSink(path))
    places = [(project, project_path(path, project)) for project in ("default", "shop")]
    retaining = Retaining(
        lambda: places, CONFIG, clock=ManualClock(wall_ns=START_NS), report=lambda _: None
    )
    retaining.step()
    assert retaining.forgotten_spans == 4
    with Database(places[1][1]) as opened:
        assert len(list(opened.spans())) == 1


def test_a_server_that_is_away_is_reported_and_asked_again() -> None:
    said: list[str] = []
    url = "postgresql://me:hidden@127.0.0.1:1/db"
    for places in (
        lambda: [(p, url) for p in projects_at(url)],
        lambda: [("default", url)],
    ):
        retaining = Retaining(places, CONFIG, clock=ManualClock(), report=said.append)
        retaining.step()
        retaining.step()
    assert len(said) == 2 and all("127.0.0.1:1/db" in line for line in said)
    assert not any("hidden" in line for line in said)
