"""docs/tables.md names every table, view and column of the schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

MIGRATIONS = Path(__file__).resolve().parents[2] / "src/afterglow/store/migrations"


@pytest.fixture
def schema() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for migration in sorted(MIGRATIONS.glob("*.sql")):
        connection.executescript(migration.read_text())
    yield connection
    connection.close()


def test_every_table_and_column_is_on_the_page(
    schema: sqlite3.Connection, pages: dict[str, str]
) -> None:
    page = pages["docs/tables.md"]
    sections = {
        name.strip(): section
        for section in page.split("\n## ")[1:]
        for name in section.partition("\n")[0].replace("(a view)", "").split(",")
    }
    names = [
        name
        for (name,) in schema.execute(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE "
            "'sqlite_%'"
        )
    ]
    assert names
    assert set(names) == set(sections)
    missing = [
        f"{table}.{column}"
        for table in names
        for (column,) in schema.execute("SELECT name FROM pragma_table_info(?)", [table])
        if f"`{column}`" not in sections[table]
    ]
    assert missing == []
