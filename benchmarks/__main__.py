"""`python -m benchmarks`: run the cases, print the table, keep the result if asked.

--quick         few and short repetitions: shows that the harness works, not what things cost
--only NAME     one case (caller, cpu, gap, calls, journal, retention, kill, otel); may be repeated
--only keep     the trace store, which has sizes and options of its own: python -m benchmarks.keep
--only buffer   the span buffer on a Redis Cluster; options of its own: python -m benchmarks.buffer
--only collect  afterglow serve beside the OpenTelemetry Collector: python -m benchmarks.collect
--save          write benchmarks/results/<date>-<commit>-py<version>.{md,json}
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from time import perf_counter

from benchmarks import machine
from benchmarks.scale import FULL, QUICK
from benchmarks.table import Row, as_json, checks, table

CASES = ("caller", "cpu", "gap", "calls", "journal", "retention", "kill", "otel")
#: Not for `--only` alone: what compares other things has a table of its own.
APART = ("keep", "buffer", "collect")
COLUMNS = ["control", "floor", "noop", "native", "afterglow", "otel", "otel-file", "ferret"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="See README.md.")
    parser.add_argument("--quick", action="store_true", help="shows that the harness works")
    parser.add_argument(
        "--only", action="append", choices=(*CASES, *APART), help="one case (repeatable)"
    )
    parser.add_argument("--save", action="store_true", help="keep the result in results/")
    options = parser.parse_args()
    for name in set(APART).intersection(options.only or ()):
        apart = importlib.import_module(f"benchmarks.{name}.__main__")
        apart.main([f"--{option}" for option in ("quick", "save") if getattr(options, option)])
        options.only.remove(name)
        if not options.only:
            return
    scale = QUICK if options.quick else FULL
    facts = machine.facts()
    rows: list[Row] = []
    for name in options.only or CASES:
        begun = perf_counter()
        print(f"-- {name} ...", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"benchmarks.{name}").measure(scale)
        print(f"-- {name}: {perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    facts["load at the end"] = machine.load()
    used = [c for c in COLUMNS if any(row.values.get(c) is not None for row in rows)]
    lines = [
        *(f"* {key}: {value}" for key, value in facts.items()),
        "",
        "`a / b` is the 5th percentile and the median of many short repetitions.",
        "",
        *table(rows, used),
        "",
        *checks(rows),
    ]
    print("\n".join(lines))
    if options.save:
        path = machine.result_path(facts)
        title = "# " + ("Quick run (no figures to quote)" if options.quick else "Benchmarks")
        path.with_suffix(".md").write_text("\n".join([title, "", *lines, ""]))
        kept = {"facts": facts, "scale": vars(scale), "rows": as_json(rows)}
        path.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")
        print(f"-- kept in benchmarks/results/{path.name}.md and .json", file=sys.stderr)


if __name__ == "__main__":
    main()
