"""Servers that restart, connections that are cut, writers and keepers that meet or are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from afterglow.config import RetentionConfig
from afterglow.errors import SinkUnavailableError
from afterglow.keep.postgres.retention import PostgresRetention
from afterglow.model.segment import SegmentPart
from afterglow.sink.postgres import PostgresSink
from afterglow.store.postgres.read import PostgresDatabase
from scripts.postgres import Postgres
from scripts.servers import until
from tests.sink.payloads import buffered, part_with


def page_of(traces: Sequence[int], spans: int = 4) -> list[SegmentPart]:
    return [
        part_with([buffered(n, max(0, n - 1), trace=t, end=100 - n) for n in range(1, spans + 1)])
        for t in traces
    ]


def balance(url: str) -> tuple[int, int, int]:
    """Spans stored, found, and forgotten; all other books hold."""
    with PostgresDatabase(url) as opened:
        audits = opened.audit()
        totals = opened.totals()
        assert all(audit.agrees for audit in audits)
        counted = sum(s.count for s in opened.statistics())
    found = sum(audit.found for audit in audits)
    assert counted == totals["stored"] == found + totals["forgotten"]
    with psycopg.connect(url) as session:
        of_traces = session.execute(
            "SELECT (SELECT coalesce(sum(spans), 0) FROM afterglow_spans.trace),"
            " (SELECT count(DISTINCT trace_id) FROM afterglow_spans.span),"
            " (SELECT count(*) FROM afterglow_spans.trace)"
        ).fetchone()
    assert of_traces is not None and of_traces[0] == found and of_traces[1] == of_traces[2]
    return totals["stored"], found, totals["forgotten"]


def written_at_last(sink: PostgresSink, page: list[SegmentPart]) -> int:
    """Write a page as a flusher does; how many times the server was away."""
    away = 0
    while True:
        try:
            sink.write(page)
            return away
        except SinkUnavailableError:
            away += 1
            assert away < 1_000


@contextmanager
def locked(url: str, table: str) -> Iterator[psycopg.Connection[Any]]:
    """Nobody else writes this table meanwhile; whoever wants to waits."""
    with psycopg.connect(url) as session:
        session.execute(f"LOCK TABLE afterglow_spans.{table} IN EXCLUSIVE MODE".encode())
        yield session
        session.rollback()


def waiting(url: str) -> list[int]:
    """Server processes that wait for a lock."""
    with psycopg.connect(url) as session:
        rows = session.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return [pid for (pid,) in rows]


class Running:
    """Calls something in a thread; `result()` waits, and raises what it raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001  raised again by whoever waits
            self._error = error

    def result(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


def test_a_server_that_restarts_between_pages(postgres_server: Postgres) -> None:
    url = postgres_server.new_database()
    sink = PostgresSink(url)
    sink.write(page_of([1, 2]))
    postgres_server.shut_down()
    with pytest.raises(SinkUnavailableError):
        sink.write(page_of([3]))
    postgres_server.start()
    sink.write(page_of([3]))
    postgres_server.restart("immediate")
    written_at_last(sink, page_of([4]))
    sink.close()
    assert balance(url) == (16, 16, 0)


def test_a_database_that_was_made_anew_under_the_sink(postgres_server: Postgres) -> None:
    url = postgres_server.new_database("again")
    sink = PostgresSink(url)
    sink.write(page_of([1]))
    postgres_server.drop_databases()
    postgres_server.new_database("again")
    written_at_last(sink, page_of([2]))
    sink.close()
    assert balance(url) == (4, 4, 0)


@pytest.mark.parametrize("table", ["trace", "span", "segment", "book", "new_roots"])
def test_a_connection_that_is_cut_in_the_middle_of_a_page(postgres: str, table: str) -> None:
    sink = PostgresSink(postgres)
    sink.write(page_of([1]))
    with locked(postgres, table):
        writing = Running(lambda: sink.write(page_of([1, 2, 3])))
        until(lambda: waiting(postgres) != [], "the sink waits in the middle of its page")
        with psycopg.connect(postgres) as session:
            (pid,) = waiting(postgres)
            session.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises(SinkUnavailableError):
            writing.result()
        assert balance(postgres) == (4, 4, 0)
    sink.write(page_of([1, 2, 3]))
    sink.close()
    assert balance(postgres) == (12, 12, 0)


def test_sinks_with_the_same_pages_at_once_and_keepers_between(postgres: str) -> None:
    chance = random.Random(3)
    pages = [page_of(chance.sample(range(1, 40), 12), spans=6) for _ in range(12)]

    def write(seed: int) -> None:
        sink = PostgresSink(postgres)
        mine = [random.Random(seed).sample(page, len(page)) for page in pages]
        random.Random(seed).shuffle(mine)
        for page in mine:
            sink.write(page)  # no deadlock, no refusal
        sink.close()

    def keep() -> None:
        config = RetentionConfig(keep_max_traces=20)
        with PostgresRetention(postgres, config=config) as keeper:
            for _ in range(6):
                keeper.step()

    first = PostgresSink(postgres)
    first.write(pages[0])
    first.close()
    running = [Running(lambda seed=seed: write(seed)) for seed in range(3)]
    running += [Running(keep), Running(keep)]
    for one in running:
        one.result()
    keep()
    stored, found, forgotten = balance(postgres)
    assert 0 < found <= 20 * 6 and forgotten > 0 and stored == found + forgotten


def test_sinks_with_the_same_pages_at_once_store_each_span_once(postgres: str) -> None:
    pages = [page_of(range(at, at + 10), spans=5) for at in range(1, 60, 5)]
    sinks = [PostgresSink(postgres) for _ in range(3)]

    def write(sink: PostgresSink, order: int) -> None:
        for page in pages[::order]:
            sink.write(page)

    running = [
        Running(lambda s=s, o=o: write(s, o)) for s, o in zip(sinks, (1, -1, 1), strict=True)
    ]
    for one in running:
        one.result()
    for sink in sinks:
        sink.close()
    stored, found, _ = balance(postgres)
    assert stored == found == len(range(1, 66)) * 5
    with PostgresDatabase(postgres) as opened:
        assert {s.self_ns for s in opened.statistics()} == {65 * (4 * 1 + 95)}


KEEPER = """
import sys
from afterglow.config import RetentionConfig
from afterglow.keep.postgres.retention import PostgresRetention
with PostgresRetention(sys.argv[1], config=RetentionConfig(keep_max_traces=2)) as keeper:
    keeper.step()
"""


@pytest.mark.parametrize("table", ["span", "trace", "forgotten", "book", "forgotten_traces"])
def test_a_keeper_that_is_killed_in_the_middle(postgres: str, table: str) -> None:
    sink = PostgresSink(postgres)
    sink.write(page_of(range(1, 30)))
    sink.close()
    with PostgresRetention(postgres) as keeper:
        keeper.step()
    with locked(postgres, table):
        child = subprocess.Popen([sys.executable, "-c", KEEPER, postgres], stdin=subprocess.DEVNULL)
        until(lambda: waiting(postgres) != [], "the keeper waits in the middle of forgetting")
        child.send_signal(signal.SIGKILL)
        child.wait()
    until(lambda: _alone(postgres), "the server has noticed")
    balance(postgres)
    with PostgresRetention(postgres, config=RetentionConfig(keep_max_traces=2)) as keeper:
        keeper.step()
        assert len(keeper.read([f"{n:032x}" for n in range(1, 30)]).records) == 2
    assert balance(postgres) == (116, 8, 108)


def _alone(url: str) -> bool:
    with psycopg.connect(url) as session:
        row = session.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchone()
    return row == (1,)


def test_a_server_without_a_connection_left(postgres_server: Postgres) -> None:
    url = postgres_server.new_database()
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 0")
        session.execute("GRANT ALL ON SCHEMA public TO few")
    few = url.replace("//afterglow@", "//few@")
    sink = PostgresSink(few)
    with pytest.raises(SinkUnavailableError, match="too many connections"):
        sink.write(page_of([1]))
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("ALTER ROLE few CONNECTION LIMIT 5")
        name = session.info.dbname
        session.execute(f'GRANT CREATE ON DATABASE "{name}" TO few'.encode())
    sink.write(page_of([1]))
    sink.close()
    assert balance(url) == (4, 4, 0)
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("DROP OWNED BY few")
        session.execute("DROP ROLE few")


def test_a_sink_goes_on_in_a_forked_child(postgres: str) -> None:
    sink = PostgresSink(postgres)
    sink.write(page_of([1]))
    child = os.fork()
    if not child:
        sink.write(page_of([2]))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    sink.write(page_of([3]))
    sink.close()
    assert balance(postgres) == (12, 12, 0)
