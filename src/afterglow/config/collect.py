"""`afterglow serve` as a whole: where it keeps things, how it stops, what it says."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from afterglow.config.setting import Setting

__all__ = ["LogFormat", "LogLevel", "ServeConfig"]

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`afterglow serve`: where spans are kept, how it stops, and what it says (docs/collect.md)."""

    database: Annotated[
        str,
        Setting(
            "",
            "The SQLite file that received spans are kept in; other projects than `default` have "
            "files of their own beside it.",
            ("AFTERGLOW_DATABASE",),
            1,
            4_096,
        ),
    ] = "afterglow.db"
    store: Annotated[
        str | None,
        Setting(
            "URL",
            "Keep spans here instead of in a file: postgresql://HOST/DATABASE, or none: only send "
            "them on. None: in the file.",
            ("AFTERGLOW_SERVE_STORE",),
        ),
    ] = None
    folder: Annotated[
        str | None,
        Setting(
            "",
            "What must survive a restart beside the store: the journal of what was acknowledged, "
            "queues and books. None: DATABASE.collect.",
            ("AFTERGLOW_SERVE_FOLDER",),
        ),
    ] = None
    drain_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "Stopping takes no longer than this; what is not flushed then stays where it is safe.",
            ("AFTERGLOW_SERVE_DRAIN_TIMEOUT_S",),
            0.1,
            3_600.0,
        ),
    ] = 20.0
    retention: Annotated[
        bool,
        Setting(
            "",
            "Fold the journals of programs that record into the same file, let traces fade, and "
            "forget what has faded or has no room ([retention]: how long, how much).",
            ("AFTERGLOW_SERVE_RETENTION",),
        ),
    ] = True
    log_format: Annotated[
        LogFormat,
        Setting(
            "",
            "Lines for people, or one JSON object a line.",
            ("AFTERGLOW_SERVE_LOG_FORMAT",),
        ),
    ] = "text"
    log_level: Annotated[
        LogLevel,
        Setting(
            "",
            "The least that is said.",
            ("AFTERGLOW_SERVE_LOG_LEVEL",),
        ),
    ] = "info"
    log_lines_per_s: Annotated[
        float,
        Setting(
            "lines/s",
            "No more lines than this, over ten seconds; what is more is counted, and said.",
            ("AFTERGLOW_SERVE_LOG_LINES_PER_S",),
            0.1,
            100_000.0,
        ),
    ] = 20.0
    metrics: Annotated[
        bool,
        Setting(
            "",
            "Answer /metrics on the HTTP address.",
            ("AFTERGLOW_SERVE_METRICS",),
        ),
    ] = True
    check_timeout_s: Annotated[
        float,
        Setting(
            "s",
            "`--check` gives up on a server that has not answered within this.",
            ("AFTERGLOW_SERVE_CHECK_TIMEOUT_S",),
            0.1,
            600.0,
        ),
    ] = 5.0
