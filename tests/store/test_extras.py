"""What few spans have, or all spans of a scope share, comes back row by row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.model.flat import Extra, Flat
from afterglow.model.run import Process
from afterglow.ports import SpanBatch
from afterglow.store import columns
from afterglow.store.columns import decode_batch, decode_timings, encode_batch

SHARED = [Extra(scope="lib", kind="server"), Extra(scope="lib", kind="client")]
EXTRAS = st.lists(
    st.none()
    | st.sampled_from(SHARED)
    | st.builds(Extra, status=st.sampled_from(["unset", "error"]), scope=st.text(max_size=2)),
    max_size=12,
)


def batch_of(extras: list[Extra | None]) -> SpanBatch:
    flat: Flat = []
    for row, extra in enumerate(extras, 1):
        flat.extend((1, row, 0, "x", 10, 20, {}, (1, "main"), extra))
    process = Process(
        run_id="r", pid=1, parent_pid=0, argv=(), host="h", start_ns=0, end_ns=None,
        exit_status=None, resource={},
    )  # fmt: skip
    return SpanBatch(
        flat=flat, open=None, process=process, seed=7, wall_offset_ns=0,
        ledger={}, counts={}, last=False,
    )  # fmt: skip


def wanted(extras: list[Extra | None]) -> dict[int, Extra]:
    return {row: extra for row, extra in enumerate(extras) if extra is not None}


@given(EXTRAS)
def test_each_row_gets_its_own_back(extras: list[Extra | None]) -> None:
    body = encode_batch(batch_of(extras))
    assert decode_batch(body)[1].extras == wanted(extras)
    assert decode_timings(body).errors == [
        row for row, extra in wanted(extras).items() if extra.status == "error"
    ]


@given(EXTRAS)
def test_a_journal_of_version_1_is_read(extras: list[Extra | None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_extra_table", wanted)  # as it was written then
        patch.setattr(columns, "FORMAT_VERSION", 1)
        body = encode_batch(batch_of(extras))
    head, decoded, _ = decode_batch(body)
    assert head.version == 1
    assert decoded.extras == wanted(extras)
    assert len(decode_timings(body).errors) == sum(
        extra.status == "error" for extra in wanted(extras).values()
    )


def test_what_all_share_is_written_once() -> None:
    many = encode_batch(batch_of(SHARED[:1] * 2_000))
    none = encode_batch(batch_of([None] * 2_000))
    assert len(many) - len(none) < 200
    decoded = decode_batch(many)[1].extras
    assert len({id(extra) for extra in decoded.values()}) == 1
