"""The books of a service, as `afterglow audit` prints them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from afterglow.ui import screen as styles
from afterglow.ui.screen import Column, Screen
from afterglow.ui.text import printable
from afterglow.ui.units import count

if TYPE_CHECKING:
    from afterglow.collecting.books import ServiceAudit

__all__ = ["beside", "cluster", "print_service", "service_document", "show"]


def beside(database: Path | str) -> ServiceAudit | None:
    """The books of the service that ran on a file; None where none has, and for a URL."""
    from afterglow.collecting.folder import folder_of

    if isinstance(database, str) or not folder_of(database).is_dir():
        return None
    from afterglow.collecting.books import audit_service

    return audit_service(database)


def cluster(url: str, *, as_json: bool) -> bool:
    """Print the books of the collectors around a Redis; whether they balance."""
    from afterglow.collecting.books import audit_cluster
    from afterglow.config import BufferConfig, load

    return show(audit_cluster(load(BufferConfig, {"url": url})), as_json=as_json)


def show(audit: ServiceAudit, *, as_json: bool) -> bool:
    """Print the books of a service alone; whether they balance."""
    if as_json:
        from afterglow.ui.documents import write_document

        write_document(sys.stdout, service_document(audit))
    else:
        print_service(Screen(), audit)
    return not audit.problems


def service_document(audit: ServiceAudit) -> dict[str, Any]:
    """What `afterglow audit --json` says of it."""
    books = audit.buffer
    return {
        "where": audit.where,
        "balanced": not audit.problems,
        "problems": audit.problems,
        "received": None if books is None else books.ingested,
        "delivered": None if books is None else books.delivered,
        "in_flight": None if books is None else books.held,
        "dropped": {} if books is None else books.dropped,
        "stored": audit.stored,
        "sent_on": audit.sent,
    }


def print_service(screen: Screen, audit: ServiceAudit) -> None:
    """Received, and where it went; then each file and queue; then what is wrong."""
    screen.line((f"service {printable(audit.where)}", "bold"))
    books = audit.buffer
    if books is not None:
        lost = sum(sum(reasons.values()) for reasons in books.dropped.values())
        row = [books.ingested, books.delivered, lost, books.held]
        titles = ["received", "= delivered", "+ dropped", "+ in flight"]
        screen.grid([Column(title) for title in titles], [[Text(count(n)) for n in row]])
        _print_dropped(screen, audit)
    if audit.stored:
        screen.line()
        rows = [
            [Text(printable(one.project)), Text(count(one.brought)), Text(count(one.kept))]
            for one in audit.stored
        ]
        columns = [Column("stored in project", right=False), Column("brought"), Column("kept")]
        screen.grid(columns, rows)
    if audit.sent:
        screen.line()
        titles = ["taken", "= sent", "+ refused", "+ dropped", "+ queued"]
        screen.grid(
            [Column("sent on to", right=False), *(Column(title) for title in titles)],
            [
                [Text(printable(one.name)), *(Text(count(n)) for n in (
                    one.taken, one.sent, one.refused, one.dropped, one.queued))]
                for one in audit.sent
            ],
        )  # fmt: skip
    screen.line()
    for problem in audit.problems:
        screen.prose((problem, styles.BAD))
    if not audit.problems:
        screen.line(("the books of the service balance", styles.GOOD))


def _print_dropped(screen: Screen, audit: ServiceAudit) -> None:
    assert audit.buffer is not None
    rows = [
        [Text(printable(project)), Text(printable(reason)), Text(count(n))]
        for project, reasons in sorted(audit.buffer.dropped.items())
        for reason, n in sorted(reasons.items())
        if n
    ]
    if rows:
        screen.line()
        columns = [Column("dropped of", right=False), Column("reason", right=False)]
        screen.grid([*columns, Column("spans")], rows)
