"""What the writer has to say to a person: on one line, each kind once a minute."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from afterglow.clock import Clock
from afterglow.model.clean import safe_str

__all__ = ["Complaints", "to_stderr"]

_AGAIN_NS: Final = 60_000_000_000


def to_stderr(message: str) -> None:
    """Print one line where a person may see it; never raises."""
    try:
        print(f"afterglow: {message}", file=sys.stderr, flush=True)
    except Exception:  # noqa: BLE001  a closed or missing stderr is the program's own affair
        return


class Complaints:
    """Passes on what went wrong, and remembers that it did. One thread at a time."""

    def __init__(self, report: Callable[[str], None], clock: Clock) -> None:
        self._report = report
        self._clock = clock
        self._said_ns: dict[str, int] = {}
        #: How often each kind of thing went wrong, said or not.
        self.counted: dict[str, int] = {}

    def say(self, kind: str, message: str) -> None:
        """Report unless the same kind was reported within the last minute; always count."""
        self.counted[kind] = self.counted.get(kind, 0) + 1
        now = self._clock.monotonic_ns()
        said = self._said_ns.get(kind)
        if said is None or now - said >= _AGAIN_NS:
            self._said_ns[kind] = now
            self.tell(message)

    def say_error(self, kind: str, doing: str, error: BaseException) -> None:
        """The same, of an exception that nobody foresaw."""
        self.say(kind, f"{doing}: {type(error).__name__}: {safe_str(error)}")

    def over(self, kind: str, message: str) -> None:
        """What was reported is over: say so too, and report it at once if it comes again."""
        if self._said_ns.pop(kind, None) is not None:
            self.tell(message)

    def tell(self, message: str) -> None:
        """Report at once."""
        try:
            self._report(" ".join(message.split()))
        except Exception:  # noqa: BLE001  the writer goes on whatever its listener does
            to_stderr(message)
