"""A buffer with a journal: a killed process loses nothing it acknowledged, and repeats nothing."""

from __future__ import annotations

import os
import random
import resource
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.buffer.journaled import JournaledBuffer, books_in
from afterglow.config import BufferConfig, IntakeConfig
from afterglow.errors import SpoolBusyError
from afterglow.model.segment import BufferedSpan, SegmentPart

SECOND = 1_000_000_000
CONFIG = BufferConfig(root_timeout_s=1.0, timeout_s=5.0, tombstone_s=60.0)
SMALL = IntakeConfig(max_file_bytes=64 << 10)


def span(number: int, trace: int = 1, parent: int = 0, project: str = "shop") -> BufferedSpan:
    return BufferedSpan(
        project,
        trace.to_bytes(16),
        number.to_bytes(8),
        parent.to_bytes(8) if parent else None,
        False,
        b"payload %d" % number,
    )


def died(buffer: JournaledBuffer) -> None:
    """What `kill -9` leaves: the lock is free, nothing was finished."""
    spool = buffer._intake.spool
    for file in (spool._out, spool._lock_file):
        if file >= 0:
            os.close(file)
    spool._out = spool._lock_file = -1


def take(buffer: JournaledBuffer, now_ns: int) -> list[SegmentPart]:
    return [part for page in buffer.take_due(now_ns, owner="me") for part in page]


def keys(parts: list[SegmentPart]) -> list[tuple[bytes, bytes]]:
    return [(part.trace_id, name) for part in parts for name in part.span_ids]


def test_what_was_held_is_held_again_with_its_time(tmp_path: Path) -> None:
    buffer = JournaledBuffer.open(tmp_path, CONFIG)
    buffer.add([span(2, parent=1)], 100 * SECOND)
    buffer.add([span(1), span(7, trace=2)], 103 * SECOND)
    died(buffer)
    again = JournaledBuffer.open(tmp_path, CONFIG)
    assert again.ledger().held == 3
    assert take(again, 103 * SECOND) == []
    parts = take(again, 104 * SECOND)
    assert sorted(keys(parts)) == [(s.trace_id, s.span_id) for s in
                                   (span(1), span(2), span(7, trace=2))]  # fmt: skip
    assert {payload for part in parts for payload in part.payloads} == {
        b"payload 1", b"payload 2", b"payload 7"
    }  # fmt: skip
    again.close()


def test_what_went_does_not_come_again_and_late_spans_find_their_root(tmp_path: Path) -> None:
    buffer = JournaledBuffer.open(tmp_path, CONFIG)
    buffer.add([span(1), span(2, parent=1)], 0)
    assert buffer.acknowledge(take(buffer, 2 * SECOND)) == 1
    buffer.add([span(3, parent=2), span(1)], 3 * SECOND)  # a late child, and a repeat
    died(buffer)
    again = JournaledBuffer.open(tmp_path, CONFIG)
    (part,) = take(again, 5 * SECOND)
    assert part.addendum and part.root_span_id == span(1).span_id
    assert part.span_ids == (span(3).span_id,)
    again.acknowledge([part])
    books = again.ledger()
    assert (books.ingested, books.delivered, books.held) == (4, 3, 0)
    assert books.dropped == {"shop": {"duplicate": 1}}
    again.close()
    assert books_in(tmp_path) == books


def test_a_clock_that_was_set_back_holds_nothing_up(tmp_path: Path) -> None:
    buffer = JournaledBuffer.open(tmp_path, CONFIG)
    buffer.add([span(1)], 9_000 * SECOND)
    buffer.acknowledge(take(buffer, 9_002 * SECOND))
    buffer.add([span(1, trace=2)], 9_003 * SECOND)
    died(buffer)
    again = JournaledBuffer.open(tmp_path, CONFIG, now_ns=100 * SECOND)
    assert [part.trace_id for part in take(again, 102 * SECOND)] == [span(1, trace=2).trace_id]
    again.add([span(2, parent=1)], 102 * SECOND)  # its parent is still remembered ...
    assert take(again, 104 * SECOND)[0].addendum
    again.add([span(3, trace=3)], 200 * SECOND)  # ... but not for ever
    assert len(again._remembered) == 0
    again.close()


def test_the_books_of_a_folder_are_those_of_its_buffer(tmp_path: Path) -> None:
    buffer = JournaledBuffer.open(tmp_path, CONFIG)
    assert books_in(tmp_path) == buffer.ledger()
    buffer.add([span(1), span(2)._replace(span_id=b"short"), span(3)._replace(trace_id=b"")], 0)
    assert books_in(tmp_path) == buffer.ledger()
    assert buffer.ledger().dropped == {"shop": {"invalid_id": 2}}
    buffer.close()


def test_parts_that_a_sink_refused_stay_refused(tmp_path: Path) -> None:
    buffer = JournaledBuffer.open(tmp_path, CONFIG)
    buffer.add([span(1)], 0)
    buffer.acknowledge(take(buffer, 2 * SECOND), dropped="sink_refused")
    died(buffer)
    again = JournaledBuffer.open(tmp_path, CONFIG)
    assert take(again, 99 * SECOND) == []
    assert again.ledger().dropped == {"shop": {"sink_refused": 1}}
    again.close()


def test_files_go_when_their_spans_have_gone_and_nobody_remembers_them(tmp_path: Path) -> None:
    buffer = JournaledBuffer.open(tmp_path, CONFIG, SMALL)
    chance = random.Random(1)
    for number in range(1, 200):
        spans = [span(chance.getrandbits(62), trace=number) for _ in range(50)]
        buffer.add(spans, number * 10 * SECOND)
        buffer.acknowledge(take(buffer, (number * 10 + 5) * SECOND))
    assert buffer.ledger().held == 0
    # Sixty seconds are remembered: the spans of some ten rounds, and the file that is written.
    assert len(list(tmp_path.glob("*.spool"))) < 5
    books = buffer.ledger()
    assert books == books_in(tmp_path)
    assert books.ingested == books.delivered == 199 * 50
    died(buffer)  # what the files that went had counted is in the header of the first that stayed
    again = JournaledBuffer.open(tmp_path, CONFIG, SMALL)
    assert again.ledger() == books
    again.close()


def test_files_stay_while_what_went_in_them_is_remembered(tmp_path: Path) -> None:
    buffer = JournaledBuffer.open(tmp_path, CONFIG, SMALL)
    chance = random.Random(1)
    first = span(1, trace=9_999)
    buffer.add([first], 0)
    for number in range(1, 50):
        spans = [span(chance.getrandbits(62), trace=number) for _ in range(100)]
        buffer.add(spans, number * SECOND)
        buffer.acknowledge(take(buffer, (number + 2) * SECOND))
    assert len(list(tmp_path.glob("*.spool"))) > 2
    died(buffer)
    again = JournaledBuffer.open(tmp_path, CONFIG, SMALL)
    again.add([first], 53 * SECOND)
    assert take(again, 60 * SECOND) == []
    assert again.ledger().dropped == {"shop": {"duplicate": 1}}
    again.close()


def test_one_span_that_stays_keeps_its_file(tmp_path: Path) -> None:
    config = BufferConfig(root_timeout_s=1.0, timeout_s=50_000.0, max_open_s=80_000.0)
    buffer = JournaledBuffer.open(tmp_path, config, SMALL)
    buffer.add([span(9, trace=1_000, parent=8)], 0)  # its parent never comes
    chance = random.Random(1)
    for number in range(1, 100):
        spans = [span(chance.getrandbits(62), trace=number) for _ in range(50)]
        buffer.add(spans, number * 10 * SECOND)
        buffer.acknowledge(take(buffer, (number * 10 + 5) * SECOND))
    died(buffer)
    again = JournaledBuffer.open(tmp_path, config, SMALL)
    assert again.ledger().held == 1
    (part,) = take(again, 60_000 * SECOND)
    assert part.span_ids == (span(9).span_id,)
    again.close()


def test_a_bound_is_a_refusal_until_what_is_held_has_gone(tmp_path: Path) -> None:
    intake = IntakeConfig(max_file_bytes=64 << 10, max_bytes=1 << 20)
    buffer = JournaledBuffer.open(tmp_path, CONFIG, intake)
    chance = random.Random(1)
    added = 0
    while True:
        spans = [
            span(chance.getrandbits(62), trace=1 + added)._replace(payload=chance.randbytes(500))
            for _ in range(100)
        ]
        result = buffer.add(spans, 0)
        if result.refused:
            break
        added += 100
    assert result.accepted == 0 and "has reached its bound of 1,048,576 bytes" in str(result.reason)
    assert buffer.journal_bytes <= 1 << 20
    assert buffer.ledger().ingested == added
    buffer.acknowledge(take(buffer, 9 * SECOND))
    assert buffer.add(spans, 10 * SECOND).accepted == 100
    buffer.close()


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    buffer = JournaledBuffer.open(tmp_path, CONFIG)
    with pytest.raises(SpoolBusyError, match=f"in use by process {os.getpid()}"):
        JournaledBuffer.open(tmp_path, CONFIG)
    buffer.close()
    JournaledBuffer.open(tmp_path, CONFIG).close()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 40 kB, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_is_a_refusal_and_what_went_is_written_when_there_is_room(
    tmp_path: Path, small_disk: None
) -> None:
    said: list[str] = []
    buffer = JournaledBuffer.open(tmp_path, CONFIG, report=said.append)
    chance = random.Random(1)
    taken = 0
    while True:
        spans = [
            span(chance.getrandbits(62), trace=1 + taken)._replace(payload=chance.randbytes(200))
            for _ in range(20)
        ]
        result = buffer.add(spans, 0)
        if result.refused:
            break
        taken += 20
    assert "the disk is full" in str(result.reason)
    parts = take(buffer, 9 * SECOND)
    assert len(keys(parts)) == taken
    assert buffer.acknowledge(parts) == len(parts)
    assert buffer.ledger().delivered == taken
    assert any("written down later" in line for line in said)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
    assert buffer.add(spans, 10 * SECOND).accepted == 20  # and with it what was owed
    died(buffer)
    again = JournaledBuffer.open(tmp_path, CONFIG)
    books = again.ledger()
    assert (books.delivered, books.held, books.dropped) == (taken, 20, {})
    again.close()


def test_what_is_owed_is_counted_once_wherever_a_file_begins(
    tmp_path: Path, small_disk: None
) -> None:
    buffer = JournaledBuffer.open(tmp_path, CONFIG)
    chance = random.Random(1)
    taken = 0
    while not buffer.add(
        [span(chance.getrandbits(62), trace=1 + taken)._replace(payload=chance.randbytes(900))], 0
    ).refused:
        taken += 1
    buffer.acknowledge(take(buffer, 9 * SECOND))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
    for later in (200, 400):  # the first file goes: the books begin with the header of the second
        buffer._intake.spool.begin_file()
        buffer.add([span(1, trace=90_000 + later)], later * SECOND)
    assert len(list(tmp_path.glob("*.spool"))) == 2
    died(buffer)
    again = JournaledBuffer.open(tmp_path, CONFIG)
    books = again.ledger()
    assert (books.ingested, books.delivered, books.held) == (taken + 2, taken, 2)
    assert books.dropped == {}
    again.close()


# --- any steps, any death -----------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(1, 30), min_size=1, max_size=6)),
        st.tuples(st.just("take"), st.integers(1, 8)),
        st.tuples(st.just("acknowledge"), st.sampled_from(["", "sink_refused"])),
        st.tuples(st.just("die"), st.integers(0, 400)),
    ),
    max_size=30,
)


def numbered(number: int) -> BufferedSpan:
    """Thirty spans of three traces of two projects; each but the first of a trace has a parent."""
    trace = number % 3
    parent = number - 3 if number > 3 and number % 5 else 0
    return span(number, trace=trace + 1, parent=parent, project=("a", "b")[trace % 2])


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, small=st.booleans())
def test_after_any_death_nothing_is_lost_and_nothing_comes_twice(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object]], small: bool
) -> None:
    folder = tmp_path_factory.mktemp("intake")
    config = msgspec.structs.replace(CONFIG, tombstone_s=50_000.0)
    intake = IntakeConfig(max_file_bytes=64 << 10) if small else IntakeConfig()
    buffer = JournaledBuffer.open(folder, config, intake)
    now_ns = given_spans = 0
    acknowledged: set[tuple[str, bytes, bytes]] = set()
    delivered: Counter[tuple[str, bytes, bytes]] = Counter()
    out: list[SegmentPart] = []
    for what, value in steps:
        now_ns += SECOND // 2
        if what == "add":
            assert isinstance(value, list)
            spans = [numbered(n) for n in value]
            assert buffer.add(spans, now_ns).refused == 0
            given_spans += len(spans)
            acknowledged.update((s.project, s.trace_id, s.span_id) for s in spans)
        elif what == "take":
            assert isinstance(value, int)
            now_ns += value * SECOND
            out = take(buffer, now_ns)
        elif what == "acknowledge":
            assert buffer.acknowledge(out, dropped=value or None) == len(out)  # type: ignore[arg-type]
            delivered.update(keys_of(out))
            out = []
        else:
            assert isinstance(value, int)
            died(buffer)
            torn(folder, value)
            buffer = JournaledBuffer.open(folder, config, intake)
            out = []
        books = buffer.ledger()
        assert books.balanced
        assert books.ingested == given_spans
    while buffer.ledger().held:
        now_ns += 100 * SECOND
        parts = take(buffer, now_ns)
        delivered.update(keys_of(parts))
        buffer.acknowledge(parts)
    assert set(delivered) == acknowledged
    assert set(delivered.values()) <= {1}
    seen = books_in(folder)
    assert seen is None or (seen.balanced and seen.ingested == given_spans)
    buffer.close()


def keys_of(parts: list[SegmentPart]) -> list[tuple[str, bytes, bytes]]:
    return [(part.project, part.trace_id, name) for part in parts for name in part.span_ids]


def torn(folder: Path, more_bytes: int) -> None:
    """The death came in the middle of a record that nobody was told of."""
    if more_bytes % 2:
        newest = max(folder.glob("*.spool"))
        with newest.open("ab") as file:
            file.write(b"\xf5\xa9\x0b\xfe" + random.Random(more_bytes).randbytes(more_bytes))
