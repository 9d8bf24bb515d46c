"""What retention on PostgreSQL does beside the contract (tests/contracts/span_store)."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afterglow.config import RetentionConfig
from afterglow.keep.postgres.retention import PostgresRetention
from afterglow.sink.postgres import PostgresSink
from afterglow.store.postgres.jsonb import attributes_json, read_attributes
from tests.sink.payloads import buffered, part_with

ROOT = buffered(1, end=100, name="GET /", kind=2)
NEAR = buffered(2, 1, start=1, end=40, name="near", service="mail", kind=2, flags=0x300)
FAR = buffered(3, 1, start=2, end=50, name="far", service="stock", kind=2, flags=0x300)
INNER = buffered(4, 3, start=3, end=4, name="inner", service="stock")


@pytest.fixture
def sink(postgres: str) -> Iterator[PostgresSink]:
    sink = PostgresSink(postgres)
    yield sink
    sink.close()


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as session:
        return session.execute(query.encode()).fetchall()


def test_a_trace_is_named_by_its_best_root_whatever_came_first(
    postgres: str, sink: PostgresSink
) -> None:
    named = []
    for span in (INNER, FAR, NEAR, ROOT, buffered(5, 1, name="late")):
        sink.write([part_with([span])])
        named += rows(postgres, "SELECT service, name, duration_ns FROM afterglow_spans.trace")
    assert named == [
        ("", "inner", None), ("stock", "far", 48), ("mail", "near", 39), ("shop", "GET /", 100),
        ("shop", "GET /", 100),
    ]  # fmt: skip
    sink.write([part_with([buffered(3, 9, trace=2, start=5, name="b", kind=2, flags=0x300)])])
    sink.write([part_with([buffered(4, 9, trace=2, start=4, name="a", kind=2, flags=0x300)])])
    sink.write([part_with([buffered(5, 9, trace=2, start=6, name="c", kind=2, flags=0x300)])])
    assert ("a",) in rows(postgres, "SELECT name FROM afterglow_spans.trace")


def test_what_changes_while_entries_are_made_is_made_again(
    postgres: str, sink: PostgresSink
) -> None:
    sink.write([part_with([buffered(1, trace=n)]) for n in (1, 2, 3)])
    with PostgresRetention(postgres) as keeper:
        marks = [(trace, "normal", "") for trace in keeper.spans.changed(10)]
        sink.write([part_with([buffered(2, 1, trace=1)], addendum=True)])
        keeper.spans.set_pinned(f"{2:032x}", True)
        keeper.spans.mark_entered(marks)
        assert {trace.trace_id[-1] for trace in keeper.spans.changed(10)} == {"1", "2"}


def test_books_of_many_pages_are_added_up(postgres: str, sink: PostgresSink) -> None:
    sink.write([part_with([buffered(1), buffered(2, 1, status={"code": 2})])])
    with psycopg.connect(postgres) as session:
        session.execute(
            "INSERT INTO afterglow_spans.book SELECT b.* FROM afterglow_spans.book b,"
            " generate_series(1, 1100)"
        )
    sums = "SELECT sum(spans), sum(errors), min(start_ns), max(end_ns) FROM afterglow_spans.book"
    before = rows(postgres, sums)
    with PostgresRetention(postgres) as keeper:
        keeper.spans.tidy()
    assert rows(postgres, sums) == before
    assert rows(postgres, "SELECT count(*) FROM afterglow_spans.book") == [(1,)]


def test_a_project_stays_within_its_bytes(postgres: str, sink: PostgresSink) -> None:
    sink.write([part_with([buffered(1, trace=n)]) for n in range(1, 101)])
    sink.write([part_with([buffered(1, trace=n, project="other")]) for n in range(1, 101)])
    config = RetentionConfig(keep_max_bytes=40_000)
    with PostgresRetention(postgres, config=config) as keeper:
        done = keeper.step()
        assert 0 < done.room.used_bytes <= 36_000 and done.over_bytes == 0
        assert 40 < done.forgotten.traces < 100 and not keeper.full
    with PostgresRetention(postgres, "other", config=RetentionConfig()) as keeper:
        assert keeper.step().forgotten.traces == 0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.binary(max_size=9)
    | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
    | st.sampled_from([-0.0, 1e16, 1e300, 5e-324, float("inf"), "\0\x1a0", "\\u0000", "1e5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(
        st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3),
    max_leaves=9,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "b\0", "$int", "$float"]), VALUES, max_size=4))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_attributes_come_back_from_jsonb_as_they_were(
    session: psycopg.Connection, attributes: dict[str, object]
) -> None:
    row = session.execute("SELECT %s::jsonb::text", (attributes_json(attributes),)).fetchone()
    assert row is not None
    back = read_attributes(row[0])
    assert back == attributes and repr(_sorted(back)) == repr(_sorted(attributes))


@pytest.fixture
def session(postgres: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres, autocommit=True) as session:
        yield session


def _sorted(value: object) -> object:
    """Keys in one order, so that reprs tell 1 from 1.0 and 0.0 from -0.0."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def test_what_no_database_takes_is_changed_so_that_it_fits(session: psycopg.Connection) -> None:
    deep: object = "end"
    for _ in range(3_000):
        deep = [deep]
    odd = {"surrogate": "a\ud800b", "deep": deep, "long": "x" * 100}
    row = session.execute("SELECT %s::jsonb::text", (attributes_json(odd),)).fetchone()
    assert row is not None
    back = read_attributes(row[0])
    assert back["surrogate"] == "a?b" and back["long"] == "x" * 100 and "deep" in back
