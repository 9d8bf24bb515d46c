"""Runs flushers as processes, and watches them.

It starts in this order: leases of shards, processes, then whoever called it; `stop` is the mirror:
processes (each finishes its page and gives back the rest), then leases. A flusher that dies, or
gives no sign of life, is started again; what it had taken is delivered by another once its lease
is over, with the same message ids.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Collection
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from random import Random
from typing import Final, NamedTuple, Protocol

from afterglow.clock import Clock, SystemClock
from afterglow.config import FlushConfig
from afterglow.counts import Counted
from afterglow.errors import FlusherError
from afterglow.flush.child import Assign, Beat, Failed, MakeFlusher, Stop, run_flusher
from afterglow.flush.flusher import FlushCounts
from afterglow.flush.supervise_plan import MOST_DEATHS, Life, begun, died, heard, is_hung, shares
from afterglow.flush.tally import Tally
from afterglow.write.complaints import Complaints, to_stderr

__all__ = ["AllShards", "FlusherStatus", "Leases", "Supervisor"]

#: It looks round this often when nothing happens; whatever happens wakes it at once.
_ROUND_S: Final = 0.5
#: A flusher that stops goes on with what it has taken for so much of the time there is.
_STOP_SHARE: Final = 0.5
#: Giving back the shards is a courtesy to the other hosts: not waited for any longer.
_LEAVE_S: Final = 3.0
_NONE: Final[frozenset[int]] = frozenset()


class Leases(Protocol):
    """Which shards are this host's; never raises."""

    def step(self, in_use: Collection[int]) -> frozenset[int]: ...

    def leave(self) -> None: ...


class AllShards:
    """For a host that flushes alone."""

    def __init__(self, shards: int) -> None:
        self._shards = frozenset(range(shards))

    def step(self, in_use: Collection[int]) -> frozenset[int]:
        return self._shards

    def leave(self) -> None: ...


class FlusherStatus(NamedTuple):
    """One flusher as it stands; `pid` is None between two processes.

    `counts`, and what its sinks `counted`, are of all processes that it has been.
    """

    number: int
    pid: int | None
    state: str
    deaths_in_a_row: int
    deaths: int
    shards: frozenset[int]
    counts: FlushCounts
    counted: Counted


class _Flusher:
    """What the supervisor keeps of one flusher; its thread alone touches it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.life = Life()
        self.process: BaseProcess | None = None
        self.pipe: Connection | None = None
        self.assigned: frozenset[int] | None = None
        self.in_use: frozenset[int] = frozenset()
        self.tally = Tally()
        self.deaths = 0
        self.failed: Failed | None = None


class Supervisor:
    """`start`, then `step` in a loop, then `stop`; all in one thread."""

    def __init__(
        self,
        make: MakeFlusher,
        *,
        config: FlushConfig | None = None,
        leases: Leases,
        clock: Clock | None = None,
        report: Callable[[str], None] = to_stderr,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self._make = make
        self._config = config or FlushConfig()
        self._leases = leases
        self._clock = clock or SystemClock()
        self._complaints = Complaints(report, self._clock)
        self._chance = chance or Random().random
        # spawn, not fork: whoever starts us may have threads, connections and locks.
        self._context = multiprocessing.get_context("spawn")
        self._flushers = [_Flusher(number) for number in range(self._config.flushers)]

    def status(self) -> list[FlusherStatus]:
        """Each flusher as it stands."""
        return [
            FlusherStatus(
                one.number,
                one.process.pid if one.process is not None else None,
                one.life.state,
                one.life.deaths,
                one.deaths,
                one.in_use,
                one.tally.counts(),
                one.tally.counted(),
            )
            for one in self._flushers
        ]

    @property
    def healthy(self) -> bool:
        """Whether every flusher runs and was heard of."""
        return all(one.life.state == "healthy" for one in self._flushers)

    def start(self, wake: Connection | None = None) -> None:
        """Start the flushers, and wait until all are healthy, or `wake` has something to read.

        Raises FlusherError, with the reason of one that is not, after `start_timeout_s`, or at
        once for a reason that will not go away; nothing runs then.
        """
        until_ns = self._clock.monotonic_ns() + round(self._config.start_timeout_s * 1e9)
        try:
            while not self.healthy and not (wake is not None and wake.poll()):
                self.step(
                    wake=wake, round_s=max((until_ns - self._clock.monotonic_ns()) / 1e9, 0.0)
                )
                hopeless = [one for one in self._flushers if one.failed and one.failed.for_ever]
                if hopeless:
                    raise FlusherError(f"cannot start flushers: {_why(hopeless[0])}")
                if self._clock.monotonic_ns() >= until_ns and not self.healthy:
                    late = next(one for one in self._flushers if one.life.state != "healthy")
                    raise FlusherError(
                        f"flusher {late.number} was not healthy within "
                        f"{self._config.start_timeout_s:g} s: {_why(late)}"
                    )
        except BaseException:
            self.stop()
            raise

    def step(self, *, wake: Connection | None = None, round_s: float = _ROUND_S) -> None:
        """Hear, bury, start again, assign; then wait until something happens, or `round_s`.

        `wake` is something else to wait for. Raises FlusherError when a flusher died more than
        ten times in a row.
        """
        for one in self._flushers:
            self._hear(one)
            self._look_after(one)
        self._assign()
        self._wait(wake, round_s)

    def stop(self) -> None:
        """Let every flusher finish its page, then give back the shards. May be called twice.

        One that has not ended after `stop_timeout_s` is killed; its leases end by themselves.
        """
        for one in reversed(self._flushers):
            self._send(one, Stop())
        until_ns = self._clock.monotonic_ns() + round(self._config.stop_timeout_s * 1e9)
        for one in reversed(self._flushers):
            if one.process is None:
                continue
            one.process.join(max((until_ns - self._clock.monotonic_ns()) / 1e9, 0.0))
            if one.process.exitcode is None:
                self._complaints.tell(
                    f"flusher {one.number} did not stop within {self._config.stop_timeout_s:g} s: "
                    "killed; what it had taken goes out again"
                )
                one.process.kill()
            self._hear(one)
            self._bury(one)
            one.life = Life()
        self._leave()

    def _leave(self) -> None:
        """Give back the shards, which a Redis that hangs may keep us from: others take them then,
        when the leases are over."""
        leaving = threading.Thread(
            target=self._leases.leave, name="afterglow leaves its shards", daemon=True
        )
        leaving.start()
        leaving.join(_LEAVE_S)

    # --- one flusher ---------------------------------------------------------------------------

    def _look_after(self, one: _Flusher) -> None:
        now_ns = self._clock.monotonic_ns()
        if one.process is not None:
            if one.process.exitcode is None and is_hung(one.life, now_ns, self._config):
                one.failed = one.failed or Failed("it gave no sign of life and was killed", False)
                one.process.kill()
                one.process.join()
            if one.process.exitcode is not None:
                self._hear(one)
                self._died(one, now_ns)
        if one.process is None and now_ns >= one.life.since_ns:
            self._launch(one, now_ns)

    def _died(self, one: _Flusher, now_ns: int) -> None:
        one.failed = one.failed or Failed(_ended(one.process), False)
        self._bury(one)
        one.deaths += 1
        one.life = died(one.life, now_ns, self._config, self._chance())
        if one.life.deaths > MOST_DEATHS:
            raise FlusherError(
                f"flusher {one.number} died {one.life.deaths} times in a row, the last time: "
                f"{_why(one)}; what it held goes out when flushers run again"
            )
        wait_s = max(one.life.since_ns - now_ns, 0) / 1e9
        self._complaints.tell(
            f"flusher {one.number} died ({_why(one)}); death {one.life.deaths} in a row, starting "
            f"it again in {wait_s:.1f} s"
        )

    def _launch(self, one: _Flusher, now_ns: int) -> None:
        ours, theirs = self._context.Pipe()
        one.process = self._context.Process(
            target=run_flusher,
            args=(self._make, one.number, theirs, self._config.stop_timeout_s * _STOP_SHARE),
            name=f"afterglow flusher {one.number}",
            daemon=True,
        )
        # What is meant for the whole group is for us to answer, from the child's first moment on:
        # it inherits what is blocked here. (Starting the tracker, once, unblocks both.)
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            one.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        one.tally.begun()
        one.pipe, one.assigned, one.failed = ours, None, None
        one.life = begun(one.life, now_ns)

    def _bury(self, one: _Flusher) -> None:
        if one.process is not None:
            one.process.join()
            one.process.close()
        if one.pipe is not None:
            one.pipe.close()
        one.process = one.pipe = one.assigned = None
        one.in_use = frozenset()

    def _hear(self, one: _Flusher) -> None:
        try:
            while one.pipe is not None and one.pipe.poll():
                message = one.pipe.recv()
                if isinstance(message, Beat):
                    one.life = heard(one.life, self._clock.monotonic_ns())
                    one.in_use = message.shards or frozenset()
                    one.tally.heard(message.counts, message.counted)
                elif isinstance(message, Failed):
                    one.failed = message
        except (EOFError, OSError):
            return  # it is dying; its exit says so

    def _send(self, one: _Flusher, message: Assign | Stop) -> bool:
        try:
            if one.pipe is not None:
                one.pipe.send(message)
                return True
        except OSError:
            pass
        return False

    # --- all of them ---------------------------------------------------------------------------

    def _assign(self) -> None:
        # What a flusher was told counts from then on; what it still says, until it says so.
        in_use = frozenset().union(
            *(one.in_use | (one.assigned or _NONE) for one in self._flushers)
        )
        ours = self._leases.step(in_use)
        for one, share in zip(self._flushers, shares(ours, len(self._flushers)), strict=True):
            if (
                one.life.state == "healthy"
                and one.assigned != share
                and self._send(one, Assign(share))
            ):
                one.assigned = share

    def _wait(self, wake: Connection | None, round_s: float) -> None:
        now_ns = self._clock.monotonic_ns()
        starts = [one.life.since_ns for one in self._flushers if one.process is None]
        until_s = min([round_s, _ROUND_S, *(max(due - now_ns, 0) / 1e9 for due in starts)])
        ready = [one.pipe for one in self._flushers if one.pipe is not None]
        ended = [one.process.sentinel for one in self._flushers if one.process is not None]
        wait([*ready, *ended, *([wake] if wake is not None else [])], until_s)


def _why(one: _Flusher) -> str:
    if one.failed is not None:
        return one.failed.reason
    return "it did not say why" if one.process is None else "it has not answered yet"


def _ended(process: BaseProcess | None) -> str:
    code = process.exitcode if process is not None else None
    if code is not None and code < 0:
        return f"killed by signal {-code}"
    return f"exit code {code}"
