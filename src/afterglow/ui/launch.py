"""`afterglow run`, from a line that is understood to the program."""

from __future__ import annotations

import sys
from pathlib import Path

from afterglow.errors import AfterglowError
from afterglow.ui import failure
from afterglow.ui.runline import RunLine

__all__ = ["launch"]


def launch(line: RunLine) -> int:
    """Run the program in the place of this process; the exit status where that cannot be.

    Python itself runs it, so its messages and its exit status are Python's and its own.
    """

    def closing(database: Path, run_id: str) -> list[str]:
        command = [sys.executable, "-m", "afterglow.ui.closing", str(database), run_id]
        return [*command, "quiet"] if line.quiet else command

    try:
        from afterglow import wiring

        wiring.run_program(
            line.target,
            line.arguments,
            is_module=line.is_module,
            run_id=line.run_id,
            otel=line.otel,
            closing=closing,
            settings={
                "database": line.database,
                "include": line.include,
                "exclude": line.exclude,
                "collapse": False if line.no_collapse else None,
                "service_name": line.service_name,
                "max_spans_per_second": line.max_spans_per_second,
            },
        )
    except (AfterglowError, OSError, KeyboardInterrupt) as error:
        return failure.ended_by(error)
