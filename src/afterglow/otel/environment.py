"""What the `OTEL_*` variables say that neither config/ nor the API reads.

What cannot be used is left out, and one line says so: a variable stops no program.
"""

from __future__ import annotations

import logging
import os
from importlib.metadata import entry_points

from afterglow.otel.limits import VARIABLES, SpanLimits

__all__ = ["is_disabled", "limits_from_environment", "load_propagators", "logger"]

logger = logging.getLogger("afterglow.otel")


def is_disabled() -> bool:
    """OTEL_SDK_DISABLED; only "true" switches off, in any case of letters."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def limits_from_environment() -> SpanLimits:
    """The limits of a provider that was given none."""
    fine = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    for name in list(fine):
        try:
            SpanLimits(environment={name: fine[name]})
        except ValueError as error:
            del fine[name]
            logger.warning("%s; it is left out", error)
    return SpanLimits(environment=fine)


def load_propagators() -> None:
    """Have the API read OTEL_PROPAGATORS, which raises for a name that it cannot find.

    It does so whenever `opentelemetry.propagate` is first imported: by us, or in the middle of
    the program.
    """
    given = os.environ.get("OTEL_PROPAGATORS")
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    known = [n for n in names if n.lower() == "none" or _is_propagator(n)]
    try:
        if known != names:
            missing = ", ".join(name for name in names if name not in known)
            logger.warning(
                "OTEL_PROPAGATORS=%s: no propagator %s is installed; it is left out", given, missing
            )
            os.environ["OTEL_PROPAGATORS"] = ",".join(known)  # empty: the defaults
        import opentelemetry.propagate  # noqa: F401
    except Exception as error:  # noqa: BLE001  a propagator of somebody's own
        logger.warning("OTEL_PROPAGATORS=%s: %s", given, error)
    finally:
        if given is not None:
            os.environ["OTEL_PROPAGATORS"] = given


def _is_propagator(name: str) -> bool:
    return bool(entry_points(group="opentelemetry_propagator", name=name))
