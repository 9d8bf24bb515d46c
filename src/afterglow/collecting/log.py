"""What a service says: a line each, as text or JSON, never too many, never a secret.

Rooms say what is wrong through a `report(line)`, each kind once a minute (write/complaints.py);
libraries through `logging`. Both end here, where a rate holds for all of them together.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final, TextIO

import msgspec

from afterglow.clock import Clock, SystemClock
from afterglow.config import ServeConfig
from afterglow.config.collect import LogLevel
from afterglow.model.clean import safe_str
from afterglow.write.complaints import Complaints

__all__ = ["Log", "LogReport", "listen_to_logging"]

_RANK: Final[dict[LogLevel, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
#: The rate holds over so long: a burst of what is said in it may come at once.
_OVER_S: Final = 10.0
#: No line is longer: what a sender or server says may be anything.
_MOST_CHARS: Final = 2_000


class Log:
    """Writes lines; any thread may. It never raises: a stderr that is gone is nobody's fault.

    `secrets` are texts that are written as `***` wherever they turn up.
    """

    def __init__(
        self,
        config: ServeConfig,
        *,
        stream: TextIO | None = None,
        clock: Clock | None = None,
        secrets: Collection[str] = (),
    ) -> None:
        self._config = config
        self._stream = stream
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        #: The longest first, for one may be the beginning of another.
        self.secrets = tuple(sorted((s for s in secrets if s), key=len, reverse=True))
        self._burst = max(config.log_lines_per_s * _OVER_S, 1.0)
        self._tokens = self._burst
        self._filled_ns = self._clock.monotonic_ns()
        self._left_out = 0
        #: Lines that were left out since the start.
        self.left_out = 0

    def say(self, message: str, level: LogLevel = "info", *, part: str = "serve") -> None:
        """One line, unless it is below the level or too many were said lately."""
        if _RANK[level] < _RANK[self._config.log_level]:
            return
        with self._lock:
            left_out = self._take_token()
            if left_out is None:
                return
            if left_out:
                self._write(f"{left_out:,} lines were left out: too many at once", "warning", part)
            self._write(message, level, part)

    def report(self, message: str) -> None:
        """What a room complains of (write/complaints.py)."""
        self.say(message, "warning")

    def _take_token(self) -> int | None:
        """How many lines were left out before this one; None when this one is, too."""
        now_ns = self._clock.monotonic_ns()
        grown = (now_ns - self._filled_ns) / 1e9 * self._config.log_lines_per_s
        self._tokens = min(self._tokens + grown, self._burst)
        self._filled_ns = now_ns
        if self._tokens < 1.0:
            self._left_out += 1
            self.left_out += 1
            return None
        self._tokens -= 1.0
        left_out, self._left_out = self._left_out, 0
        return left_out

    def _write(self, message: str, level: LogLevel, part: str) -> None:
        line = " ".join(safe_str(message).split())
        for secret in self.secrets:
            line = line.replace(secret, "***")
        if len(line) > _MOST_CHARS:
            line = line[: _MOST_CHARS - 1] + "…"
        when = datetime.fromtimestamp(self._clock.wall_ns() / 1e9, UTC)
        stamp = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._config.log_format == "json":
            fields = {"time": stamp, "level": level, "part": part, "message": line}
            text = msgspec.json.encode(fields).decode()
        else:
            shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
            text = f"{stamp} {level:7} {part}: {shown}"
        try:
            stream = self._stream or sys.stderr
            encoding = getattr(stream, "encoding", None) or "utf-8"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            stream.flush()
        except (AttributeError, OSError, ValueError):
            return


class LogReport:
    """A `report` for another process, which it goes to by pickle: a log of its own there."""

    def __init__(self, config: ServeConfig, part: str, secrets: Collection[str] = ()) -> None:
        self._made = (config, part, tuple(secrets))
        self._log: Log | None = None

    def __call__(self, message: str) -> None:
        config, part, secrets = self._made
        if self._log is None:
            self._log = Log(config, secrets=secrets)
        self._log.say(message, "warning", part=part)

    def __reduce__(self) -> tuple[object, ...]:
        return (LogReport, self._made)


class _Listener(logging.Handler):
    """Hands on what libraries log: each kind once a minute."""

    def __init__(self, log: Log, clock: Clock) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._said: tuple[str, str] = ("", "")
        self._complaints = Complaints(self._hand_on, clock)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                error = record.exc_info[1]
                message = f"{message}: {type(error).__name__}: {safe_str(error)}"
            level = "error" if record.levelno >= logging.ERROR else "warning"
            self._said = (level, record.name.partition(".")[0])
            self._complaints.say(f"{record.name} {record.msg}", message)
        except Exception:  # noqa: BLE001  a log line must not end what it tells of
            return

    def _hand_on(self, message: str) -> None:
        level, part = self._said
        self._log.say(message, "error" if level == "error" else "warning", part=part)


def listen_to_logging(log: Log, clock: Clock | None = None) -> logging.Handler:
    """What anybody logs as a warning or worse goes to `log` from now on; the handler for it."""
    handler = _Listener(log, clock or SystemClock())
    root = logging.getLogger()
    root.addHandler(handler)
    return handler
