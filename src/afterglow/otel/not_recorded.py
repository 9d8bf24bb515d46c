"""Spans that a sampler left out: a place in the trace and no more, at the least cost.

Ids are drawn, for children name them and headers carry them; the SpanContext is made when
somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from afterglow.model.flat import widen
from afterglow.otel.api import EMPTY, context_variable, trace_api
from afterglow.otel.around import wrapped
from afterglow.otel.as_context import AsContext
from afterglow.otel.inherited import ROOT, SAMPLED, Inherited, Scope
from afterglow.record.context import current
from afterglow.record.identity import identity

__all__ = ["NotRecorded", "make_left_out"]

if TYPE_CHECKING:
    _Base = trace_api.NonRecordingSpan
else:

    class _Base(trace_api.NonRecordingSpan):
        # In C, as the ones of recorded spans are (api.py).
        __new__ = object.__new__
        __init__ = object.__init__


class NotRecorded(AsContext, _Base):
    """A NonRecordingSpan that knows its place, and says so as a SpanContext when asked."""

    # As a recorded span has them (span.py).
    scope: ClassVar[Scope]
    sampled: ClassVar[bool] = False
    trace: int | bytes
    span_id: int
    inherited: Inherited
    token: Any

    if TYPE_CHECKING:

        def __init__(self) -> None: ...

    # Made for each tracer:

    def place(self) -> NotRecorded:
        """Draw an id, below what is current."""
        raise NotImplementedError

    def root(self, span_id: int) -> NotRecorded:
        """Begin a trace."""
        raise NotImplementedError

    def get_span_context(self) -> trace_api.SpanContext:
        inherited = self.inherited
        return trace_api.SpanContext(
            widen(identity.seed, self.trace),
            int(self.span_id),
            False,
            trace_api.TraceFlags(inherited.flags & ~SAMPLED),
            inherited.trace_state,
        )

    def __repr__(self) -> str:
        return f"NonRecordingSpan({self.get_span_context()!r})"


def make_left_out(
    scope_: Scope, begin: Callable[[], NotRecorded]
) -> tuple[type[NotRecorded], type[NotRecorded]]:
    """Two classes of one tracer: a span, and one that `with` makes current.

    Their `place()` is for samplers that leave out every span; `begin` does that the whole way,
    where the Context is not the program's plain one.
    """
    get, set_, reset = context_variable.get, context_variable.set, context_variable.reset
    empty, root = EMPTY, ROOT
    native = current.get
    plain_roots = scope_.core.base is None
    not_recorded = scope_.core.handover.not_recorded

    class Left(NotRecorded):
        scope = scope_

        def root(self, span_id: int) -> NotRecorded:
            self.trace = self.span_id = span_id
            self.inherited = root
            not_recorded["sampled_out"].add()
            return self

        def place(self) -> NotRecorded:
            parent = get()
            if parent is empty and plain_roots and native() is None:
                self.root(identity.next_id())
            elif isinstance(parent, dict):  # the empty one beneath a native span, too
                found = begin()
                self.trace, self.span_id = found.trace, found.span_id
                self.inherited = found.inherited
            else:
                self.trace = parent.trace
                self.inherited = parent.inherited
                self.span_id = identity.next_id()
                not_recorded["parent"].add()
            return self

    class CurrentLeft(Left):
        def __enter__(self) -> Any:
            self.place()
            self.token = set_(self)
            return self

        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exception: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            try:  # noqa: SIM105  contextlib.suppress would cost as much as the rest
                reset(self.token)
            except (ValueError, RuntimeError, TypeError, AttributeError):
                pass  # left in another context than it was entered in, or twice
            self.token = None

        def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
            """`@tracer.start_as_current_span("name")`: another for each call."""
            make: Callable[[], Any] = CurrentLeft
            return wrapped(function, make)

    return Left, CurrentLeft
