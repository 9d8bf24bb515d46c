"""A snapshot as a file: everything of one partition, compressed, with a seal at its end.

    8   magic
    2   version of the format
    4   bytes of the head
        head (msgpack): what was kept, when, and how its key is called
        blocks: 1 kind (records, pairs), 4 bytes, zstd of a msgpack array
    1   kind 0: no more blocks
    16  how many records and pairs there were
    32  the seal: BLAKE2b of all before it, keyed with a secret

Numbers are little-endian. The seal proves that somebody who knows the key wrote each byte. It is
checked over the whole file before anything is taken from it, and again while it is read, so that
a file which changes in between is refused, too.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, BinaryIO, Final, NamedTuple, get_type_hints

import msgspec

from afterglow.errors import DamagedStoreError, NewerStoreError, NotAStoreError, SettingError
from afterglow.keep.backend import Pair
from afterglow.keep.entry import Moment, Record
from afterglow.store.columns import zstd

__all__ = ["FORMAT", "Counts", "Head", "SealedReader", "key_of", "read_head", "write_sealed"]

#: The newest version of the format; each is read by all later ones.
FORMAT: Final = 1

Content = Iterator[list[Record] | list[Pair]]

# A line end in it shows files that went through something that changes line ends.
_MAGIC: Final = b"AGSNAP\r\n"
_BEGIN: Final = struct.Struct("<8sHI")
_BLOCK: Final = struct.Struct("<BI")
_COUNTS: Final = struct.Struct("<QQ")
_END, _RECORDS, _PAIRS = 0, 1, 2
_SEAL_BYTES: Final = 32
_TAIL_BYTES: Final = 1 + _COUNTS.size + _SEAL_BYTES
_LONGEST_HEAD: Final = 1 << 16
_LEVEL: Final = 3
_PIECE_BYTES: Final = 1 << 20
_KEY_LENGTH: Final = (16, 1024)

# A Record as it is written: a decoder of types takes no field that may be text or bytes.
_FIELDS: Final = {name: kind for name, kind in get_type_hints(Record).items() if name != "payload"}
_Row: Any = msgspec.defstruct(
    "_Row", [*_FIELDS.items(), ("payload", bytes), ("is_text", bool)], frozen=True
)

_encode = msgspec.msgpack.Encoder().encode
_decode_rows: Callable[[bytes], list[Any]] = msgspec.msgpack.Decoder(list[_Row]).decode
_decode_pairs = msgspec.msgpack.Decoder(list[Pair]).decode
_values = attrgetter(*_FIELDS)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself. Times are ns since 1970 (UTC).

    `changed_at` is when the store last changed before the snapshot, `moment` where its decay
    stood; `key_id` tells one key from another without telling the key.
    """

    partition: str
    profile: str
    taken_at: int
    changed_at: int
    moment: Moment
    key_id: bytes


class Counts(NamedTuple):
    """How much is in a snapshot."""

    records: int
    pairs: int


class Key(NamedTuple):
    """A secret, ready to seal with, and its name."""

    secret: bytes
    key_id: bytes


def key_of(text: str) -> Key:
    """The key that a secret text stands for; SettingError unless it has 16 to 1,024 characters."""
    low, high = _KEY_LENGTH
    if not low <= len(text) <= high:
        raise SettingError(
            f"AFTERGLOW_SNAPSHOT_KEY has {len(text):,} characters: it takes {low} to {high:,}, "
            "random ones (python -c 'import secrets; print(secrets.token_hex(32))')"
        )
    secret = hashlib.blake2b(
        text.encode("utf-8", "surrogateescape"), person=b"afterglow key"
    ).digest()
    key_id = hashlib.blake2b(b"key id", key=secret, digest_size=8).digest()
    return Key(secret, key_id)


class _Seal:
    """The seal of what has gone through it."""

    def __init__(self, key: Key) -> None:
        self._hash = hashlib.blake2b(
            key=key.secret, digest_size=_SEAL_BYTES, person=b"afterglow snap"
        )
        self.update = self._hash.update

    def digest(self) -> bytes:
        return self._hash.digest()


def write_sealed(file: BinaryIO, head: Head, content: Content, key: Key) -> Counts:
    """Write a whole snapshot, a portion at a time; how much went in."""
    seal = _Seal(key)

    def put(*parts: bytes) -> None:
        for part in parts:
            seal.update(part)
            file.write(part)

    begin = _encode(head)
    put(_BEGIN.pack(_MAGIC, FORMAT, len(begin)), begin)
    records = pairs = 0
    for portion in content:
        if not portion:
            continue
        kind = _PAIRS if isinstance(portion[0], Pair) else _RECORDS
        rows = portion if kind == _PAIRS else [_row(record) for record in portion]
        block = zstd.compress(_encode(rows), _LEVEL)
        put(_BLOCK.pack(kind, len(block)), block)
        if kind == _RECORDS:
            records += len(portion)
        else:
            pairs += len(portion)
    put(bytes([_END]), _COUNTS.pack(records, pairs))
    file.write(seal.digest())
    return Counts(records, pairs)


def read_head(file: BinaryIO, name: str) -> tuple[Head, Counts]:
    """What a snapshot says of itself and how much is in it, unproven: for lists.

    Raises NotAStoreError, NewerStoreError or DamagedStoreError.
    """
    file.seek(0)
    begin = file.read(_BEGIN.size)
    if len(begin) < _BEGIN.size or not begin.startswith(_MAGIC):
        raise NotAStoreError(f"{name} is no snapshot of ours")
    _, version, length = _BEGIN.unpack(begin)
    if version > FORMAT:
        raise NewerStoreError(
            f"{name} was written by a newer version (format {version}; this one reads up to "
            f"{FORMAT}): upgrade Afterglow to restore it"
        )
    try:
        if version < 1 or length > _LONGEST_HEAD:
            raise ValueError
        head = msgspec.msgpack.decode(file.read(length), type=Head)
        if file.seek(0, os.SEEK_END) < _BEGIN.size + length + _TAIL_BYTES:
            raise ValueError
        file.seek(-_TAIL_BYTES + 1, os.SEEK_END)
        return head, Counts(*_COUNTS.unpack(file.read(_COUNTS.size)))
    except (ValueError, msgspec.DecodeError):
        raise _damaged(name) from None


class SealedReader:
    """A snapshot that was proven whole when this was made: `head`, `counts`, `content()`.

    Raises what read_head does, DamagedStoreError for a broken seal, and SettingError for a
    snapshot that was sealed with another key. `file` stays the caller's.
    """

    def __init__(self, file: BinaryIO, name: str, key: Key) -> None:
        self._file, self._name, self._key = file, name, key
        self.head, self.counts = read_head(file, name)
        if not hmac.compare_digest(self.head.key_id, key.key_id):
            raise SettingError(
                f"{name} was sealed with another key: set AFTERGLOW_SNAPSHOT_KEY to the one it "
                "was made with"
            )
        self._size = file.seek(0, os.SEEK_END)
        self._prove()

    def _prove(self) -> None:
        seal = _Seal(self._key)
        self._file.seek(0)
        left = self._size - _SEAL_BYTES
        while left:
            piece = self._file.read(min(left, _PIECE_BYTES))
            if not piece:
                raise _damaged(self._name)
            seal.update(piece)
            left -= len(piece)
        self._compare(seal)

    def _compare(self, seal: _Seal) -> None:
        if not hmac.compare_digest(self._file.read(_SEAL_BYTES + 1), seal.digest()):
            raise _damaged(self._name)

    def content(self) -> Content:
        """Its portions. Raises DamagedStoreError, at the end at the latest, if the file changed."""
        seal = _Seal(self._key)

        def take(length: int) -> bytes:
            part = self._file.read(length)
            if len(part) != length:
                raise _damaged(self._name)
            seal.update(part)
            return part

        self._file.seek(0)
        _, _, length = _BEGIN.unpack(take(_BEGIN.size))
        take(length)
        records = pairs = 0
        while kind := take(1)[0]:
            (length,) = struct.unpack("<I", take(4))
            if length > self._size:
                raise _damaged(self._name)
            portion = self._decoded(kind, take(length))
            if kind == _RECORDS:
                records += len(portion)
            else:
                pairs += len(portion)
            yield portion
        if Counts(*_COUNTS.unpack(take(_COUNTS.size))) != (records, pairs):
            raise _damaged(self._name)
        self._compare(seal)

    def _decoded(self, kind: int, block: bytes) -> list[Record] | list[Pair]:
        try:
            plain = zstd.decompress(block)
            if kind == _RECORDS:
                return [_record(row) for row in _decode_rows(plain)]
            if kind == _PAIRS:
                return _decode_pairs(plain)
        except (zstd.ZstdError, msgspec.DecodeError, UnicodeDecodeError):
            pass
        raise _damaged(self._name)


def _row(record: Any) -> Any:
    payload = record.payload
    if isinstance(payload, str):
        return _Row(*_values(record), payload.encode(), True)
    return _Row(*_values(record), payload, False)


def _record(row: Any) -> Record:
    payload = row.payload.decode() if row.is_text else row.payload
    return Record(**dict(zip(_FIELDS, _values(row), strict=True)), payload=payload)


def _damaged(name: str) -> DamagedStoreError:
    return DamagedStoreError(
        f"{name} is damaged or was changed after it was made, nothing of it was used: restore "
        "another snapshot"
    )
