"""For the promise that recording takes no lock: a lock that tells who acquired it."""

from __future__ import annotations

import threading
from typing import Any

# Loaded before any test replaces threading.Lock: what is imported meanwhile would keep ours.
import afterglow.wiring  # noqa: F401


class CountingLock:
    """A lock that remembers which threads acquired it."""

    acquired_by: list[int] = []  # noqa: RUF012  shared by all of them on purpose
    real = threading.Lock

    def __init__(self) -> None:
        self._lock = self.real()

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        self.acquired_by.append(threading.get_ident())
        return self._lock.acquire(*args, **kwargs)

    def release(self) -> None:
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
