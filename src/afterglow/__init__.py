"""Afterglow: span tracing for Python that never blocks the program it watches.

    import afterglow

    tracer = afterglow.Tracer("afterglow.db")
    with tracer.span("work", user=42):
        ...

Everything here is loaded when it is first used; `import afterglow` alone costs next to nothing.

PYTEST_DONT_REWRITE: this package brings a pytest plugin, and may be there before pytest is
(`afterglow run -m pytest`); without this word pytest would warn that it came too early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afterglow.version import VERSION as __version__

if TYPE_CHECKING:
    from afterglow import logs as logs
    from afterglow import middleware as middleware
    from afterglow.errors import AfterglowError as AfterglowError
    from afterglow.keep.entry import Entry as Entry
    from afterglow.keep.error_recorder import ErrorRecorder as ErrorRecorder
    from afterglow.keep.flush import FlushReport as FlushReport
    from afterglow.keep.profile import Kind as Kind
    from afterglow.keep.profile import Profile as Profile
    from afterglow.keeping import TraceStore as TraceStore
    from afterglow.keeping import last_decay_cycle as last_decay_cycle
    from afterglow.model.span import Span as FinishedSpan
    from afterglow.profiling import Profiler as Profiler
    from afterglow.profiling import Report as Report
    from afterglow.record.span import Span as Span
    from afterglow.wiring import Tracer as Tracer
    from afterglow.wiring import open_database as open

__all__ = [
    "AfterglowError",
    "Entry",
    "ErrorRecorder",
    "FinishedSpan",
    "FlushReport",
    "Kind",
    "Profile",
    "Profiler",
    "Report",
    "Span",
    "TraceStore",
    "Tracer",
    "__version__",
    "last_decay_cycle",
    "logs",
    "middleware",
    "open",
]

_HOMES = {
    "ErrorRecorder": ("afterglow.keep.error_recorder", "ErrorRecorder"),
    "AfterglowError": ("afterglow.errors", "AfterglowError"),
    "Entry": ("afterglow.keep.entry", "Entry"),
    "FinishedSpan": ("afterglow.model.span", "Span"),
    "FlushReport": ("afterglow.keep.flush", "FlushReport"),
    "Kind": ("afterglow.keep.profile", "Kind"),
    "Profile": ("afterglow.keep.profile", "Profile"),
    "Profiler": ("afterglow.profiling", "Profiler"),
    "Report": ("afterglow.profiling", "Report"),
    "Span": ("afterglow.record.span", "Span"),
    "TraceStore": ("afterglow.keeping", "TraceStore"),
    "Tracer": ("afterglow.wiring", "Tracer"),
    "logs": ("afterglow.logs", ""),
    "middleware": ("afterglow.middleware", ""),
    "last_decay_cycle": ("afterglow.keeping", "last_decay_cycle"),
    "open": ("afterglow.wiring", "open_database"),
}


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    import importlib

    home = importlib.import_module(module)
    value = getattr(home, attribute) if attribute else home
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
