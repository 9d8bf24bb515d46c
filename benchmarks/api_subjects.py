"""The OpenTelemetry API on three providers: its own no-op, ours, the SDK's; on, off and sampled.

A subject's name is `<who>-<mode>`: api-noop, api-afterglow, api-otel; nothing, off, always_off,
ratio (none of the traces). `records-plain` and `records-ids` make log records.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from pathlib import Path
from typing import Any

from benchmarks.subjects import QUEUE, Subject

__all__ = ["API_SUBJECTS", "MODES"]

MODES: dict[str, dict[str, str]] = {
    "": {},
    "-off": {"OTEL_SDK_DISABLED": "true"},
    "-always_off": {"OTEL_TRACES_SAMPLER": "always_off"},
    "-ratio": {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.0",
    },
}


class Api(Subject):
    """Loops over one tracer of the API."""

    def __init__(self, who: str, mode: str, directory: Path) -> None:
        super().__init__()
        os.environ.update(MODES[mode])
        self._directory = directory
        self._provider = getattr(self, f"_{who}")()
        tracer = self._provider.get_tracer("benchmarks", "1.0")
        self.common_loops(tracer.start_as_current_span)

        def five(n: int) -> None:
            span = tracer.start_as_current_span
            for i in range(n):
                given = {"a": i, "b": "two", "c": 3.0, "d": True, "e": "five"}
                with span("work", attributes=given):
                    pass

        def five_and_set(n: int) -> None:
            start = tracer.start_as_current_span
            for i in range(n):
                given = {"a": i, "b": "two", "c": 3.0, "d": True, "e": "five"}
                with start("work", attributes=given) as span:
                    span.set_attribute("later", i)

        def started(n: int) -> None:
            start_span = tracer.start_span
            for _ in repeat(None, n):
                start_span("work").end()

        self.loops |= {"five": five, "five_and_set": five_and_set, "started": started}

    def _noop(self) -> Any:
        from opentelemetry.trace import NoOpTracerProvider

        return NoOpTracerProvider()

    def _afterglow(self) -> Any:
        from afterglow.otel import TracerProvider

        return TracerProvider(database=self._directory / "api.db")

    def _otel(self) -> Any:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from benchmarks.exporters import NothingExporter

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(NothingExporter(), max_queue_size=QUEUE))
        return provider

    def settle(self) -> None:
        if hasattr(self._provider, "force_flush"):
            self._provider.force_flush()

    def close(self) -> None:
        if hasattr(self._provider, "shutdown"):
            self._provider.shutdown()

    def written_bytes(self) -> int:
        """Of all files."""
        files = (path for path in self._directory.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files)


class Native(Api):
    """The same spans made by afterglow.Tracer, for what a scope costs beside them."""

    def __init__(self, directory: Path) -> None:
        Subject.__init__(self)
        import afterglow

        self._directory = directory
        self._tracer = tracer = afterglow.Tracer(directory / "native.db")
        self.common_loops(tracer.span)

        def five(n: int) -> None:
            for i in range(n):
                with tracer.span("work", a=i, b="two", c=3.0, d=True, e="five"):
                    pass

        self.loops["five"] = five

    def settle(self) -> None:
        self._tracer.flush()

    def close(self) -> None:
        self._tracer.close()


class Records(Subject):
    """Log records that nobody handles, with ids or without."""

    def __init__(self, ids: bool, directory: Path) -> None:
        super().__init__()
        import logging

        import afterglow

        self._tracer = afterglow.Tracer(directory / "records.db")
        if ids:
            afterglow.logs.install(service="benchmarks")
        make = logging.getLogger("benchmarks").makeRecord
        arguments = ("benchmarks", logging.INFO, "file.py", 1, "message", (), None)

        def within(around: AbstractContextManager[Any], n: int) -> None:
            with around:
                for _ in repeat(None, n):
                    make(*arguments)

        self.loops = {
            "record": lambda n: within(nullcontext(), n),
            "record_in_span": lambda n: within(self._tracer.span("work"), n),
        }

    def close(self) -> None:
        self._tracer.close()


API_SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    f"api-{who}{mode}": functools.partial(Api, who, mode)
    for who in ("noop", "afterglow", "otel")
    for mode in (MODES if who != "noop" else [""])
} | {
    "native": Native,
    "records-plain": functools.partial(Records, False),
    "records-ids": functools.partial(Records, True),
}
