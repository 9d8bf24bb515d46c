"""Draw docs/report.svg: what `afterglow report` shows of a database, as a terminal shows it.

    python scripts/picture.py DATABASE [--run ID] [--tree] [--limit N] [--width N] [--out FILE]

The README has the picture; make it from a real run. Needs nothing but Afterglow itself.
"""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

from rich.console import Console

import afterglow
from afterglow.ui import reading
from afterglow.ui.screen import Screen

ROOT = Path(__file__).resolve().parent.parent
# The picture asks nobody for a font: whoever looks has one of these.
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def draw(options: argparse.Namespace) -> str:
    """The SVG of a report."""
    console = Console(
        record=True,
        width=options.width,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
    )
    screen = Screen(console=console)
    limit = options.limit
    with afterglow.open(options.database) as database:
        run = reading.one_run(database, options.run)
        if options.tree:
            reading.draw_trees(screen, database, run, limit=limit, lines=options.lines, depth=16)
        else:
            found = reading.figures(database, run, limit=limit, name_glob=None, sort="self")
            reading.draw_table(screen, found, sort="self", limit=limit)
    title = "afterglow report --tree" if options.tree else "afterglow report"
    svg = console.export_svg(title=title, unique_id="report")
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", FONTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("database")
    parser.add_argument("--run")
    parser.add_argument("--tree", action="store_true")
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--lines", type=int, default=30)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "report.svg")
    options = parser.parse_args()
    options.out.write_text(draw(options), encoding="utf-8")
    print(options.out)


if __name__ == "__main__":
    main()
