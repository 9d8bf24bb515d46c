"""What this process uses, for /metrics. What a system does not say is left out."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from afterglow.collecting.exposition import Sample

__all__ = ["process_samples"]


def process_samples(start_ns: int) -> Iterator[Sample]:
    """CPU, memory and file descriptors now; `start_ns` is when it began."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield Sample("process_cpu_seconds_total", used.ru_utime + used.ru_stime)
    yield Sample("process_start_time_seconds", start_ns / 1e9)
    memory = _resident_bytes()
    if memory is not None:
        yield Sample("process_resident_memory_bytes", memory)
    with contextlib.suppress(OSError):
        yield Sample("process_open_fds", len(os.listdir("/proc/self/fd")))  # noqa: PTH208
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        yield Sample("process_max_fds", soft)


def _resident_bytes() -> int | None:
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
