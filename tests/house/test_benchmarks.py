"""The benchmarks run, and say what was measured; what things cost is not for a test to judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness import Sample, children, interleaved
from benchmarks.table import Row, at_least, at_most, checks, table

pytestmark = pytest.mark.filterwarnings("default")


def test_subjects_take_turns_and_answer() -> None:
    with children(["floor", "afterglow"]) as running:
        for shape in ("plain", "attributes", "nested", "decorator"):
            found = interleaved(running, 2, "loop", shape=shape)
            assert all(sample is not None and sample.low > 0 for sample in found.values())
        assert set(interleaved(running, 1, "tasks", n=10)) == {"floor", "afterglow"}
        answer = running["afterglow"].ask("busy", rate=1_000, seconds=0.02)
        assert 0 < answer["p50"] <= answer["max"]
        assert running["afterglow"].ask("close")["lost"] == 0


def test_a_shape_that_a_subject_lacks_is_left_out() -> None:
    with children(["control"]) as running:
        assert interleaved(running, 1, "loop", shape="attributes") == {}


def test_durable_cpu_counts_what_is_lost() -> None:
    with children(["afterglow"]) as running:
        answer = running["afterglow"].ask("cpu", shape="plain", n=2_000)
    assert answer["lost"] == 0
    assert answer["ns"] > 0


def test_tables_show_ratios_and_verdicts() -> None:
    values = {"afterglow": Sample(1.0, 2.0), "otel": Sample(15.0, 24.0)}
    row = Row("a case", "us", dict(values), [at_most("x", 1.0, 0.5), at_least("y", 15, 15, " x")])
    assert "15.0 / 12.0" in table([row], ["afterglow", "otel"])[-1]
    assert [line.rstrip(" |").rsplit("| ", 1)[1] for line in checks([row])[2:]] == [
        "NOT MET",
        "met",
    ]


def test_the_trace_store_is_measured_at_every_size(tmp_path: Path) -> None:
    from benchmarks.keep.measure import QUICK, measure
    from benchmarks.keep.report import lines

    scale = replace(QUICK, sizes=(40, 80), stall_size=80, maintained_size=40, maintained_s=0.2)
    cases = {case.name: case for case in measure(scale, tmp_path)}
    flush = cases["flush, 1 entry changed"]
    assert set(flush.values) == set(flush.floor) == {40, 80}
    assert flush.notes == "entries 1, rows 3, encodes 1", "the same counters at each size"
    (kept,) = [case for name, case in cases.items() if name.startswith("maintained")]
    assert "0 wrong and 0 unreadable" in kept.notes
    assert sum("| met" in line or "NOT MET" in line for line in lines(list(cases.values()))) > 10


def test_the_span_buffer_is_measured_beside_its_floor(tmp_path: Path) -> None:
    from benchmarks.buffer.measure import QUICK, measure
    from benchmarks.buffer.report import checks, lines

    scale = replace(
        QUICK, n_spans=400, batches=(200,), together=(1,), n_spans_each=400, n_warm_up=400
    )
    results = measure(scale, tmp_path)
    assert sum(run.wrong for run in results.runs) + results.together[0].wrong == 0
    assert len(results.runs) == 10, "five workloads, in Redis and in memory"
    shuffled = results.of("redis", "20-span traces, shuffled", 400, 200)[0]
    assert shuffled.floor_add is not None and shuffled.floor_add.cost is not None
    assert shuffled.floor_add.cost.calls == shuffled.floor_add.commands, "nothing but SET"
    # What 400 spans take is less than a server's figure moves by itself: only that it is there.
    assert shuffled.add.cost is not None and len(shuffled.add.cost.memory_bytes) == 3
    assert sum("| met" in line or "NOT MET" in line for line in lines(results)) == 24
    assert checks(results)[0].met, "every span came out once"


def test_the_api_is_measured_on_every_provider() -> None:
    from benchmarks.api_subjects import MODES

    names = ["api-noop", *(f"api-{who}{mode}" for who in ("afterglow", "otel") for mode in MODES)]
    with children(names) as running:
        for shape in ("started", "plain", "five", "five_and_set", "nested"):
            assert set(interleaved(running, 1, "loop", shape=shape)) == set(names)
        running["api-afterglow"].ask("settle")
        assert running["api-afterglow"].ask("written")["bytes"] > 0
        assert running["api-afterglow"].ask("close")["made"] > 0
    with children(["native", "records-plain", "records-ids"]) as running:
        assert running["native"].ask("loop", shape="five", n=10)["ns"] > 0
        running.pop("native").end()
        assert interleaved(running, 1, "loop", shape="record_in_span")
