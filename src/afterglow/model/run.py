"""A run: one execution of one program, of one or more processes."""

from __future__ import annotations

import msgspec

__all__ = ["Process", "Run"]


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a run, as its own writer described it."""

    run_id: str
    pid: int
    parent_pid: int
    argv: tuple[str, ...]
    host: str
    start_ns: int
    end_ns: int | None = None
    exit_status: int | None = None
    #: OpenTelemetry resource attributes: service.name, telemetry.sdk.*, process.runtime.* ...
    resource: dict[str, str] = {}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a reader sees it: its first process, and what all of them came to."""

    run_id: str
    argv: tuple[str, ...]
    host: str
    start_ns: int
    end_ns: int | None
    exit_status: int | None
    #: "running", "finished", or "interrupted": it was killed before it could say goodbye.
    state: str
    processes: int
    spans: int
    errors: int
    interrupted_spans: int
    dropped: int
    resource: dict[str, str] = {}
