"""What this process is, as OpenTelemetry's resource attributes have it."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from afterglow.version import VERSION

__all__ = ["process_resource"]


def process_resource(service_name: str) -> dict[str, str]:
    """The resource attributes of this process; its own name where it was given none."""
    argv0 = (getattr(sys, "argv", None) or [""])[0]
    return {
        "service.name": service_name or Path(argv0).stem or "python",
        "telemetry.sdk.name": "afterglow",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": VERSION,
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
        "os.type": sys.platform,
    }
