"""Recording, the writer, journals, and `afterglow run`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from afterglow.config.setting import Setting

__all__ = ["JournalConfig", "Overflow", "RecordConfig", "RunConfig", "WriteConfig"]

Overflow = Literal["drop_newest", "drop_oldest", "block"]

_GIB = 1 << 30
_MIB = 1 << 20


class RecordConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Recording, inside the program."""

    enabled: Annotated[
        bool,
        Setting("", "Off makes every span a shared no-op.", ("AFTERGLOW_ENABLED",)),
    ] = True
    sample_ratio: Annotated[
        float,
        Setting(
            "share of traces",
            "Decided at the root from the trace id, so that services agree; 1 records all.",
            ("AFTERGLOW_SAMPLE_RATIO",),
            0.0,
            1.0,
        ),
    ] = 1.0
    parent_based: Annotated[
        bool,
        Setting(
            "",
            "A trace begun elsewhere follows its caller's decision (the sampled flag).",
            ("AFTERGLOW_PARENT_BASED",),
        ),
    ] = True
    max_spans_per_second: Annotated[
        float | None,
        Setting(
            "spans/s",
            "A token bucket, asked at the root; what it refuses is counted. None: no bound.",
            ("AFTERGLOW_MAX_SPANS_PER_SECOND",),
            0.0,
            1e9,
        ),
    ] = None
    max_attributes: Annotated[
        int,
        Setting(
            "attributes",
            "The OpenTelemetry default; of too many, the last set stay.",
            ("AFTERGLOW_MAX_ATTRIBUTES", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
             "OTEL_ATTRIBUTE_COUNT_LIMIT"),
            0,
            100_000,
        ),
    ] = 128  # fmt: skip
    max_attribute_length: Annotated[
        int | None,
        Setting(
            "characters",
            "Longer strings are cut; None: no bound, as OpenTelemetry has it.",
            ("AFTERGLOW_MAX_ATTRIBUTE_LENGTH", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
             "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
            0,
            1 << 31,
        ),
    ] = None  # fmt: skip
    max_events: Annotated[
        int,
        Setting(
            "events",
            "The OpenTelemetry default; the oldest go first.",
            ("AFTERGLOW_MAX_EVENTS", "OTEL_SPAN_EVENT_COUNT_LIMIT"),
            0,
            100_000,
        ),
    ] = 128
    max_links: Annotated[
        int,
        Setting(
            "links",
            "The OpenTelemetry default; the oldest go first.",
            ("AFTERGLOW_MAX_LINKS", "OTEL_SPAN_LINK_COUNT_LIMIT"),
            0,
            100_000,
        ),
    ] = 128
    follow_threads: Annotated[
        bool,
        Setting(
            "",
            "Threads and executor jobs start under the span that started them, as asyncio "
            "tasks do by themselves.",
            ("AFTERGLOW_FOLLOW_THREADS",),
        ),
    ] = True
    service_name: Annotated[
        str,
        Setting(
            "",
            "service.name of the resource; empty: the program's own name.",
            ("AFTERGLOW_SERVICE_NAME", "OTEL_SERVICE_NAME"),
        ),
    ] = ""


class WriteConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The hand-over and the writer thread."""

    max_queue_size: Annotated[
        int,
        Setting(
            "spans",
            "Bounds the memory that waiting spans take (about 0.5 KB each).",
            ("AFTERGLOW_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_QUEUE_SIZE"),
            1,
            100_000_000,
        ),
    ] = 131_072
    overflow: Annotated[
        Overflow,
        Setting(
            "",
            "What a full queue does; only block makes the program wait.",
            ("AFTERGLOW_OVERFLOW",),
        ),
    ] = "drop_newest"
    batch_size: Annotated[
        int,
        Setting(
            "spans",
            "So many waiting spans are written at once, before the interval is over. Small "
            "enough that building the batch stalls nobody, large enough to pay for it.",
            ("AFTERGLOW_BATCH_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
            1,
            1_000_000,
        ),
    ] = 2_048
    flush_interval_s: Annotated[
        float,
        Setting(
            "s",
            "What a kill -9 can cost at most; shorter batches compress less.",
            ("AFTERGLOW_FLUSH_INTERVAL_S", "OTEL_BSP_SCHEDULE_DELAY"),
            0.001,
            3_600.0,
            env_ms=("OTEL_BSP_SCHEDULE_DELAY",),
        ),
    ] = 0.5
    shutdown_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "close() waits as long as writing makes progress; this counts stalled time only.",
            ("AFTERGLOW_SHUTDOWN_TIMEOUT_S",),
            0.0,
            3_600.0,
        ),
    ] = 5.0


class JournalConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The files that a process writes."""

    max_journal_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "Where nobody reads, the oldest closed journals go beyond this; counted.",
            ("AFTERGLOW_MAX_JOURNAL_BYTES",),
            1 * _MIB,
            1 << 50,
        ),
    ] = 1 * _GIB
    journal_file_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A process begins a new journal after so many, so that read ones can go.",
            ("AFTERGLOW_JOURNAL_FILE_BYTES",),
            64 * 1024,
            1 << 40,
        ),
    ] = 64 * _MIB


class RunConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`afterglow run`: spans without the user's help."""

    database: Annotated[
        str,
        Setting("path", "The file that a person names; .db.d beside it holds the journals.",
                ("AFTERGLOW_DATABASE",)),
    ] = "afterglow.db"  # fmt: skip
    include: Annotated[
        tuple[str, ...],
        Setting(
            "globs",
            "Modules or paths to trace besides the user's own code.",
            ("AFTERGLOW_INCLUDE",),
        ),
    ] = ()
    exclude: Annotated[
        tuple[str, ...],
        Setting("globs", "Modules or paths never to trace.", ("AFTERGLOW_EXCLUDE",)),
    ] = ()
    collapse: Annotated[
        bool,
        Setting(
            "",
            "Functions called very often that take next to nothing become counts.",
            ("AFTERGLOW_COLLAPSE",),
        ),
    ] = True
    collapse_calls: Annotated[
        int,
        Setting(
            "calls",
            "A function is looked at after so many calls ...",
            ("AFTERGLOW_COLLAPSE_CALLS",),
            1,
            1_000_000_000,
        ),
    ] = 1_000
    collapse_below_us: Annotated[
        float,
        Setting(
            "us",
            "... and becomes a count when its mean call is shorter than this.",
            ("AFTERGLOW_COLLAPSE_BELOW_US",),
            0.0,
            1e9,
        ),
    ] = 20.0
