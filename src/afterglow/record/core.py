"""What the spans of one tracer share: open spans, extras, the hand-over, limits, decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from afterglow.clock import anchor_now
from afterglow.config import RecordConfig
from afterglow.handover import Handover
from afterglow.model.clean import clean_attributes
from afterglow.model.flat import Extra, Flat
from afterglow.record.context import RemoteParent
from afterglow.record.sampler import Sampler

__all__ = ["Core", "OpenSpan"]


_MAX_TRACE_STATES = 1_000


class OpenSpan(Protocol):
    """What the registry holds: a span of any face of the recorder, begun and not ended."""

    trace: Any
    span_id: int
    parent_id: int
    where: Any

    @property
    def name(self) -> str: ...

    @property
    def attributes(self) -> Any: ...

    def open_extra(self) -> Extra | None: ...


class Core:
    """The state behind one tracer's spans.

    No lock: `registry` and `extras` are changed by single dict operations, which are atomic
    under the interpreter lock. Deleting a span from `registry` is the claim to end it, so that
    it ends once, whichever threads try.
    """

    def __init__(self, handover: Handover, config: RecordConfig) -> None:
        self.handover = handover
        self.config = config
        self.changed: Callable[[str, int], None] = handover.changed
        #: Open spans by span id. Owner: whoever begins and ends them.
        self.registry: dict[int, OpenSpan] = {}
        #: What few spans have, by span id; goes with the record.
        self.extras: dict[int, Extra] = {}
        #: The caller of this whole process (TRACEPARENT), or None.
        self.base: RemoteParent | None = None
        #: The trace state of traces that came from elsewhere, the latest ones, for `inject`.
        self.trace_states: dict[Any, str] = {}
        #: Wall time = monotonic time + this: the writer's anchor, set when there is a writer.
        self.wall_offset: Callable[[], int] = lambda: anchor_now().offset_ns

    @property
    def wall_offset_ns(self) -> int:
        return self.wall_offset()

    def admit(self, parent: RemoteParent, sampler: Sampler | None) -> None:
        """A trace begun elsewhere comes in: remember its state, ask the budget."""
        if parent.trace is None:
            return
        state = parent.trace_state
        if state:
            self.trace_states[parent.trace] = state
            if len(self.trace_states) > _MAX_TRACE_STATES:
                for trace in self.trace_states.copy():  # the oldest first; others may help
                    self.trace_states.pop(trace, None)
                    break
        if sampler is not None:
            reason = sampler.refusal(parent.trace, follow_ratio=not self.config.parent_based)
            if reason is not None:
                parent.refuse(reason)

    def after_fork(self) -> None:
        """In a forked child: open spans are the parent's to end."""
        self.registry.clear()
        self.extras.clear()

    def owned(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Attributes as the record may keep them, where some value can change or hold others.

        Done in the program's thread, so that later changes of a list do not show, objects are
        turned into text while they are what they were, and nothing of the program is kept alive.
        """
        config = self.config
        return clean_attributes(
            attributes,
            self.changed,
            max_attributes=max(config.max_attributes, len(attributes)),  # the writer limits
            max_value_length=config.max_attribute_length,
        )[0]

    def finish(self, span: Any, end_ns: int) -> None:
        """End a span that was begun by hand, at a monotonic time: what `__exit__` does inline."""
        try:
            del self.registry[span.span_id]
        except (KeyError, AttributeError):
            return
        self.handover.put(
            (
                span.trace,
                span.span_id,
                span.parent_id,
                span.name,
                span.start_ns,
                end_ns,
                self.owned(span.attributes),
                span.where,
                self.extras.pop(span.span_id, None),
            )
        )

    def open_rows(self, begun_before_ns: int) -> Flat:
        """Flat rows, END None, of the spans begun before a monotonic time and still open."""
        rows: Flat = []
        # copy() is one C call; a list over the values could see the dict change on the way.
        for span in self.registry.copy().values():
            start_ns = getattr(span, "start_ns", None)  # None: just being begun
            if start_ns is not None and start_ns < begun_before_ns:
                rows.extend(
                    (
                        span.trace,
                        span.span_id,
                        span.parent_id,
                        span.name,
                        start_ns,
                        None,
                        self.owned(span.attributes.copy()),
                        span.where,
                        span.open_extra(),
                    )
                )
        return rows
