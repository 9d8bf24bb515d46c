"""The model of a Profiler's span: ferret-io's view of it, made when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from afterglow.model.clean import safe_str
from afterglow.model.span import span_id_hex
from afterglow.record.core import Core
from afterglow.record.span import Span

if TYPE_CHECKING:
    from afterglow.record.profiler import ProfilerSpan

__all__ = ["SpanModel", "core_of", "keywords_of", "text_of"]


class SpanModel:
    """The span as values; times are float seconds since 1970, the duration in seconds.

    `status`, `name` and `tags` may be set until the span ends.
    """

    __slots__ = ("_live", "_span")

    def __init__(self, span: ProfilerSpan) -> None:
        self._span = span
        self._live = span._live

    @property
    def span_id(self) -> str:
        return span_id_hex(self._live.span_id)

    @property
    def parent_id(self) -> str | None:
        parent_id = getattr(self._live, "parent_id", 0)
        return span_id_hex(parent_id) if parent_id else None

    @property
    def run_id(self) -> str:
        return self._span.profiler.run_id

    @property
    def name(self) -> str:
        return self._live.name

    @name.setter
    def name(self, name: str) -> None:
        if self._span._ended_ns is None:
            self._live.name = text_of(name)

    @property
    def start_time(self) -> float:
        return self._wall_s(self._start_ns)

    @property
    def end_time(self) -> float | None:
        ended_ns = self._span._ended_ns
        return None if ended_ns is None else self._wall_s(ended_ns)

    @property
    def duration(self) -> float | None:
        ended_ns = self._span._ended_ns
        return None if ended_ns is None else max(0, ended_ns - self._start_ns) / 1e9

    @property
    def tags(self) -> dict[str, Any]:
        """The span's own tags while it runs, a copy once it has ended."""
        tags = self._live.attributes
        return tags if self._span._ended_ns is None else dict(tags)

    @tags.setter
    def tags(self, tags: Mapping[str, Any]) -> None:
        if self._span._ended_ns is None:
            own = self._live.attributes
            own.clear()
            own.update(keywords_of(tags))

    @property
    def status(self) -> str:
        """ "ok", "error", or whatever text the program set."""
        return self._span._status or "ok"

    @status.setter
    def status(self, status: str) -> None:
        self._span._set_status(status)

    def model_dump(self) -> dict[str, Any]:
        """All of it as a dict of plain values."""
        return {name: getattr(self, name) for name in _FIELDS}

    def __repr__(self) -> str:
        return f"SpanModel({', '.join(f'{k}={v!r}' for k, v in self.model_dump().items())})"

    @property
    def _start_ns(self) -> int:
        # A span that is not recorded has no start.
        return getattr(self._live, "start_ns", 0)

    def _wall_s(self, monotonic: int) -> float:
        core = core_of(self._live)
        return (monotonic + (core.wall_offset_ns if core is not None else 0)) / 1e9


_FIELDS = (
    "span_id", "parent_id", "run_id", "name", "start_time", "end_time", "duration", "tags",
    "status",
)  # fmt: skip


def core_of(live: Span) -> Core | None:
    """None where recording is switched off: that span belongs to nobody."""
    return getattr(live, "core", None)


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else safe_str(value)


def keywords_of(tags: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tags as keyword arguments: whatever is no mapping is none, whatever is no text is made so."""
    if not tags:
        return {}
    try:
        return {text_of(key): value for key, value in tags.items()}
    except Exception:  # noqa: BLE001  recording never raises into the program
        return {}
