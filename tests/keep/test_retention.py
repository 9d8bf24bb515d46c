from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from afterglow.config import RetentionConfig
from afterglow.errors import NotAStoreError, NotFoundError, SettingError, StoreError
from afterglow.keep.retention import Retention
from afterglow.keep.standing import find_trace, standing
from afterglow.model.flat import Extra, FlatLink
from afterglow.store.read import Database
from afterglow.store.schema import initialise
from afterglow.testing import ManualClock
from tests.keep.traffic import (
    DAY_NS,
    Service,
    books_balance,
    entries,
    kinds,
    retention,
    traces_with_spans,
    whole,
)
from tests.store.conftest import row

DAY_S = 86_400
CONFIG = RetentionConfig(keep_routine_after=50, keep_slow_after=20)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    made = Service(tmp_path / "spans.db", ManualClock())
    yield made  # type: ignore[misc]
    made.writer.die()


def step(service: Service, config: RetentionConfig = CONFIG, **how: bool) -> tuple[int, int]:
    with retention(service, config) as opened:
        forgotten = opened.step(**how).forgotten
    return forgotten.traces, forgotten.spans


def test_each_trace_becomes_an_entry_of_its_kind(service: Service) -> None:
    usual = service.record(60)
    (slow,) = service.record(ms=200)
    (failed,) = service.record(failed=True)
    (rare,) = service.record(name="cron")
    step(service)
    found = kinds(service.database)
    assert (found[slow], found[failed], found[rare]) == ("slow", "error", "normal")
    assert {found[trace] for trace in usual} == {"routine"}
    assert whole(service.database)
    with retention(service) as opened:
        record = opened.read([failed]).records[failed]
    assert set(record.tags) == {"service:", "name:GET /", "status:error"}
    assert record.intensity > 0.8


def test_what_fades_goes_with_its_spans_and_goes_on_counting(service: Service) -> None:
    service.record(60)
    (failed,) = service.record(failed=True)
    step(service)
    with Database(service.database) as opened:
        before = opened.statistics()
    service.clock.advance_s(3 * DAY_S)
    assert step(service) == (60, 240)
    assert traces_with_spans(service.database) == {failed}
    assert whole(service.database) and books_balance(service.database)
    with Database(service.database) as opened:
        assert opened.statistics() == before
    service.clock.advance_s(200 * DAY_S)
    assert step(service) == (1, 4)
    assert traces_with_spans(service.database) == set()
    assert books_balance(service.database)


def test_a_quota_of_traces_takes_what_would_fade_soonest(service: Service) -> None:
    service.record(60)
    service.clock.advance_s(60)
    (failed,) = service.record(failed=True)
    later = service.record(10)
    few = RetentionConfig(keep_max_traces=8, keep_routine_after=50, keep_slow_after=20)
    assert step(service, few) == (63, 252)
    left = traces_with_spans(service.database)
    assert failed in left
    assert len(left) == 8
    assert left <= {failed, *later}
    assert books_balance(service.database)


def test_nothing_goes_unless_asked(service: Service) -> None:
    service.record(60)
    step(service, forget=False)
    service.clock.advance_s(1_000 * DAY_S)
    assert step(service, RetentionConfig(keep_max_traces=1), forget=False) == (0, 0)
    with Database(service.database) as opened:
        assert len(list(opened.traces())) == 60


def test_pins_stay_whatever_happens_until_unpinned(service: Service) -> None:
    ids = service.record(60)
    with retention(service, CONFIG) as opened:
        opened.step()
        assert opened.pin(ids[3]) is False
        assert opened.pin(ids[3]) is True
        assert (kinds(service.database)[ids[3]], entries(service.database)[ids[3]]) == (
            "pinned",
            "pinned",
        )
        service.clock.advance_s(1_000 * DAY_S)
        assert opened.step().forgotten.traces == 59
        assert opened.pin(ids[3], pinned=False) is True
        assert entries(service.database)[ids[3]] == "routine"
        service.clock.advance_s(3 * DAY_S)
        assert opened.step().forgotten.traces == 1


def test_a_pin_that_an_older_look_overwrote_is_found(service: Service) -> None:
    """Another process looked before the pin and wrote its entry after it, and was killed."""
    (trace,) = service.record()
    step(service)
    with closing(initialise(service.database)) as connection:
        connection.execute("UPDATE traces SET pinned = 1")
    service.clock.advance_s(5)
    service.record()
    step(service)
    assert entries(service.database)[trace] == "pinned"


def test_an_entry_that_was_removed_by_hand_is_made_again(service: Service) -> None:
    ids = service.record(5)
    step(service)
    with closing(initialise(service.database)) as connection:
        connection.execute("DELETE FROM entries WHERE trace_id = ?", (ids[0],))
        connection.execute("UPDATE partitions SET entries = entries - 1")
    step(service)
    assert whole(service.database)


def test_what_is_looked_at_stays_longer(service: Service) -> None:
    ids = service.record(60)
    with retention(service, CONFIG) as opened:
        opened.step()
        service.clock.advance_s(2 * DAY_S)
        assert opened.reinforce([ids[0], ids[0], "f" * 32]) == 1
        service.clock.advance_s(DAY_S)
        assert opened.step().forgotten.traces == 59
    assert traces_with_spans(service.database) == {ids[0]}


def test_a_link_reinforces_what_it_points_at(service: Service) -> None:
    ids = service.record(60)
    step(service)
    service.clock.advance_s(2 * DAY_S)
    extra = Extra(links=[FlatLink(bytes.fromhex(ids[5]), 1, "", {}, 0)])
    (pointing,) = service.record(extra=extra)
    step(service)
    with retention(service) as opened:
        assert opened.read([ids[5]]).records[ids[5]].reinforcement_count == 1
    service.clock.advance_s(DAY_S)
    step(service)
    assert traces_with_spans(service.database) == {ids[5], pointing}


def test_what_goes_on_does_not_fade_before_it_has_ended(service: Service) -> None:
    root = row(900_001, 0, 0, None, name="main", trace=900_001)
    now = service.clock.wall_ns()
    service.writer.write(row(900_002, 900_001, 0, 5, name="kid", trace=900_001), still_open=[root])
    step(service)
    assert set(kinds(service.database).values()) == {"open"}
    service.clock.advance_s(1_000 * DAY_S)
    assert step(service, RetentionConfig(keep_max_traces=1)) == (0, 0)
    end = service.clock.wall_ns() - now
    service.writer.write(row(900_001, 0, 0, end, name="main", trace=900_001), still_open=[])
    step(service)
    assert set(kinds(service.database).values()) == {"normal"}
    assert whole(service.database)
    service.clock.advance_s(20 * DAY_S)
    assert step(service) == (1, 2)


def test_forgetting_one_by_name(service: Service) -> None:
    ids = service.record(3)
    with retention(service) as opened:
        opened.step()
        opened.pin(ids[1])
        assert opened.forget(ids[1]).spans == 4
        assert opened.forget(ids[1]).spans == 0
    assert traces_with_spans(service.database) == {ids[0], ids[2]}
    assert books_balance(service.database)
    with Database(service.database) as database:
        assert database.audit()[0].forgotten == {"asked": 4}


def test_a_trace_is_named_by_its_first_digits(service: Service) -> None:
    ids = service.record(3)
    with retention(service) as opened:
        opened.step()
        stand = standing(opened, service.clock.wall_ns(), limit=3)
        for kept in stand.next_to_go:
            assert find_trace(opened.spans, kept.short_id.upper()) == kept.trace_id
        assert find_trace(opened.spans, ids[0]) == ids[0]
        with pytest.raises(NotFoundError, match="3 traces begin"):
            find_trace(opened.spans, ids[0][:4])
        with pytest.raises(NotFoundError, match="no trace begins"):
            find_trace(opened.spans, "f" * 32)
        for nonsense in ("", "xyz", "1" * 33, "%"):
            with pytest.raises(SettingError, match="hexadecimal"):
                find_trace(opened.spans, nonsense)


def test_standing_says_what_goes_when(service: Service) -> None:
    service.record(60)
    (failed,) = service.record(failed=True)
    with retention(service, CONFIG) as opened:
        opened.step()
        stand = standing(opened, service.clock.wall_ns(), limit=2)
        assert stand.traces == 61
        assert [(k.kind, k.traces) for k in stand.kinds if k.traces] == [
            ("error", 1),
            ("routine", 60),
        ]
        assert stand.strongest[0].trace_id == failed
        first = stand.next_to_go[0]
        goes_ns = first.goes_ns
        assert goes_ns is not None and 2 * DAY_NS < goes_ns - service.clock.wall_ns() < 3 * DAY_NS
        service.clock.advance_s((goes_ns - service.clock.wall_ns()) / 1e9 - 60)
        opened.step()
        assert first.trace_id in entries(service.database)
        assert standing(opened, service.clock.wall_ns(), limit=0).due["faded"] == 0
        service.clock.advance_s(61)
        opened.step(forget=False)
        due = standing(opened, service.clock.wall_ns(), limit=0).due
        went = opened.step().forgotten.traces
        assert due == {"faded": went, "quota": 0} and went
        assert first.trace_id not in entries(service.database)


def test_time_by_volume_leaves_an_idle_file_alone(service: Service) -> None:
    config = RetentionConfig(keep_tick_traces=1, keep_routine_after=50, keep_slow_after=20)
    ids = service.record(60)
    step(service, config)
    service.clock.advance_s(10_000 * DAY_S)
    assert step(service, config) == (0, 0)
    for _ in range(5):
        service.record(1_000)
        step(service, config)
    assert not set(ids) & traces_with_spans(service.database)
    assert books_balance(service.database)


def test_files_that_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not there"):
        Retention(tmp_path / "none.db")
    other = tmp_path / "other.txt"
    other.write_text("hello " * 100)
    with pytest.raises(NotAStoreError):
        Retention(other)
    assert other.read_text() == "hello " * 100


def test_settings_that_cannot_be() -> None:
    from afterglow.config import load

    for wrong in (
        {"keep_max_bytes": 1},
        {"keep_max_traces": 0},
        {"keep_slow_factor": float("nan")},
    ):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            load(RetentionConfig, wrong, {})
