"""A log record as plain, bounded values: taken where it was logged, made text elsewhere.

`capture` runs in the thread that logs: it reads no file (so no source lines) and keeps no frame,
exception or argument alive. `described` makes the payload, in the worker's thread.
"""

from __future__ import annotations

import linecache
import logging
from itertools import islice
from traceback import walk_tb
from typing import Any, Final, NamedTuple

__all__ = ["Captured", "capture", "described", "fingerprint"]

_LONGEST_MESSAGE: Final = 4_000
_LONGEST_TRACEBACK: Final = 16_000
_MOST_FRAMES: Final = 40
_MOST_CAUSES: Final = 5


class Place(NamedTuple):
    """A line of a traceback."""

    file: str
    line: int | None
    function: str


class Raised(NamedTuple):
    """One exception of a chain; the frames nearest to where it was raised, the nearest last."""

    kind: str
    message: str
    places: tuple[Place, ...]
    left_out: int


class Captured(NamedTuple):
    """What is kept of a log record."""

    component: str
    critical: bool
    message: str
    logger: str
    level: str
    place: Place
    thread: str
    created_at: int
    #: The exception that was logged, then what it came from.
    raised: tuple[Raised, ...]


def fingerprint(record: logging.LogRecord) -> tuple[object, ...]:
    """What two records have in common if one repeats the other.

    With an exception its type and the message's template tell them apart, else the line that
    logged; the arguments do not.
    """
    error = _error_of(record)
    if error is None:
        return record.name, record.levelno, record.pathname, record.lineno
    template = record.msg if isinstance(record.msg, str) else type(record.msg)
    return record.name, record.levelno, type(error), template


def capture(record: logging.LogRecord) -> Captured:
    """See the module."""
    component = getattr(record, "component", None) or record.name
    return Captured(
        component=_text(component, 200),
        critical=record.levelno >= logging.CRITICAL,
        message=_message(record),
        logger=_text(record.name, 200),
        level=_text(record.levelname, 50),
        place=Place(_text(record.pathname, 1_000), record.lineno, _text(record.funcName, 200)),
        thread=_text(record.threadName, 200),
        created_at=int(record.created * 1e9),
        raised=_chain(_error_of(record)),
    )


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if isinstance(record.exc_info, tuple) else None


def _message(record: logging.LogRecord) -> str:
    try:
        return _text(record.getMessage(), _LONGEST_MESSAGE)
    except Exception:  # noqa: BLE001  arguments that do not fit, or a __str__ of the program's
        return f"{_text(record.msg, _LONGEST_MESSAGE)} (its arguments do not fit it)"


def _text(value: object, longest: int) -> str:
    """At most so many characters, all of which UTF-8 can carry."""
    try:
        text = value if type(value) is str else str(value)
    except Exception:  # noqa: BLE001  a __str__ of the program's
        text = f"({type(value).__qualname__} that has no text)"
    if len(text) > longest:
        text = f"{text[:longest]} ... {len(text) - longest:,} more characters"
    return text.encode("utf-8", "backslashreplace").decode()


def _chain(error: BaseException | None) -> tuple[Raised, ...]:
    found: list[Raised] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen and len(found) < _MOST_CAUSES:
        seen.add(id(error))
        found.append(_raised(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return tuple(found)


def _raised(error: BaseException) -> Raised:
    frames = list(islice(walk_tb(error.__traceback__), 10_000))
    places = tuple(
        Place(_text(code.co_filename, 1_000), line, _text(code.co_qualname, 200))
        for code, line in ((frame.f_code, line) for frame, line in frames[-_MOST_FRAMES:])
    )
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    return Raised(
        _text(name, 300), _text(error, _LONGEST_MESSAGE), places, len(frames) - len(places)
    )


# --- in the worker --------------------------------------------------------------------------


def described(captured: Captured) -> dict[str, Any]:
    """The payload of its entry; the traceback has source lines where files can be read."""
    payload: dict[str, Any] = {
        "message": captured.message,
        "logger": captured.logger,
        "level": captured.level,
        "file": captured.place.file,
        "line": captured.place.line,
        "function": captured.place.function,
        "thread": captured.thread,
    }
    if captured.raised:
        first = captured.raised[0]
        payload["exception"] = {"type": first.kind, "message": first.message}
        payload["traceback"] = _traceback(captured.raised)
    return payload


def _traceback(chain: tuple[Raised, ...]) -> str:
    """As Python prints it, the cause first; of a long text the end stays."""
    lines: list[str] = []
    for raised in reversed(chain):
        if lines:
            lines.append("")
        if raised.left_out:
            lines.append(f"  ({raised.left_out:,} calls left out)")
        for place in raised.places:
            lines.append(f'  File "{place.file}", line {place.line}, in {place.function}')
            source = linecache.getline(place.file, place.line or 0).strip()
            lines += [f"    {_text(source, 200)}"] if source else []
        lines.append(f"{raised.kind}: {raised.message}")
    text = "\n".join(lines)
    if len(text) <= _LONGEST_TRACEBACK:
        return text
    return f"({len(text) - _LONGEST_TRACEBACK:,} characters left out)\n{text[-_LONGEST_TRACEBACK:]}"
