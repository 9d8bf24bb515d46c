"""Cleaning a batch: what is clean stays as it is, the rest is made so and counted."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.config import RecordConfig
from afterglow.model.flat import (
    ATTRIBUTES,
    EXTRA,
    NAME,
    PARENT_ID,
    Extra,
    Flat,
    FlatLink,
    RecordedException,
    RemoteId,
)
from afterglow.model.span import Event
from afterglow.ports import SpanBatch
from afterglow.store.columns import decode_batch, encode_batch
from afterglow.write.prepare import cleaned_process, prepare, scrub, stacktrace
from tests.write.conftest import PROCESS, record


def prepared(*records: tuple[Any, ...], **limits: Any) -> tuple[Flat, Counter[str]]:
    flat: Flat = [value for one in records for value in one]
    counted: Counter[str] = Counter()

    def count(kind: str, times: int) -> None:
        counted[kind] += times

    prepare(flat, RecordConfig(**limits), count)
    return flat, counted


def test_what_is_clean_is_not_even_copied() -> None:
    attributes = {"text": "a", "n": 1, "f": 0.5, "b": True, "none": None, "bytes": b"x"}
    flat, counted = prepared(record(1, attributes=attributes))
    assert flat[ATTRIBUTES] is attributes
    assert not counted


def test_nothing_is_prepared_in_nothing() -> None:
    assert prepared() == ([], Counter())


class Colour(IntEnum):
    RED = 3


class Word(StrEnum):
    YES = "yes"


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no")


class Lying:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("no class for you")


@pytest.mark.parametrize(
    ("value", "becomes", "kind"),
    [
        (Decimal("1.5"), "1.5", "values_changed"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02 00:00:00+00:00", "values_changed"),
        (Path("/x"), "/x", "values_changed"),
        (Broken(), "<Broken>", "values_changed"),
        (Colour.RED, 3, None),
        (Word.YES, "yes", None),
        ([1, (2, "x")], [1, [2, "x"]], None),
        ({"k": {1: 2}}, {"k": {"1": 2}}, None),
    ],
)
def test_other_values_become_what_attributes_can_be(
    value: Any, becomes: Any, kind: str | None
) -> None:
    flat, counted = prepared(record(1, attributes={"good": 1, "odd": value}))
    result = flat[ATTRIBUTES]
    assert result == {"good": 1, "odd": becomes}
    assert type(result["odd"]) is type(becomes)
    assert counted == ({kind: 1} if kind else {})


def test_only_the_unclean_spans_are_touched() -> None:
    good = {"a": 1}
    flat, _ = prepared(record(1, attributes=good), record(2, attributes={"a": object()}))
    assert flat[ATTRIBUTES] is good
    assert flat[9 + ATTRIBUTES]["a"].startswith("<object object")


def test_a_value_that_raises_costs_its_attributes_and_nothing_else() -> None:
    flat, counted = prepared(record(1, attributes={"a": 1, "b": Lying()}))
    assert flat[ATTRIBUTES] == {}
    assert flat[EXTRA].dropped_attributes == 2
    assert counted == {"attributes_dropped": 2}


def test_keys_must_be_words() -> None:
    flat, counted = prepared(record(1, attributes={"": 1, 7: 2, "k": 3}))
    assert flat[ATTRIBUTES] == {"k": 3}
    assert flat[EXTRA].dropped_attributes == 2
    assert counted == {"attributes_dropped": 2}


@pytest.mark.parametrize("name", [7, None, Word.YES, b"x", Broken()])
def test_a_name_that_is_no_text_becomes_one(name: Any) -> None:
    flat, counted = prepared(record(1, name=name))
    assert type(flat[NAME]) is str
    assert counted == {"names_changed": 1}


def test_of_too_many_attributes_the_last_stay() -> None:
    many = {f"k{n}": n for n in range(130)}
    flat, counted = prepared(record(1, attributes=many))
    assert list(flat[ATTRIBUTES]) == [f"k{n}" for n in range(2, 130)]
    assert flat[EXTRA].dropped_attributes == 2
    assert counted == {"attributes_dropped": 2}


def test_many_spans_with_few_attributes_each_are_no_span_with_many() -> None:
    records = [record(n, attributes={f"k{n}": n}) for n in range(1, 300)]
    flat, counted = prepared(*records)
    assert not counted
    assert flat[EXTRA] is None


def test_long_texts_are_cut_where_a_limit_is_set() -> None:
    flat, counted = prepared(record(1, attributes={"a": "x" * 9, "b": "y"}), max_attribute_length=4)
    assert flat[ATTRIBUTES] == {"a": "xxxx", "b": "y"}
    assert counted == {"values_truncated": 1}


def test_of_too_many_events_and_links_the_newest_stay() -> None:
    links = [FlatLink(bytes(16), n) for n in range(5)]
    extra = Extra(events=[Event(str(n), n) for n in range(5)], links=links)
    flat, counted = prepared(record(1, extra=extra), max_events=2, max_links=3)
    result: Extra = flat[EXTRA]
    assert [event.name for event in result.events] == ["3", "4"]
    assert [link.span_id for link in result.links] == [2, 3, 4]
    assert (result.dropped_events, result.dropped_links) == (3, 2)
    assert counted == {"events_dropped": 3, "links_dropped": 2}


def test_events_and_links_have_clean_attributes_too() -> None:
    extra = Extra(
        events=[Event("e", 1, {"a": Decimal(1)}), Event(7, 2)],  # type: ignore[arg-type]
        links=[FlatLink(bytes(16), 2, attributes={"b": Decimal(2), "": 1})],
    )
    flat, counted = prepared(record(1, extra=extra))
    result: Extra = flat[EXTRA]
    assert result.events[0].attributes == {"a": "1"}
    assert result.events[1].name == "7"
    assert result.links[0].attributes == {"b": "2"}
    assert result.links[0].dropped_attributes == 1
    assert counted == {"values_changed": 2, "names_changed": 1, "attributes_dropped": 1}


def test_a_parent_in_another_process_is_marked() -> None:
    parent = RemoteId(9)
    parent.trace_state = "k=v"
    flat, _ = prepared(record(1, parent=parent), record(2))
    assert type(flat[PARENT_ID]) is int
    assert flat[PARENT_ID] == 9
    assert flat[EXTRA] == Extra(remote_parent=True, trace_state="k=v")
    assert flat[9 + EXTRA] is None


# --- exceptions ---------------------------------------------------------------------------


def test_an_exception_becomes_an_event_with_its_source_lines(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text("def f():\n    raise ValueError('no')\nf()\n")
    frames = ((str(file), 3, "<module>"), (str(file), 2, "f"))
    extra = Extra(
        events=[Event("before", 5), Event("after", 20)],
        exceptions=[RecordedException(10, "ValueError", "no", frames)],
    )
    flat, _ = prepared(record(1, extra=extra))
    result: Extra = flat[EXTRA]
    assert [event.name for event in result.events] == ["before", "exception", "after"]
    assert result.exceptions == []
    assert result.events[1].attributes == {
        "exception.type": "ValueError",
        "exception.message": "no",
        "exception.stacktrace": (
            "Traceback (most recent call last):\n"
            f'  File "{file}", line 3, in <module>\n    f()\n'
            f"  File \"{file}\", line 2, in f\n    raise ValueError('no')\n"
            "ValueError: no\n"
        ),
        "exception.escaped": True,
    }


def test_a_recursion_is_folded_as_python_prints_it() -> None:
    frames = (("a", 1, "main"), *[("a", 2, "f")] * 50, ("a", 3, "end"))
    text = stacktrace(RecordedException(1, "RecursionError", "", frames), lambda _f, _n: "")
    assert text.count("line 2, in f") == 3
    assert "[Previous line repeated 47 more times]" in text
    assert text.endswith("line 3, in end\nRecursionError\n")


def test_source_that_cannot_be_read_leaves_the_place() -> None:
    def unreadable(_file: str, _line: int) -> str:
        raise OSError("gone")

    text = stacktrace(RecordedException(1, "E", "m", (("gone.py", 4, "f"),)), unreadable)
    assert '  File "gone.py", line 4, in f\nE: m\n' in text


# --- what an encoding cannot carry ----------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=()), max_size=5)  # surrogates included
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@given(name=TEXT, attributes=st.dictionaries(TEXT | st.integers(), VALUES | st.builds(object)))
def test_after_scrubbing_anything_can_be_encoded(name: str, attributes: dict[Any, Any]) -> None:
    extra = Extra(
        status_description=name,
        scope=name,
        events=[Event(name, 1, dict(attributes))],
        links=[FlatLink(bytes(16), 2, name, dict(attributes))],
        exceptions=[RecordedException(1, name, name, ((name, 1, name),))],
    )
    flat = list(record(1, name=name, attributes=attributes, extra=extra))
    prepare(flat, RecordConfig(), lambda _kind, _times: None)
    scrub(flat, RecordConfig(), lambda _kind, _times: None)
    process = cleaned_process(PROCESS)
    batch = SpanBatch(flat, [], process, 1, 0, {}, {name.encode("utf-8", "replace").decode(): 1})  # type: ignore[typeddict-item]
    _, columns, _ = decode_batch(encode_batch(batch))
    assert len(columns) == 1


def test_arguments_that_are_no_utf8_are_replaced() -> None:
    import msgspec

    odd = msgspec.structs.replace(PROCESS, argv=("prog", "caf\udce9"))
    assert cleaned_process(odd).argv == ("prog", "caf?")
