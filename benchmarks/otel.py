"""OpenTelemetry's API on our provider, beside the SDK's and the API's own no-op, in one run."""

from __future__ import annotations

from typing import Any

from benchmarks.api_subjects import MODES
from benchmarks.caller import in_us
from benchmarks.harness import Sample, available, children, interleaved
from benchmarks.scale import Scale
from benchmarks.table import Check, Row, Value, at_least, at_most, low

SHAPES = {
    "started": "start_span + end",
    "plain": "start_as_current_span",
    "five": "the same, 5 attributes",
    "five_and_set": "5 attributes, one set later",
    "nested": "four nested, each",
}
NAMES = {
    "": "recorded",
    "-off": "off (OTEL_SDK_DISABLED)",
    "-always_off": "unsampled (always_off)",
    "-ratio": "unsampled (parentbased_traceidratio, 0)",
}


def measure(scale: Scale) -> list[Row]:
    if "otel" not in available(["otel"]):
        return []
    rows: list[Row] = []
    for mode in MODES:
        subjects = ["api-noop", f"api-afterglow{mode}", f"api-otel{mode}"]
        with children(subjects) as running:
            for shape, what in SHAPES.items():
                found = in_us(interleaved(running, scale.repetitions, "loop", shape=shape))
                values = {column: found[name] for column, name in _columns(mode).items()}
                case = f"OpenTelemetry API, {NAMES[mode]}: {what}"
                rows.append(Row(case, "us", values, _targets(mode, shape, values)))
                for child in running.values():
                    child.ask("settle")
    return [*rows, *durable(scale), *log_records(scale)]


def _columns(mode: str) -> dict[str, str]:
    return {"noop": "api-noop", "afterglow": f"api-afterglow{mode}", "otel": f"api-otel{mode}"}


def _targets(mode: str, shape: str, values: dict[str, Value]) -> list[Check]:
    ours, noop, sdk = low(values["afterglow"]), low(values["noop"]), low(values["otel"])
    if mode == "-off" and shape in ("plain", "five"):
        return [at_most(f"off, {SHAPES[shape]}", ours, 0.5, " us")]
    if mode:
        return []
    found = [at_least(f"{SHAPES[shape]}, under the SDK", sdk / ours, 10, " x")]
    if shape == "five":
        found.append(at_most(f"{SHAPES[shape]}, against the no-op span", ours / noop, 1, " x"))
    return found


def durable(scale: Scale) -> list[Row]:
    """Process CPU until durable and bytes a span, beside spans of our own tracer."""
    rows = []
    columns = {"native": "native", "afterglow": "api-afterglow", "otel": "api-otel"}
    for shape in ("plain", "five"):
        seen: dict[str, list[dict[str, Any]]] = {column: [] for column in columns}
        for _ in range(scale.rounds):
            for column, name in columns.items():
                n = scale.cpu_spans // (10 if column == "otel" else 1)
                with children([name]) as running:
                    running[name].ask("loop", shape=shape, n=100)
                    running[name].ask("settle")
                    answer = running[name].ask("cpu", shape=shape, n=n)
                    answer["bytes"] = running[name].ask("written")["bytes"] / n
                seen[column].append(answer)
        cpu: dict[str, Value] = {
            c: Sample.of([a["ns"] / 1e3 for a in answers]) for c, answers in seen.items()
        }
        ratio = low(cpu["afterglow"]) / low(cpu["native"])
        check = at_most(f"CPU until durable, {shape}, against our own spans", ratio, 1.5, " x")
        rows.append(
            Row(f"OpenTelemetry API, CPU until durable: {SHAPES[shape]}", "us", cpu, [check])
        )
        kept: dict[str, Value] = {c: seen[c][0]["bytes"] for c in ("native", "afterglow")}
        rows.append(Row("  on disk", "bytes/span", kept))
    return rows


def log_records(scale: Scale) -> list[Row]:
    """What `afterglow.logs` adds to a record."""
    rows = []
    with children(["records-plain", "records-ids"]) as running:
        for shape, what in (("record", "outside spans"), ("record_in_span", "in a span")):
            found = in_us(interleaved(running, scale.repetitions, "loop", shape=shape))
            values = {"control": found["records-plain"], "afterglow": found["records-ids"]}
            rows.append(Row(f"a log record with ids, {what}", "us", values))
    return rows
