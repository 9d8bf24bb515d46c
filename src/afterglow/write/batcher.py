"""When a batch is due, how large it is, and how long the writer sleeps: pure rules.

Nobody signals the writer that spans wait (a signal would cost every span): it looks. So these
numbers bound what a kill -9 can cost and what a burst can overflow.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LARGEST_BATCH", "batch_due", "batch_spans", "pause_ns", "threshold"]

_MS: Final = 1_000_000

#: More than this are never taken at once: preparing them and dropping them afterwards holds the
#: interpreter lock for about 0.4 us a span. Measured beside a busy thread that puts 200,000
#: spans/s: with 8,192 the queue grows to 116,000, with this it stays below 30,000.
LARGEST_BATCH: Final = 16_384

#: How often the writer looks while spans come, and while none have come for `_RECENT_NS`.
_BUSY_NS: Final = 50 * _MS
_IDLE_NS: Final = 200 * _MS
_RECENT_NS: Final = 1_000 * _MS
_SHORTEST_NS: Final = 5 * _MS

#: The burst we stand from idle: at so many spans a second the pause may fill half the queue.
_BURST_PER_S: Final = 200_000


def threshold(batch_size: int, max_queue_size: int) -> int:
    """Spans that wait when a batch is due: never more than half of what the queue holds."""
    return max(1, min(batch_size, max_queue_size // 2))


def batch_due(waiting: int, age_ns: int, threshold: int, flush_interval_ns: int) -> bool:
    """Whether to write now; `age_ns` bounds how long the oldest of those that wait has waited."""
    return waiting >= threshold or (waiting > 0 and age_ns >= flush_interval_ns)


def batch_spans(waiting: int, batch_size: int) -> int:
    """How many to take of those that wait.

    All of them up to twice the batch size. With a backlog, larger batches: beside a busy
    program each statement waits for the interpreter lock for 5 ms a time, whatever its size.
    """
    if waiting <= 2 * batch_size:
        return waiting
    return min(waiting, max(2 * batch_size, LARGEST_BATCH))


def pause_ns(age_ns: int, quiet_ns: int, flush_interval_ns: int, max_queue_size: int) -> int:
    """How long to sleep before the next look, given that no batch is due.

    `quiet_ns`: since a look last found spans. A batch falls due `flush_interval_ns` after the
    oldest span in it, at the latest; a burst of _BURST_PER_S that begins while we sleep must
    leave half of the queue free; and idle programs are not to be woken for nothing.
    """
    longest = _BUSY_NS if quiet_ns < _RECENT_NS else _IDLE_NS
    half_queue = max_queue_size * 500_000_000 // _BURST_PER_S
    until_due = max(flush_interval_ns - age_ns, 0)
    return max(1 * _MS, min(longest, max(half_queue, _SHORTEST_NS), until_due))
