from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afterglow.errors import DamagedStoreError
from afterglow.store.attributes import decode_attributes, encode_attributes, encode_column
from afterglow.store.columns import decode_batch, encode_batch
from tests.store.conftest import JournalWriter, row

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$bytes", "$map", "$float", "$x", "a", ""]), inner, max_size=2
        )
    ),
    max_leaves=6,
)
keys = st.sampled_from(["a", "$bytes", "100%", "%s", 'quo"te', "line\nend", "\u2028", "é"])
mappings = st.dictionaries(keys, values, max_size=4)


def same(one: Any, other: Any) -> bool:
    """Equal, of equal types throughout; NaN is itself, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return math.copysign(1, one) == math.copysign(1, other) and (
            one == other or (math.isnan(one) and math.isnan(other))
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    return bool(one == other)


def unsigned_nan(value: Any) -> Any:
    """NaN has a sign that no text keeps, and that nobody reads."""
    if isinstance(value, float) and math.isnan(value):
        return math.nan
    if isinstance(value, list):
        return [unsigned_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: unsigned_nan(item) for key, item in value.items()}
    return value


@given(mappings)
def test_attributes_come_back_as_they_were(attributes: dict[str, Any]) -> None:
    text = encode_attributes(attributes)
    json.loads(text)
    assert same(decode_attributes(text), unsigned_nan(attributes))


@given(st.lists(mappings, min_size=1, max_size=6))
@example([{"a": 1.5}, {"a": math.nan}])
@example([{"a": 1}, {"a": 1 << 63}])
@example([{"a": "x"}, {"a": "line\nend \u2028"}])
@example([{"a": b"x"}, {}, {"b": [b"x"]}, {}])
def test_a_column_is_encoded_as_its_rows_are(rows: list[dict[str, Any]]) -> None:
    body = encode_batch(
        JournalWriter.batch(
            _NoFiles(), *(row(i + 1, attributes=attributes) for i, attributes in enumerate(rows))
        )
    )
    _, columns, _ = decode_batch(body)
    texts = encode_column(columns)
    assert [decode_attributes(text).keys() for text in texts] == [r.keys() for r in rows]
    assert all(
        same(decode_attributes(text), unsigned_nan(attributes))
        for text, attributes in zip(texts, rows, strict=True)
    )


class _NoFiles(JournalWriter):
    """Makes batches only."""

    def __init__(self) -> None:
        from afterglow.ledger import new_ledger
        from afterglow.model.run import Process

        self.process = Process(run_id="r", pid=1, parent_pid=0, argv=(), host="", start_ns=0)
        self.ledger = new_ledger()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": {"$int": "x"}}', '{"a": {"$bytes": "x"}}'])
def test_text_that_is_no_attributes_is_damage(text: str) -> None:
    with pytest.raises(DamagedStoreError):
        decode_attributes(text)
