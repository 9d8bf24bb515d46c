"""Settings of retention: which traces stay in the database, and how long."""

from __future__ import annotations

from typing import Annotated

import msgspec

from afterglow.config.setting import Setting

__all__ = ["RetentionConfig"]

_MIB = 1 << 20
_GIB = 1 << 30
_YEARS = 36_500.0


class RetentionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`afterglow keep`: how long recorded traces stay in the database (docs/retention.md)."""

    keep_max_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "The database stays within this: what would fade soonest goes first; counted.",
            ("AFTERGLOW_KEEP_MAX_BYTES",),
            4 * _MIB,
            1 << 50,
        ),
    ] = 1 * _GIB
    keep_max_traces: Annotated[
        int,
        Setting(
            "traces",
            "No more traces than this stay: what would fade soonest goes first; counted.",
            ("AFTERGLOW_KEEP_MAX_TRACES",),
            1,
            1_000_000_000,
        ),
    ] = 1_000_000
    keep_max_runs: Annotated[
        int,
        Setting(
            "runs",
            "The oldest runs of which every span is forgotten become one beyond this, with the sum "
            "of their books and figures.",
            ("AFTERGLOW_KEEP_MAX_RUNS",),
            1,
            100_000_000,
        ),
    ] = 10_000
    keep_when_read: Annotated[
        bool,
        Setting(
            "",
            "Every command that reads also fades and forgets, as `afterglow keep` does. Off: only "
            "those who ask for it forget anything.",
            ("AFTERGLOW_KEEP_WHEN_READ",),
        ),
    ] = False
    keep_interval_s: Annotated[
        float,
        Setting(
            "s",
            "How often `afterglow keep --follow` folds and fades.",
            ("AFTERGLOW_KEEP_INTERVAL_S",),
            0.1,
            86_400.0,
        ),
    ] = 10.0
    keep_error_half_days: Annotated[
        float,
        Setting(
            "days",
            "After so long, half the strength of a trace with an error is left.",
            ("AFTERGLOW_KEEP_ERROR_HALF_DAYS",),
            0.001,
            _YEARS,
        ),
    ] = 14.0
    keep_slow_half_days: Annotated[
        float,
        Setting(
            "days",
            "The same of a trace that took unusually long.",
            ("AFTERGLOW_KEEP_SLOW_HALF_DAYS",),
            0.001,
            _YEARS,
        ),
    ] = 7.0
    keep_normal_half_days: Annotated[
        float,
        Setting(
            "days",
            "The same of any other trace.",
            ("AFTERGLOW_KEEP_NORMAL_HALF_DAYS",),
            0.001,
            _YEARS,
        ),
    ] = 2.0
    keep_routine_half_days: Annotated[
        float,
        Setting(
            "days",
            "The same of a trace of which there are very many, and nothing strikes.",
            ("AFTERGLOW_KEEP_ROUTINE_HALF_DAYS",),
            0.001,
            _YEARS,
        ),
    ] = 0.5
    keep_errors: Annotated[
        bool,
        Setting(
            "",
            "A trace in which any span has status error is of kind error.",
            ("AFTERGLOW_KEEP_ERRORS",),
        ),
    ] = True
    keep_slow_after: Annotated[
        int,
        Setting(
            "traces",
            "What is slow is known for a name once it has so many traces ...",
            ("AFTERGLOW_KEEP_SLOW_AFTER",),
            1,
            1_000_000_000,
        ),
    ] = 100
    keep_slow_factor: Annotated[
        float,
        Setting(
            "times",
            "... and a trace is slow when it took so many times the median of its name, and was "
            "among its slowest hundredth.",
            ("AFTERGLOW_KEEP_SLOW_FACTOR",),
            1.0,
            1e6,
        ),
    ] = 3.0
    keep_routine_after: Annotated[
        int,
        Setting(
            "traces",
            "A trace is routine when its name has so many traces, and nothing strikes about it.",
            ("AFTERGLOW_KEEP_ROUTINE_AFTER",),
            1,
            1_000_000_000,
        ),
    ] = 1_000
    keep_tick_traces: Annotated[
        int | None,
        Setting(
            "traces",
            "Time by volume: so many new traces make a file as much older as a minute does. None: "
            "time is time.",
            ("AFTERGLOW_KEEP_TICK_TRACES",),
            1,
            1_000_000_000,
        ),
    ] = None
    keep_looks: Annotated[
        bool,
        Setting(
            "",
            "A trace that somebody looks at (report --tree), exports or links to is reinforced: it "
            "stays longer.",
            ("AFTERGLOW_KEEP_LOOKS",),
        ),
    ] = True
