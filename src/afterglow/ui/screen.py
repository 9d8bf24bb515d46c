"""The terminal: how wide, which colours, which glyphs; and lines in aligned columns.

On a terminal, lines are made to fit. Where nobody watches (a pipe, a file) there are no
colours and no cuts, unless COLUMNS says how wide to be.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TextIO

from rich.console import Console
from rich.text import Text

from afterglow.ui.text import cell_len

__all__ = ["Column", "Screen", "heat"]

# Mid tones that can be read on black and on white.
HOT: Final = "bold #e5484d"
WARM: Final = "#e2762a"
MILD: Final = "#c9922a"
BAD: Final = "bold #e5484d"
WARNING: Final = "#c9922a"
GOOD: Final = "#3d9a6a"
QUIET: Final = "bright_black"

_WIDEST: Final = 100  # columns of a name where nothing else bounds it


class Glyphs(NamedTuple):
    """The marks we draw with."""

    dot: str
    cut: str
    error: str
    tee: str
    elbow: str
    pipe: str


_UNICODE: Final = Glyphs("·", "…", "✗", "├ ", "└ ", "│ ")
_ASCII: Final = Glyphs("-", "..", "!", "|-", "`-", "| ")


def heat(share: float) -> str:
    """The style of a number that is this share of the whole time."""
    if share >= 0.25:
        return HOT
    if share >= 0.10:
        return WARM
    if share >= 0.03:
        return MILD
    return "" if share >= 0.005 else QUIET


class Column(NamedTuple):
    """One column of a grid."""

    title: str
    right: bool = True
    #: The least width, title aside.
    least: int = 0


Part = Text | str | tuple[str, str]


def _assembled(parts: Iterable[Part]) -> Text:
    text = Text()
    for part in parts:
        if isinstance(part, Text):
            text.append_text(part)
        elif isinstance(part, str):
            text.append(part)
        else:
            text.append(*part)
    return text


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the commands how to end; rich would exit with 1 here."""
        raise BrokenPipeError


class Screen:
    """Where a command prints. `width` is None where lines may be as long as they are."""

    def __init__(self, *, file: TextIO | None = None, console: Console | None = None) -> None:
        file = file or sys.stdout
        self.console = console or _Console(
            file=file, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        columns = os.environ.get("COLUMNS", "")
        fits = self.console.is_terminal or self.console.record or columns.isdecimal()
        # Narrower than 40 nothing aligns: then the terminal wraps, and so be it.
        self.width: int | None = max(self.console.width, 40) if fits else None
        self.ascii_only = not self.console.encoding.lower().startswith(("utf", "cp65001"))
        self.glyphs = _ASCII if self.ascii_only else _UNICODE

    @property
    def name_width(self) -> int:
        """The most columns that a name may take when nothing else needs room."""
        return _WIDEST if self.width is None else self.width

    def line(self, *parts: Part) -> None:
        """Print one line of texts, plain or with a style; it is as long as it is."""
        text = _assembled(parts)
        text.rstrip()
        self.console.print(text, soft_wrap=True)

    def prose(self, *parts: Part) -> None:
        """The same, wrapped between words where the screen ends."""
        self.console.print(_assembled(parts), soft_wrap=self.width is None, no_wrap=False)

    def joined(self, parts: Iterable[tuple[str, str]]) -> Text:
        """Texts with their styles, a quiet dot between them; empty ones are left out."""
        dot = Text().append(f" {self.glyphs.dot} ", QUIET)
        return dot.join(Text(text, style) for text, style in parts if text)

    def grid(
        self, columns: Sequence[Column], rows: Sequence[Sequence[Text]], *, titled: bool = True
    ) -> None:
        """Print rows under a line of titles, two spaces between columns."""
        widths = [
            max([column.least, cell_len(column.title), *(cell_len(row[i].plain) for row in rows)])
            for i, column in enumerate(columns)
        ]
        titles = [Text(column.title, QUIET) for column in columns]
        for row in (titles, *rows) if titled else rows:
            line = Text()
            for i, (column, width, cell) in enumerate(zip(columns, widths, row, strict=True)):
                space = " " * (width - cell_len(cell.plain))
                line.append("  " if i else "")
                line.append_text(Text(space) + cell if column.right else cell + Text(space))
            self.line(line)
