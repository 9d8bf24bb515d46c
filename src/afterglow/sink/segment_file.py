"""Segments in a file of JSON lines: for `afterglow buffer drain`, for tests, for small things.

One line a part, readable by anything:

    {"message_id": ..., "project": ..., "trace_id": ..., "root_span_id": ..., "part": 0,
     "is_last": true, "addendum": false, "spans": [{"span_id": ..., "payload": <base64>}]}
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from afterglow.clock import Clock, SystemClock
from afterglow.errors import SinkError, SinkUnavailableError
from afterglow.model.segment import SegmentPart

__all__ = ["SegmentFile", "SegmentLine", "SpanLine", "read_segments"]

_LOCK_S: Final = 5.0
_LOOK_S: Final = 0.005
_BEGINNING: Final = b'{"message_id":"'


class SpanLine(msgspec.Struct, frozen=True):
    """A span of a line: its id in hexadecimal digits, its payload (base64 in the file)."""

    span_id: str
    payload: bytes


class SegmentLine(msgspec.Struct, frozen=True):
    """A line of the file; ids are in hexadecimal digits."""

    message_id: str
    project: str
    trace_id: str
    root_span_id: str
    part: int
    is_last: bool
    addendum: bool
    spans: tuple[SpanLine, ...]


class _Id(msgspec.Struct):
    message_id: str


class SegmentFile:
    """A ports.SegmentSink that keeps one of each message id, for ever, across processes.

    When `write` returns, the lines are on the disk. Several processes may write one file: each
    takes the file's lock for a page, and learns what the others wrote. A line that a process
    died in is cut off by the next. Raises SinkUnavailableError for a disk that is full or a lock
    that is held for 5 s, SinkError for a path that can never be written.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Clock | None = None) -> None:
        self.path = Path(path)
        self._clock = clock or SystemClock()
        self._ids: set[bytes] = set()
        #: All lines before this are whole, and known.
        self._known_bytes = 0
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise SinkError(f"cannot write {self.path}: {error.strerror}") from None
        try:
            self._locked(())
        except BaseException:
            self.close()
            raise

    def write(self, parts: Sequence[SegmentPart]) -> None:
        self._locked(parts)

    def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __contains__(self, message_id: str) -> bool:
        """Whether this message is in the file, as far as this process knows."""
        return bytes.fromhex(message_id) in self._ids

    def _locked(self, parts: Sequence[SegmentPart]) -> None:
        if self._file < 0:
            raise SinkError(f"{self.path} was closed")
        self._lock()
        try:
            self._learn()
            if parts:
                self._append(parts)
        except OSError as error:
            raise SinkUnavailableError(f"cannot write {self.path}: {error.strerror}") from error
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> None:
        never = threading.Event()
        until_ns = self._clock.monotonic_ns() + round(_LOCK_S * 1e9)
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if self._clock.monotonic_ns() >= until_ns:
                    raise SinkUnavailableError(
                        f"another process has held the lock of {self.path} for {_LOCK_S:g} s"
                    ) from None
            self._clock.wait(never, _LOOK_S)

    def _learn(self) -> None:
        """Read what others appended, and cut off a line that nobody finished."""
        if os.fstat(self._file).st_size == self._known_bytes:
            return
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(self._known_bytes)
            for line in file:
                message_id = _id_of(line)
                if message_id is None:
                    if line.endswith(b"\n") or not _may_be_ours(line):
                        raise SinkError(
                            f"{self.path} holds a line that is no segment: name another file"
                        )
                    break  # somebody died in it
                self._ids.add(message_id)
                self._known_bytes += len(line)
        os.ftruncate(self._file, self._known_bytes)

    def _append(self, parts: Sequence[SegmentPart]) -> None:
        fresh: dict[bytes, bytes] = {}
        for part in parts:
            message_id = bytes.fromhex(part.message_id)
            if message_id not in self._ids and message_id not in fresh:
                fresh[message_id] = msgspec.json.encode(_line_of(part)) + b"\n"
        body = memoryview(b"".join(fresh.values()))
        written = 0
        try:
            while written < len(body):
                written += os.write(self._file, body[written:])
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._known_bytes)
            raise
        self._known_bytes += len(body)
        self._ids.update(fresh)


def read_segments(path: str | os.PathLike[str]) -> Iterator[SegmentLine]:
    """The lines of a file; one that is not finished yet is left out.

    Raises SinkError for a line that is no segment, OSError for a file that cannot be read.
    """
    decoder = msgspec.json.Decoder(SegmentLine)
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError:
                raise SinkError(f"{path}:{number} is no segment") from None


def _may_be_ours(line: bytes) -> bool:
    """Whether an unfinished line is the beginning of one of ours; nothing else is cut off."""
    return line.startswith(_BEGINNING) or _BEGINNING.startswith(line)


def _id_of(line: bytes) -> bytes | None:
    if not line.endswith(b"\n"):
        return None
    try:
        return bytes.fromhex(msgspec.json.decode(line, type=_Id).message_id)
    except (msgspec.DecodeError, ValueError):
        return None


def _line_of(part: SegmentPart) -> SegmentLine:
    return SegmentLine(
        part.message_id,
        part.project,
        part.trace_id.hex(),
        part.root_span_id.hex(),
        part.part,
        part.is_last,
        part.addendum,
        tuple(
            SpanLine(span_id.hex(), payload)
            for span_id, payload in zip(part.span_ids, part.payloads, strict=True)
        ),
    )
