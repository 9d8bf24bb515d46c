"""What a back end returned for is there, whatever becomes of the server and of the line to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import psycopg
import pytest

from afterglow.errors import StoreBusyError, StoreError
from afterglow.keep.backend import Changes, Coactivation, Selection
from afterglow.keep.postgres.backend import PostgresBackend
from scripts.postgres import Postgres
from tests.keep.on_servers.entries import Line, fresh, record

Opener = Callable[..., PostgresBackend]


def through(line: Line, url: str, server: Postgres) -> str:
    """The URL by way of a line."""
    return url.replace(f":{server.port}", f":{line.port}")


def test_what_was_written_is_there_after_restarts_in_the_middle(
    postgres_server: Postgres, backend: PostgresBackend
) -> None:
    backend.apply(fresh(record("a"), record("b")), 1)
    written: list[int] = []
    read: list[int] = []
    done = threading.Event()

    def write() -> None:
        n = 0
        while not done.is_set():
            backend.apply(fresh(record(f"e{n}")), n)
            backend.apply(Changes(links=[Coactivation("a", "b", 1)]), n)
            written.append(n)
            n += 1

    def look() -> None:
        while not done.is_set():
            assert set(backend.read(["a", "b"], links=True).records) == {"a", "b"}
            read.append(1)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(write), pool.submit(look)]
        for how in ("immediate", "fast", "immediate"):
            before = len(written), len(read)
            postgres_server.restart(how)
            while len(written) < before[0] + 5 or len(read) < before[1] + 5:
                if wait(futures, timeout=0.01, return_when=FIRST_COMPLETED).done:
                    break
        done.set()
    for future in futures:
        future.result()
    names = [f"e{n}" for n in written]
    assert backend.known(names) == set(names)
    # Neither lost nor twice: what had no answer was asked after.
    assert backend.bond("a", "b").count == len(written)
    assert backend.totals().entries == len(written) + 2


@pytest.mark.parametrize("before", [True, False], ids=["not sent", "answer lost"])
@pytest.mark.parametrize("word", [b"COMMIT", b"afterglow.pair"])
def test_a_line_cut_in_a_transaction_counts_it_once(
    postgres_server: Postgres, postgres: str, open_postgres: Opener, word: bytes, before: bool
) -> None:
    line = Line(postgres_server.port)
    backend = open_postgres(url=through(line, postgres, postgres_server))
    backend.apply(fresh(record("a"), record("b")), 1)
    line.cut_at(word, before=before)
    written = backend.apply(Changes(links=[Coactivation("a", "b", 1)], ingested=1), 2)
    assert line.cuts == 1
    assert written.links == 1
    assert backend.bond("a", "b").count == 1
    assert backend.totals().ingested == 3
    line.close()


def test_a_server_that_stays_away_is_a_clear_error_and_nothing_is_half_there(
    postgres_server: Postgres, open_postgres: Opener
) -> None:
    backend = open_postgres(patience_s=0.2)
    backend.apply(fresh(record("a")), 1)
    postgres_server.shut_down("immediate")
    for call in (
        lambda: backend.apply(fresh(record("b")), 2),
        lambda: backend.read(["a"], links=True),
        lambda: list(backend.candidates(Selection())),
    ):
        with pytest.raises(StoreError, match="is the server running") as caught:
            call()
        assert "\n" not in str(caught.value)
    postgres_server.start()
    assert backend.known(["a", "b"]) == {"a"}
    backend.apply(fresh(record("b")), 2)
    assert backend.known(["a", "b"]) == {"a", "b"}


def test_a_commit_that_nobody_can_tell_of_says_so(
    postgres_server: Postgres, postgres: str, open_postgres: Opener
) -> None:
    line = Line(postgres_server.port)
    backend = open_postgres(url=through(line, postgres, postgres_server), patience_s=0.2)
    backend.apply(fresh(record("a")), 1)
    line.close()
    line.cut_at(b"COMMIT", before=True)
    with pytest.raises(StoreError, match="during a commit"):
        backend.apply(fresh(record("b")), 2)


def test_a_stream_cut_in_the_middle_is_a_clear_error(
    postgres_server: Postgres, backend: PostgresBackend
) -> None:
    backend.apply(fresh(*(record(f"e{n}") for n in range(5_000))), 1)
    stream = backend.candidates(Selection())
    next(stream)
    postgres_server.restart("immediate")
    with pytest.raises(StoreError, match="PostgreSQL at"):
        list(stream)
    assert sum(len(some) for _, some in backend.candidates(Selection())) == 5_000


def test_whoever_stops_within_a_transaction_holds_others_up_for_a_while_only(
    postgres: str, backend: PostgresBackend
) -> None:
    backend.apply(fresh(record("a")), 1)
    with psycopg.connect(postgres) as other:
        other.execute("SELECT 1 FROM afterglow.partition FOR UPDATE")
        with backend._connections.lent() as connection:
            connection.execute("SET lock_timeout = '50ms'")
        with pytest.raises(StoreBusyError, match="another process"):
            backend.apply(fresh(record("b")), 2)
        assert backend.known(["a", "b"]) == {"a"}, "readers do not wait"
    backend.apply(fresh(record("b")), 2)
    with backend._connections.lent() as connection:
        row = connection.execute("SHOW idle_in_transaction_session_timeout").fetchone()
        assert row == ("1min",)


def test_what_fails_within_a_transaction_leaves_nothing(backend: PostgresBackend) -> None:
    backend.apply(fresh(record("a")), 1)

    def content():  # type: ignore[no-untyped-def]
        yield [record("b")]
        raise RuntimeError("the snapshot is damaged")

    with pytest.raises(RuntimeError, match="damaged"):
        backend.replace(content(), backend.totals().moment, 2)
    assert backend.known(["a", "b"]) == {"a"}


def test_entries_removed_and_what_hangs_on_them_go_in_one_transaction(
    postgres: str, open_postgres: Opener
) -> None:
    told: list[str] = []

    def on_removed(connection: psycopg.Connection, ids: list[str]) -> None:
        told.extend(ids)
        if "never" in ids:
            raise RuntimeError("not that one")
        connection.execute("INSERT INTO public.removed SELECT unnest(%s::text[])", (list(ids),))

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.removed (trace_id text)")
    backend = open_postgres(on_removed=on_removed)
    backend.apply(fresh(record("a"), record("never")), 1)
    backend.apply(Changes(gone=["a", "not there"]), 2)
    with pytest.raises(RuntimeError, match="not that one"):
        backend.apply(Changes(gone=["never"]), 3)
    assert told == ["a", "never"]
    assert backend.known(["a", "never"]) == {"never"}
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT * FROM public.removed").fetchall() == [("a",)]
