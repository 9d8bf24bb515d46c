"""The supervisor of the flusher processes in a thread, for the main thread waits for signals."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing import Pipe

from afterglow.flush.supervisor import FlusherStatus, Supervisor

__all__ = ["SupervisorThread"]


class SupervisorThread:
    """`start`, which waits until all flushers are healthy; then `close`, which may come twice.

    What ends it by itself is in `failure`, and `ended` is called, in its thread.
    """

    def __init__(
        self,
        supervised: Callable[[], AbstractContextManager[Supervisor]],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._supervised = supervised
        self._told = ended
        self._woken, self._wake = Pipe(duplex=False)
        self._started = threading.Event()
        self.failure: BaseException | None = None
        #: Each flusher as it stood a moment ago.
        self.status: list[FlusherStatus] = []
        self._thread = threading.Thread(
            target=self._run, name="afterglow supervisor of flushers", daemon=True
        )

    @property
    def is_alive(self) -> bool:
        """Whether it looks after the flushers."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Raises what kept the flushers from starting: FlusherError, SpanBufferError ..."""
        self._thread.start()
        self._started.wait()
        if self.failure is not None:
            self._thread.join()
            raise self.failure

    def wake(self) -> None:
        """Let it stop, also while it starts; does not wait, and may be called by anybody."""
        with contextlib.suppress(OSError, ValueError):
            self._wake.send_bytes(b"stop")

    def close(self) -> None:
        """Each flusher finishes its page and gives back the rest; killed after a while."""
        self.wake()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            with self._supervised() as supervisor:
                try:
                    supervisor.start(self._woken)
                    self.status = supervisor.status()
                    self._started.set()
                    while not self._woken.poll():
                        supervisor.step(wake=self._woken)
                        self.status = supervisor.status()
                finally:
                    supervisor.stop()
        except BaseException as error:  # noqa: BLE001  whoever waits for it raises it
            self.failure = error
        finally:
            self._started.set()
            self._told()
