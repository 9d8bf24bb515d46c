"""Restarts, kills and disks: the books of what is sent on, and what is sent again."""

from __future__ import annotations

from pathlib import Path

import pytest

from afterglow.errors import SinkError, SinkUnavailableError, SpoolError
from afterglow.sink.outgoing import Outgoing, read_books
from afterglow.sink.outgoing_books import SentBooks
from afterglow.spool.spool import Spool
from tests.sink.far_sink import FarSink, ids, part
from tests.sink.outgoing_desk import Desk


def test_repeats_are_known(desk: Desk) -> None:
    outgoing = desk.open()
    outgoing.write([part(1), part(1), part(2)])
    desk.clock.advance_s(299.0)
    outgoing.write([part(1), part(3)])
    assert desk.sink.got == ids(1, 2, 3)
    assert desk.books == SentBooks(taken=3, sent=3, repeats=2)


def test_repeats_are_known_over_restarts_however_long_nothing_ran(desk: Desk) -> None:
    outgoing = desk.open()
    outgoing.write([part(1)])
    desk.sink.away = True
    outgoing.write([part(2)])
    desk.clock.advance_s(7 * 86_400.0)
    outgoing = desk.restart()
    outgoing.write([part(1), part(2), part(3)])
    desk.sink.away = False
    desk.drain()
    assert desk.sink.got == ids(1, 2, 3)
    assert desk.books.taken == 3 and desk.books.sent == 3


def test_messages_are_forgotten_in_the_end(desk: Desk) -> None:
    outgoing = desk.open()
    outgoing.write([part(1)])
    for number in range(2, 6):
        desk.clock.advance_s(300.0)
        outgoing.write([part(number)])
    outgoing.write([part(1)])
    assert desk.sink.times[ids(1)[0]] == 2


def test_the_books_stay_small(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afterglow.sink.outgoing_queue._BOOK_FILE_BYTES", 2_000)
    outgoing = desk.open()
    sizes = []
    for number in range(600):
        desk.clock.advance_s(10.0)
        outgoing.write([part(number)])
        sizes.append(outgoing._queue._books._log.size_bytes)
    assert max(sizes[300:]) <= max(sizes[:200]) + 2_000
    desk.restart()
    assert desk.books == SentBooks(taken=600, sent=600)
    desk.outgoing.write([part(599), part(570)])
    assert desk.books.taken == 600


def test_a_wall_clock_that_steps_loses_no_books(desk: Desk) -> None:
    outgoing = desk.open()
    for number, step_s in enumerate([0.0, -86_400.0, 7 * 86_400.0, -3_600.0]):
        desk.clock.step_wall_s(step_s)
        outgoing.write([part(number)])
        outgoing = desk.restart()
    outgoing.write([part(3)])
    assert desk.books == SentBooks(taken=4, sent=4, repeats=1)


def test_killed_between_the_queue_and_the_books(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    outgoing = desk.open()
    desk.sink.away = True
    outgoing.write([part(1, spans=2)])
    with monkeypatch.context() as patch:
        patch.setattr(outgoing._queue, "_note", lambda parts=(): False)
        outgoing.write([part(2, spans=3)])
    desk.restart()
    assert desk.books.taken == desk.books.queued == 5
    desk.outgoing.write([part(2, spans=3)])
    desk.sink.away = False
    desk.drain()
    assert desk.sink.got == ids(1, 2)
    assert desk.books == SentBooks(taken=5, sent=5, repeats=3)


def test_killed_between_sending_and_the_books(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One chunk is sent twice, and counted once: at once, and from the queue."""
    outgoing = desk.open()
    with monkeypatch.context() as patch:
        patch.setattr(outgoing._queue, "_note", lambda parts=(): False)
        outgoing.write([part(1)])
    outgoing = desk.restart()
    outgoing.write([part(1)])
    assert desk.books == SentBooks(taken=1, sent=1)
    desk.sink.away = True
    outgoing.write([part(2), part(3)])
    desk.sink.away = False
    desk.clock.advance_s(60.0)
    with monkeypatch.context() as patch:
        patch.setattr(outgoing._queue, "_note", lambda parts=(): False)
        outgoing.step()
    desk.restart()
    desk.drain()
    assert desk.sink.got == ids(1, 1, 2, 3, 2, 3)
    assert desk.books == SentBooks(taken=3, sent=3)


def test_another_process_reads_the_books(desk: Desk) -> None:
    assert read_books(desk.folder) == SentBooks()
    outgoing = desk.open()
    outgoing.write([part(1, spans=2)])
    desk.sink.away = True
    outgoing.write([part(2)])
    assert read_books(desk.folder) == desk.books
    assert read_books(desk.folder).queued == 1
    outgoing.close()
    assert read_books(desk.folder).sent == 2


def test_a_folder_is_one_process_s(desk: Desk) -> None:
    desk.open()
    with pytest.raises(SinkError, match="use"):
        desk.open()


def test_close_leaves_the_queue_and_closes_the_sink(desk: Desk) -> None:
    outgoing = desk.open()
    desk.sink.away = True
    outgoing.write([part(1)])
    outgoing.close()
    outgoing.close()
    assert desk.sink.closed == 1
    with pytest.raises(SinkError, match="closed"):
        outgoing.write([part(2)])
    desk.open()
    desk.sink.away = False
    desk.drain()
    assert desk.sink.got == ids(1)


# --- the disk ---------------------------------------------------------------------------------


def test_a_full_disk_makes_the_sender_wait_and_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    outgoing = desk.open()
    desk.sink.away = True
    outgoing.write([part(1)])

    def full(spool: Spool, record: bytes) -> None:
        raise SpoolError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "append", full)
        with pytest.raises(SinkUnavailableError, match="disk is full"):
            outgoing.write([part(2)])
        desk.sink.away = False
        desk.drain()  # what is sent while the books cannot be written
        outgoing.write([part(3)])
        assert desk.books == SentBooks(taken=2, sent=2)
    outgoing.write([part(2)])
    assert any("cannot write" in line for line in desk.said)
    desk.restart()
    desk.outgoing.write([part(1), part(2), part(3)])
    assert desk.sink.got == ids(1, 3, 2)
    assert desk.books.taken == desk.books.sent == 3


def test_files_that_are_gone_are_counted_as_damaged(desk: Desk) -> None:
    outgoing = desk.open()
    desk.sink.away = True
    outgoing.write([part(1, spans=3)])
    outgoing.close()
    for file in (desk.folder / "queue").glob("*.spool"):
        file.write_bytes(b"x" * file.stat().st_size)
    desk.open()
    desk.sink.away = False
    desk.drain()
    assert desk.books == SentBooks(taken=3, dropped=3)
    assert desk.count("sink_dropped_spans", reason="damaged") == 3
    desk.outgoing.write([part(2)])
    assert desk.sink.got == ids(2)


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="far cannot wait on the disk"):
        Outgoing("far", FarSink(), tmp_path / "file" / "out", threaded=False)
