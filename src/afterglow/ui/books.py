"""`afterglow audit`: the books of each process and their sum, and whether they balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich.text import Text

from afterglow.ledger import Ledger, balanced
from afterglow.model.audit import Audit
from afterglow.store.books import sum_books
from afterglow.ui import screen as styles
from afterglow.ui.runs import short_id
from afterglow.ui.screen import Column, Screen
from afterglow.ui.text import printable
from afterglow.ui.units import count, plural

__all__ = ["audit_document", "print_books", "problems"]

_KINDS: Final = ("dropped", "not_recorded", "changed", "forgotten")


def problems(audits: Sequence[Audit]) -> list[str]:
    """What is wrong: books that do not balance, rows that are missing or too many, damage."""
    found = []
    for audit in audits:
        where = f"process {audit.process.pid} of run {printable(audit.process.run_id[:32])}"
        missing = audit.missing
        if not balanced(audit.ledger):
            found.append(f"{where}: recorded is not written + dropped + in flight")
        if audit.damaged_batches:
            batches = plural(audit.damaged_batches, "batch", "batches")
            found.append(f"{where}: {batches} could not be read")
        if missing > 0:
            found.append(f"{where}: {plural(missing, 'span')} written, but not in the file")
        if missing < 0:
            found.append(f"{where}: {plural(-missing, 'span')} more in the file than were written")
    return found


def audit_document(audits: Sequence[Audit]) -> dict[str, Any]:
    """What `afterglow audit --json` says."""
    wrong = problems(audits)
    return {
        "balanced": not wrong,
        "problems": wrong,
        "processes": [
            {
                "run_id": audit.process.run_id,
                "pid": audit.process.pid,
                "state": audit.state,
                **audit.ledger,
                "found": audit.found,
                "forgotten": audit.forgotten,
                "missing": audit.missing,
                "damaged_batches": audit.damaged_batches,
            }
            for audit in audits
        ],
        "sum": {
            **sum_books([audit.ledger for audit in audits]),
            "found": sum(audit.found for audit in audits),
            "forgotten": _forgotten(audits),
        },
    }


def print_books(screen: Screen, audits: Sequence[Audit]) -> None:
    """The table, one line a process and one for the sum, and what is wrong, if anything is."""
    ids = sorted({audit.process.run_id for audit in audits})
    # What is the same for all is left away.
    labels: list[tuple[str, Callable[[Audit], Text]]] = []
    if len(ids) > 1:
        labels.append(("run", lambda a: Text(printable(short_id(a.process.run_id, ids)))))
    labels.append(("pid", lambda a: Text(str(a.process.pid))))
    if any(audit.state != "finished" for audit in audits):
        labels.append(("state", lambda a: Text(a.state, _state_style(a.state))))
    titles = ["recorded", "= written", "+ dropped", "+ in flight", "in file"]
    if any(audit.forgotten for audit in audits):
        titles.append("forgotten")
    if any(audit.missing for audit in audits):
        titles.append("missing")
    rows = [
        [*(of(audit) for _, of in labels), *_numbers(_Line.of(audit), titles)] for audit in audits
    ]
    total = sum_books([audit.ledger for audit in audits])
    if len(audits) != 1:
        first = [Text("all", "bold"), *(Text("") for _ in labels[1:])]
        rows.append([*first, *_numbers(_Line.sum(total, audits), titles)])
    columns = [Column(title, right=False) for title, _ in labels]
    screen.grid(columns + [Column(title) for title in titles], rows)
    _print_reasons(screen, {**total, "forgotten": _forgotten(audits)})
    _print_verdict(screen, audits)


class _Line(NamedTuple):
    """One line of the table."""

    ledger: Ledger
    found: int
    forgotten: int
    missing: int

    @classmethod
    def of(cls, audit: Audit) -> _Line:
        return cls(audit.ledger, audit.found, sum(audit.forgotten.values()), audit.missing)

    @classmethod
    def sum(cls, total: Ledger, audits: Sequence[Audit]) -> _Line:
        lines = [cls.of(audit) for audit in audits]
        found, forgotten = sum(one.found for one in lines), sum(one.forgotten for one in lines)
        return cls(total, found, forgotten, sum(one.missing for one in lines))


def _forgotten(audits: Sequence[Audit]) -> dict[str, int]:
    """Forgotten spans of all processes, by reason."""
    total: Counter[str] = Counter()
    for audit in audits:
        total.update(audit.forgotten)
    return dict(total)


def _state_style(state: str) -> str:
    return {"interrupted": styles.WARNING, "running": styles.GOOD}.get(state, styles.QUIET)


def _numbers(line: _Line, titles: Sequence[str]) -> list[Text]:
    ledger, missing = line.ledger, line.missing
    dropped = sum(ledger["dropped"].values())
    cells = [
        Text(count(ledger["recorded"]), "" if balanced(ledger) else styles.BAD),
        Text(count(ledger["written"])),
        Text(count(dropped), styles.WARNING if dropped else styles.QUIET),
        Text(count(ledger["in_flight"]), styles.WARNING if ledger["in_flight"] else styles.QUIET),
        Text(count(line.found)),
    ]
    if "forgotten" in titles:
        cells.append(Text(count(line.forgotten), "" if line.forgotten else styles.QUIET))
    if "missing" in titles:
        cells.append(Text(count(missing), styles.BAD if missing else styles.QUIET))
    return cells


def _print_reasons(screen: Screen, total: Mapping[str, Any]) -> None:
    for kind in _KINDS:
        reasons: Mapping[str, int] = total[kind]
        listed = [(reason, n) for reason, n in sorted(reasons.items()) if n]
        if listed:
            screen.line()
            screen.line((kind.replace("_", " "), "bold"))
            rows = [[Text(printable(reason)), Text(count(n))] for reason, n in listed]
            screen.grid([Column("reason", right=False), Column("times")], rows)


def _print_verdict(screen: Screen, audits: Sequence[Audit]) -> None:
    screen.line()
    wrong = problems(audits)
    for line in wrong:
        screen.prose((line, styles.BAD))
    killed = sum(a.ledger["in_flight"] for a in audits if a.state == "interrupted")
    if killed:
        text = "in flight in processes that were killed, so they are lost"
        screen.prose((f"{plural(killed, 'span')} {text}", styles.WARNING))
    if not wrong:
        there = "is there or counted as forgotten" if _forgotten(audits) else "is there"
        screen.line((f"the books balance, and every row {there}", styles.GOOD))
