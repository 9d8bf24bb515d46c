"""Recall chooses what `ranked` would, strengthens it, and reads everything without holding it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import afterglow
from afterglow.errors import EntryError
from afterglow.testing import ManualClock


@pytest.fixture
def store(tmp_path: Path) -> Iterator[afterglow.TraceStore]:
    """Sixty entries of three kinds and ages, some linked, the last ten not flushed."""
    clock = ManualClock()
    with afterglow.TraceStore(tmp_path / "m.db", maintenance=False, clock=clock) as opened:
        for i in range(60):
            if i == 50:
                opened.flush()
            kind = ("semantic", "episodic", "firmware")[i % 3]
            opened.store(
                f"note {i}", kind=kind, tags=[f"t{i % 4}"], trace_id=f"e{i:02}", intensity=i / 60
            )
            clock.advance_s(300)
        for i in range(0, 60, 9):
            for _ in range(3):
                opened.record_coactivation(f"e{i:02}", f"e{(i + 7) % 60:02}")
        yield opened


def test_recall_goes_by_the_retrieval_score(store: afterglow.TraceStore) -> None:
    ids = [f"e{i:02}" for i in range(60)]
    expected = [(entry.trace_id, entry.score) for entry in store.ranked(ids)]
    found = store.recall("note", limit=60, peek=True)
    assert [(entry.trace_id, entry.score) for entry in found] == expected
    some = [(entry.trace_id, entry.score) for entry in store.recall("note", limit=7, peek=True)]
    assert some == expected[:7]


def test_old_entries_go_by_strength_when_no_score_is_left(tmp_path: Path) -> None:
    clock = ManualClock()
    with afterglow.TraceStore(tmp_path / "old.db", maintenance=False, clock=clock) as store:
        store.store("weak", kind="trust", trace_id="a")
        store.store("strong", kind="identity", trace_id="b")
        clock.advance_s(365 * 86_400)
        found = store.recall(peek=True)
        assert [(entry.trace_id, entry.score) for entry in found] == [("b", 0.0), ("a", 0.0)]


def test_what_is_recalled_is_stronger_and_what_never_fades_is_not(
    store: afterglow.TraceStore,
) -> None:
    before = {entry.trace_id: entry for entry in store.all()}
    for entry in store.recall("note", limit=6):
        added = 0 if entry.kind == "firmware" else 1
        assert entry.reinforcement_count == before[entry.trace_id].reinforcement_count + added
    assert sum(entry.reinforcement_count for entry in store.all()) in range(1, 7)


def test_each_gives_what_all_gives(store: afterglow.TraceStore) -> None:
    def ids(entries: object) -> list[str]:
        return sorted(entry.trace_id for entry in entries)  # type: ignore[attr-defined]

    assert ids(store.each()) == ids(store.all())
    assert ids(store.each(kind="episodic")) == ids(store.by_kind("episodic"))
    assert ids(store.each(tag="t1", min_strength=0.55)) == ids(store.by_tag("t1", 0.55))
    both = [e for e in store.by_tag("t1") if e.kind == "semantic"]
    assert ids(store.each(kind="semantic", tag="t1")) == ids(both)
    with pytest.raises(EntryError, match="episodic"):
        store.each(kind="nonsense")


def test_words_are_found_in_texts_json_and_tags(tmp_path: Path) -> None:
    with afterglow.TraceStore(tmp_path / "w.db", maintenance=False) as store:
        store.store('said "STRASSE"\n', kind="semantic", trace_id="text")
        store.store({"city": "Zürich", "n": [42]}, kind="semantic", trace_id="json")
        store.store(b"42 bytes", kind="semantic", tags=["Zürich"], trace_id="bytes")

        def found(text: str) -> set[str]:
            return {entry.trace_id for entry in store.recall(text, peek=True)}

        assert found('"straße"') == {"text"}
        assert found("ZÜRICH") == {"json", "bytes"}
        assert found("zürich 42") == {"json"}
        assert found("") == {"text", "json", "bytes"}
