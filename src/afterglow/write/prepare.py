"""Cleaning a batch before a sink sees it: names, attribute types, limits, exceptions.

All of it is done here, in the writer's thread, because it costs: the program's thread hands
over what it was given. A batch that is clean already (nearly all are) is only looked at, by
columns and in C; nothing is copied.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable
from itertools import chain
from types import NoneType
from typing import Any, Final

import msgspec

from afterglow.config import RecordConfig
from afterglow.model.clean import Count, clean_attributes, clean_name, clean_text, safe_str
from afterglow.model.flat import (
    ATTRIBUTES,
    EXTRA,
    NAME,
    PARENT_ID,
    WHERE,
    WIDTH,
    Extra,
    Flat,
    FlatLink,
    FrameSummary,
    RecordedException,
    RemoteId,
    exception_attributes,
)
from afterglow.model.run import Process
from afterglow.model.span import Attributes, Event

__all__ = ["cleaned_counts", "cleaned_process", "prepare", "scrub", "stacktrace"]

#: Types that every encoding carries as they are. Lists and mappings are looked into one by one.
_PLAIN: Final = frozenset((str, int, float, bool, bytes, NoneType))

_MAX_FRAMES: Final = 100
_MAX_REPEATS: Final = 3  # as Python prints a recursion


def prepare(flat: Flat, record: RecordConfig, count: Count) -> None:
    """Clean, in place, whatever a look at the types shows to be unclean."""
    if not flat:
        return
    names = flat[NAME::WIDTH]
    if set(map(type, names)) != {str}:
        flat[NAME::WIDTH] = [_name(name, count) for name in names]
    if RemoteId in set(map(type, flat[PARENT_ID::WIDTH])):
        _mark_remote_parents(flat)
    if not _all_plain(flat[ATTRIBUTES::WIDTH], record):
        for row in range(0, len(flat), WIDTH):
            if not _all_plain(flat[row + ATTRIBUTES : row + ATTRIBUTES + 1], record):
                _clean_row_attributes(flat, row, record, count)
    extras = flat[EXTRA::WIDTH]
    if any(extras):  # an Extra is always true
        _clean_extras(flat, extras, record, count)


def scrub(flat: Flat, record: RecordConfig, count: Count) -> None:
    """Clean every value, in place: a sink has said that it cannot encode one of them.

    Only the values know that they hold a lone surrogate or are beyond 64 bits; looking at each
    of them is for the batch that needs it.
    """
    for row in range(0, len(flat), WIDTH):
        flat[row + NAME] = _name(flat[row + NAME], count)
        _clean_row_attributes(flat, row, record, count)
        flat[row + WHERE] = _cleaned_where(flat[row + WHERE])
        extra: Extra | None = flat[row + EXTRA]
        if extra is not None:
            flat[row + EXTRA] = msgspec.structs.replace(
                extra,
                events=[_cleaned_event(e, record, count, scrub=True) for e in extra.events],
                links=[_cleaned_link(link, record, count, scrub=True) for link in extra.links],
                status_description=clean_text(extra.status_description),
                status_text=clean_text(extra.status_text),
                trace_state=clean_text(extra.trace_state),
                scope=clean_text(extra.scope),
                scope_version=clean_text(extra.scope_version),
            )


def cleaned_process(process: Process) -> Process:
    """A process whose texts are UTF-8: arguments of a program may be any bytes."""
    return msgspec.structs.replace(
        process,
        run_id=clean_text(process.run_id),
        argv=tuple(map(safe_str, process.argv)),
        host=clean_text(process.host),
        resource={_str(k): _str(v) for k, v in process.resource.items()},
    )


def cleaned_counts(counts: dict[str, int]) -> dict[str, int]:
    """Counts by name whose names are UTF-8."""
    return {_str(name): number for name, number in counts.items()}


# --- attributes ---------------------------------------------------------------------------


def _name(name: Any, count: Count) -> str:
    try:
        return clean_name(name, count)
    except BaseException:  # noqa: BLE001  see _str
        return f"<{type(name).__name__}>"


def _str(value: Any) -> str:
    # safe_str lets SystemExit and KeyboardInterrupt through, for the program's own threads. In
    # ours they would end nothing but the writing.
    try:
        return safe_str(value)
    except BaseException:  # noqa: BLE001
        return f"<{type(value).__name__}>"


def _all_plain(column: list[Any], record: RecordConfig) -> bool:
    """Whether all attributes of some spans can stay as they are; 30 ns a value."""
    try:
        # dict's own `values`, which raises for what is no dict.
        if not _PLAIN.issuperset(map(type, chain.from_iterable(map(dict.values, column)))):
            return False
        keys: set[Any] = set().union(*column)
    except BaseException:  # noqa: BLE001  nor does a key's own __eq__ have to behave
        return False
    if "" in keys or not {str}.issuperset(map(type, keys)):
        return False
    # No span has more attributes than all of them have keys, so that lengths are rarely asked.
    if len(keys) > record.max_attributes and max(map(len, column)) > record.max_attributes:
        return False
    length = record.max_attribute_length
    if length is None:
        return True
    values = chain.from_iterable(map(dict.values, column))
    return not any(type(v) in (str, bytes) and len(v) > length for v in values)


def _clean_row_attributes(flat: Flat, row: int, record: RecordConfig, count: Count) -> None:
    flat[row + ATTRIBUTES], dropped = _cleaned_attributes(flat[row + ATTRIBUTES], record, count)
    if dropped:
        extra = flat[row + EXTRA] = _own_extra(flat, row)
        extra.dropped_attributes += dropped


def _cleaned_attributes(
    attributes: Any, record: RecordConfig, count: Count
) -> tuple[Attributes, int]:
    try:
        return clean_attributes(
            attributes,
            count,
            max_attributes=record.max_attributes,
            max_value_length=record.max_attribute_length,
        )
    except BaseException:  # noqa: BLE001  a value's own methods may do anything; the span goes on
        lost = len(attributes) if type(attributes) is dict else 1
        count("attributes_dropped", lost)
        return {}, lost


def _cleaned_where(where: Any) -> tuple[Any, ...]:
    return tuple(clean_text(part) if isinstance(part, str) else part for part in where)


def _mark_remote_parents(flat: Flat) -> None:
    for row in range(0, len(flat), WIDTH):
        parent = flat[row + PARENT_ID]
        if type(parent) is RemoteId:
            extra = flat[row + EXTRA] = _own_extra(flat, row)
            extra.remote_parent = True
            extra.trace_state = extra.trace_state or parent.trace_state
            flat[row + PARENT_ID] = int(parent)


# --- events, links, exceptions --------------------------------------------------------------


def _own_extra(flat: Flat, row: int) -> Extra:
    """One to change: many spans of a scope share theirs."""
    extra: Extra | None = flat[row + EXTRA]
    return Extra() if extra is None else msgspec.structs.replace(extra)


def _clean_extras(
    flat: Flat, extras: list[Extra | None], record: RecordConfig, count: Count
) -> None:
    """Each once: the spans of a scope share one, and go on sharing it."""
    distinct = dict(zip(map(id, extras), extras, strict=True))
    cleaned = {
        at: extra
        if extra is None or _has_nothing_to_clean(extra)
        else _cleaned_extra(extra, record, count)
        for at, extra in distinct.items()
    }
    if any(cleaned[at] is not extra for at, extra in distinct.items()):
        flat[EXTRA::WIDTH] = list(map(cleaned.__getitem__, map(id, extras)))


def _has_nothing_to_clean(extra: Extra) -> bool:
    return not (extra.events or extra.exceptions or extra.links) and (
        type(extra.status_description) is str and type(extra.status_text) is str
    )


def _cleaned_extra(extra: Extra, record: RecordConfig, count: Count) -> Extra:
    events = [*extra.events, *map(_exception_event, extra.exceptions)]
    if extra.exceptions:
        events.sort(key=lambda event: event.time_ns)
    kept_events, lost_events = _newest(events, record.max_events)
    kept_links, lost_links = _newest(extra.links, record.max_links)
    if lost_events:
        count("events_dropped", lost_events)
    if lost_links:
        count("links_dropped", lost_links)
    return msgspec.structs.replace(
        extra,
        events=[_cleaned_event(event, record, count) for event in kept_events],
        exceptions=[],
        links=[_cleaned_link(link, record, count) for link in kept_links],
        dropped_events=extra.dropped_events + lost_events,
        dropped_links=extra.dropped_links + lost_links,
        status_description=_text(extra.status_description),
        status_text=_text(extra.status_text),
    )


def _newest(values: list[Any], most: int) -> tuple[list[Any], int]:
    lost = max(0, len(values) - most)
    return values[lost:], lost


def _text(value: Any) -> str:
    return value if type(value) is str else _str(value)


def _cleaned_event(
    event: Event, record: RecordConfig, count: Count, *, scrub: bool = False
) -> Event:
    if not scrub and type(event.name) is str and _all_plain([event.attributes], record):
        return event
    attributes, dropped = _cleaned_attributes(event.attributes, record, count)
    name = _name(event.name, count)
    return Event(name, event.time_ns, attributes, event.dropped_attributes + dropped)


def _cleaned_link(
    link: FlatLink, record: RecordConfig, count: Count, *, scrub: bool = False
) -> FlatLink:
    if not scrub and type(link.trace_state) is str and _all_plain([link.attributes], record):
        return link
    attributes, dropped = _cleaned_attributes(link.attributes, record, count)
    return msgspec.structs.replace(
        link,
        trace_state=_str(link.trace_state),
        attributes=attributes,
        dropped_attributes=link.dropped_attributes + dropped,
    )


def _exception_event(exception: RecordedException) -> Event:
    attributes = exception_attributes(exception, stacktrace(exception))
    return Event("exception", exception.time_ns, attributes)


def stacktrace(
    exception: RecordedException,
    source_line: Callable[[str, int], str] = linecache.getline,
) -> str:
    """The exception as Python prints it, source lines included; empty without frames."""
    if not exception.frames:
        return ""
    lines = ["Traceback (most recent call last):\n"]
    lines.extend(_frame_lines(exception.frames[-_MAX_FRAMES:], source_line))
    message = f": {exception.message}" if exception.message else ""
    lines.append(f"{exception.type}{message}\n")
    return "".join(lines)


def _frame_lines(
    frames: Iterable[FrameSummary], source_line: Callable[[str, int], str]
) -> Iterable[str]:
    before: FrameSummary | None = None
    repeats = 0
    for frame in chain(frames, [None]):
        if frame is not None and frame == before:
            repeats += 1
            if repeats >= _MAX_REPEATS:
                continue
        else:
            more = repeats - _MAX_REPEATS + 1
            if more > 0:
                yield f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n"
            before, repeats = frame, 0
        if frame is None:
            return
        file, line, function = frame
        yield f'  File "{file}", line {line}, in {function}\n'
        try:
            source = source_line(file, line).strip()
        except Exception:  # noqa: BLE001  whatever the file holds: the place is known already
            source = ""
        if source:
            yield f"    {source}\n"
