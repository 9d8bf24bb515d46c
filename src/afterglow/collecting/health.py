"""Whether a service lives, and whether it takes spans in; each with its reasons."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Answer", "Health", "Probe"]

#: What is wrong, in a few words; None when nothing is.
Asked = Callable[[], str | None]


class Probe(NamedTuple):
    """A part that can be asked."""

    name: str
    ask: Asked


class Answer(NamedTuple):
    """What /healthz or /readyz says: a status of HTTP, and a line for each reason."""

    status: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


class Health:
    """Any thread may ask; `alive` and `ready` are filled while the service starts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: list[Probe] = []
        self._ready: list[Probe] = []
        self._closed: str | None = "starting"

    def alive(self, name: str, ask: Asked) -> None:
        """The service lives while this does; it is not ready without it either."""
        with self._lock:
            self._alive.append(Probe(name, ask))

    def ready(self, name: str, ask: Asked) -> None:
        """The service takes spans in while this can."""
        with self._lock:
            self._ready.append(Probe(name, ask))

    def open(self) -> None:
        """All has started."""
        self._closed = None

    def close(self, reason: str) -> None:
        """Not ready from now on, for this reason."""
        self._closed = reason

    def healthz(self) -> Answer:
        """200 while every thread and process that there should be is there."""
        return _answer(self._wrong(self._alive))

    def readyz(self) -> Answer:
        """200 while spans are taken in."""
        closed = self._closed
        if closed is not None:
            return _answer([f"serve: {closed}"])
        return _answer([*self._wrong(self._alive), *self._wrong(self._ready)])

    def _wrong(self, probes: list[Probe]) -> list[str]:
        with self._lock:
            probes = list(probes)
        found = []
        for name, ask in probes:
            try:
                reason = ask()
            except Exception as error:  # noqa: BLE001  a part that cannot answer is not well
                reason = f"{type(error).__name__}: {error}"
            if reason is not None:
                found.append(f"{name}: {' '.join(reason.split())}")
        return found


def _answer(wrong: list[str]) -> Answer:
    return Answer(503, tuple(wrong)) if wrong else Answer(200, ("ok",))
