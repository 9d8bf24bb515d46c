"""Entries and records as bytes and back, whatever is in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from afterglow.buffer import codec

SPANS = st.lists(
    st.tuples(
        st.binary(min_size=8, max_size=8),
        st.binary(min_size=8, max_size=8),
        st.booleans(),
        st.integers(0, 1 << 20),
    ),
    min_size=1,
    max_size=20,
)


def encoded(spans: list[tuple[bytes, bytes, bool, int]], blob: bytes) -> bytes:
    ids, parents, marks, sizes = zip(*spans, strict=True)
    flags = bytes(map(bool, marks))
    return codec.encode(7, b"".join(ids), b"".join(parents), flags, sizes, blob, raw=True)


@given(SPANS, st.binary(max_size=50))
def test_an_entry_comes_back_as_it_was(
    spans: list[tuple[bytes, bytes, bool, int]], blob: bytes
) -> None:
    stored = codec.parse(encoded(spans, blob))
    entry = stored.entry
    assert entry is not None
    assert (entry.time_ns, stored.n_left, stored.blob) == (7, len(spans), blob)
    for at, (span_id, parent, mark, size) in enumerate(spans):
        assert entry.span_ids[8 * at : 8 * at + 8] == span_id
        assert entry.parents[8 * at : 8 * at + 8] == parent
        assert (bool(entry.flags[at]), entry.sizes[at]) == (mark, size)


@given(SPANS, st.binary(max_size=50), st.booleans())
def test_a_chunk_is_read_by_its_edges_alone_or_whole(
    spans: list[tuple[bytes, bytes, bool, int]], blob: bytes, in_part: bool
) -> None:
    chunk = encoded(spans, blob)
    member = codec.reference(chunk, codec.DISTRIBUTED, codec.chunk_id(chunk))
    stored = codec.parse(member)
    if in_part:
        stored = codec.parse(codec.encode_left(stored, [0], 1))
    assert (stored.entry, stored.places) == (None, codec.DISTRIBUTED)
    edges = codec.parse_reference(stored, chunk[: codec.edges_end(stored)])
    whole = codec.parse_reference(stored, chunk)
    assert edges.entry == whole.entry
    assert (edges.blob, whole.blob) == (b"", blob)
    assert whole.entry is not None
    assert whole.entry.left == ((0,) if in_part else None)


@given(SPANS, st.data())
def test_what_is_left_of_what_was_left(
    spans: list[tuple[bytes, bytes, bool, int]], data: st.DataObject
) -> None:
    member = encoded(spans, b"payload")
    first = sorted(data.draw(st.sets(st.integers(0, len(spans) - 1), min_size=1)))
    second = sorted(data.draw(st.sets(st.sampled_from(first), min_size=1)))
    once = codec.encode_left(codec.parse(member), first, 1)
    twice = codec.encode_left(codec.parse(once), second, 2)
    assert codec.parse(once).left == tuple(first)
    assert codec.parse(twice).left == tuple(second)
    assert codec.parse(twice).blob == b"payload"
    assert len(twice) <= len(once)


RECORDS = st.tuples(
    st.integers(0, 1 << 52),
    st.integers(0, 1 << 62),
    st.binary(min_size=8, max_size=8),
    st.lists(st.binary(min_size=8, max_size=8)),
    st.sets(st.binary(min_size=12, max_size=12)),
)


@given(st.lists(RECORDS))
def test_records_stand_one_behind_the_other(
    records: list[tuple[int, int, bytes, list[bytes], set[bytes]]],
) -> None:
    together = b"".join(
        codec.encode_record((number, number), time_ns, root, ids, sorted(chunks))
        for number, time_ns, root, ids, chunks in records
    )
    assert codec.parse_records(together) == [
        codec.Record(number, number, time_ns, root, b"".join(ids), frozenset(chunks))
        for number, time_ns, root, ids, chunks in records
    ]


def test_a_chunk_id_covers_the_payload_but_not_the_time() -> None:
    spans = [(b"a" * 8, bytes(8), False, 1)]
    one, other = encoded(spans, b"x"), encoded(spans, b"y")
    later = codec.encode(8, b"a" * 8, bytes(8), b"\0", [1], b"x", raw=True)
    assert codec.chunk_id(one) != codec.chunk_id(other)
    assert codec.chunk_id(one) == codec.chunk_id(later)
