"""The recorders that are compared. Each lives in a child process of its own.

A subject's loops are written out, one for each shape of span, so that nothing of ours but a
`for` stands between the clock and the recorder. All of them record as their users would, and
keep their defaults but for the queue, which is as long as ours (131,072): a peer that drops
spans looks cheaper than it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import repeat
from pathlib import Path
from typing import Any

QUEUE = 131_072
Loop = Callable[[int], None]


class Subject:
    """One recorder. `span()` is what `with` takes; `loops` are by the name of the shape."""

    span: Callable[[], AbstractContextManager[Any]]

    def __init__(self) -> None:
        self.loops: dict[str, Loop] = {}
        self.made = 0

    def common_loops(self, span: Callable[[str], AbstractContextManager[Any]]) -> None:
        """The shapes that are written the same for everybody."""

        def plain(n: int) -> None:
            for _ in repeat(None, n):
                with span("work"):
                    pass

        def nested(n: int) -> None:
            for _ in repeat(None, n // 4):
                with span("request"), span("handler"), span("query"), span("row"):
                    pass

        self.span = functools.partial(span, "work")
        self.loops |= {"plain": plain, "nested": nested}

    def decorated_loop(self, decorated: Callable[[], None]) -> None:
        """A call of a decorated function that does nothing."""

        def decorator(n: int) -> None:
            for _ in repeat(None, n):
                decorated()

        self.loops["decorator"] = decorator

    def between(self) -> None:
        """Called between repetitions, untimed: for a subject that would pile up spans for ever."""

    def settle(self) -> None:
        """Write what is waiting."""

    def close(self) -> None:
        """All that was recorded is durable when this returns."""

    def written_bytes(self) -> int:
        """How large its files are."""
        return 0

    def lost(self) -> int | None:
        """How many spans it says it dropped; None if it does not know."""
        return 0


def nothing() -> None:
    """What a decorated function does here."""


class Floor(Subject):
    """The feature-free floor: keeps spans in a list that is emptied between repetitions."""

    def __init__(self, _directory: Path) -> None:
        super().__init__()
        from benchmarks.floor import make_floor

        span, self._done = make_floor()
        self.common_loops(span)

        def attributes(n: int) -> None:
            for i in range(n):
                with span("work", user=i, route="/orders", cached=True):
                    pass

        @functools.wraps(nothing)
        def decorated() -> None:
            with span("work"):
                nothing()

        self.loops["attributes"] = attributes
        self.decorated_loop(decorated)

    def between(self) -> None:
        self._done.clear()

    settle = between


class Control(Subject):
    """No recorder at all: an empty `with` of the standard library."""

    def __init__(self, _directory: Path) -> None:
        super().__init__()
        from contextlib import nullcontext

        empty = nullcontext()
        self.common_loops(lambda _name: empty)


class Afterglow(Subject):
    """Afterglow with its defaults, into a file."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        import afterglow

        self._tracer = tracer = afterglow.Tracer(directory / "afterglow.db")
        span = tracer.span
        self.common_loops(span)

        def attributes(n: int) -> None:
            for i in range(n):
                with span("work", user=i, route="/orders", cached=True):
                    pass

        def started(n: int) -> None:
            start_span = tracer.start_span
            for _ in repeat(None, n):
                start_span("work").end()

        self.loops |= {"attributes": attributes, "started": started}
        self.decorated_loop(tracer.wrap("work")(nothing))

    def settle(self) -> None:
        self._tracer.flush()

    def close(self) -> None:
        self._tracer.close()

    def lost(self) -> int | None:
        return sum(self._tracer.ledger()["dropped"].values())


class OpenTelemetry(Subject):
    """The OpenTelemetry SDK: batch processor, an exporter that does nothing."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._exporter = self._make_exporter(directory)
        self._provider = TracerProvider()
        processor = BatchSpanProcessor(self._exporter, max_queue_size=QUEUE)
        self._provider.add_span_processor(processor)
        tracer = self._provider.get_tracer("benchmarks")
        span = tracer.start_as_current_span
        self.common_loops(span)

        def attributes(n: int) -> None:
            for i in range(n):
                given = {"user": i, "route": "/orders", "cached": True}
                with span("work", attributes=given):
                    pass

        def started(n: int) -> None:
            start_span = tracer.start_span
            for _ in repeat(None, n):
                start_span("work").end()

        self.loops |= {"attributes": attributes, "started": started}
        self.decorated_loop(span("work")(nothing))

    def _make_exporter(self, _directory: Path) -> Any:
        from benchmarks.exporters import NothingExporter

        return NothingExporter()

    def settle(self) -> None:
        self._provider.force_flush()

    def close(self) -> None:
        self._provider.shutdown()

    def lost(self) -> int | None:
        # The SDK's own count is of another moment; what arrived is exact once it is closed.
        return self.made - int(self._exporter.exported)


class OpenTelemetryFile(OpenTelemetry):
    """The same with the OTLP encoder's bytes appended to a file."""

    def _make_exporter(self, directory: Path) -> Any:
        from benchmarks.exporters import FileExporter

        return FileExporter(directory / "spans.otlp")


class Ferret(Subject):
    """ferret-io 0.3.1 with its defaults: a lock, and BeaverDB in the calling thread."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        from ferret import Profiler

        self._profiler = profiler = Profiler(str(directory / "ferret.db"))
        measure = profiler.measure
        self.common_loops(measure)

        def attributes(n: int) -> None:
            for i in range(n):
                with measure("work", tags={"user": i, "route": "/orders", "cached": True}):
                    pass

        def started(n: int) -> None:
            start = profiler.start
            for _ in repeat(None, n):
                start("work").end()

        self.loops |= {"attributes": attributes, "started": started}
        self.decorated_loop(measure("work")(nothing))

    def settle(self) -> None:
        self._profiler.flush()

    def close(self) -> None:
        self._profiler.close()

    def lost(self) -> int | None:
        return None


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "control": Control,
    "floor": Floor,
    "afterglow": Afterglow,
    "otel": OpenTelemetry,
    "otel-file": OpenTelemetryFile,
    "ferret": Ferret,
}
