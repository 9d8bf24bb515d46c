"""The books of a service held against each other."""

from __future__ import annotations

from pathlib import Path

from afterglow.collecting.books import SentOn, ServiceAudit, StoredIn, audit_service
from afterglow.model.segment import BufferBooks
from afterglow.sink.store import StoreSink
from tests.sink.payloads import buffered, part_with


def audit(**books: object) -> ServiceAudit:
    return ServiceAudit(
        where="x", **{"buffer": BufferBooks(10, 8, 1, {"p": {"duplicate": 1}}), **books}
    )  # type: ignore[arg-type]


def test_books_that_balance_have_no_problems() -> None:
    fine = audit(
        stored=(StoredIn("default", 5, 5), StoredIn("shop", 4, 3)),
        sent=(SentOn("otlp", 8, 5, 1, 1, 1),),
    )
    assert fine.problems == []
    assert audit(buffer=None).problems == []


def test_each_equation_is_held() -> None:
    assert audit(buffer=BufferBooks(10, 8, 1, {})).problems == [
        "the buffer: received is not delivered + dropped + in flight"
    ]
    assert audit(sent=(SentOn("otlp", 8, 5, 1, 1, 0),)).problems == [
        "otlp: taken is not sent + refused + dropped + queued"
    ]


def test_what_was_delivered_must_have_come_to_the_store() -> None:
    stored = (StoredIn("default", 5, 5), StoredIn("shop", 2, 2))
    assert audit(stored=stored).problems == ["1 spans were delivered, and never came to the store"]
    assert audit(stored=stored, elsewhere=True).problems == []


def test_files_remember_what_was_brought(tmp_path: Path) -> None:
    database = tmp_path / "afterglow.db"
    assert audit_service(database) is None
    (tmp_path / "afterglow.db.collect").mkdir()
    sink = StoreSink(database)
    page = [part_with([buffered(1), buffered(2, 1)])]
    sink.write(page)
    sink.write(page)
    sink.write([part_with([buffered(7, trace=2, project="shop")])])
    sink.close()
    found = audit_service(database)
    assert found is not None
    assert found.stored == (StoredIn("default", 4, 2), StoredIn("shop", 1, 1))
