"""A progress bar on stderr: only for a terminal, and only for what takes over a second."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Final, TextIO

from afterglow.clock import Clock, SystemClock
from afterglow.ui.units import bar, count, percent

__all__ = ["Progress"]

_PATIENCE_NS: Final = 1_000_000_000
_FRAME_NS: Final = 100_000_000
_WIDTH: Final = 24


class Progress:
    """Call it as `progress(done, total)`; leaving the `with` block wipes the bar away.

    `total` may grow, or be 0 where nobody knows: then there is a number and no bar. `show`
    writes the numbers, of spans or of bytes.
    """

    def __init__(
        self,
        label: str,
        show: Callable[[int], str] = count,
        *,
        file: TextIO | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._label = label
        self._show = show
        self._added = 0
        self._file = file if file is not None else sys.stderr
        self._clock = clock or SystemClock()
        self._on = bool(self._file is not None and self._file.isatty())
        self._due_ns = self._clock.monotonic_ns() + _PATIENCE_NS
        self._drawn = False
        encoding = (getattr(self._file, "encoding", None) or "ascii").lower()
        self._ascii_only = not encoding.startswith("utf")

    def __call__(self, done: int, total: int) -> None:
        if not self._on:
            return
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + _FRAME_NS
        if total > 0:
            share = min(done / total, 1.0)
            drawn = bar(share, _WIDTH, ascii_only=self._ascii_only)
            figures = f"{drawn} {percent(share):>5}  {self._show(done)} of {self._show(total)}"
        else:
            figures = self._show(done)
        self._write(f"\r\x1b[K{self._label}  {figures}")
        self._drawn = True

    def add(self, more: int) -> None:
        """So many more are done, of nobody knows how many."""
        self._added += more
        self(self._added, 0)

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except (OSError, ValueError):  # a terminal that went away takes no bar
            self._on = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._drawn:
            self._drawn = False
            self._write("\r\x1b[K")
