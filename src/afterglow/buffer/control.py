"""What a process follows of the buffer's control keys: the phase of the rollout, and pressure.

One look a second, in one script, which is at the same time this process's sign of life. `add`
and `take_due` go through `following()`, which looks when a second is over and says what holds; so a
process that slept looks before it does anything. In services a thread looks, too, so that a process
which has nothing to do is not taken for gone.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from afterglow.buffer.connect import Nodes, redis_errors, saying_so
from afterglow.buffer.control_keys import ControlKeys, script
from afterglow.clock import Clock, SystemClock
from afterglow.config import BufferConfig
from afterglow.version import VERSION

__all__ = [
    "DEFAULT_PHASE",
    "FORGET_S",
    "PHASES",
    "SILENT_S",
    "Control",
    "Following",
    "Glance",
    "ProcessEntry",
    "RolloutState",
    "look",
]

PHASES: Final = (0, 1, 2, 3)
#: Where the rollout key was never written: a new installation.
DEFAULT_PHASE: Final = 3

_LOOK_NS: Final = 1_000_000_000
#: Without a look for so long nobody adds: an operator may have taken two steps meanwhile.
_BLIND_NS: Final = 5_000_000_000
#: A process that was silent for so long counts as gone; more than _BLIND_NS, and an `add`.
SILENT_S: Final = 15.0
#: It is listed for so long after that.
FORGET_S: Final = 3_600.0


class RolloutState(msgspec.Struct, frozen=True):
    """What the rollout key holds."""

    phase: int
    by: str = ""
    changed_ms: int = 0


class ProcessEntry(msgspec.Struct, frozen=True):
    """What a process says of itself. `phases`: all that a call of it is working under just now.

    `pinned`: its settings name the phase, and it does not follow. `since_ms`: when it began
    to follow the newest of its phases, by the clock of Redis.
    """

    host: str
    pid: int
    role: str
    phases: tuple[int, ...]
    pinned: bool = False
    since_ms: int = 0
    version: str = ""


class Glance(NamedTuple):
    """One reading of the control keys. `state` is None where nobody ever set a phase."""

    now_ms: int
    rollout: bytes
    state: RolloutState
    pressure: str
    pressure_s: float


class Following(NamedTuple):
    """What holds for one call of the buffer: the phase, and whether to refuse what comes in."""

    phase: int
    #: None: go on. Else why `add` refuses; flushing goes on whatever it says.
    refusal: str | None = None
    retry_after_s: float = 0.0


def look(
    nodes: Nodes, keys: ControlKeys, *, identity: str = "", entry: ProcessEntry | None = None
) -> Glance:
    """Read the control keys, and give a sign of life with `entry`. Raises what redis-py does."""
    said = msgspec.json.encode(entry) if entry is not None else b""
    now_ms, rollout, pressure, lasts_ms = nodes.client.eval(
        script("look"), 3, keys.rollout, keys.processes, keys.pressure,
        identity, said, round(FORGET_S * 1_000),
    )  # fmt: skip
    return Glance(
        int(now_ms),
        rollout,
        state_of(rollout),
        pressure.decode("utf-8", "replace"),
        max(int(lasts_ms), 0) / 1_000,
    )


def state_of(rollout: bytes) -> RolloutState:
    """The state that the rollout key holds; phase -1 for what we cannot read."""
    if not rollout:
        return RolloutState(DEFAULT_PHASE)
    try:
        return msgspec.json.decode(rollout, type=RolloutState)
    except msgspec.DecodeError:
        return RolloutState(-1)


class Control:
    """One process's view of the control keys, for all its threads.

    `role` is what `afterglow buffer rollout status` calls this process (collector, flusher ...);
    for others than a library, a thread looks once a second, unless the clock is moved by hand.
    The first look is made at once: raises SpanBufferError when Redis is away or the phase is one
    that this version does not know.
    """

    def __init__(
        self,
        nodes: Nodes,
        config: BufferConfig,
        *,
        role: str = "library",
        clock: Clock | None = None,
        known_phases: Sequence[int] = PHASES,
    ) -> None:
        self._nodes = nodes
        self._keys = ControlKeys(config.key_prefix)
        self._clock = clock or SystemClock()
        self._pinned = config.rollout_phase
        self._known = tuple(known_phases)
        self._host, self._pid, self._role = socket.gethostname(), os.getpid(), role
        self.identity = f"{self._host}:{self._pid}:{os.urandom(4).hex()}"
        #: Guards the fields below; held for no longer than it takes to read and set them.
        self._lock = threading.Lock()
        #: Held by the one thread that looks.
        self._looking = threading.Lock()
        #: How many calls are working under which phase.
        self._running: Counter[int] = Counter()
        self._phase = DEFAULT_PHASE if self._pinned is None else self._pinned
        self._since_ms = 0
        self._refusal: tuple[str, float] | None = None
        self._looked_ns = self._clock.monotonic_ns() - _LOOK_NS
        self._seen_ns = self._looked_ns
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        with saying_so(nodes.address):
            self._look()
            if self._phase not in self._known:
                self.leave()
                raise unknown_phase(self._phase, nodes.address.url)
            self._look()
        if role != "library" and clock is None:
            self._thread = threading.Thread(
                target=self._watch, name="afterglow buffer control", daemon=True
            )
            self._thread.start()

    @contextmanager
    def following(self) -> Iterator[Following]:
        """What holds for the call inside; leaving it says that the call is over.

        Looks first when the last look is a second old. A look that fails is no reason to
        refuse for a few seconds: then nobody knows what an operator may have changed.
        """
        self.refresh()
        with self._lock:
            now = self._present()
            self._running[now.phase] += 1
        try:
            yield now
        finally:
            with self._lock:
                self._running[now.phase] -= 1
                if not self._running[now.phase]:
                    del self._running[now.phase]

    def refresh(self) -> None:
        """Look if the last look is a second old and nobody is looking; loops call it when idle."""
        now_ns = self._clock.monotonic_ns()
        blind = now_ns - self._seen_ns >= _BLIND_NS
        if now_ns - self._looked_ns < _LOOK_NS or not self._looking.acquire(blocking=blind):
            return
        try:
            # What was just learnt is what this process says of itself, at once.
            if self._clock.monotonic_ns() - self._looked_ns >= _LOOK_NS and self._look():
                self._look()
        except redis_errors():
            pass  # _present() says so once it has lasted; the call itself meets the same trouble
        finally:
            self._looking.release()

    def leave(self) -> None:
        """This process uses the buffer no more; closing calls it, and it never raises."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        try:
            self._nodes.client.hdel(self._keys.processes, self.identity)
        except redis_errors():
            return  # it will be silent, which says the same a little later

    def _watch(self) -> None:
        while not self._clock.wait(self._stop, _LOOK_NS / 1e9):
            self.refresh()

    def _present(self) -> Following:
        if self._phase not in self._known:
            why = f"the rollout is in phase {self._phase}, which this version does not know"
            return Following(max(self._known), why, 5.0)
        if self._clock.monotonic_ns() - self._seen_ns >= _BLIND_NS:
            return Following(self._phase, "the control keys cannot be read", 1.0)
        if self._refusal is not None:
            return Following(self._phase, *self._refusal)
        return Following(self._phase)

    def _look(self) -> bool:
        """Read, and say; whether the phase is another one than was said."""
        begun_ns = self._clock.monotonic_ns()
        self._looked_ns = begun_ns
        glance = look(self._nodes, self._keys, identity=self.identity, entry=self._entry())
        phase = glance.state.phase if self._pinned is None else self._pinned
        with self._lock:
            changed = phase != self._phase or not self._since_ms
            if changed:
                self._phase, self._since_ms = phase, glance.now_ms
            refused = glance.pressure_s > 0 and glance.pressure
            self._refusal = (glance.pressure, glance.pressure_s) if refused else None
            self._seen_ns = begun_ns
        return changed

    def _entry(self) -> ProcessEntry:
        with self._lock:
            return ProcessEntry(
                self._host,
                self._pid,
                self._role,
                tuple(sorted({self._phase, *self._running})),
                self._pinned is not None,
                self._since_ms,
                VERSION,
            )


def unknown_phase(phase: int, url: str) -> Exception:
    """The error of a phase that this version does not know."""
    from afterglow.errors import RolloutError

    return RolloutError(
        f"the rollout of {url} is in phase {phase}, which Afterglow {VERSION} does not know: "
        "upgrade this process"
    )
