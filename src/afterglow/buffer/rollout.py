"""The rollout between the two payload layouts, as an operator drives it: status, advance, back."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import msgspec

from afterglow.buffer.connect import Nodes, saying_so
from afterglow.buffer.control import SILENT_S, Glance, ProcessEntry, RolloutState, look
from afterglow.buffer.control_keys import ControlKeys, script
from afterglow.buffer.rollout_plan import READS, Held, Seen, Standing, refusals, standing, target
from afterglow.config import BufferConfig
from afterglow.errors import RolloutError

__all__ = ["ProcessStatus", "Rollout", "RolloutStatus"]


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A process that uses the buffer: where, as what, in which phase since when."""

    host: str
    pid: int
    role: str
    phases: tuple[int, ...]
    pinned: bool
    standing: Standing
    since_s: float
    silent_s: float
    version: str


class RolloutStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rollout stands. `set_by` is None where nobody ever took a step.

    `advance` and `back` say why that step would be refused; empty: it would be taken.
    """

    phase: int
    set_by: str | None
    set_s_ago: float | None
    processes: tuple[ProcessStatus, ...]
    colocated_only: int
    distributed_only: int
    advance: tuple[str, ...]
    back: tuple[str, ...]


class Rollout:
    """`held()` counts the waiting entries that one layout alone holds (buffer/census.py)."""

    def __init__(self, nodes: Nodes, config: BufferConfig, held: Callable[[], Held]) -> None:
        self._nodes = nodes
        self._keys = ControlKeys(config.key_prefix)
        self._held = held

    def status(self) -> RolloutStatus:
        """Where it stands, and which steps are open. Raises SpanBufferError for a dead server."""
        return self._read()[0]

    def processes(self) -> tuple[ProcessStatus, ...]:
        """Who uses the buffer, without looking at what it holds."""
        return self._read(Held())[0].processes

    def advance(self) -> RolloutStatus:
        """One phase on. Raises RolloutError, with the reasons, for a step that would lose spans."""
        return self._step(1)

    def back(self) -> RolloutStatus:
        """One phase back. Raises RolloutError, with the reasons, likewise."""
        return self._step(-1)

    def _step(self, step: int) -> RolloutStatus:
        status, glance = self._read()
        to_phase = target(status.phase, step)
        if to_phase is None and status.phase in READS:
            end = "last" if step > 0 else "first"
            raise RolloutError(f"the rollout is in phase {status.phase}, the {end}: nothing to do")
        reasons = status.advance if step > 0 else status.back
        if to_phase is None or reasons:
            raise RolloutError(
                f"phase {status.phase} stays, for a step to {status.phase + step} would lose "
                f"spans: {'; '.join(reasons)}"
            )
        self._set(glance.rollout, RolloutState(to_phase, _operator(), glance.now_ms))
        return self.status()

    def _set(self, present: bytes, state: RolloutState) -> None:
        with saying_so(self._nodes.address):
            done = self._nodes.client.eval(
                script("compare_and_set"), 1, self._keys.rollout, present,
                msgspec.json.encode(state),
            )  # fmt: skip
        if not done:
            raise RolloutError(
                "somebody else changed the phase meanwhile: look at afterglow buffer rollout "
                "status, and decide again"
            )

    def _read(self, held: Held | None = None) -> tuple[RolloutStatus, Glance]:
        with saying_so(self._nodes.address):
            glance = look(self._nodes, self._keys)
            said = self._nodes.client.hgetall(self._keys.processes)
        held = self._held() if held is None else held
        entries = [_entry_of(text, glance.now_ms) for text in said.values()]
        seen = [
            Seen(
                f"{entry.role} {entry.host}:{entry.pid}",
                entry.role,
                entry.phases,
                entry.pinned,
                silent_s,
            )
            for entry, silent_s in entries
        ]
        phase = glance.state.phase

        def reasons(step: int) -> tuple[str, ...]:
            to_phase = target(phase, step)
            if to_phase is None and phase in READS:
                return (f"{phase} is the {'last' if step > 0 else 'first'} phase",)
            return tuple(
                refusals(phase, phase if to_phase is None else to_phase, seen, held, SILENT_S)
            )

        ago = (glance.now_ms - glance.state.changed_ms) / 1_000
        status = RolloutStatus(
            phase=phase,
            set_by=glance.state.by if glance.rollout else None,
            set_s_ago=ago if glance.rollout else None,
            processes=tuple(
                sorted(
                    (
                        _status_of(entry, silent_s, standing(one, phase, SILENT_S), glance.now_ms)
                        for (entry, silent_s), one in zip(entries, seen, strict=True)
                    ),
                    key=lambda p: (p.standing == "gone", p.role, p.host, p.pid),
                )
            ),
            colocated_only=held.colocated_only,
            distributed_only=held.distributed_only,
            advance=reasons(1),
            back=reasons(-1),
        )
        return status, glance


def _operator() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _entry_of(text: bytes, now_ms: int) -> tuple[ProcessEntry, float]:
    """A line of the registry, and for how many seconds its process has been silent."""
    seen_ms, _, said = text.partition(b" ")
    try:
        entry = msgspec.json.decode(said, type=ProcessEntry)
    except msgspec.DecodeError:
        entry = ProcessEntry("?", 0, "unknown", (-1,), version="?")
    silent_ms = now_ms - int(seen_ms) if seen_ms.isdigit() else 0
    return entry, max(silent_ms, 0) / 1_000


def _status_of(
    entry: ProcessEntry, silent_s: float, stands: Standing, now_ms: int
) -> ProcessStatus:
    return ProcessStatus(
        host=entry.host,
        pid=entry.pid,
        role=entry.role,
        phases=entry.phases,
        pinned=entry.pinned,
        standing=stands,
        since_s=max(now_ms - entry.since_ms, 0) / 1_000,
        silent_s=silent_s,
        version=entry.version,
    )
