"""A log in a folder: what was appended is read, whatever was torn, cut, damaged or full."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.errors import SpoolBusyError, SpoolError, SpoolFullError
from afterglow.spool import START, Position, Spool
from afterglow.spool.frames import FRAME_BYTES, PREFIX_BYTES
from afterglow.testing import ManualClock


def bodies(spool: Spool, after: Position = START) -> list[bytes]:
    return [body for _, body in spool.read(after)]


@pytest.fixture
def said() -> list[str]:
    return []


def newest(folder: Path) -> Path:
    return max(folder.glob("*.spool"))


def test_records_are_read_in_order_and_from_any_place_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "new" / "folder", max_file_bytes=1_024)
    given = [bytes([n]) * 300 for n in range(10)]
    places = [spool.append(body) for body in given]
    assert places == sorted(set(places))
    assert len({place.file for place in places}) > 3
    assert list(spool.read()) == list(zip(places, given, strict=True))
    for n, place in enumerate(places):
        assert bodies(spool, place) == given[n + 1 :]
    assert spool.end > places[-1]
    assert bodies(spool, spool.end) == []
    later = spool.append(b"later")
    assert later >= spool.end or later > places[-1]
    spool.close()
    again = Spool(tmp_path / "new" / "folder", max_file_bytes=1_024)
    assert bodies(again) == [*given, b"later"]
    assert again.append(b"new") > later
    assert again.size_bytes == sum(f.stat().st_size for f in again.folder.glob("*.spool"))
    again.close()


def test_each_file_begins_with_what_its_owner_says_then(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_file_bytes=1_024, header=lambda: b"%d so far" % len(given))
    given: list[bytes] = []
    for n in range(6):
        body = bytes([n]) * 400
        spool.append(body)
        given.append(body)
    assert [file.header for file in spool.files()] == [b"0 so far", b"2 so far", b"4 so far"]
    assert bodies(spool) == given
    spool.begin_file()
    assert spool.files()[-1].header == b"6 so far"
    spool.close()


def test_whole_files_are_forgotten_and_places_go_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_file_bytes=1_024)
    places = [spool.append(bytes(400)) for _ in range(6)]
    assert spool.forget(places[3]) > 800
    assert [place for place, _ in spool.read()] == places[2:]
    spool.forget(Position(1_000, 0))
    assert [place for place, _ in spool.read()] == places[4:]
    spool.close()
    again = Spool(tmp_path)
    assert again.append(b"next") > places[-1]
    again.close()


def test_a_record_larger_than_a_file_gets_one_of_its_own(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_file_bytes=1_024)
    given = [b"small", bytes(10_000), bytes(9_000), b"small again"]
    places = [spool.append(body) for body in given]
    assert [place.file for place in places] == [1, 2, 3, 4]
    assert bodies(spool) == given
    spool.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8), st.data())
def test_cut_at_any_byte_what_is_whole_is_there(
    tmp_path_factory: pytest.TempPathFactory, given: list[bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    spool = Spool(folder, header=lambda: b"header")
    places = [spool.append(body) for body in given]
    ends = [
        place.offset + FRAME_BYTES + len(body) for place, body in zip(places, given, strict=True)
    ]
    spool.close()
    cut = data.draw(st.integers(0, ends[-1]))
    os.truncate(newest(folder), cut)
    again = Spool(folder)
    whole = [body for end, body in zip(ends, given, strict=True) if end <= cut]
    assert bodies(again) == whole
    header_end = PREFIX_BYTES + FRAME_BYTES + len(b"header")
    good = {0, PREFIX_BYTES, header_end, *ends}
    assert (again.counts.torn_bytes > 0) == (cut not in good)
    assert again.append(b"next") > Position(1, cut)
    assert bodies(again) == [*whole, b"next"]
    assert again.counts.damaged_places == 0
    again.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=100), min_size=2, max_size=8), st.data())
def test_one_damaged_byte_costs_one_record_and_is_counted(
    tmp_path_factory: pytest.TempPathFactory, given: list[bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    spool = Spool(folder)
    places = [spool.append(body) for body in given]
    spool.begin_file()
    spool.close()
    hit = data.draw(st.integers(0, len(given) - 1))
    at = places[hit].offset + data.draw(st.integers(0, FRAME_BYTES + len(given[hit]) - 1))
    path = folder / "000000000001.spool"
    body = bytearray(path.read_bytes())
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(body)
    said: list[str] = []
    again = Spool(folder, report=said.append)
    for _ in range(2):
        assert bodies(again) == given[:hit] + given[hit + 1 :]
    assert again.counts.damaged_places == 1
    assert again.counts.damaged_bytes == FRAME_BYTES + len(given[hit])
    assert again.counts.torn_bytes == 0
    assert len(said) == 1
    assert "are damaged and were skipped" in said[0]
    again.close()


def test_what_a_sender_put_into_a_record_is_never_taken_for_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a")
    spool.append(b"inner")
    spool.close()
    whole_file = newest(tmp_path / "a").read_bytes()
    spool = Spool(tmp_path / "b")
    spool.append(whole_file)
    spool.append(b"outer")
    spool.begin_file()
    path = tmp_path / "b" / "000000000001.spool"
    body = bytearray(path.read_bytes())
    body[PREFIX_BYTES + FRAME_BYTES + 5] ^= 1
    path.write_bytes(body)
    assert bodies(spool) == [b"outer"]
    spool.close()


def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path, said: list[str]) -> None:
    spool = Spool(tmp_path, max_file_bytes=1_024)
    for n in range(6):
        spool.append(bytes([n]) * 400)
    spool.close()
    for name in ("000000000002.spool", "000000000003.spool"):
        (tmp_path / name).write_bytes(bytes(900))
    again = Spool(tmp_path, report=said.append)
    assert bodies(again) == [bytes(400), b"\1" * 400]
    assert again.counts.files_set_aside == 2
    assert "is set aside as 000000000002.damaged" in said[0]
    assert (tmp_path / "000000000002.damaged").exists()
    assert again.append(b"next").file == 4
    again.close()
    assert Spool(tmp_path).append(b"next").file == 5


@contextmanager
def files_at_most(n_bytes: int) -> Iterator[None]:
    """As a full disk: whatever would make a file larger fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_nothing_is_half_there_and_it_goes_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(bytes(500))
    size = spool.size_bytes
    with files_at_most(1_000):
        for _ in range(2):
            with pytest.raises(SpoolFullError, match="the disk is full: writing"):
                spool.append(b"x" * 700)
        assert newest(tmp_path).stat().st_size == size == spool.size_bytes
        spool.append(b"y" * 100)
    spool.append(b"x" * 700)
    assert bodies(spool) == [bytes(500), b"y" * 100, b"x" * 700]
    assert spool.counts.torn_bytes == 0
    spool.close()


def test_a_file_that_cannot_be_begun_is_not_there(tmp_path: Path) -> None:
    spool = Spool(tmp_path, header=lambda: bytes(500))
    with files_at_most(100), pytest.raises(SpoolFullError):
        spool.append(b"first")
    assert list(tmp_path.glob("*.spool")) == []
    assert spool.append(b"first").file == 1
    spool.close()


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"opening .*file/spool"):
        Spool(tmp_path / "file" / "spool")


def test_two_processes_never_have_one_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    program = f"from afterglow.spool import Spool; Spool({str(tmp_path)!r})"
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert f"{tmp_path} is in use by process {os.getpid()}" in other.stderr
    with pytest.raises(SpoolBusyError, match=f"in use by process {os.getpid()}"):
        Spool(tmp_path)
    spool.close()
    spool.close()
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_closed_spool_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"one")
    spool.close()
    with pytest.raises(SpoolError, match="was closed"):
        spool.append(b"two")


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_what_is_written_down_when(
    tmp_path: Path, fsync: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (synced.append(file), real(file)))
    clock = ManualClock()
    spool = Spool(tmp_path, fsync=fsync, fsync_interval_s=1.0, clock=clock)  # type: ignore[arg-type]
    for _ in range(3):
        spool.append(b"record")
    in_time = len(synced)
    clock.advance_s(1.0)
    spool.sync_if_due()
    spool.sync_if_due()
    after = len(synced)
    assert (in_time, after) == {"always": (4, 4), "interval": (0, 1), "never": (0, 0)}[fsync]
    spool.close()
