"""Tracers: what makes spans for one instrumentation scope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from afterglow.otel.api import EMPTY, TracerBase, context_variable, trace_api
from afterglow.otel.around import Nothing
from afterglow.otel.begin import Begin
from afterglow.otel.hot import make_hot_path
from afterglow.otel.inherited import Scope
from afterglow.otel.processors import Processors
from afterglow.otel.sampling import Choice

__all__ = ["OffTracer", "Tracer"]

_INTERNAL = trace_api.SpanKind.INTERNAL
_NOTHING = Nothing()
_INVALID = trace_api.INVALID_SPAN
_get = context_variable.get


class Tracer(TracerBase):
    """OpenTelemetry's tracer on Afterglow's recorder; made by TracerProvider.get_tracer."""

    def __init__(
        self,
        scope: Scope,
        choice: Choice,
        id_generator: Any,
        processors: Processors,
    ) -> None:
        self._scope = scope
        self._choice = choice
        scope.rule = choice.rule
        self._processors = processors
        key = (id(scope.core), id(choice.sampler), id(scope.limits), id(id_generator))
        hot = processors.hot_paths.get(key)
        if hot is None:
            begin = Begin(scope, choice.should_sample, choice.refusal, id_generator)
            hot = make_hot_path(scope, begin, processors, choice, plain_ids=id_generator is None)
            processors.hot_paths[key] = hot
        self._hot = hot
        self._starts = hot.of(scope)
        self._tracer_config: Any = None
        self._use(self._starts)

    def _use(self, starts: tuple[Callable[..., Any], Callable[..., Any]]) -> None:
        # The functions themselves, in place of the methods below: a call less for each span.
        self.start_span, self.start_as_current_span = starts  # type: ignore[method-assign]

    def start_span(self, name: str, *arguments: Any, **options: Any) -> Any:
        """A span that runs from now on, until `end()`; it does not become current.

        After the name: context, kind, attributes, links, start_time (ns since 1970),
        record_exception, set_status_on_exception; as OpenTelemetry's API has them.
        """
        return self._starts[0](name, *arguments, **options)

    def start_as_current_span(self, name: str, *arguments: Any, **options: Any) -> Any:
        """A span for `with`, or a decorator of functions and coroutines; it becomes current.

        The arguments of `start_span`, and end_on_exit.
        """
        return self._starts[1](name, *arguments, **options)

    @property
    def sampler(self) -> Any:
        """The sampler that decides, as the provider was given it."""
        return self._choice.sampler

    @property
    def resource(self) -> Any:
        return self._scope.resource()

    @property
    def instrumentation_info(self) -> Any:
        return self._scope.info

    @property
    def _instrumentation_scope(self) -> Any:
        return self._scope.instrumentation

    def _is_enabled(self) -> bool:
        return self._tracer_config is None or bool(self._tracer_config.is_enabled)

    def _set_tracer_config(self, tracer_config: Any) -> None:
        """A tracer configurator may switch a scope off (`is_enabled`), and on again."""
        self._tracer_config = tracer_config
        off = OffTracer()
        self._use(
            self._starts if self._is_enabled() else (off.start_span, off.start_as_current_span)
        )


class OffTracer(trace_api.NoOpTracer):
    """The tracer of a provider that is off: the API's, with a `with` that costs less."""

    def start_span(
        self,
        name: str,
        context: Any = None,
        kind: trace_api.SpanKind = _INTERNAL,
        attributes: Any = None,
        links: Sequence[Any] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Any:
        """A span that records nothing and hands on the caller's trace."""
        if context is None:
            context = _get()
            if context is EMPTY:
                return _INVALID
        current = trace_api.get_current_span(context)
        if isinstance(current, trace_api.NonRecordingSpan):
            return current
        return trace_api.NonRecordingSpan(current.get_span_context())

    def start_as_current_span(
        self,
        name: str,
        context: Any = None,
        kind: trace_api.SpanKind = _INTERNAL,
        attributes: Any = None,
        links: Sequence[Any] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Any:
        """Nothing becomes current: what was current still is, and so the trace is handed on."""
        return _NOTHING
