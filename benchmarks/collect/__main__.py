"""`python -m benchmarks.collect`: `afterglow serve` beside the OpenTelemetry Collector.

--quick         few spans: shows that the harness works
--spans N       so many spans a service; 200,000 if left out
--collectors N  so many around a Redis Cluster (repeatable); 1 and 3 if left out, 0 for none
--save          write benchmarks/results/<date>-<commit>-py<version>-collect.{md,json}
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.collect.load import Shape
from benchmarks.collect.measure import Result, measure
from benchmarks.collect.stages import Stage, stages
from benchmarks.table import aligned

_LIBRARIES = ("uvicorn", "httptools", "protobuf", "redis", "grpcio")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.collect", description="See README.md."
    )
    parser.add_argument("--quick", action="store_true", help="shows that the harness works")
    parser.add_argument("--spans", type=int, default=200_000, help="so many spans a service")
    parser.add_argument("--collectors", type=int, action="append", help="around a Redis Cluster")
    parser.add_argument("--save", action="store_true", help="keep the result in results/")
    options = parser.parse_args(words)
    shape = Shape(20_000 if options.quick else options.spans)
    facts = machine.facts()
    by_stage = stages(dataclasses.replace(shape, spans=min(shape.spans, 100_000)))
    results, missing = measure(
        shape, 3 if options.quick else 30, [n for n in options.collectors or (1, 3) if n]
    )
    facts["libraries"] = ", ".join(f"{name} {machine.installed(name)}" for name in _LIBRARIES)
    facts["spans"] = (
        f"{shape.spans:,} a service, in traces of {shape.trace_spans}, mixed; requests of "
        f"{shape.request_spans}, {shape.attributes} attributes; senders and servers share the cores"
    )
    facts["load at the end"] = machine.load()
    text = [
        *(f"* {key}: {value}" for key, value in facts.items()),
        *(f"* left out: {line}" for line in missing),
        "",
        *_table(results),
        "",
        *(f"* {r.name}: {note}" for r in results for note in r.notes),
        *_latency(results),
        "",
        *_stages(by_stage),
    ]
    print("\n".join(text))
    if options.save:
        path = machine.result_path(facts)
        path = path.with_name(f"{path.name}-collect")
        title = "# Collect" + (" (a quick run, no figures to quote)" if options.quick else "")
        Path(f"{path}.md").write_text("\n".join([title, "", *text, ""]))
        kept = {
            "facts": facts,
            "results": [dataclasses.asdict(result) for result in results],
            "stages": [dataclasses.asdict(stage) for stage in by_stage],
        }
        Path(f"{path}.json").write_text(json.dumps(kept, indent=1) + "\n")


def _table(results: Sequence[Result]) -> list[str]:
    ours = next((r for r in results if r.visible_per_s is not None), None)
    head = ["service", "acknowledged/s", "visible/s", "out/s", "CPU us a span", "of ours",
            "Redis us", "peak MiB"]  # fmt: skip
    lines = [
        [
            r.name,
            f"{r.acknowledged_per_s:,.0f}",
            _optional(r.visible_per_s),
            f"{r.out_per_s:,.0f}",
            f"{r.cpu_us:.1f}",
            f"{r.cpu_us / ours.cpu_us:.2f}" if ours else "-",
            _optional(r.redis_cpu_us),
            f"{r.peak_mib:,.0f}",
        ]
        for r in results
    ]
    return aligned(head, lines)


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _latency(results: Sequence[Result]) -> list[str]:
    lines = []
    for r in results:
        for what, found in (("visible", r.visible_s), ("assembled", r.assembled_s)):
            if found is not None:
                lines.append([r.name, what, *(f"{1e3 * value:,.0f} ms" for value in found)])
    head = ["service", "from acknowledged to", "half", "p99", "worst"]
    return aligned(head, lines) if lines else []


def _stages(found: Sequence[Stage]) -> list[str]:
    lines = [[s.name, f"{s.cpu_us:.2f}", f"{1e6 / s.cpu_us:,.0f}"] for s in found]
    return aligned(["stage, alone in a process", "CPU us a span", "spans/s of a core"], lines)


if __name__ == "__main__":
    main()
