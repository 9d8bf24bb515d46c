"""What we take from OpenTelemetry's API, and from its SDK where that is installed."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from afterglow.errors import MissingExtraError

try:
    import opentelemetry.trace.propagation as _propagation
    from opentelemetry import context as context_api
    from opentelemetry import trace as trace_api
    from opentelemetry.attributes import BoundedAttributes
except ImportError as error:
    raise MissingExtraError("afterglow.otel", "otel") from error

__all__ = [
    "EMPTY",
    "HAS_SDK",
    "SPAN_KEY",
    "BoundedAttributes",
    "SpanBase",
    "TracerBase",
    "context_api",
    "context_variable",
    "trace_api",
]

HAS_SDK: bool
if TYPE_CHECKING:
    SpanBase = trace_api.Span
    TracerBase = trace_api.Tracer
else:
    # Where the SDK is, exporters and other libraries ask whether a span is one of its kind.
    try:
        from opentelemetry.sdk.trace import Span as _SdkSpan
        from opentelemetry.sdk.trace import Tracer as TracerBase

        class _Quick(trace_api.Span):
            # The SDK's __new__ and __init__ are Python and want arguments; ours are C. First
            # among the bases, it gives its own to the class, which costs a span 150 ns less.
            __new__ = object.__new__
            __init__ = object.__init__

        class SpanBase(_Quick, _SdkSpan):
            __new__ = object.__new__
            __init__ = object.__init__

        HAS_SDK = True
    except ImportError:
        from opentelemetry.trace import Span as SpanBase
        from opentelemetry.trace import Tracer as TracerBase

        HAS_SDK = False


#: The key of the current span in a Context.
SPAN_KEY: str = _propagation._SPAN_KEY


class _AnyContext:
    """The three calls of a context variable, made through another runtime context."""

    def __init__(self) -> None:
        self.get: Callable[[], Any] = context_api.get_current
        self.set: Callable[[Any], Any] = context_api.attach
        self.reset: Callable[[Any], None] = context_api._RUNTIME_CONTEXT.detach


def _variable() -> Any:
    """The variable in which OpenTelemetry keeps what is current.

    Its own calls go through three functions each; ours go to the variable. A runtime context of
    somebody's own (OTEL_PYTHON_CONTEXT) is used as it is.
    """
    variable = getattr(context_api._RUNTIME_CONTEXT, "_current_context", None)
    return variable if isinstance(variable, contextvars.ContextVar) else _AnyContext()


context_variable: Any = _variable()
#: The Context of a program that has set nothing: the variable's default.
EMPTY: Any = contextvars.Context().run(context_variable.get)
