"""`python -m benchmarks.buffer`: the span buffer on a Redis Cluster, beside its floor.

--quick         few spans: shows that the harness works
--giant         one trace of 1,000,000 spans as well
--rounds N      so many rounds of each workload; 3 if left out
--save          write benchmarks/results/<date>-<commit>-py<version>-buffer.{md,json}
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.buffer.measure import FULL, QUICK, measure
from benchmarks.buffer.report import checks, lines

_GIANT = 1_000_000
_LIBRARIES = ("redis", "hiredis", "zstandard")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.buffer", description="See README.md."
    )
    parser.add_argument("--quick", action="store_true", help="shows that the harness works")
    parser.add_argument("--giant", action="store_true", help="one trace of 1,000,000 spans as well")
    parser.add_argument("--rounds", type=int, help="so many rounds of each workload")
    parser.add_argument("--save", action="store_true", help="keep the result in results/")
    options = parser.parse_args(words)
    scale = QUICK if options.quick else FULL
    if options.giant:
        scale = dataclasses.replace(scale, n_giant=_GIANT)
    if options.rounds:
        scale = dataclasses.replace(scale, rounds=options.rounds)
    facts = machine.facts()
    with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as folder:
        results = measure(scale, Path(folder))
    libraries = ", ".join(f"{name} {machine.installed(name)}" for name in _LIBRARIES)
    facts["servers"] = f"Redis {results.version}, 3 masters and 3 replicas on the same cores"
    facts["libraries"] = libraries
    facts["spans"] = f"{scale.n_spans:,} of about 1 KB a workload, {scale.rounds} rounds"
    facts["load at the end"] = machine.load()
    text = [*(f"* {key}: {value}" for key, value in facts.items()), "", *lines(results)]
    print("\n".join(text))
    if options.save:
        path = machine.result_path(facts)
        path = path.with_name(f"{path.name}-buffer")
        title = "# Span buffer" + (" (a quick run, no figures to quote)" if options.quick else "")
        Path(f"{path}.md").write_text("\n".join([title, "", *text, ""]))
        kept = {
            "facts": facts,
            "scale": vars(scale),
            "checks": [vars(check) for check in checks(results)],
            **dataclasses.asdict(results),
        }
        Path(f"{path}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
