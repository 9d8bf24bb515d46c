"""Spans of others, cut to what we take: attributes, events, links, and the length of values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from afterglow.config.otlp import OtlpConfig

__all__ = ["cut_attributes", "cut_lists", "cut_values"]


def cut_lists(span: Any, config: OtlpConfig) -> int:
    """Cut attributes, events and links that are too many, and count them in the span; how many."""
    cut = cut_attributes(span, config)
    events = _cut(span.events, config.max_events)
    if events:
        span.dropped_events_count = _counted(span.dropped_events_count, events)
    links = _cut(span.links, config.max_links)
    if links:
        span.dropped_links_count = _counted(span.dropped_links_count, links)
    for one in (*span.events, *span.links):
        cut += cut_attributes(one, config)
    return cut + events + links


def cut_attributes(message: Any, config: OtlpConfig) -> int:
    """Cut attributes of a span, event, link, resource or scope that are too many; how many."""
    cut = _cut(message.attributes, config.max_attributes)
    if cut:
        message.dropped_attributes_count = _counted(message.dropped_attributes_count, cut)
    return cut


def _cut(items: Any, most: int) -> int:
    beyond = max(len(items) - most, 0)
    if beyond:
        del items[most:]
    return beyond


def _counted(before: int, more: int) -> int:
    """A count of 32 bits, which stays at the top."""
    return min(before + more, 0xFFFF_FFFF)


def cut_values(pairs: Any, most: int) -> int:
    """Cut strings (characters) and bytes that are longer, nested ones too; how many were."""
    return sum(_cut_value(pair.value, most) for pair in pairs)


def _cut_value(value: Any, most: int) -> int:
    kind = value.WhichOneof("value")
    if kind == "string_value" and len(value.string_value) > most:
        value.string_value = value.string_value[:most]
        return 1
    if kind == "bytes_value" and len(value.bytes_value) > most:
        value.bytes_value = value.bytes_value[:most]
        return 1
    return sum(_cut_value(inner, most) for inner in _inside(value, kind))


def _inside(value: Any, kind: str | None) -> Iterator[Any]:
    if kind == "array_value":
        yield from value.array_value.values
    elif kind == "kvlist_value":
        for pair in value.kvlist_value.values:
            yield pair.value
