"""The provider: OpenTelemetry's TracerProvider on one recorder of ours."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from afterglow import wiring
from afterglow.config import destination
from afterglow.ledger import Ledger
from afterglow.otel.api import trace_api
from afterglow.otel.environment import is_disabled, limits_from_environment
from afterglow.otel.inherited import Scope
from afterglow.otel.processors import Processors
from afterglow.otel.resource import (
    default_resource,
    default_tracer_config,
    instrumentation,
    resource_text,
)
from afterglow.otel.sampling import choice_of, from_environment
from afterglow.otel.settings import recorder_settings
from afterglow.otel.tracer import OffTracer, Tracer
from afterglow.ports import SpanSink
from afterglow.record.follow import follow_from

__all__ = ["TracerProvider"]

# The SDK's own logger: programs listen there.
logger = logging.getLogger("opentelemetry.sdk.trace")

#: For fork; a provider that nobody has any more goes out by itself.
_providers: weakref.WeakSet[TracerProvider] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for provider in list(_providers):
        provider._after_fork()


# After record/identity.py's, which is imported first: the ids must have been drawn anew.
os.register_at_fork(after_in_child=_after_fork_in_child)


class TracerProvider(trace_api.TracerProvider):
    """`TracerProvider()` records into `afterglow.db` (AFTERGLOW_DATABASE); no SDK is needed.

    The arguments are the SDK's. Beside them: `database` names the file, or is a SpanSink, and
    `settings` are those of `afterglow.Tracer` (docs/settings.md). Or `database` is a tracer of
    Afterglow's: then the spans of both are in the same trees, and the tracer's owner closes it.
    Processors of the SDK that are added get every span as well. Raises SettingError for a
    setting that cannot be used.
    """

    def __init__(
        self,
        sampler: Any = None,
        resource: Any = None,
        shutdown_on_exit: bool = True,
        active_span_processor: Any = None,
        id_generator: Any = None,
        span_limits: Any = None,
        *,
        meter_provider: Any = None,
        _tracer_configurator: Callable[[Any], Any] | None = None,
        database: str | os.PathLike[str] | SpanSink | wiring.Tracer | None = None,
        **settings: Any,
    ) -> None:
        self._processors = Processors(active_span_processor)
        self._active_span_processor = active_span_processor or self._processors
        self.id_generator = id_generator
        self._resource = default_resource() if resource is None else resource
        self.sampler = sampler or from_environment()
        self._span_limits = span_limits or limits_from_environment()
        self._meter_provider = meter_provider
        self._configure = _tracer_configurator
        self._settings = recorder_settings(self._span_limits, settings)
        self._disabled = is_disabled() or not wiring.is_enabled(self._settings)
        self._recorder: wiring.Tracer | None = None
        self._innermost: Callable[[], Any] | None = None
        if isinstance(database, wiring.Tracer):
            self._share(database)
        else:
            self._database = destination() if database is None else database
        self._lock = threading.Lock()
        self._tracers: dict[Any, Tracer] = {}
        self._atexit = atexit.register(self.shutdown) if shutdown_on_exit else None
        _providers.add(self)

    # --- tracers ------------------------------------------------------------------------------

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> Any:
        """The tracer of an instrumentation scope: the same one for the same scope."""
        if self._disabled:
            return OffTracer()
        if not instrumenting_module_name:
            instrumenting_module_name = ""
            logger.error("get_tracer called with missing module name.")
        scope, info = instrumentation(
            instrumenting_module_name, instrumenting_library_version or "", schema_url, attributes
        )
        with self._lock:
            tracer = self._tracers.get(scope)
            if tracer is None:
                tracer = self._tracers[scope] = self._new_tracer(scope, info)
        return tracer

    def _new_tracer(self, instrumentation_scope: Any, info: Any) -> Tracer:
        recorder = self._started()
        scope = Scope(
            recorder.core,
            self._span_limits,
            lambda: self._resource,
            instrumentation_scope,
            info,
            self._innermost,
        )
        choice = choice_of(self.sampler, recorder.refusal)
        tracer = Tracer(scope, choice, self.id_generator, self._processors)
        self._apply_configurator(tracer, instrumentation_scope)
        return tracer

    def _apply_configurator(self, tracer: Tracer, scope: Any) -> None:
        if self._configure is None:
            return
        try:
            config = self._configure(scope)
        except Exception:
            logger.exception(
                "Failed to create a Tracer Config for %s, using default Tracer config", scope
            )
            config = default_tracer_config()
        tracer._set_tracer_config(config)

    def _set_tracer_configurator(self, *, tracer_configurator: Callable[[Any], Any]) -> None:
        """Decide anew which scopes are on."""
        self._configure = tracer_configurator
        with self._lock:
            for scope, tracer in self._tracers.items():
                self._apply_configurator(tracer, scope)

    def _started(self) -> wiring.Tracer:
        """The recorder: made when the first tracer is asked for, with its thread and journal."""
        if self._recorder is None:
            self._recorder = wiring.Tracer(
                self._database,
                resource=lambda: resource_text(self._resource),
                **self._settings,
            )
        return self._recorder

    def _share(self, recorder: wiring.Tracer) -> None:
        """Record with a tracer that is there; it sees our current spans, and we see its."""
        from afterglow.otel.joined import around, innermost

        self._recorder, self._innermost = recorder, innermost
        recorder.join(around)
        if recorder.core.config.follow_threads:
            follow_from(around)
        recorder.resource = lambda: resource_text(self._resource)

    # --- processors and the end ---------------------------------------------------------------

    def add_span_processor(self, span_processor: Any) -> None:
        """Give every span to this processor, too (`on_start`, `_on_ending`, `on_end`)."""
        self._processors.add_span_processor(span_processor)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Write all that ended, and have every processor export; False if one could not."""
        written = self._recorder is None or self._recorder.flush()
        return self._processors.force_flush(timeout_millis) and written

    def shutdown(self) -> None:
        """Write all that ended and stop; spans that end later are counted as dropped (closed)."""
        if self._atexit is not None:
            atexit.unregister(self._atexit)
            self._atexit = None
        self._processors.shutdown()
        if self._recorder is not None and self._innermost is not None:
            self._recorder.flush()
        elif self._recorder is not None:
            self._recorder.close()

    def ledger(self) -> Ledger:
        """The books: recorded = written + dropped (by reason) + in_flight."""
        with self._lock:
            return self._started().ledger()

    # --- the resource -------------------------------------------------------------------------

    @property
    def resource(self) -> Any:
        """Who makes the spans."""
        return self._resource

    def _update_resource(self, resource: Any) -> None:
        self._resource = self._resource.merge(resource)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        for tracer in self._tracers.values():
            tracer._hot.after_fork()
        self._update_process()

    def _update_process(self) -> None:
        """The process id of a forked child, where the SDK's resource has it."""
        from afterglow.otel.api import HAS_SDK

        if HAS_SDK:
            from opentelemetry.sdk import resources

            dependent = getattr(resources, "_get_process_dependent_resource", None)
            if dependent is not None:
                self._update_resource(dependent())
