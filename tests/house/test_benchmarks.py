"""The benchmarks run, and say what was measured; what things cost is not for a test to judge."""

from __future__ import annotations

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
