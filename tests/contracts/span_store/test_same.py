"""The same segments, however they come, give the same statistics, trees, self times and books."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.postgres import Postgres
from tests.contracts.span_store.forests import deliveries, traces
from tests.contracts.span_store.stores import FileStore, ServerStore, SpanStore, fill, seen
from tests.sink.payloads import START_NS, buffered, part_with

ROOT = buffered(1, end=100, kind=2, attributes={"http.route": "/", "n": 3})
CHILD = buffered(2, 1, start=10, end=40, name="query")
LATE = buffered(3, 1, start=30, end=60, name="query", status={"code": 2})
BELOW = buffered(4, 2, start=15, end=20, name="parse")


@given(data=st.data())
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_both_stores_say_the_same_of_what_came_in_any_order(
    data: st.DataObject, postgres_server: Postgres
) -> None:
    forest = data.draw(traces())
    whole = [[part_with(spans) for spans in forest]]
    found = []
    for pages in (whole, data.draw(deliveries(forest))):
        with tempfile.TemporaryDirectory() as folder:
            for store in (FileStore(Path(folder)), ServerStore(postgres_server.new_database())):
                fill(store, *pages)
                found.append(seen(store))
    for other in found[1:]:
        assert other == found[0]


def test_spans_are_there_with_all_they_have(store: SpanStore) -> None:
    fill(store, [part_with([ROOT, CHILD])])
    with store.open() as opened:
        spans = sorted(opened.spans(), key=lambda span: span.span_id)
        (tree,) = opened.traces()
        (run,) = opened.runs()
        (audit,) = opened.audit()
        walked = [(node.span.name, node.self_ns) for _, node in tree.walk()]
    first, second = spans
    assert (first.name, first.kind, first.start_ns) == ("work", "server", START_NS)
    assert first.attributes == {"http.route": "/", "n": 3} and first.scope == "lib"
    assert second.parent_span_id == first.span_id
    assert walked == [("work", 70), ("query", 30)]
    assert (run.argv, run.state, run.spans) == (("shop",), "received", 2)
    assert run.start_ns == START_NS and run.end_ns == START_NS + 100
    assert audit.agrees and audit.ledger["recorded"] == audit.found == 2


def test_an_addendum_corrects_self_times_and_trees(store: SpanStore) -> None:
    fill(store, [part_with([ROOT, CHILD])], [part_with([LATE, BELOW], addendum=True)])
    with store.open() as opened:
        (tree,) = opened.traces()
        walked = [(d, node.span.span_id, node.self_ns) for d, node in tree.walk()]
        by_name = {s.name: (s.count, s.self_ns, s.errors) for s in opened.statistics()}
    assert walked == [(0, 1, 50), (1, 2, 25), (2, 4, 5), (1, 3, 30)]
    assert by_name == {"work": (1, 50, 0), "query": (2, 55, 1), "parse": (1, 5, 0)}


def test_children_that_came_before_their_parent_find_it(store: SpanStore) -> None:
    fill(store, [part_with([BELOW])], [part_with([LATE, CHILD])])
    with store.open() as opened:
        assert {tree.span.span_id for tree in opened.traces()} == {2, 3}
    fill(store, [part_with([ROOT])])
    with store.open() as opened:
        (tree,) = opened.traces()
        assert [(node.span.span_id, node.self_ns) for _, node in tree.walk()] == [
            (1, 50), (2, 25), (4, 5), (3, 30),
        ]  # fmt: skip


def test_projects_never_mix(store: SpanStore) -> None:
    other = buffered(1, end=7, name="theirs", project="other", service="mail")
    fill(store, [part_with([ROOT, CHILD]), part_with([other])], [part_with([other])])
    with store.open() as opened:
        assert {s.name for s in opened.statistics()} == {"work", "query"}
        assert len(opened.audit()) == 1
    with store.open("other") as opened:
        (span,) = opened.spans()
        (audit,) = opened.audit()
        (tree,) = opened.traces()
        assert span.name == tree.span.name == "theirs" and audit.found == 1
        assert tree.self_ns == 7


def test_a_trace_over_two_processes_begins_in_each(store: SpanStore) -> None:
    far = buffered(2, 1, start=10, end=40, name="far", service="mail", kind=2, flags=0x300)
    fill(store, [part_with([far])], [part_with([ROOT])])
    with store.open() as opened:
        (whole,) = opened.traces()
        (mail,) = [run.run_id for run in opened.runs() if run.argv == ("mail",)]
        (part,) = opened.traces(run=mail)
        assert [node.span.name for _, node in whole.walk()] == ["work", "far"]
    assert part.span.name == "far"


def test_values_that_databases_have_trouble_with_come_back(store: SpanStore) -> None:
    odd = "a\0b\x1ac\t\\ \n\r\u2028 \\u0000 \U0001f600 '\""
    span = buffered(
        1, name=odd, attributes={odd: odd, "big": (1 << 63) - 1}, service="shop\x1a",
        trace_state="k=\\", status={"code": 2, "message": odd},
        dropped_attributes_count=(1 << 32) - 1,
    )  # fmt: skip
    fill(store, [part_with([span])])
    with store.open() as opened:
        (found,) = opened.spans()
        (run,) = opened.runs()
    assert (found.name, found.status_description, found.trace_state) == (odd, odd, "k=\\")
    assert found.attributes == {odd: odd, "big": (1 << 63) - 1}
    assert found.dropped_attributes == (1 << 32) - 1
    assert run.argv == ("shop\x1a",)
