"""The closed list of metrics: page, list and output say the same; the text is Prometheus's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from afterglow.collecting.exposition import METRICS, Sample, exposition
from afterglow.collecting.process import process_samples
from afterglow.ledger import COLLECT_COUNTERS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `([a-z_]+)` \| (counter|gauge) \| ([^|]*) \|", re.MULTILINE)


def test_page_and_list_have_the_same_metrics() -> None:
    on_page = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(PAGE.read_text())
    }
    assert on_page == {name: (metric.kind, metric.labels) for name, metric in METRICS.items()}


def test_every_counter_of_the_ledger_is_a_metric() -> None:
    assert {f"afterglow_{name}_total" for name in COLLECT_COUNTERS} <= METRICS.keys()


def test_counters_end_in_total_and_gauges_do_not() -> None:
    for name, metric in METRICS.items():
        assert name.endswith("_total") == (metric.kind == "counter"), name


def test_each_name_comes_once_with_help_and_type() -> None:
    text = exposition(
        [
            Sample("afterglow_ready", 1),
            Sample("afterglow_sink_spans_total", 7, (("sink", "store"),)),
            Sample("process_cpu_seconds_total", 0.25),
            Sample("afterglow_sink_spans_total", 3, (("sink", "otlp"),)),
        ]
    )
    assert text.splitlines() == [
        "# HELP afterglow_ready 1 if /readyz says so, else 0.",
        "# TYPE afterglow_ready gauge",
        "afterglow_ready 1",
        "# HELP afterglow_sink_spans_total Spans written, or sent and answered.",
        "# TYPE afterglow_sink_spans_total counter",
        'afterglow_sink_spans_total{sink="otlp"} 3',
        'afterglow_sink_spans_total{sink="store"} 7',
        "# HELP process_cpu_seconds_total CPU time of this process, without children.",
        "# TYPE process_cpu_seconds_total counter",
        "process_cpu_seconds_total 0.25",
    ]
    assert text.endswith("\n")


def test_labels_are_escaped() -> None:
    text = exposition([Sample("afterglow_store_bytes", 1, (("project", 'a"b\\c\nd'),))])
    assert 'afterglow_store_bytes{project="a\\"b\\\\c\\nd"} 1' in text


def test_what_is_not_on_the_list_is_refused() -> None:
    with pytest.raises(KeyError):
        exposition([Sample("afterglow_something_else", 1)])


def test_this_process_is_measured() -> None:
    found = {sample.name: sample.value for sample in process_samples(1_500_000_000)}
    assert found["process_start_time_seconds"] == 1.5
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["process_open_fds"] >= 3
    assert found["process_max_fds"] >= found["process_open_fds"]
    assert found["process_cpu_seconds_total"] > 0
