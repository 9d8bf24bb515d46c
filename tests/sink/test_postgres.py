"""What only the sink into PostgreSQL does; the rest is in tests/contracts/span_store."""

from __future__ import annotations

import pickle

import psycopg
import pytest

from afterglow.errors import SettingError, SinkUnavailableError
from afterglow.sink.postgres import PostgresSink, PostgresSinks
from tests.sink.payloads import buffered, part_with


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_page_that_comes_again_is_counted_and_changes_nothing(postgres: str) -> None:
    page = [part_with([buffered(1), buffered(2, 1)]), part_with([buffered(1, trace=2)])]
    sink = PostgresSinks(postgres)(0)
    sink.write(page)
    before = rows(postgres, "SELECT * FROM afterglow_spans.span ORDER BY trace_id, span_id")
    sink.write(page)
    sink.close()
    sink.close()
    assert rows(postgres, "SELECT * FROM afterglow_spans.span ORDER BY trace_id, span_id") == before
    books = rows(
        postgres, "SELECT counter, sum(spans) FROM afterglow_spans.book GROUP BY 1 ORDER BY 1"
    )
    assert books == [("duplicate", 3), ("stored", 3)]
    assert rows(postgres, "SELECT sum(spans) FROM afterglow_spans.trace") == [(3,)]


def test_the_factory_goes_into_another_process_without_showing_its_password() -> None:
    sinks = pickle.loads(pickle.dumps(PostgresSinks("postgresql://me:hidden@host/db")))
    assert sinks.url == "postgresql://me:hidden@host/db"
    assert "hidden" not in repr(sinks)


def test_what_is_no_url_is_said_at_once() -> None:
    with pytest.raises(SettingError) as caught:
        PostgresSink("postgresql://me:hidden@host/db?nonsense=1")
    assert "hidden" not in str(caught.value)


def test_a_server_that_is_not_there_is_waited_for() -> None:
    sink = PostgresSink("postgresql://me:hidden@127.0.0.1:1/db")
    with pytest.raises(SinkUnavailableError) as caught:
        sink.write([part_with([buffered(1)])])
    assert "hidden" not in str(caught.value) and "127.0.0.1:1/db" in str(caught.value)
