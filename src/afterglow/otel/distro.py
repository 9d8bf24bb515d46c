"""What other packages find by entry points, and what `afterglow run --otel` installs.

    opentelemetry_tracer_provider  afterglow   provider_from_environment
    opentelemetry_distro           afterglow   distro
    opentelemetry_configurator     afterglow   Configurator

`opentelemetry-instrument` takes the first distro and the first configurator that it finds, in no
order that anybody chose. So where others are installed, ours steps back unless it is named:
OTEL_PYTHON_DISTRO=afterglow, or OTEL_PYTHON_CONFIGURATOR=afterglow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from afterglow import wiring
from afterglow.config import destination, is_url
from afterglow.errors import AfterglowError
from afterglow.instrument.ending import handle_sigterm
from afterglow.otel.api import trace_api
from afterglow.otel.environment import is_disabled, load_propagators, logger
from afterglow.otel.exporters import processors_from_environment
from afterglow.otel.provider import TracerProvider

__all__ = ["Configurator", "distro", "install", "provider_from_environment"]

NAME = "afterglow"
_INSTRUMENTATION = "opentelemetry.instrumentation"  # a package that is not always there
_DISTROS, _CONFIGURATORS = "opentelemetry_distro", "opentelemetry_configurator"
_DISTRO, _CONFIGURATOR = "OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR"


def provider_from_environment(
    recorder: wiring.Tracer | None = None, attributes: Mapping[str, str] | None = None
) -> trace_api.TracerProvider:
    """The provider that the environment describes, with the exporters that it names.

    It raises nothing: where there can be no recording, one line says why, and the provider
    records nothing. `attributes` are of the resource.
    """
    load_propagators()
    try:
        if recorder is None and not is_disabled():
            where = destination()
            if not is_url(where):
                wiring.check_writable(Path(where).absolute())
        provider = TracerProvider(database=recorder)
    except (AfterglowError, OSError) as error:
        logger.warning("%s. This program runs without spans", str(error).rstrip("."))
        return trace_api.NoOpTracerProvider()
    if attributes:
        provider._update_resource(type(provider.resource)(attributes))
    if not is_disabled():
        for processor in processors_from_environment():
            provider.add_span_processor(processor)
    return provider


def install(recorder: wiring.Tracer) -> None:
    """Make a provider on this recorder the program's, and load the instrumentations there are."""
    trace_api.set_tracer_provider(provider_from_environment(recorder))
    try:
        load: Any = import_module(f"{_INSTRUMENTATION}.auto_instrumentation._load")
        default = import_module(f"{_INSTRUMENTATION}.distro").DefaultDistro
    except ImportError:
        return  # the program's own spans, then
    try:
        load._load_instrumentors(default())
    except Exception as error:  # noqa: BLE001  somebody else's; the program runs on
        logger.warning("an instrumentation could not be loaded: %s", error)


def distro() -> Any:
    """Our distro; or None, which opentelemetry-instrument skips, where another one is meant."""
    if not _is_ours():
        return None
    base: Any = import_module(f"{_INSTRUMENTATION}.distro").BaseDistro

    class Distro(base):  # type: ignore[misc]
        def _configure(self, **_options: Any) -> None:
            # The configurator goes with it, whichever comes first.
            os.environ.setdefault(_CONFIGURATOR, NAME)

    return Distro()


class Configurator:
    """Sets the provider, or hands on to the configurator of another distro."""

    def configure(self, *, auto_instrumentation_version: str | None = None, **options: Any) -> None:
        """Called by opentelemetry-instrument."""
        version = auto_instrumentation_version
        if _is_ours():
            attributes = {"telemetry.auto.version": version} if version else None
            # What this program starts is recorded as part of the same run.
            os.environ.setdefault("AFTERGLOW_RUN_ID", os.urandom(16).hex())
            provider = provider_from_environment(attributes=attributes)
            trace_api.set_tracer_provider(provider)
            if isinstance(provider, TracerProvider):
                # Servers have their workers die of SIGTERM, which runs nothing at exit.
                handle_sigterm(lambda _status: provider.shutdown())
            return
        others = _others(_CONFIGURATORS)
        if others:
            logger.warning(
                "%s configures OpenTelemetry, as if afterglow were not there: "
                "%s=%s has Afterglow record instead", others[0].name, _DISTRO, NAME
            )  # fmt: skip
            others[0].load()().configure(auto_instrumentation_version=version, **options)


def _is_ours() -> bool:
    """Whether whoever started this program means us: by name, or because there is nobody else."""
    named = [os.environ.get(variable) for variable in (_DISTRO, _CONFIGURATOR)]
    if any(named):
        return NAME in named
    return not _others(_DISTROS) and not _others(_CONFIGURATORS)


def _others(group: str) -> list[EntryPoint]:
    return [entry for entry in entry_points(group=group) if entry.name != NAME]
