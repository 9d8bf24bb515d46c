"""What a traced process tells the interpreters it starts, in their environment.

    PYTHONPATH            our folder boot/ in front: its sitecustomize.py begins the tracing
    AFTERGLOW_CARRIED     this module's `Carried`, as JSON
    TRACEPARENT           the span that was current; TRACESTATE beside it

The program itself sees none of it: sitecustomize takes all three out again, and children.py puts
them into the environment of each child.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["BOOT", "HIDDEN", "VARIABLE", "Carried", "child_environment", "decoded"]

BOOT: Final = str(Path(__file__).resolve().parent / "boot")
VARIABLE: Final = "AFTERGLOW_CARRIED"
#: Variables of ours that a program may have of its own, too.
HIDDEN: Final[tuple[str, ...]] = ("TRACEPARENT", "TRACESTATE")


class Carried(NamedTuple):
    """One run's choices, the same in all its processes."""

    database: str  # absolute
    run_id: str
    roots: tuple[str, ...]  # where the user's own code is: absolute, links resolved
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    settings: dict[str, Any]  # of the tracer, where the environment does not say it
    collapse: bool
    collapse_calls: int
    collapse_below_us: float
    prefix: str  # of the interpreter: another one cannot load what this one has
    home: str  # the directory that holds the package afterglow
    #: What the first process runs when it has ended; empty: nothing.
    closing: tuple[str, ...] = ()
    #: Variables of `HIDDEN` that the child's own environment has.
    hidden: dict[str, str] = {}  # noqa: RUF012  never changed
    #: Record OpenTelemetry's spans, too (`--otel`).
    otel: bool = False
    #: The process that the person started.
    first: bool = False


def decoded(text: str) -> Carried:
    """Raises ValueError or TypeError for what another version wrote."""
    fields = json.loads(text)
    for name in ("roots", "include", "exclude", "closing"):
        fields[name] = tuple(fields[name])
    return Carried(**fields)


def child_environment(
    carried: Carried, trace: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, str]:
    """What to set in a child whose environment would be `own`; `trace` is the current span's."""
    python_path = own.get("PYTHONPATH")
    hidden = {name: own[name] for name in HIDDEN if name in own}
    path = BOOT if python_path is None else BOOT + os.pathsep + python_path
    fields = carried._replace(hidden=hidden)._asdict()
    return {"PYTHONPATH": path, VARIABLE: json.dumps(fields), **trace}
