"""Every error that Afterglow raises, in one tree.

    AfterglowError
    ├── SettingError (also ValueError)   a setting, argument or environment variable is off
    ├── StoreError                       a file that we were asked to read or write
    │   ├── NotAStoreError               it is no Afterglow database
    │   ├── NewerStoreError              a newer Afterglow wrote it
    │   ├── StoreBusyError               another process holds it for too long
    │   ├── DamagedStoreError            it cannot be read whole
    │   └── StaleSnapshotError           restoring it would undo what came after it
    ├── EntryError (also ValueError)     an entry cannot be kept as it was given
    ├── NotFoundError (also LookupError) a run, trace or span that is not there
    ├── SinkError                        a sink will never take this batch
    │   ├── SinkUnavailableError         not now: the writer tries the same batch again
    │   └── UnencodableError             a value in it: the writer cleans the batch and tries again
    ├── SpanBufferError                  the span buffer cannot be reached, or used as asked
    │   └── RolloutError                 a step of the rollout was refused
    ├── SpoolError                       the folder of a spool, or its disk, does not do its part
    │   ├── SpoolFullError               its disk is full, or it holds as much as it may
    │   └── SpoolBusyError               another process has it
    ├── OtlpError                        what a sender sent as OTLP cannot be taken
    │   ├── MalformedOtlpError           it is no OTLP, or not whole: never send it again
    │   └── OtlpLimitError               it is larger or deeper than we take
    ├── FlusherError                     the flushers did not start, or died again and again
    └── MissingExtraError (also ImportError)  an optional dependency is not installed

Each message says what to do next, on one line. Recording never raises any of these into
the program that is watched: there, what goes wrong is counted and reported instead.
"""

from __future__ import annotations

__all__ = [
    "AfterglowError",
    "DamagedStoreError",
    "EntryError",
    "FlusherError",
    "MalformedOtlpError",
    "MissingExtraError",
    "NewerStoreError",
    "NotAStoreError",
    "NotFoundError",
    "OtlpError",
    "OtlpLimitError",
    "RolloutError",
    "SettingError",
    "SinkError",
    "SinkUnavailableError",
    "SpanBufferError",
    "SpoolBusyError",
    "SpoolError",
    "SpoolFullError",
    "StaleSnapshotError",
    "StoreBusyError",
    "StoreError",
    "UnencodableError",
]


class AfterglowError(Exception):
    """The root of the tree."""


class SettingError(AfterglowError, ValueError):
    """A setting has a value that cannot be used; the message names it and what it takes."""


class StoreError(AfterglowError):
    """A file cannot be used as asked; the message names the file."""


class NotAStoreError(StoreError):
    """The file is there but is no Afterglow database."""


class NewerStoreError(StoreError):
    """The file was written by a newer version: upgrade Afterglow to read it."""


class StoreBusyError(StoreError):
    """Another process held the file for longer than we wait."""


class DamagedStoreError(StoreError):
    """The file is ours but cannot be read whole."""


class StaleSnapshotError(StoreError):
    """The store has changed since the snapshot, or is not the one it was taken of."""


class EntryError(AfterglowError, ValueError):
    """An entry cannot be kept as it was given; the message says what is wrong with it."""


class NotFoundError(AfterglowError, LookupError):
    """What was asked for by name or id is not in the file."""


class SinkError(AfterglowError):
    """A sink will never take this batch; the writer counts its spans as dropped."""


class SinkUnavailableError(SinkError):
    """A sink cannot take the batch now; the writer keeps it and tries again.

    `retry_after_s` is what the other side asked for: not before so many seconds. 0: it did not say.
    """

    def __init__(self, message: str = "", *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnencodableError(SinkError):
    """A batch holds a value that the sink's encoding cannot carry (a lone surrogate, 2**70)."""


class SpanBufferError(AfterglowError):
    """The span buffer cannot be reached or used as asked; the message names its URL."""


class RolloutError(SpanBufferError):
    """A step of the rollout would lose spans, or somebody else took one; nothing was changed."""


class SpoolError(AfterglowError):
    """The folder or disk of a spool does not do its part; nothing is half there."""


class SpoolFullError(SpoolError):
    """The disk of a spool is full, or it holds as much as it may: the same may be given later."""


class SpoolBusyError(SpoolError):
    """Another process has the spool; the message names it."""


class OtlpError(AfterglowError):
    """A body that was sent as OTLP cannot be taken; the message says why, for whoever sent it."""


class MalformedOtlpError(OtlpError):
    """It is no OTLP, or not whole (HTTP 400, gRPC INVALID_ARGUMENT): sending it again is no use."""


class OtlpLimitError(OtlpError):
    """It is larger, deeper or more than we take (HTTP 413, gRPC RESOURCE_EXHAUSTED)."""


class FlusherError(AfterglowError):
    """The flushers did not become healthy in time, or one died too often in a row."""


class MissingExtraError(AfterglowError, ImportError):
    """An optional dependency is missing."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: pip install 'afterglow[{extra}]'")
        self.extra = extra
