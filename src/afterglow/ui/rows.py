"""`afterglow sql`: rows of any query as a table, JSON or CSV; none of it holds all rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TextIO

import msgspec
from rich.text import Text

from afterglow.ui import screen as styles
from afterglow.ui.screen import Column, Screen
from afterglow.ui.text import cell_len, clip, printable

__all__ = ["print_rows", "write_csv", "write_json_rows"]

_PAGE: Final = 200  # the rows of the first page say how wide columns are at least
_WIDEST: Final = 60  # columns of a text on a terminal; where nobody watches, texts are whole


def print_rows(screen: Screen, titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table, page by page."""
    if not titles:
        return
    rest = iter(rows)
    widest = None if screen.width is None else _WIDEST
    page = list(islice(rest, _PAGE))
    cells = [[_cell(value, widest) for value in row] for row in page]
    columns = [
        Column(
            printable(title),
            right=all(isinstance(row[i], int | float | None) for row in page),
            least=max((cell_len(row[i].plain) for row in cells), default=0),
        )
        for i, title in enumerate(titles)
    ]
    screen.grid(columns, cells)
    while page := list(islice(rest, _PAGE)):
        cells = [[_cell(value, widest) for value in row] for row in page]
        screen.grid(columns, cells, titled=False)


def _cell(value: Any, widest: int | None) -> Text:
    if value is None:
        return Text("null", styles.QUIET)
    text = value.hex() if isinstance(value, bytes) else str(value)
    if widest is None:
        return Text(printable(text))
    # Cut before it is looked through: it may be megabytes long.
    return Text(clip(printable(text[: widest + 1]), widest, mark="..."))


def _plain(row: Iterable[Any]) -> Iterator[Any]:
    return (value.hex() if isinstance(value, bytes) else value for value in row)


def write_csv(file: TextIO, titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """RFC 4180 with a line of titles; null is an empty field, a blob is hexadecimal."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows(list(_plain(row)) for row in rows)


def write_json_rows(file: TextIO, titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """One JSON array of an object a row; a blob is hexadecimal."""
    encode = msgspec.json.encode
    separator = "["
    for row in rows:
        file.write(separator + encode(dict(zip(titles, _plain(row), strict=True))).decode())
        separator = ",\n"
    file.write("]\n" if separator != "[" else "[]\n")
