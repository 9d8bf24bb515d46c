"""The back end in PostgreSQL: exact values, one lock a partition, many processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afterglow.errors import NewerStoreError, SettingError, StoreError
from afterglow.keep.backend import Changes, Coactivation, Pair, Put, Selection, Totals
from afterglow.keep.entry import Moment
from afterglow.keep.postgres import sql
from afterglow.keep.postgres.backend import PostgresBackend
from afterglow.keep.postgres.rows import touch_columns_of
from afterglow.keep.postgres.schema import migrations
from afterglow.store.postgres.text import kept, read, tag_key
from scripts.postgres import Postgres
from tests.keep.on_servers.entries import fresh, record

Opener = Callable[..., PostgresBackend]
any_text = st.text(st.characters(exclude_categories=()), max_size=40)
usual_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
ids = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)


# --- values ---------------------------------------------------------------------------------


@given(any_text)
def test_a_text_comes_back_and_is_one_that_postgresql_takes(text: str) -> None:
    assert read(kept(text)) == text
    assert "\0" not in kept(text)
    kept(text).encode("utf-8")


@given(any_text, any_text)
def test_two_texts_are_kept_as_two(one: str, other: str) -> None:
    assert (kept(one) == kept(other)) == (one == other)
    long_one, long_other = one * 600, other * 600
    assert (tag_key(long_one) == tag_key(long_other)) == (long_one == long_other)
    assert len(tag_key(long_one).encode()) <= 2_000


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    trace_id=ids,
    tags=st.lists(usual_text, max_size=4).map(tuple),
    source_id=st.none() | usual_text,
    parent_id=st.none() | ids,
    payload=st.binary(max_size=50) | usual_text,
    embedding=st.none() | st.binary(max_size=16),
    created_at=int64,
    anchor=st.floats(0, 1),
    count=int64,
)
def test_a_record_comes_back_exactly(
    backend: PostgresBackend,
    trace_id: str,
    tags: Sequence[str],
    source_id: str | None,
    parent_id: str | None,
    payload: str | bytes,
    embedding: bytes | None,
    created_at: int,
    anchor: float,
    count: int,
) -> None:
    given_record = record(
        trace_id,
        tags=tags,
        source_id=source_id,
        parent_id=parent_id,
        payload=payload,
        embedding=embedding,
        created_at=created_at,
        anchor=anchor,
        reinforcement_count=count,
    )
    backend.apply(fresh(given_record), 1)
    assert backend.read([trace_id], links=True).records == {trace_id: given_record}
    assert backend.read([trace_id], links=False).records == {trace_id: given_record}
    assert [r for portion in backend.export() for r in portion if r == given_record]
    for tag in tags:
        found = [c for _, some in backend.candidates(Selection("tag", tag)) for c in some]
        assert trace_id in [candidate.trace_id for candidate in found]
    if parent_id is not None:
        assert trace_id in backend.read([parent_id], links=True).links[parent_id].child_ids


def test_a_value_that_the_server_refuses_is_a_value_error_and_nothing_happens(
    backend: PostgresBackend,
) -> None:
    with pytest.raises(ValueError, match="PostgreSQL takes no such value"):
        backend.apply(fresh(record("good"), record("bad", created_at=1 << 70)), 1)
    with pytest.raises(ValueError, match="PostgreSQL takes no such value"):
        backend.apply(fresh(record(os.urandom(20_000).hex())), 1)
    assert backend.known(["good"]) == set()
    assert backend.totals() == Totals()
    backend.apply(fresh(record("good")), 1)
    assert backend.known(["good", "bad"]) == {"good"}


# --- cost -----------------------------------------------------------------------------------

BY_IDS = (
    sql.READ, sql.READ_LINKED, sql.KNOWN, sql.OLD, sql.LINK_COUNTS, sql.REMOVE_TAGS,
    sql.REMOVE_PAIRS, sql.ORPHAN, sql.TOUCH, sql.COUNTS, sql.REMOVE,
)  # fmt: skip


def rows_looked_at(plan: dict[str, Any]) -> int:
    """By all steps of a plan together, those that a filter threw away included."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    own += plan.get("Rows Removed by Join Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return int(own * plan["Actual Loops"]) + sum(map(rows_looked_at, plan.get("Plans", [])))


def test_what_a_flush_looks_at_does_not_grow_with_what_is_there(backend: PostgresBackend) -> None:
    names = [f"e{n}" for n in range(20)]
    looked: list[list[int]] = []
    for size in (200, 4_000):
        entries = [record(f"e{n}", tags=("t",), parent_id=f"e{n - 1}") for n in range(size)]
        backend.apply(fresh(*entries), 1)
        pairs = [Coactivation(a.trace_id, b.trace_id, 3) for a, b in pairwise(entries)]
        backend.apply(Changes(links=pairs), 1)
        parameters = {
            **touch_columns_of([record(name) for name in names]),
            **{"ids": names, "a": names, "b": names, "name": "default", "partition_id": 1},
        }
        looked.append([])
        with backend._connections.lent() as connection:
            for statement in BY_IDS:
                # No statistics: as in the first minutes of a database.
                with connection.transaction(force_rollback=True):
                    (plan,) = connection.execute(
                        f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".encode(), parameters
                    ).fetchone() or ([],)
                looked[-1].append(rows_looked_at(plan[0]["Plan"]))
    for small, large in zip(*looked, strict=True):
        assert large <= 2 * small + 20, looked


# --- many at once ---------------------------------------------------------------------------


def true_totals(url: str) -> tuple[int, int, int]:
    """Entries, bytes and fading ones, counted."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*), coalesce(sum(octet_length(payload)), 0),"
            " count(*) FILTER (WHERE decay_rate > 0) FROM afterglow.entry"
        ).fetchone()
        assert row is not None
        return row[0], int(row[1]), row[2]


def in_threads(work: Callable[[int], None], number: int) -> None:
    """Run all at once; what one raises comes out."""
    start = threading.Barrier(number)

    def run(place: int) -> None:
        start.wait()
        work(place)

    with ThreadPoolExecutor(number) as pool:
        list(pool.map(run, range(number)))


PROCESS = """
import sys
from afterglow.keep.backend import Changes, Coactivation
from afterglow.keep.postgres.backend import PostgresBackend
from tests.keep.on_servers.entries import fresh, record
url, me = sys.argv[1:]
backend = PostgresBackend(url, "default")
sys.stdin.readline()
backend.apply(fresh(record("a"), record("b")), 1)
for n in range(30):
    backend.apply(fresh(record(f"{me}-{n}", payload="x" * n)), n)
    backend.apply(Changes(links=[Coactivation("a", "b", 1)]), n)
    backend.apply(Changes(gone=[f"{me}-{n - 10}"]), n)
backend.close()
"""


def test_processes_on_a_fresh_database_and_one_partition_agree(
    postgres: str, open_postgres: Opener
) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, postgres, str(n)], stdin=subprocess.PIPE, text=True
        )
        for n in range(4)
    ]
    for process in processes:
        process.communicate("\n", timeout=60)
        assert process.returncode == 0
    backend = open_postgres()
    totals = backend.totals()
    assert totals.entries == 4 * 10 + 2
    assert (totals.entries, totals.payload_bytes, totals.fading) == true_totals(postgres)
    # Whoever stores `a` anew begins its links anew; all that came after are counted.
    assert backend.pairs("a") == [Pair("a", "b", backend.bond("a", "b").count, True)]
    with psycopg.connect(postgres) as connection:
        rows = connection.execute("SELECT number FROM afterglow.migration ORDER BY 1").fetchall()
    assert rows == [(number,) for number, _, _ in migrations()]


def test_one_of_many_advances_the_tick(backend: PostgresBackend) -> None:
    backend.apply(fresh(record("a")), 0)
    ticks: list[int] = []

    def due(totals: Totals) -> tuple[int, int, int]:
        new = 1 if totals.moment.ticked_at < 60 else 0
        return new, 60, totals.ingested

    in_threads(lambda _: ticks.append(backend.advance(due, 60).ticks), 6)
    assert sorted(ticks) == [0, 0, 0, 0, 0, 1]
    assert backend.totals().moment == Moment(1, 60, 60)


def test_writers_of_the_same_entries_in_any_order_wait_in_no_circle(
    backend: PostgresBackend, postgres: str
) -> None:
    names = [f"e{n}" for n in range(20)]

    def work(place: int) -> None:
        order = names if place % 2 else names[::-1]
        for n in range(10):
            pairs = [Coactivation(a, b, 1) for a, b in pairwise(names)]
            backend.apply(
                Changes(
                    gone=order[n : n + 1],
                    puts=[Put(record(name)) for name in order],
                    touched=[record(name, anchor=0.7) for name in order],
                    links=pairs if place % 2 else pairs[::-1],
                ),
                n,
            )

    in_threads(work, 4)
    totals = backend.totals()
    assert (totals.entries, totals.payload_bytes, totals.fading) == true_totals(postgres)


def test_a_forked_child_and_its_parent_do_not_share_connections(
    backend: PostgresBackend,
) -> None:
    backend.apply(fresh(record("parent")), 1)
    # Another process than this one forks: threads of other tests may be about here.
    program = f"""
import os, sys
from afterglow.keep.postgres.backend import PostgresBackend
from tests.keep.on_servers.entries import fresh, record
backend = PostgresBackend({backend._connections._url!r}, "default")
child = os.fork()
if not child:
    for n in range(20):
        backend.apply(fresh(record(f"child-{{n}}")), 1)
    backend.close()
    os._exit(0)
for n in range(20):
    backend.apply(fresh(record(f"parent-{{n}}")), 1)
assert os.waitpid(child, 0)[1] == 0
for n in range(20):
    assert len(backend.known([f"child-{{n}}", f"parent-{{n}}", "parent"])) == 3
backend.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- opening --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (lambda url: url.replace("/test", "/nosuch"), StoreError, "createdb"),
        (lambda url: url.replace("afterglow@", "nobody:secret@"), StoreError, "createuser"),
        (lambda url: url.replace("127.0.0.1", "no.such.host.invalid"), StoreError, "host"),
        (lambda url: url.split("?")[0] + "?sslmode=require", StoreError, "sslmode"),
        (lambda url: "postgresql://u:secret@127.0.0.1:1/x", StoreError, "is the server running"),
        (lambda url: "postgresql://u:secret@[::1", SettingError, "it takes postgresql://"),
        (lambda url: "postgresql://u:secret@h/x?bogus=1", SettingError, "query parameter"),
        (lambda url: "postgresql://u:secret@h:port/x", StoreError, "port"),
    ],
)
def test_a_wrong_url_is_one_line_that_says_what_to_do_and_no_password(
    postgres: str, change: Callable[[str], str], kind: type[Exception], says: str
) -> None:
    url = change(postgres)
    with pytest.raises(kind, match=says) as caught:
        PostgresBackend(url, "default")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_of_a_newer_version_is_left_alone(postgres: str, open_postgres: Opener) -> None:
    open_postgres()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("INSERT INTO afterglow.migration (number, name) VALUES (9999, 'x')")
    with pytest.raises(NewerStoreError, match="pip install -U"):
        open_postgres()


def test_a_database_in_another_encoding_is_refused(
    postgres_server: Postgres, postgres: str, open_postgres: Opener
) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StoreError, match="UTF8"):
        open_postgres(url=postgres_server.url("latin"))


def test_a_user_who_may_not_create_is_told_what_to_grant(
    postgres: str, open_postgres: Opener
) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN")
    with pytest.raises(StoreError, match="GRANT CREATE ON DATABASE"):
        open_postgres(url=postgres.replace("afterglow@", "plain@"))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP ROLE plain")


def test_what_is_closed_says_so(backend: PostgresBackend) -> None:
    backend.close()
    with pytest.raises(StoreError, match="closed"):
        backend.totals()
    backend.close()
