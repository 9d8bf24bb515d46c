"""Segments into the SQLite store: every span once, and marked as assembled."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from afterglow.counts import Counts
from afterglow.errors import SinkError, SinkUnavailableError
from afterglow.sink.project_files import ProjectFiles, project_path
from afterglow.sink.store import StoreSink, StoreSinks
from afterglow.store.read import Database
from tests.sink.payloads import START_NS, buffered, part_with


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "afterglow.db"


def written(path: Path, *pages: list[object], **arguments: object) -> None:
    sink = StoreSink(path, **arguments)  # type: ignore[arg-type]
    for page in pages:
        sink.write(page)  # type: ignore[arg-type]
    sink.close()
    sink.close()


def test_spans_are_there_with_all_they_have(path: Path) -> None:
    root = buffered(1, kind=2, flags=1, end=100, attributes={"http.route": "/", "n": 3})
    child = buffered(2, 1, start=10, end=40, name="query")
    written(path, [part_with([root, child])])
    with Database(path) as database:
        first, second = database.spans()
        (tree,) = database.traces()
        (run,) = database.runs()
        (audit,) = database.audit()
        walked = [(node.span.name, node.self_ns) for _, node in tree.walk()]
    assert (first.name, first.kind, first.start_ns) == ("work", "server", START_NS)
    assert first.attributes == {"http.route": "/", "n": 3} and first.scope == "lib"
    assert second.parent_span_id == first.span_id
    assert walked == [("work", 70), ("query", 30)]
    assert (run.argv, run.state, run.spans) == (("shop",), "received", 2)
    assert run.start_ns == START_NS and run.end_ns == START_NS + 100
    assert audit.agrees and audit.ledger["recorded"] == audit.found == 2


def test_a_page_that_is_delivered_again_changes_nothing(path: Path) -> None:
    page = [part_with([buffered(1), buffered(2, 1)]), part_with([buffered(1, trace=2)])]
    written(path, page, page)
    written(path, page)
    with Database(path) as database:
        assert len(list(database.spans())) == 3
        _, rows = database.query("SELECT spans, unreadable FROM segments ORDER BY trace_id")
        assert list(rows) == [(2, 0), (1, 0)]
        assert all(audit.agrees for audit in database.audit())


def test_each_project_has_its_file(path: Path) -> None:
    written(path, [part_with([buffered(1)]), part_with([buffered(1, name="b", project="b")])])
    names = []
    for file in (path, path.with_name("afterglow.b.db")):
        with Database(file) as database:
            names.append([span.name for span in database.spans()])
    assert names == [["work"], ["b"]]


def test_only_so_many_files_stay_open(path: Path) -> None:
    files = ProjectFiles(path, most_open=2)
    sink = StoreSink(files)
    for _ in range(2):
        for number in range(4):
            sink.write([part_with([buffered(number + 1, project=f"p{number}")])])
            assert len(files._files) <= 2
    files.close()
    for number in range(4):
        with Database(project_path(path, f"p{number}")) as database:
            assert len(list(database.spans())) == 1


@pytest.mark.parametrize("project", ["", ".", "../x", "a/b", "a\0b", "x" * 65, "ü"])
def test_a_project_is_no_way_out_of_the_folder(path: Path, project: str) -> None:
    with pytest.raises(SinkError, match="no name of a project") as caught:
        written(path, [part_with([buffered(1, project=project)])])
    assert not isinstance(caught.value, SinkUnavailableError)


def test_what_cannot_be_decoded_is_counted_and_the_rest_is_stored(path: Path) -> None:
    counts, said = Counts(), []
    bad = buffered(2)._replace(payload=b"\xff")
    empty = buffered(3)._replace(payload=b"")
    page = [part_with([buffered(1), bad, empty])]
    written(path, page, page, counts=counts, report=said.append)
    with Database(path) as database:
        assert [span.span_id for span in database.spans()] == [1]
        assert list(database.query("SELECT spans, unreadable FROM segments")[1]) == [(3, 2)]
    assert len(said) == 1 and "2 spans" in said[0]
    assert counts.total("sink_dropped_spans") == 4  # each time it is delivered


@pytest.mark.parametrize("content", [b"no database" * 20, b"\0" * 8192])
def test_spans_wait_for_a_file_that_is_not_right(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sink = StoreSink(path)
    page = [part_with([buffered(1)])]
    with pytest.raises(SinkUnavailableError, match=r"afterglow\.db"):
        sink.write(page)
    assert path.read_bytes() == content
    path.unlink()
    sink.write(page)
    sink.close()
    with Database(path) as database:
        assert len(list(database.spans())) == 1


def test_a_flusher_process_makes_its_own(path: Path) -> None:
    sinks = pickle.loads(pickle.dumps(StoreSinks(str(path))))
    sink = sinks(0)
    sink.write([part_with([buffered(1)])])
    sink.close()
    assert path.exists()
