"""`afterglow run`, from a line that is understood to the program's exit status."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afterglow.errors import AfterglowError
from afterglow.ui import failure
from afterglow.ui.runline import RunLine

__all__ = ["closing_lines", "launch"]


def launch(line: RunLine) -> int:
    """Run the program and record it; its exit status.

    What the program does, and how it ends, goes straight through: only what is wrong with the
    line itself (no such script, a setting that cannot be used) is ours to say.
    """
    raise NotImplementedError(line)


def closing_lines(
    path: Path, run_id: str, ledger: Mapping[str, Any], default: str | None
) -> list[str]:
    """What to say when the program has ended: how many spans went where, and how to look.

    `default` is the database that `afterglow report` takes by itself, None if nobody knows.
    """
    from shlex import quote

    from afterglow.ui.units import plural

    dropped = sum(ledger["dropped"].values())
    lost = f", {plural(dropped, 'span')} dropped (afterglow audit)" if dropped else ""
    named = "" if default is not None and Path(default).absolute() == path else f" {quote(str(path))}"
    return [
        f"{plural(ledger['written'], 'span')} in {path.name}, run {run_id[:12]}{lost}",
        f"look at them with: afterglow report{named}",
    ]
