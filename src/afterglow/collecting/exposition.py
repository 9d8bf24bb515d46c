"""Prometheus's text format 0.0.4: the closed list of metrics, and how samples are written.

docs/metrics.md has them all; a test holds page, list and output together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from afterglow.counts import Labels
from afterglow.ledger import COLLECT_COUNTERS

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "Sample", "exposition"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metric(NamedTuple):
    """One name: what it counts or measures, and by which labels."""

    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    labels: Labels = ()


#: What `counts.Counts` has, by ledger.COLLECT_COUNTERS.
_COUNTED: Final = {
    "requests": ("Requests and polls, by how they ended.", ("face", "outcome")),
    "received_bytes": ("Bytes of bodies as they came.", ("face",)),
    "received_spans": ("Spans in bodies that could be read.", ("face",)),
    "accepted_spans": ("Spans that are safe here.", ("face",)),
    "refused_spans": ("Spans that their sender must send again.", ("face", "reason")),
    "dropped_spans": ("Spans that will never be kept.", ("face", "reason")),
    "changed_spans": ("Changes made to what was received.", ("kind",)),
    "sink_spans": ("Spans written, or sent and answered.", ("sink",)),
    "sink_queued_spans": ("Spans put into a queue on the disk.", ("sink",)),
    "sink_dropped_spans": ("Spans that a sink will never have.", ("sink", "reason")),
    "sink_retries": ("Times that a sink was away.", ("sink",)),
}

#: All that /metrics may say.
METRICS: Final[dict[str, Metric]] = {
    "afterglow_build_info": Metric("gauge", "1; which version runs.", ("version", "python")),
    "afterglow_ready": Metric("gauge", "1 if /readyz says so, else 0."),
    **{f"afterglow_{name}_total": Metric("counter", *_COUNTED[name]) for name in COLLECT_COUNTERS},
    "afterglow_buffer_up": Metric("gauge", "1 if the books of the buffer could be read, else 0."),
    "afterglow_buffer_ingested_spans_total": Metric(
        "counter", "Spans that the buffer took in, over restarts, of all that share it."
    ),
    "afterglow_buffer_delivered_spans_total": Metric(
        "counter", "Spans that sinks have, over restarts, of all that share the buffer."
    ),
    "afterglow_buffer_dropped_spans_total": Metric(
        "counter", "Spans that the buffer dropped, over restarts.", ("project", "reason")
    ),
    "afterglow_buffer_held_spans": Metric("gauge", "Spans that wait in the buffer."),
    "afterglow_buffer_held_bytes": Metric("gauge", "What counts towards max_held_bytes."),
    "afterglow_journal_bytes": Metric("gauge", "Size of the journal of what was acknowledged."),
    "afterglow_flusher_up": Metric("gauge", "1 if the flusher runs and answers.", ("flusher",)),
    "afterglow_flusher_deaths_total": Metric("counter", "Times that it died.", ("flusher",)),
    "afterglow_flusher_pages_total": Metric("counter", "Pages that it delivered.", ("flusher",)),
    "afterglow_flusher_parts_total": Metric("counter", "Parts of segments.", ("flusher",)),
    "afterglow_flusher_spans_total": Metric("counter", "Spans that it delivered.", ("flusher",)),
    "afterglow_flusher_payload_bytes_total": Metric("counter", "Bytes of them.", ("flusher",)),
    "afterglow_flusher_refused_spans_total": Metric(
        "counter", "Spans that a sink refused for ever.", ("flusher",)
    ),
    "afterglow_flusher_retries_total": Metric(
        "counter", "Times that sink or buffer were away.", ("flusher",)
    ),
    "afterglow_flusher_stale_parts_total": Metric(
        "counter", "Parts that another had taken over when they were done.", ("flusher",)
    ),
    "afterglow_flusher_released_parts_total": Metric(
        "counter", "Parts that it gave back.", ("flusher",)
    ),
    "afterglow_queue_spans": Metric("gauge", "Spans that wait on the disk to be sent.", ("sink",)),
    "afterglow_queue_bytes": Metric("gauge", "Bytes of them.", ("sink",)),
    "afterglow_store_bytes": Metric("gauge", "Size of the database files.", ("project",)),
    "afterglow_retention_passes_total": Metric("counter", "Passes of retention."),
    "afterglow_retention_forgotten_spans_total": Metric("counter", "Spans that it forgot."),
    "afterglow_log_lines_left_out_total": Metric("counter", "Lines of the log beyond its rate."),
    "process_cpu_seconds_total": Metric("counter", "CPU time of this process, without children."),
    "process_resident_memory_bytes": Metric("gauge", "Memory of this process."),
    "process_open_fds": Metric("gauge", "Open file descriptors of this process."),
    "process_max_fds": Metric("gauge", "The most that it may have."),
    "process_start_time_seconds": Metric("gauge", "When it began, in seconds since 1970."),
}


def exposition(samples: Iterable[Sample]) -> str:
    """The text of a scrape; each name once, with its help and type, in the order of the list.

    Raises KeyError for a name that the list has not.
    """
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        METRICS[sample.name]
        by_name.setdefault(sample.name, []).append(sample)
    lines: list[str] = []
    for name, metric in METRICS.items():
        if name in by_name:
            lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
            lines += [_line(sample) for sample in sorted(by_name[name], key=_by_labels)]
    return "\n".join(lines) + "\n"


def _by_labels(sample: Sample) -> Labels:
    return sample.labels


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
    value = sample.value
    number = str(int(value)) if value == int(value) else repr(float(value))
    return f"{sample.name}{{{labels}}} {number}" if labels else f"{sample.name} {number}"


def _escaped(value: str) -> str:
    safe = value.encode("utf-8", "backslashreplace").decode()
    return safe.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
