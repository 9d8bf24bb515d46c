"""One writer, any number of readers in its process; see the room's docstring."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple

import msgspec

from afterglow.clock import Clock, SystemClock
from afterglow.errors import SpoolError
from afterglow.spool.folder import (
    file_name,
    let_go,
    locked,
    numbered_files,
    set_aside,
    sync_folder,
    trouble,
)
from afterglow.spool.frames import (
    FRAME_BYTES,
    MAX_RECORD_BYTES,
    PREFIX_BYTES,
    START,
    Frame,
    Gap,
    Position,
    frame_head,
    frames,
    prefix,
    salt_of,
)

__all__ = ["Fsync", "Spool", "SpoolCounts", "SpoolFile"]

Fsync = Literal["never", "interval", "always"]
#: A read of a file this large at once.
_READ_BYTES: Final = 1 << 18
_MIN_FILE_BYTES: Final = 1 << 10


class SpoolFile(NamedTuple):
    """A file that is there. `header` is what its owner gave; None where it is damaged."""

    number: int
    n_bytes: int
    header: bytes | None


class SpoolCounts(msgspec.Struct):
    """What went wrong since the spool was opened."""

    #: Bytes without a good record at the end of the newest file: of an append that never returned.
    torn_bytes: int = 0
    #: Places inside files where records were skipped, and their bytes.
    damaged_places: int = 0
    damaged_bytes: int = 0
    #: Files of which nothing could be read; they are beside the others as `*.damaged`.
    files_set_aside: int = 0


class Spool:
    """A durable log in a folder; any number of threads of one process may use it.

    A file that would grow beyond `max_file_bytes` is followed by a new one, which begins with what
    `header()` gives (called in `append` and `begin_file`, before anything is written there). What
    is larger than a file gets a file of its own. Every opening begins a new file with its first
    append.

    `fsync`: "never" survives the death of the process; "interval" also a power failure but for the
    last `fsync_interval_s` (at the next append, `sync_if_due` or `close`); "always" any.

    `report` gets a line for what was damaged. Raises SpoolBusyError where another process has
    the folder, SpoolFullError and SpoolError for what the disk does.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        max_file_bytes: int = 64 << 20,
        fsync: Fsync = "never",
        fsync_interval_s: float = 1.0,
        header: Callable[[], bytes] = bytes,
        report: Callable[[str], None] = lambda line: None,
        clock: Clock | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.header = header
        self.counts = SpoolCounts()
        self._max_file_bytes = max(max_file_bytes, _MIN_FILE_BYTES)
        self._fsync = fsync
        self._interval_ns = round(fsync_interval_s * 1e9)
        self._clock = clock or SystemClock()
        self._report = report
        self._lock = threading.RLock()
        #: Bytes of each file up to which it may be read, by number, ascending.
        self._sizes: dict[int, int] = {}
        #: Places that were counted as damaged.
        self._seen: set[Position] = set()
        #: The number of the newest file that there ever was.
        self._newest = 0
        #: The file that is written, its salt, and its size when it had only a header.
        self._out = -1
        self._salt = 0
        self._empty_bytes = 0
        self._synced_ns = self._clock.monotonic_ns()
        self._unsynced = False
        self._closed = False
        self._lock_file = locked(self.folder)
        try:
            self._look()
        except BaseException:
            let_go(self._lock_file)
            raise

    @property
    def size_bytes(self) -> int:
        """What its files hold."""
        with self._lock:
            return sum(self._sizes.values())

    @property
    def end(self) -> Position:
        """Behind the newest record: every record has a smaller position, every later one none."""
        with self._lock:
            return Position(self._newest, self._sizes.get(self._newest, 0))

    def append(self, record: bytes) -> Position:
        """Write one record; when it returns, the record survives what `fsync` says.

        Raises SpoolFullError or SpoolError with nothing of it there; it may be given again.
        """
        n_bytes = FRAME_BYTES + len(record)
        if len(record) > MAX_RECORD_BYTES:
            raise SpoolError(
                f"a record of {len(record):,} bytes is too large: {MAX_RECORD_BYTES:,} at most"
            )
        with self._lock:
            if self._out < 0 or self._size_now() + n_bytes > self._max_file_bytes:
                self._begin_unless_empty()
            number, offset = self.end
            self._write((frame_head(record, self._salt), record), n_bytes, number, offset)
            self._sizes[number] = offset + n_bytes
            self._after_write()
            return Position(number, offset)

    def begin_file(self) -> int:
        """Begin a new file now; returns its number. Raises as `append` does."""
        with self._lock:
            return self._begin()

    def read(self, after: Position = START) -> Iterator[tuple[Position, bytes]]:
        """The records behind one, in order, as far as they are there now; headers are left out.

        What is damaged is skipped, counted once and reported. Raises SpoolError.
        """
        for number, end in self._files_from(after.file):
            path = self._path(number)
            try:
                with path.open("rb", _READ_BYTES) as file:
                    offset = after.offset if number == after.file else 0
                    for at, body in self._read_file(file, number, offset, end):
                        if (number, at) > after:
                            yield Position(number, at), body
            except FileNotFoundError:
                continue  # forgotten meanwhile
            except OSError as error:
                raise trouble("reading", path, error) from error

    def files(self) -> list[SpoolFile]:
        """The files that are there, oldest first, with their headers. Raises SpoolError."""
        found = []
        for number, end in self._files_from(0):
            path = self._path(number)
            try:
                with path.open("rb") as file:
                    salt = salt_of(file.read(PREFIX_BYTES))
                    first = None if salt is None else next(frames(file, PREFIX_BYTES, end, salt))
            except (FileNotFoundError, StopIteration):
                continue
            except OSError as error:
                raise trouble("reading", path, error) from error
            is_header = isinstance(first, Frame) and first.offset == PREFIX_BYTES
            header = first.body if isinstance(first, Frame) and is_header else None
            found.append(SpoolFile(number, end, header))
        return found

    def forget(self, before: Position) -> int:
        """Remove the files of which every record is before; returns how many bytes went.

        The newest file always stays, so that positions go on from it. Raises SpoolError.
        """
        freed = 0
        with self._lock:
            for number in list(self._sizes):
                if number >= min(before.file, self._newest):
                    break
                path = self._path(number)
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise trouble("removing", path, error) from error
                freed += self._sizes.pop(number)
        return freed

    def sync(self) -> None:
        """All that was appended survives a power failure. Raises SpoolError."""
        with self._lock:
            if not self._unsynced or self._out < 0:
                return
            try:
                os.fdatasync(self._out)
            except OSError as error:
                raise trouble("writing", self._path(self.end.file), error) from error
            self._unsynced = False
            self._synced_ns = self._clock.monotonic_ns()

    def sync_if_due(self) -> None:
        """With `fsync="interval"`: `sync`, if the interval is over. Costs nothing otherwise."""
        if (
            self._unsynced
            and self._fsync == "interval"
            and self._clock.monotonic_ns() - self._synced_ns >= self._interval_ns
        ):
            self.sync()

    def close(self) -> None:
        """Write all down and let another process have the folder. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._fsync != "never":
                    self.sync()
            finally:
                self._end_file()
                let_go(self._lock_file)

    # --- What follows is called with the lock held. ---

    def _path(self, number: int) -> Path:
        return self.folder / file_name(number)

    def _size_now(self) -> int:
        return self._sizes[self._newest]

    def _begin_unless_empty(self) -> None:
        """A new file; a record that is larger than any stays in a file that has only a header."""
        if self._out < 0 or self._size_now() > self._empty_bytes:
            self._begin()

    def _begin(self) -> int:
        if self._closed:
            raise SpoolError(f"{self.folder} was closed: open it again")
        header = self.header()
        if self._fsync != "never":
            self.sync()
        self._end_file()
        number = self._newest + 1
        path = self._path(number)
        salt = int.from_bytes(os.urandom(4), "little")
        try:
            self._out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if self._fsync != "never":
                sync_folder(self.folder)
        except OSError as error:
            self._end_file()
            raise trouble("making", path, error) from error
        start = (prefix(salt), frame_head(header, salt), header)
        n_bytes = sum(map(len, start))
        try:
            self._write(start, n_bytes, number, 0)
        except SpoolError:
            self._end_file()
            path.unlink(missing_ok=True)
            raise
        self._salt = salt
        self._empty_bytes = self._sizes[number] = n_bytes
        self._newest = number
        self._after_write()
        return number

    def _write(self, pieces: tuple[bytes, ...], n_bytes: int, number: int, offset: int) -> None:
        """One write, whole or not at all."""
        try:
            written = os.pwritev(self._out, pieces, offset)
            if written < n_bytes:
                # Part of it went in: the rest says why not all.
                rest = b"".join(pieces)
                while written < n_bytes:
                    written += os.pwrite(self._out, rest[written:], offset + written)
            if self._fsync == "always":
                os.fdatasync(self._out)
        except OSError as error:
            try:
                os.ftruncate(self._out, offset)
            except OSError:
                # What is half there is at the end of its file, and no record: begin another.
                self._end_file()
            raise trouble("writing", self._path(number), error) from error

    def _after_write(self) -> None:
        if self._fsync == "interval":
            self._unsynced = True
            self.sync_if_due()

    def _end_file(self) -> None:
        if self._out >= 0:
            os.close(self._out)
            self._out = -1

    def _files_from(self, number: int) -> list[tuple[int, int]]:
        with self._lock:
            return [(one, end) for one, end in self._sizes.items() if one >= number]

    def _look(self) -> None:
        """See which files are there; the newest may have a torn end."""
        try:
            numbers, self._newest = numbered_files(self.folder)
            for number in numbers:
                path = self._path(number)
                self._sizes[number] = path.stat().st_size
            if numbers:
                self._mend(numbers[-1])
        except OSError as error:
            raise trouble("reading", self.folder, error) from error

    def _mend(self, number: int) -> None:
        """Cut off what an append that never returned left at the end of the newest file."""
        path = self._path(number)
        size = self._sizes[number]
        end = PREFIX_BYTES
        with path.open("rb", _READ_BYTES) as file:
            salt = salt_of(file.read(PREFIX_BYTES))
            if salt is None:
                # Torn at its very beginning: no record was ever in it.
                end = 0 if size <= PREFIX_BYTES else size
            else:
                for one in frames(file, PREFIX_BYTES, size, salt):
                    if isinstance(one, Frame):
                        end = one.offset + FRAME_BYTES + len(one.body)
        if end == size:
            return
        self.counts.torn_bytes += size - end
        self._report(
            f"{path}: the last {size - end:,} bytes are no whole record and were cut off: they "
            "were being written when the process died, or the disk was full"
        )
        os.truncate(path, end)
        self._sizes[number] = end

    def _read_file(
        self, file: BinaryIO, number: int, offset: int, end: int
    ) -> Iterator[tuple[int, bytes]]:
        salt = salt_of(file.read(PREFIX_BYTES))
        if salt is None:
            self._set_aside(number, end)
            return
        for one in frames(file, max(offset, PREFIX_BYTES), end, salt):
            if isinstance(one, Gap):
                self._damaged(Position(number, one.offset), one.n_bytes)
            elif one.offset > PREFIX_BYTES:
                yield one

    def _damaged(self, at: Position, n_bytes: int) -> None:
        with self._lock:
            if at in self._seen:
                return
            self._seen.add(at)
            self.counts.damaged_places += 1
            self.counts.damaged_bytes += n_bytes
        self._report(
            f"{self._path(at.file)}: {n_bytes:,} bytes at {at.offset:,} are damaged and were "
            "skipped: the records in them are lost; see to the disk"
        )

    def _set_aside(self, number: int, n_bytes: int) -> None:
        path = self._path(number)
        with self._lock:
            if n_bytes == 0 or self._sizes.pop(number, None) is None:
                return
            self.counts.files_set_aside += 1
            aside = set_aside(path)
        self._report(
            f"{path} cannot be read: it is set aside as {aside.name}, and its {n_bytes:,} bytes of "
            "records are lost; see to the disk"
        )
