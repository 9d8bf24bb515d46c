"""A year of a service on a small quota, on a clock that is moved by hand."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from afterglow.config import RetentionConfig
from afterglow.model.flat import Extra
from afterglow.store.read import Database
from afterglow.testing import ManualClock
from afterglow.ui.commands import afterglow as command_line
from tests.keep.traffic import Service, books_balance, kinds, retention, traces_with_spans, whole
from tests.store.conftest import row

DAY_S = 86_400
QUOTA = 4 << 20
#: Long half lives, so that it is the quota that decides.
CONFIG = RetentionConfig(
    keep_max_bytes=QUOTA,
    keep_routine_half_days=20,
    keep_normal_half_days=60,
    keep_slow_half_days=400,
    keep_error_half_days=400,
    keep_routine_after=200,
)


def test_the_file_stays_within_its_quota_and_keeps_what_matters(tmp_path: Path) -> None:
    service = Service(tmp_path / "year.db", ManualClock())
    matters: set[str] = set()
    pinned = ""
    largest = recorded = forgotten = 0
    for month in range(12):
        for day in range(30):
            service.record(80)
            recorded += 80 * 4
            if day % 10 == 3:
                matters |= {*service.record(failed=True), *service.record(ms=300)}
                recorded += 8
            service.clock.advance_s(DAY_S)
            if day % 2:
                continue
            with retention(service, CONFIG) as opened:
                result = opened.step()
                if not pinned:
                    pinned = service.record()[0]
                    recorded += 4
                    opened.step()
                    opened.pin(pinned)
            assert result.over_bytes == 0
            forgotten += result.forgotten.spans
            largest = max(largest, service.database.stat().st_size)
        service.restart()
        audit = CliRunner().invoke(command_line, ["audit", str(service.database)])
        assert audit.exit_code == 0, audit.output
        assert books_balance(service.database), f"month {month}"
    service.writer.die()
    with retention(service, CONFIG) as opened:
        forgotten += opened.step().forgotten.spans
    assert QUOTA / 2 < largest <= QUOTA
    assert {pinned, *matters} <= traces_with_spans(service.database)
    assert whole(service.database)
    found = kinds(service.database)
    assert found[pinned] == "pinned"
    assert {found[trace] for trace in matters} == {"error", "slow"}
    # What had to go for them is the oldest of the routine, and it was counted.
    assert forgotten > recorded / 2
    with Database(service.database) as database:
        assert sum(s.count for s in database.statistics()) == recorded
        assert [s.errors for s in database.statistics(name="GET /")] == [len(matters) / 2]
        assert sum(run.spans for run in database.runs()) == recorded


def test_a_fold_of_much_at_once_does_not_overshoot(tmp_path: Path) -> None:
    """Nobody looked for a long time; the journals hold several quotas."""
    service = Service(tmp_path / "much.db", ManualClock())
    errors = service.record(5, failed=True)
    for _ in range(90):
        service.record(120)
    sizes: list[int] = []
    with retention(service, CONFIG) as opened:
        result = opened.step(
            progress=lambda _done, _total: sizes.append(service.database.stat().st_size)
        )
    service.writer.die()
    assert result.folded.spans == 90 * 480 + 20
    assert max(*sizes, service.database.stat().st_size) <= QUOTA
    assert set(errors) <= traces_with_spans(service.database)
    assert books_balance(service.database) and whole(service.database)


def test_a_quota_that_becomes_smaller_shrinks_the_file(tmp_path: Path) -> None:
    service = Service(tmp_path / "large.db", ManualClock())
    for _ in range(40):
        service.record(120)
    large = RetentionConfig(keep_max_bytes=64 << 20)
    with retention(service, large) as opened:
        opened.step()
    assert service.database.stat().st_size > QUOTA
    with retention(service, CONFIG) as opened:
        assert opened.step().compacted
    service.writer.die()
    assert service.database.stat().st_size <= QUOTA
    assert books_balance(service.database) and whole(service.database)


def test_what_is_pinned_may_exceed_the_quota_and_that_is_said(tmp_path: Path) -> None:
    service = Service(tmp_path / "pinned.db", ManualClock())
    ids = [trace for _ in range(25) for trace in service.record(120)]
    with retention(service, RetentionConfig(keep_max_bytes=64 << 20)) as opened:
        opened.step()
        for trace in ids:
            opened.pin(trace)
    with retention(service, CONFIG) as opened:
        result = opened.step()
    service.writer.die()
    assert result.over_bytes > 0
    assert set(ids) == traces_with_spans(service.database)


def test_a_trace_that_never_ends_does_not_fill_the_file(tmp_path: Path) -> None:
    """A program whose main function is a span is one trace for as long as it runs."""
    service = Service(tmp_path / "main.db", ManualClock())
    main = row(900_000_000, 0, 0, None, name="main", trace=900_000_000)
    others = service.record(20)
    recorded = largest = 0
    for turn in range(30):
        begun = turn * 1_000
        rows = [
            row(910_000_000 + begun + i, 900_000_000, begun + i, begun + i + 1, name="request",
                trace=900_000_000, extra=Extra(status="error") if i == 7 else None)
            for i in range(900)
        ]  # fmt: skip
        service.writer.write(*rows, still_open=[main])
        recorded += len(rows)
        with retention(service, CONFIG) as opened:
            result = opened.step()
        assert result.over_bytes == 0
        largest = max(largest, service.database.stat().st_size)
    service.writer.die()
    assert QUOTA / 2 < largest <= QUOTA
    assert set(others) <= traces_with_spans(service.database)
    assert books_balance(service.database)
    with Database(service.database) as database:
        (requests,) = database.statistics(name="request")
        assert (requests.count, requests.errors) == (recorded, 30)
        assert len(list(database.spans(name="request", status="error"))) == 30
