"""The result as tables for people; as JSON it is the dataclasses of measure.py."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks.buffer.measure import GIANT, Pass, Results, Run
from benchmarks.buffer.nodes import Cost
from benchmarks.buffer.others import OTHERS, Others
from benchmarks.buffer.workloads import workloads
from benchmarks.table import Check, aligned, at_least, at_most

__all__ = ["checks", "lines"]

_MIB = 1 << 20
_NOTE = (
    "Rates are spans per second of a process's own CPU time and per second of wall time, the "
    "median of the rounds (in brackets the best). *: floor* is CPU time divided by the "
    "floor's: compress the same payloads, cut in the same way, and SET ... EX them (adding), "
    "or GET, decompress and UNLINK them (flushing), in the same process just after. *Calls* "
    "are commands that masters ran, those of scripts among them; *bytes* what the masters "
    "have more in use, without buffers of clients and replicas. A longest command is by the "
    "wall clock: where the machine is busy it has the time in it for which Redis itself "
    "waited for a core. *The control* is a script that always spins for some 0.4 ms, on all "
    "masters just after: what it lasts longer is such waiting."
)

Case = tuple[str, int, int]


def lines(results: Results) -> list[str]:
    """Markdown that is also readable on a terminal."""
    parts = [
        ("Adding", _adding(results)),
        ("Flushing: take, write to a sink that counts, acknowledge", _flushing(results)),
        ("The nodes", _nodes(results)),
        ("Workers and flushers at once (20-span traces, shuffled, on the same cores as Redis)",
         _together(results)),
        ("Beside others, in thousands of spans per CPU second", _beside(results)),
        ("Against the targets", aligned(
            ["target", "measured", ""],
            [[c.text, c.measured, "met" if c.met else "NOT MET"] for c in checks(results)])),
    ]  # fmt: skip
    text = [_NOTE]
    for title, table in parts:
        if len(table) > 2:
            text += ["", f"## {title}", "", *table]
    return text


# --- tables ---------------------------------------------------------------------------------


def _adding(results: Results) -> list[str]:
    head = ["workload", "batch", "per CPU s", "per wall s", "floor per CPU s", ": floor",
            "commands a span", "calls a span", "bytes a span", "in memory per CPU s"]  # fmt: skip
    rows = []
    for case in results.cases():
        runs, cost = _runs(results, case), _cost_of(_runs(results, case)[0].add)
        rows.append([
            *_named(case),
            _rates(runs, lambda run: run.add.per_cpu_s),
            _rate(_middle(runs, lambda run: run.add.per_wall_s)),
            *_beside_floor(runs, lambda run: run.add, lambda run: run.floor_add),
            f"{runs[0].add.commands / runs[0].n_spans:.3f}",
            f"{cost.calls / runs[0].n_spans:.2f}",
            f"{_bytes_a_span(runs):.0f}",
            _in_memory(results, case, lambda run: run.add.per_cpu_s),
        ])  # fmt: skip
    return aligned(head, rows)


def _flushing(results: Results) -> list[str]:
    head = ["workload", "batch", "per CPU s", "per wall s", "floor per CPU s", ": floor",
            "commands a span", "calls a span", "peak memory", "in memory per CPU s"]  # fmt: skip
    rows = []
    for case in results.cases():
        runs, cost = _runs(results, case), _cost_of(_runs(results, case)[0].flush)
        rows.append([
            *_named(case),
            _rates(runs, lambda run: run.flush.per_cpu_s),
            _rate(_middle(runs, lambda run: run.flush.per_wall_s)),
            *_beside_floor(runs, lambda run: run.flush, lambda run: run.floor_flush),
            f"{runs[0].flush.commands / runs[0].n_spans:.3f}",
            f"{cost.calls / runs[0].n_spans:.2f}",
            f"{max(run.peak_bytes for run in runs) / _MIB:.0f} MiB",
            _in_memory(results, case, lambda run: run.flush.per_cpu_s),
        ])  # fmt: skip
    return aligned(head, rows)


def _nodes(results: Results) -> list[str]:
    head = ["workload", "batch", "masters' CPU us a span", "busiest: CPU", "most: memory",
            "longest, adding", "longest, flushing", "above 5 ms", "control's longest"]  # fmt: skip
    rows = []
    for case in results.cases():
        runs = _runs(results, case)
        add, flush = _worst(runs, lambda run: run.add), _worst(runs, lambda run: run.flush)
        control = max((run.control_us for run in runs), key=lambda one: one[1])
        rows.append([
            *_named(case),
            " + ".join(f"{_middle(runs, cpu):.1f}" for cpu in (_add_cpu_us, _flush_cpu_us)),
            f"{_middle(runs, _cpu_share):.0%}",
            f"{_middle(runs, _memory_share):.0%}",
            f"{add.longest_us / 1e3:.1f} ms ({add.longest})",
            f"{flush.longest_us / 1e3:.1f} ms ({flush.longest})",
            str(sum(_above_5_ms(run) for run in runs)),
            f"{control[1] / 1e3:.1f} ms",
        ])  # fmt: skip
    return aligned(head, rows)


def _together(results: Results) -> list[str]:
    head = ["processes", "add per CPU s", "add per wall s", "flush per CPU s", "flush per wall s"]
    rows = []
    for one in results.together:
        rates = [r for done in (one.add, one.flush) for r in (done.per_cpu_s, done.per_wall_s)]
        rows.append([f"{one.processes} + {one.processes}", *map(_rate, rates)])
    return aligned(head, rows)


def _beside(results: Results) -> list[str]:
    head = ["", "published", "tried", "here"]
    rows: list[list[str]] = []
    by_name: dict[str, list[Case]] = {}
    for case in results.cases():
        by_name.setdefault(case[0], []).append(case)
    for name, cases in by_name.items():
        others = OTHERS[name]
        groups = [_runs(results, case) for case in cases]
        rows.append(
            [f"**{name}**, batches of {' / '.join(f'{c[2]:,}' for c in cases)}", "", "", ""]
        )
        rows += _compared(others, groups)
    return aligned(head, rows)


def _compared(others: Others, groups: list[list[Run]]) -> list[list[str]]:
    def ours(what: Callable[[list[Run]], str]) -> str:
        return " / ".join(what(runs) for runs in groups)

    def calls(runs: list[Run]) -> str:
        sums = _cost_of(runs[0].add).calls + _cost_of(runs[0].flush).calls
        return f"{sums / runs[0].n_spans:.2g}"

    return [
        ["add", others.published_add, others.tried_add,
         ours(lambda runs: _thousands(_middle(runs, lambda run: run.add.per_cpu_s)))],
        ["flush", others.published_flush, others.tried_flush.split(" / ")[0],
         ours(lambda runs: _thousands(_middle(runs, lambda run: run.flush.per_cpu_s)))],
        ["server calls a span, both", others.published_calls, "", ours(calls)],
        ["commands a span, add", "", others.tried_commands,
         ours(lambda runs: f"{runs[0].add.commands / runs[0].n_spans:.2g}")],
        ["bytes a span", others.published_bytes, others.tried_bytes,
         ours(lambda runs: f"{_bytes_a_span(runs):.0f}")],
    ]  # fmt: skip


# --- targets --------------------------------------------------------------------------------


def checks(results: Results) -> list[Check]:
    """Sections 2 to 5 of the design."""
    cases = results.cases()
    found = [_all_came(results)]
    for case in cases:
        runs = _runs(results, case)
        rate = _middle(runs, lambda run: run.add.per_cpu_s)
        found.append(at_least(f"add, {_title(case)}", rate, 150_000, " spans/s of its own CPU"))
        found[-1].measured = _rate(rate)
    worst: list[tuple[str, float, Callable[[Run], float]]] = [
        ("client commands a span, adding", 0.1, lambda run: run.add.commands / run.n_spans),
        ("client commands a span, flushing", 0.1, lambda run: run.flush.commands / run.n_spans),
        ("server calls a span, adding", 1, lambda run: _cost_of(run.add).calls / run.n_spans),
        ("server calls a span, flushing", 1, lambda run: _cost_of(run.flush).calls / run.n_spans),
        ("bytes a span in Redis", 350, lambda run: _bytes_a_span([run])),
    ]
    for text, most, what in worst:
        of_cases = {case: _middle(_runs(results, case), what) for case in cases}
        case = max(of_cases, key=of_cases.__getitem__)
        check = at_most(f"{text}, in the worst workload", of_cases[case], most)
        found.append(Check(check.text, f"{check.measured} ({_title(case)})", check.met))
    found += _giant_checks(results)
    flushed: list[tuple[str, Callable[[Run], float]]] = [
        (" of its own CPU", lambda run: run.flush.per_cpu_s),
        (" of wall time, on cores that it shares", lambda run: run.flush.per_wall_s),
    ]
    for second, what in flushed:
        for case in cases:
            rate = _middle(_runs(results, case), what)
            found.append(at_least(f"flush, {_title(case)}", rate, 100_000, f" spans/s{second}"))
            found[-1].measured = _rate(rate)
    return found


def _all_came(results: Results) -> Check:
    wrong = sum(run.wrong for run in results.runs) + sum(one.wrong for one in results.together)
    spans = sum(run.n_spans for run in results.runs)
    spans += sum(one.flush.spans for one in results.together)
    what = "every span that was added comes out once, and is in the books"
    return Check(what, f"{wrong} of {spans:,} did not", wrong == 0)


def _giant_checks(results: Results) -> list[Check]:
    name = workloads(1_000)[GIANT].name
    giants = [case for case in results.cases() if case[0] == name]
    largest = max(case[1] for case in giants)
    found = []
    for case in [case for case in giants if case[1] == largest]:
        runs = _runs(results, case)
        title = f"one trace of {largest:,}, {case[2]:,} a batch"
        for what, share in (("memory", _memory_share), ("CPU", _cpu_share)):
            of_one = 100 * _middle(runs, share)
            found.append(at_most(f"busiest master's {what}, {title}", of_one, 45, " %"))
        found.append(_longest(runs, title))
    if results.small is not None and results.giant is not None:
        text = f"cost of a span, one trace of {largest:,} : {results.small.n_spans:,}"
        ratio = _whole_cpu_us(results.giant) / _whole_cpu_us(results.small)
        found.append(at_most(text, ratio, 1.25, " x"))
    return found


def _longest(runs: list[Run], title: str) -> Check:
    costs = [_cost_of(done) for run in runs for done in (run.add, run.flush)]
    longest = max(costs, key=lambda cost: cost.longest_us)
    check = at_most(f"longest command, {title}", longest.longest_us / 1e3, 5, " ms")
    above = sum(cost.above_5_ms for cost in costs)
    control = max(run.control_us[1] for run in runs) / 1e3
    notes = f"{longest.longest}; {above} above 5 ms; control {control:.1f} ms"
    return Check(check.text, f"{check.measured} ({notes})", check.met)


# --- figures --------------------------------------------------------------------------------


def _runs(results: Results, case: Case) -> list[Run]:
    return results.of("redis", *case)


def _title(case: Case) -> str:
    return f"{case[0]}, {case[1]:,} spans, {case[2]:,} a batch"


def _named(case: Case) -> list[str]:
    return [case[0] + (f", {case[1]:,}" if case[1] > 300_000 else ""), f"{case[2]:,}"]


def _middle(runs: list[Run], what: Callable[[Run], float]) -> float:
    return statistics.median(what(run) for run in runs)


def _rate(rate: float) -> str:
    return f"{round(rate, -3):,.0f}" if rate >= 10_000 else f"{rate:,.0f}"


def _thousands(rate: float) -> str:
    return f"{rate / 1e3:.0f}"


def _rates(runs: list[Run], what: Callable[[Run], float]) -> str:
    best = f" ({_rate(max(map(what, runs)))})" if len(runs) > 1 else ""
    return _rate(_middle(runs, what)) + best


def _beside_floor(
    runs: list[Run], ours: Callable[[Run], Pass], theirs: Callable[[Run], Pass | None]
) -> list[str]:
    pairs = [(ours(run), floor) for run in runs if (floor := theirs(run)) is not None]
    if not pairs:
        return ["", ""]
    ratio = statistics.median(mine.cpu_s / floor.cpu_s for mine, floor in pairs)
    return [_rate(statistics.median(floor.per_cpu_s for _, floor in pairs)), f"{ratio:.2f}"]


def _in_memory(results: Results, case: Case, what: Callable[[Run], float]) -> str:
    runs = results.of("memory", *case)
    return _rate(_middle(runs, what)) if runs else ""


def _cost_of(done: Pass) -> Cost:
    assert done.cost is not None
    return done.cost


def _worst(runs: list[Run], what: Callable[[Run], Pass]) -> Cost:
    return max((_cost_of(what(run)) for run in runs), key=lambda cost: cost.longest_us)


def _above_5_ms(run: Run) -> int:
    return _cost_of(run.add).above_5_ms + _cost_of(run.flush).above_5_ms


def _bytes_a_span(runs: list[Run]) -> float:
    return _middle(runs, lambda run: sum(_cost_of(run.add).memory_bytes) / run.n_spans)


def _add_cpu_us(run: Run) -> float:
    return 1e6 * sum(_cost_of(run.add).cpu_s) / run.n_spans


def _flush_cpu_us(run: Run) -> float:
    return 1e6 * sum(_cost_of(run.flush).cpu_s) / run.n_spans


def _cpu_share(run: Run) -> float:
    """The busiest master's, adding and flushing together."""
    both = [a + b for a, b in zip(_cost_of(run.add).cpu_s, _cost_of(run.flush).cpu_s, strict=True)]
    return max(both) / max(sum(both), 1e-9)


def _memory_share(run: Run) -> float:
    return _cost_of(run.add).memory_share


def _whole_cpu_us(run: Run) -> float:
    """Worker, flusher and masters, us a span."""
    own = 1e6 * (run.add.cpu_s + run.flush.cpu_s) / run.n_spans
    return own + _add_cpu_us(run) + _flush_cpu_us(run)
