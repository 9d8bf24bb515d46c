"""What was just accepted, into the store at once: so that people see it before it is assembled.

The buffer has these spans, and their segment brings them to the same file again (sink/store.py),
which is when they are sure to be there. So whatever goes wrong here costs no span: it is seen a
little later.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from afterglow.clock import Clock, SystemClock
from afterglow.config.buffer import BufferConfig
from afterglow.errors import SinkError
from afterglow.model.segment import BufferedSpan
from afterglow.sink.project_files import ProjectFiles, received_rows
from afterglow.store.received import received_process
from afterglow.write.complaints import Complaints, to_stderr

__all__ = ["Visible"]

#: Spans of one transaction: others who write the file wait for so long, about a tenth of a second.
_AT_ONCE: Final = 4_096
_MOST_WAITING: Final = 65_536
_CLOSE_S: Final = 5.0
_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)


class Visible:
    """Writes accepted spans into the files of their projects; `start` does so in a thread.

    `accept` may be called by any thread, and never blocks: when more than `most_waiting` spans
    wait, those that come are left to their segments (`let_go` counts them). It owns the files
    only where it was given a path.
    """

    def __init__(
        self,
        database: Path | ProjectFiles,
        *,
        clock: Clock | None = None,
        flush_s: float = 0.25,
        most_waiting: int = _MOST_WAITING,
        max_span_bytes: int = BufferConfig().max_span_bytes,
        report: Callable[[str], None] = to_stderr,
    ) -> None:
        self._owns_files = not isinstance(database, ProjectFiles)
        self._files = database if isinstance(database, ProjectFiles) else ProjectFiles(database)
        self._clock = clock or SystemClock()
        self._flush_s = flush_s
        self._most_waiting = most_waiting
        self._max_span_bytes = max_span_bytes
        self._complaints = Complaints(report, self._clock)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        #: Owner: whoever holds the lock.
        self._waiting: deque[Sequence[BufferedSpan]] = deque()
        self._waiting_spans = 0
        self._thread: threading.Thread | None = None
        #: Spans written here first, and spans that were left to their segments.
        self.written = 0
        self.let_go = 0

    def accept(self, spans: Sequence[BufferedSpan]) -> None:
        """Spans that the buffer has taken in."""
        with self._lock:
            if self._waiting_spans + len(spans) > self._most_waiting or self._stop.is_set():
                self.let_go += len(spans)
                return
            self._waiting.append(spans)
            self._waiting_spans += len(spans)

    def step(self) -> float:
        """Write what waits, or as much as one transaction takes; seconds to wait before the next.

        Never raises: what cannot be written is let go.
        """
        spans = self._take()
        projects: defaultdict[str, list[BufferedSpan]] = defaultdict(list)
        for span in spans:
            if self._is_held(span):
                projects[span.project].append(span)
        for project, own in projects.items():
            self._write(project, own)
        return self._flush_s if len(spans) < _AT_ONCE else 0.0

    def start(self) -> None:
        """Call `step` in a thread of its own, until `close`."""
        self._thread = threading.Thread(target=self._run, name="afterglow visible", daemon=True)
        self._thread.start()

    def close(self, within_s: float = _CLOSE_S) -> None:
        """Write what waits, for so long at most; may be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(within_s)
            if self._thread.is_alive():
                return  # it closes the files when it is done
        else:
            self._finish(within_s)

    # --- one step -----------------------------------------------------------------------------

    def _take(self) -> list[BufferedSpan]:
        """The spans that have waited longest, about as many as one transaction takes."""
        taken: list[BufferedSpan] = []
        with self._lock:
            while self._waiting and len(taken) < _AT_ONCE:
                taken.extend(self._waiting.popleft())
            self._waiting_spans -= len(taken)
        return taken

    def _is_held(self, span: BufferedSpan) -> bool:
        """Whether the buffer keeps such a span: what it drops must not be in the file."""
        return (
            len(span.trace_id) == 16
            and len(span.span_id) == 8
            and span.trace_id != _NO_TRACE
            and span.span_id != _NO_SPAN
            and len(span.payload) <= self._max_span_bytes
        )

    def _write(self, project: str, spans: Sequence[BufferedSpan]) -> None:
        try:
            received, _ = received_rows(project, [span.payload for span in spans], received_process)
            with self._files.of(project) as file:
                self.written += file.write(received)
        except SinkError as error:
            self._failed(len(spans), f"{error}")
        except Exception as error:  # noqa: BLE001  a thread that ended would be blind by silence
            self._failed(len(spans), f"{type(error).__name__}: {error}")
        else:
            self._complaints.over("visible", "what is received is visible at once again")

    def _failed(self, spans: int, why: str) -> None:
        self.let_go += spans
        self._complaints.say(
            "visible", f"{why}; what is received is visible later, nothing is lost"
        )

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self._clock.wait(self._stop, self.step())
        self._finish(_CLOSE_S)

    def _finish(self, within_s: float) -> None:
        until_ns = self._clock.monotonic_ns() + round(within_s * 1e9)
        while self._waiting_spans and self._clock.monotonic_ns() < until_ns:
            self.step()
        if self._owns_files:
            self._files.close()
