"""Spans as lines of COPY: what goes into the table, but for what only the transaction knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from afterglow.model.run import Process
from afterglow.store.postgres.jsonb import events_json, fitting, links_json
from afterglow.store.postgres.text import kept
from afterglow.store.rows import TYPICAL, Rows

__all__ = ["COPY_COLUMNS", "NewSpan", "Page", "Segment", "new_spans"]

#: In the order of a line; the last two are added by the transaction.
COPY_COLUMNS: Final = """project_id, trace_id, span_id, parent_span_id, process_id, name, start_ns,
  end_ns, kind, status, status_description, trace_state, trace_flags, scope, scope_version,
  dropped_attributes, dropped_events, dropped_links, remote_parent, attributes, events, links,
  self_ns, place"""

#: About what a row takes beside its JSON, with its part of the indexes and of the trace's rows.
_ROW_BYTES: Final = 290
_LARGEST: Final = (1 << 63) - 1
_SPECIAL: Final = re.compile("[\x00\x1a\\\\\t\n\r\ud800-\udfff]")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
#: Texts that come again and again are looked up.
_SHORT: Final = 64


class Segment(NamedTuple):
    """A part of a segment; ids are hexadecimal text."""

    trace_id: str
    message_id: str
    root_span_id: str
    part: int
    is_last: bool
    addendum: bool
    spans: int
    unreadable: int


class Page(msgspec.Struct):
    """What one project gets in one transaction: spans by resource, and marks.

    In the rows ids are hexadecimal text and attributes plain JSON (`jsonb.plain_json`).
    """

    project: str
    spans: list[tuple[Process, Rows]]
    segments: list[Segment] = []
    unreadable: int = 0


class NewSpan(NamedTuple):
    """A span on its way into the table. Ids are hexadecimal text, `key` is (project, trace,
    span); `line` is its line of COPY without its end."""

    key: tuple[int, str, str]
    parent: str | None
    start_ns: int
    end_ns: int
    process_id: int
    service: str
    name: str
    failed: bool
    status: str
    is_local_root: bool
    bytes: int
    links: Sequence[str]
    line: str


def new_spans(project_id: int, process_id: int, service: str, rows: Rows) -> list[NewSpan]:
    """The spans of one resource."""
    texts: dict[str, str] = {}
    found = []
    extras, events, links = rows.extras, rows.events, rows.links
    for at, (trace, span, parent, name, start, end, attributes) in enumerate(
        zip(rows.trace_id, rows.span_id, rows.parent_span_id, rows.name, rows.start_ns,
            rows.end_ns, rows.attributes, strict=True)
    ):  # fmt: skip
        if parent == span:
            parent = None  # noqa: PLW2901  a span that names itself as its parent is a root
        start = min(start, _LARGEST)  # noqa: PLW2901
        end = max(start, min(start if end is None else end, _LARGEST))  # noqa: PLW2901
        (kind, status, description, _text, state, flags, scope, version, lost_attributes,
         lost_events, lost_links, remote, _events, _links) = extras.get(at, TYPICAL)  # fmt: skip
        event_text = events_json(events[at]) if at in events else None
        link_text = links_json(links[at]) if at in links else None
        line = (
            f"{project_id}\t\\\\x{trace}\t\\\\x{span}\t{_id(parent)}\t{process_id}\t"
            f"{_copied(name, texts)}\t{start}\t{end}\t{kind}\t{status}\t"
            f"{_copied(description, texts)}\t{_copied(state, texts)}\t{flags}\t"
            f"{_copied(scope, texts)}\t{_copied(version, texts)}\t{lost_attributes}\t"
            f"{lost_events}\t{lost_links}\t{'t' if remote else 'f'}\t{_json(fitting(attributes))}\t"
            f"{_json(event_text)}\t{_json(link_text)}"
        )
        found.append(
            NewSpan(
                (project_id, trace, span), parent, start, end, process_id, service, name,
                status == "error", status, parent is None or bool(remote),
                _ROW_BYTES + len(attributes) + len(event_text or "") + len(link_text or ""),
                [f"{link.trace_id:032x}" for link in links.get(at, ())], line,
            )
        )  # fmt: skip
    return found


def _id(text: str | None) -> str:
    return "\\N" if text is None else f"\\\\x{text}"


def _json(text: str | None) -> str:
    if text is None:
        return "\\N"
    return text.replace("\\", "\\\\") if "\\" in text else text


def _copied(text: str, known: dict[str, str]) -> str:
    found = known.get(text)
    if found is None:
        found = text if _SPECIAL.search(text) is None else kept(text).translate(_ESCAPES)
        if len(text) <= _SHORT:
            known[text] = found
    return found
