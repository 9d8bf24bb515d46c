"""`python -m benchmarks.keep`: the trace store at 1 k to 1 M entries, beside plain sqlite3.

--quick         two small sizes, few repetitions: shows that the harness works
--sizes N,N     other sizes
--folder DIR    where the files are made, 6 GB of them; left out: where temporary files are
--postgres      in PostgreSQL (a server is started for it), beside plain psycopg; to 100 k entries
--save          write benchmarks/results/<date>-<commit>-py<version>-keep.{md,json}
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.keep.measure import FULL, QUICK, measure
from benchmarks.keep.report import as_json, lines


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keep", description="See README.md.")
    parser.add_argument("--quick", action="store_true", help="shows that the harness works")
    parser.add_argument("--sizes", help="other sizes, even ones: 1000,100000")
    parser.add_argument("--folder", type=Path, help="where the files are made")
    parser.add_argument("--postgres", action="store_true", help="in PostgreSQL")
    parser.add_argument("--save", action="store_true", help="keep the result in results/")
    options = parser.parse_args(words)
    scale = QUICK if options.quick else FULL
    if options.postgres and not options.quick:
        scale = dataclasses.replace(scale, sizes=scale.sizes[:3], repetitions=100)
    if options.sizes:
        sizes = tuple(sorted(int(size) for size in options.sizes.split(",")))
        scale = dataclasses.replace(
            scale,
            sizes=sizes,
            stall_size=scale.stall_size if scale.stall_size in sizes else sizes[-1],
            maintained_size=scale.maintained_size if scale.maintained_size in sizes else sizes[0],
        )
    facts = machine.facts()
    with ExitStack() as stack:
        place = tempfile.TemporaryDirectory(prefix="afterglow-bench-", dir=options.folder)
        folder = Path(stack.enter_context(place))
        if options.postgres:
            server = stack.enter_context(_server())
            facts["server"] = "PostgreSQL on this machine, fsync on"
            cases = measure(scale, folder, server.new_database)
        else:
            cases = measure(scale, folder)
    facts["load at the end"] = machine.load()
    text = [*(f"* {key}: {value}" for key, value in facts.items()), "", *lines(cases)]
    print("\n".join(text))
    if options.save:
        path = machine.result_path(facts)
        path = path.with_name(f"{path.name}-keep{'-postgres' if options.postgres else ''}")
        title = "# Trace store" + (" (a quick run, no figures to quote)" if options.quick else "")
        Path(f"{path}.md").write_text("\n".join([title, "", *text, ""]))
        kept = {"facts": facts, "scale": vars(scale), "cases": as_json(cases)}
        Path(f"{path}.json").write_text(json.dumps(kept, indent=1) + "\n")


def _server() -> AbstractContextManager[Any]:
    from scripts.postgres import Postgres

    return Postgres(fsync=True, settings={"shared_buffers": "256MB"})


if __name__ == "__main__":
    main()
