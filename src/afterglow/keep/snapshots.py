"""The snapshots of one partition: where they lie, what they are called, what may be restored.

A snapshot is a file of one folder (snapshot_file.py says what is in it). It has its name only
once it is whole and on the disk, and is readable by its owner alone. Restoring is one
transaction of the back end, whichever back end the snapshot came from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from afterglow.errors import (
    AfterglowError,
    NotFoundError,
    SettingError,
    StaleSnapshotError,
    StoreError,
)
from afterglow.keep.backend import Backend
from afterglow.keep.encode import whole
from afterglow.keep.snapshot_file import Head, Key, SealedReader, key_of, read_head, write_sealed

__all__ = ["KEEP", "SUFFIX", "Snapshot", "Snapshots", "folder_of"]

#: How many snapshots prune() leaves where nothing else is said.
KEEP: Final = 10
SUFFIX: Final = ".snapshot"

_UNFINISHED: Final = ".part"
_BUFFER_BYTES: Final = 1 << 18


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot of a list. Times are ns since 1970 (UTC).

    What it says of itself is not proven before it is restored. `problem` is why it cannot be
    restored, as far as its head tells, or None; then all but the path and the size is empty.
    """

    name: str
    path: Path
    file_bytes: int
    taken_at: int = 0
    entries: int = 0
    pairs: int = 0
    partition: str = ""
    profile: str = ""
    problem: str | None = None


def folder_of(database: Path) -> Path:
    """Where the snapshots of an SQLite file lie, unless a folder is named."""
    return Path(f"{database}.snapshots")


class Snapshots:
    """Takes, restores, lists and prunes. The store flushes before take(), and forgets what it
    has in memory after restore(); it must not write in between.

    `folder` None: one must be named, by whoever cannot derive it. `key` None: nothing can be
    taken or restored. Both are SettingErrors at the time of asking.
    """

    def __init__(
        self, backend: Backend, *, profile: str, folder: Path | None, key: str | None
    ) -> None:
        self._backend = backend
        self._profile = profile
        self._folder = folder
        self._key = key

    # --- take ---------------------------------------------------------------------------

    def take(self, name: str | os.PathLike[str] | None, now_ns: int) -> Snapshot:
        """Write one. `name` is a name in the folder, or a path; None: called by the time.

        Raises StoreError if there is one of this name or it cannot be written; then no file is
        left behind.
        """
        key = self._sealing_key()
        # Asked before the content: what is written in between makes the snapshot older than it
        # is, never newer.
        totals = self._backend.totals()
        head = Head(
            partition=self._backend.partition,
            profile=self._profile,
            taken_at=now_ns,
            changed_at=totals.changed_at,
            moment=totals.moment,
            key_id=key.key_id,
        )
        path = self._fresh_path(now_ns) if name is None else self._path(name)
        with _told(path), _appearing(path) as file:
            counts = write_sealed(file, head, self._backend.export(), key)
        return _described(path, head, counts.records, counts.pairs)

    def _fresh_path(self, now_ns: int) -> Path:
        moment = datetime.fromtimestamp(now_ns // 10**9, UTC)
        base = f"{moment:%Y-%m-%dT%H-%M-%S}.{now_ns % 10**9:09d}Z"
        path, number = self._path(base), 1
        while path.exists():
            number += 1
            path = self._path(f"{base}-{number}")
        return path

    # --- restore ------------------------------------------------------------------------

    def restore(
        self, name: str | os.PathLike[str] | None, now_ns: int, *, force: bool = False
    ) -> Snapshot:
        """Replace all that the partition holds by a snapshot; None: the newest of it.

        `force` restores also over a store that changed after the snapshot was taken, and a
        snapshot of another partition or profile. Raises NotFoundError, NotAStoreError,
        NewerStoreError, DamagedStoreError, StaleSnapshotError, SettingError or StoreError;
        nothing has changed then.
        """
        key = self._sealing_key()
        path = self._newest() if name is None else self._path(name)
        with _told(path), _existing(path) as file:
            reader = SealedReader(file, str(path), key)
            if not force:
                self._refuse_surprises(path, reader.head)
            self._backend.replace(reader.content(), reader.head.moment, now_ns)
        return _described(path, reader.head, *reader.counts)

    def _refuse_surprises(self, path: Path, head: Head) -> None:
        ours = (self._backend.partition, self._profile)
        for what, theirs, here in zip(
            ("partition", "profile"), (head.partition, head.profile), ours, strict=True
        ):
            if theirs != here:
                raise StaleSnapshotError(
                    f"{path} is of the {what} {theirs!r}, this store has {here!r}: open that "
                    "one, or ask again with force=True (--force) to have it here"
                )
        if self._backend.totals().changed_at > head.changed_at:
            raise StaleSnapshotError(
                f"the store has changed since {path} was taken: ask again with force=True "
                "(--force) to lose those changes, after a snapshot of them"
            )

    def _newest(self) -> Path:
        for snapshot in self.listed():
            if snapshot.problem is None:
                return snapshot.path
        raise NotFoundError(
            f"there is no snapshot of the partition {self._backend.partition!r} in "
            f"{self._existing_folder()}: take one, or name a file"
        )

    # --- list and prune -----------------------------------------------------------------

    def listed(self) -> list[Snapshot]:
        """Those of this partition, the newest first, and those that cannot be read, last."""
        folder = self._existing_folder()
        with _told(folder):
            files = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
            found = [_looked_at(file) for file in files]
        ours = [s for s in found if s.problem or s.partition == self._backend.partition]
        return sorted(ours, key=lambda s: (s.taken_at, s.name), reverse=True)

    def prune(self, keep: int = KEEP) -> list[Snapshot]:
        """Remove all but the newest `keep` of this partition; those that went.

        What cannot be read is not counted and stays.
        """
        if whole(keep, "keep") < 1:
            raise SettingError(f"keep={keep} would leave no snapshot: it takes 1 or more")
        gone = [s for s in self.listed() if s.problem is None][keep:]
        for snapshot in gone:
            with _told(snapshot.path):
                snapshot.path.unlink(missing_ok=True)
        return gone

    # --- where, and with what -------------------------------------------------------------

    def _sealing_key(self) -> Key:
        if not self._key:
            raise SettingError(
                "snapshots need a key to be sealed with: set AFTERGLOW_SNAPSHOT_KEY to a secret "
                "(python -c 'import secrets; print(secrets.token_hex(32))' makes one) and keep it"
            )
        return key_of(self._key)

    def _existing_folder(self) -> Path:
        if self._folder is None:
            raise SettingError(
                "this store is no file, so snapshots need a folder: set "
                "AFTERGLOW_SNAPSHOT_FOLDER, or name the snapshot by a path"
            )
        return self._folder

    def _path(self, name: str | os.PathLike[str]) -> Path:
        """A name is of the folder; what is a Path or has a slash in it is a path."""
        if isinstance(name, os.PathLike) or os.sep in name:
            return Path(name)
        if not name.strip(". ") or not name.isprintable():
            raise SettingError(f"{name!r} cannot be the name of a snapshot: give it letters")
        return self._existing_folder() / f"{name.removesuffix(SUFFIX)}{SUFFIX}"


def _described(path: Path, head: Head, entries: int, pairs: int) -> Snapshot:
    return Snapshot(
        name=path.name.removesuffix(SUFFIX),
        path=path,
        file_bytes=path.stat().st_size,
        taken_at=head.taken_at,
        entries=entries,
        pairs=pairs,
        partition=head.partition,
        profile=head.profile,
    )


def _looked_at(path: Path) -> Snapshot:
    try:
        with path.open("rb") as file:
            head, counts = read_head(file, path.name)
        return _described(path, head, *counts)
    except (AfterglowError, OSError) as error:
        size = path.lstat().st_size
        name = path.name.removesuffix(SUFFIX)
        return Snapshot(name=name, path=path, file_bytes=size, problem=str(error))


# --- files ----------------------------------------------------------------------------------


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system refuses, as one line that names the file."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror or error}; nothing was changed, name a place that can be "
            "read and written"
        ) from error


@contextmanager
def _existing(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no snapshot {path}: `afterglow memory snapshots` lists them"
        ) from None
    with file:
        yield file


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A file that is there in whole, on the disk, when this ends, or else not at all."""
    folder = path.absolute().parent
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
    unfinished = folder / f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}{_UNFINISHED}"
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb", buffering=_BUFFER_BYTES) as file:  # noqa: PTH123  no path
            yield file
            file.flush()
            os.fsync(file.fileno())
        _name(unfinished, path)
    finally:
        with suppress(OSError):
            unfinished.unlink()
    _sync_folder(folder)


def _name(unfinished: Path, path: Path) -> None:
    """Give a finished file its name, which nothing else may have."""
    try:
        os.link(unfinished, path)  # unlike a rename, this replaces nothing
    except FileExistsError:
        raise StoreError(f"{path} is there already: choose another name") from None
    except OSError:  # a file system without links
        if path.exists():
            raise StoreError(f"{path} is there already: choose another name") from None
        unfinished.rename(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
