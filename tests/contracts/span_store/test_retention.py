"""Retention forgets the same traces wherever they are, and what it forgot goes on counting."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest

from afterglow.config import RetentionConfig
from afterglow.keep.standing import find_trace, standing
from afterglow.model.segment import SegmentPart
from afterglow.testing import ManualClock
from scripts.postgres import Postgres
from tests.contracts.span_store.stores import FileStore, ServerStore, SpanStore, fill
from tests.sink.payloads import START_NS, buffered, part_with

HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS
MS = 1_000_000
CONFIG = RetentionConfig(keep_slow_after=20, keep_routine_after=60)


def traffic(chance: random.Random, first: int, count: int, at_ns: int) -> list[SegmentPart]:
    """Traces that end at about `at_ns`: most quick, some slow, some failed, some linked."""
    parts = []
    for trace in range(first, first + count):
        ms = chance.choice([10] * 20 + [400])
        end = at_ns - START_NS - chance.randrange(10**9)
        start = end - ms * MS
        links: list[Any] = []
        if trace > 1 and chance.random() < 0.1:
            links = [{"trace_id": (trace - 1).to_bytes(16), "span_id": (1).to_bytes(8)}]
        name, failed = chance.choice(["GET /"] * 3 + ["POST"]), chance.choice([0] * 15 + [2])
        spans = [
            buffered(
                1, trace=trace, start=start, end=end, name=name, kind=2, links=links,
                status={"code": failed},
            )
        ]  # fmt: skip
        spans += [
            buffered(kid, 1, trace=trace, start=start, end=start + MS, name=f"kid {kid}")
            for kid in range(2, 2 + chance.randrange(4))
        ]
        parts.append(part_with(spans))
    return parts


def found_in(store: SpanStore) -> set[int]:
    with store.open() as opened:
        return {span.trace_id for span in opened.spans()}


def books(store: SpanStore, project: str = "default") -> tuple[int, int, int]:
    """Spans stored, found, and forgotten."""
    with store.open(project) as opened:
        audits = opened.audit()
    assert all(audit.agrees for audit in audits)
    return (
        sum(audit.ledger["written"] for audit in audits),
        sum(audit.found for audit in audits),
        sum(sum(audit.forgotten.values()) for audit in audits),
    )


def live(store: SpanStore, *, days: int, seed: int, config: RetentionConfig) -> list[Any]:
    """Some days of traffic with passes by hand; what each day leaves."""
    chance = random.Random(seed)
    clock = ManualClock(wall_ns=START_NS)
    left: list[Any] = []
    for day in range(days):
        clock.advance_s(DAY_NS / 1e9)
        fill(store, traffic(chance, 1 + day * 60, 60, clock.wall_ns()))
        with store.keeper(config, clock) as keeper:
            done = keeper.step()
            stand = standing(keeper, clock.wall_ns(), limit=3)
            moment = keeper.read([]).moment
        with store.open() as opened:
            statistics = opened.statistics()
        left.append(
            (
                sorted(found_in(store)), done.forgotten, done.entered,
                {kind.kind: (kind.traces, kind.spans, kind.errors) for kind in stand.kinds},
                stand.forgotten, stand.forgotten_spans, stand.due, statistics, moment.tick,
                [(t.trace_id, t.kind, t.why, t.strength, t.goes_ns) for t in stand.next_to_go],
            )
        )  # fmt: skip
        stored, found, forgotten = books(store)
        assert stored == found + forgotten
    return left


@pytest.mark.parametrize("quota", [1_000_000, 150])
def test_both_stores_forget_the_same(quota: int, postgres_server: Postgres) -> None:
    config = RetentionConfig(
        keep_slow_after=20, keep_routine_after=60, keep_normal_half_days=0.5, keep_max_traces=quota
    )
    with tempfile.TemporaryDirectory() as folder:
        there = ServerStore(postgres_server.new_database())
        file, server = (
            live(store, days=14, seed=quota, config=config)
            for store in (FileStore(Path(folder)), there)
        )
    for day, (one, other) in enumerate(zip(file, server, strict=True)):
        assert one == other, day
    assert server[-1][4]["faded" if quota > 1_000 else "quota"] > 100


def test_statistics_go_on_counting(store: SpanStore) -> None:
    clock = ManualClock(wall_ns=START_NS)
    fill(store, traffic(random.Random(1), 1, 40, START_NS))
    with store.open() as opened:
        before, (run,) = opened.statistics(), opened.runs()
    clock.advance_s(200 * 86_400)
    with store.keeper(CONFIG, clock) as keeper:
        keeper.step()
        clock.advance_s(200 * 86_400)
        done = keeper.step()
    assert done.forgotten.traces == 40 and found_in(store) == set()
    with store.open() as opened:
        assert opened.statistics() == before == opened.statistics(run=run.run_id)
        assert opened.runs() == [run]
    stored, found, forgotten = books(store)
    assert found == 0 and stored == forgotten == done.forgotten.spans


def test_a_pinned_trace_stays_until_it_is_not(store: SpanStore) -> None:
    clock = ManualClock(wall_ns=START_NS)
    fill(store, traffic(random.Random(2), 1, 10, START_NS))
    config = RetentionConfig(keep_max_traces=3)
    with store.keeper(config, clock) as keeper:
        keeper.step(forget=False)
        trace = find_trace(keeper.spans, f"{7:032x}")
        assert keeper.pin(trace) is False and keeper.pin(trace) is True
        assert keeper.step().forgotten.traces == 7
        clock.advance_s(1_000 * 86_400)
        keeper.step()
        assert found_in(store) == {7}
        assert keeper.pin(trace, False) is True
        clock.advance_s(1_000 * 86_400)
        keeper.step()
    assert found_in(store) == set()


def test_one_is_forgotten_when_somebody_says_so(store: SpanStore) -> None:
    clock = ManualClock(wall_ns=START_NS)
    fill(store, traffic(random.Random(3), 1, 3, START_NS))
    with store.keeper(CONFIG, clock) as keeper:
        keeper.step()
        spans = keeper.forget(f"{2:032x}").spans
        again = keeper.forget(f"{2:032x}").spans
    assert found_in(store) == {1, 3} and spans > 0 == again
    with store.open() as opened:
        (audit,) = opened.audit()
    assert audit.forgotten == {"asked": spans}


def test_what_is_looked_at_stays_longer(store: SpanStore) -> None:
    clock = ManualClock(wall_ns=START_NS)
    fill(store, traffic(random.Random(4), 1, 5, START_NS))
    with store.keeper(CONFIG, clock) as keeper:
        keeper.step()
        clock.advance_s(5 * 86_400)
        assert keeper.reinforce([f"{1:032x}", f"{99:032x}"]) == 1
        strengths = {
            t.trace_id: t.strength for t in standing(keeper, clock.wall_ns(), limit=9).strongest
        }
    assert max(strengths, key=lambda trace: strengths[trace]) == f"{1:032x}"


def test_spans_of_a_forgotten_trace_make_it_anew(store: SpanStore) -> None:
    clock = ManualClock(wall_ns=START_NS)
    fill(store, [part_with([buffered(1), buffered(2, 1)])])
    with store.keeper(CONFIG, clock) as keeper:
        keeper.step()
        keeper.forget(f"{1:032x}")
        fill(store, [part_with([buffered(3, 1)], addendum=True)])
        assert keeper.step().entered == 1
    assert books(store) == (3, 1, 2)
    with store.open() as opened:
        (tree,) = opened.traces()
        assert tree.span.span_id == 3


def test_projects_are_kept_apart(store: SpanStore) -> None:
    clock = ManualClock(wall_ns=START_NS)
    fill(store, [part_with([buffered(1, project=project)]) for project in ("default", "other")])
    with store.keeper(CONFIG, clock) as keeper, store.keeper(CONFIG, clock, "other") as other:
        keeper.step()
        other.step()
        keeper.forget(f"{1:032x}")
        other.step()
    assert books(store) == (1, 0, 1) and books(store, "other") == (1, 1, 0)


def test_many_keepers_let_time_count_once(store: SpanStore) -> None:
    clock = ManualClock(wall_ns=START_NS)
    fill(store, traffic(random.Random(5), 1, 30, START_NS))
    with store.keeper(CONFIG, clock) as one, store.keeper(CONFIG, clock) as two:
        one.step()
        clock.advance_s(3_600)
        for keeper in (one, two, one):
            keeper.step()
        assert one.read([]).moment.tick == two.read([]).moment.tick == 60
        clock.advance_s(1_000 * 86_400)
        gone = [keeper.step().forgotten.traces for keeper in (two, one)]
    assert gone == [30, 0]
    stored, found, forgotten = books(store)
    assert found == 0 and stored == forgotten
