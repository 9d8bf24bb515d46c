"""An exception as plain values, without the I/O that source lines would cost the program."""

from __future__ import annotations

from types import TracebackType

from afterglow.clock import monotonic_ns
from afterglow.model.clean import safe_str
from afterglow.model.flat import FrameSummary, RecordedException
from afterglow.model.span import Attributes

__all__ = ["captured", "type_name"]

_MAX_FRAMES = 100  # the innermost ones; a recursion error has a thousand of the same


def type_name(kind: type[BaseException]) -> str:
    """OpenTelemetry's `exception.type`: qualified, but for the built-in ones."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def captured(
    exception: BaseException, *, escaped: bool, attributes: Attributes | None = None
) -> RecordedException:
    """What to remember of an exception, beside clean attributes; never raises."""
    return RecordedException(
        monotonic_ns(),
        type_name(type(exception)),
        safe_str(exception),
        _frames(exception.__traceback__),
        escaped,
        attributes or {},
    )


def _frames(traceback: TracebackType | None) -> tuple[FrameSummary, ...]:
    frames: list[FrameSummary] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append((code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return tuple(frames[-_MAX_FRAMES:])
