from __future__ import annotations

import pytest

from afterglow.errors import StoreError
from afterglow.store.read import Database


def test_sql_reads_and_never_writes(two_runs: Database) -> None:
    titles, rows = two_runs.query("SELECT name, count(*) AS n FROM spans GROUP BY 1 ORDER BY 1")
    assert titles == ["name", "n"]
    assert list(rows) == [("kid", 3), ("open", 1), ("root", 2)]
    assert list(two_runs.query("SELECT ?, ?", (1, "x"))[1]) == [(1, "x")]
    assert list(two_runs.query("SELECT run_id, duration_ms FROM readable LIMIT 1")[1])
    other = two_runs.path.with_name("other.db")
    for text in (
        "DELETE FROM spans",
        "CREATE TABLE x (y)",
        "PRAGMA user_version=7",
        "WITH a AS (SELECT 1) INSERT INTO counts VALUES (1, 'x', 1)",
        f"ATTACH '{other}' AS o",
        f"VACUUM INTO '{other}'",
    ):
        with pytest.raises(StoreError):
            list(two_runs.query(text)[1])
    list(two_runs.query("PRAGMA query_only=OFF")[1])
    with pytest.raises(StoreError, match="only reads"):
        two_runs.query("DELETE FROM spans")
    assert not other.exists()


@pytest.mark.parametrize(
    "text", ["SELEC", "SELECT nothing FROM spans", "SELECT 1; SELECT 2", "SELECT ?", "a\0b"]
)
def test_bad_sql_is_one_line(two_runs: Database, text: str) -> None:
    with pytest.raises(StoreError, match="the query cannot be done") as raised:
        two_runs.query(text)
    assert "\n" not in str(raised.value)


def test_an_error_in_the_middle_of_the_rows(two_runs: Database) -> None:
    _, rows = two_runs.query("SELECT abs(CASE id WHEN 2 THEN -9223372036854775808 END) FROM spans")
    assert next(rows) == (None,)
    with pytest.raises(StoreError, match="integer overflow"):
        next(rows)


def test_no_query_has_no_rows(two_runs: Database) -> None:
    titles, rows = two_runs.query("  -- nothing")
    assert (titles, list(rows)) == ([], [])
