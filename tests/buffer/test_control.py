"""What processes follow of the control keys, on a real Redis and a real cluster."""

from __future__ import annotations

from time import monotonic
from typing import Any

import msgspec
import pytest

from afterglow.buffer.connect import Nodes, connect
from afterglow.buffer.control import Control, ProcessEntry, RolloutState
from afterglow.buffer.control_keys import ControlKeys
from afterglow.buffer.pressure import RedisPressure
from afterglow.buffer.rollout import Rollout
from afterglow.buffer.rollout_plan import Held
from afterglow.config import BufferConfig
from afterglow.errors import RolloutError
from afterglow.testing import ManualClock
from scripts.redis_cluster import SingleRedis

KEYS = ControlKeys("span-buf")


class Desk:
    """An operator and some processes, each with a clock of its own."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.held = Held()
        self.rollout = Rollout(nodes, BufferConfig(), lambda: self.held)

    def process(self, **settings: Any) -> tuple[Control, ManualClock]:
        clock = ManualClock()
        return Control(self.nodes, BufferConfig(**settings), role="collector", clock=clock), clock


@pytest.fixture
def desk(nodes: Nodes) -> Desk:
    return Desk(nodes)


def phase_of(control: Control) -> int:
    with control.following() as now:
        return now.phase


def test_a_new_installation_is_in_phase_3(desk: Desk) -> None:
    control, _ = desk.process()
    assert phase_of(control) == 3
    status = desk.rollout.status()
    assert (status.phase, status.set_by) == (3, None)
    (process,) = status.processes
    assert (process.role, process.phases, process.standing) == ("collector", (3,), "follows")


def test_running_processes_follow_within_a_second_of_theirs(desk: Desk) -> None:
    control, clock = desk.process()
    desk.rollout.back()
    assert phase_of(control) == 3
    clock.advance_s(1)
    assert phase_of(control) == 2
    assert desk.rollout.status().processes[0].phases == (2,)


def test_all_the_way_and_back(desk: Desk) -> None:
    control, clock = desk.process()
    for expected in (2, 1, 0):
        assert desk.rollout.back().phase == expected
        clock.advance_s(1)
        phase_of(control)
        clock.advance_s(1)
        phase_of(control)
    with pytest.raises(RolloutError, match="in phase 0, the first"):
        desk.rollout.back()
    assert desk.rollout.advance().phase == 1


def test_no_step_while_a_process_is_behind(desk: Desk) -> None:
    control, clock = desk.process()
    desk.rollout.back()
    with pytest.raises(RolloutError, match="still works in phase 3"):
        desk.rollout.back()
    clock.advance_s(1)
    with control.following() as now:  # a long call that began in phase 2
        assert now.phase == 2
        clock.advance_s(1)
        control.refresh()
        assert desk.rollout.back().phase == 1
        clock.advance_s(1)
        assert phase_of(control) == 1
        clock.advance_s(1)
        control.refresh()
        assert desk.rollout.status().processes[0].phases == (1, 2)
        with pytest.raises(RolloutError, match="still works in phase 1 and 2"):
            desk.rollout.back()
    clock.advance_s(1)
    control.refresh()
    assert desk.rollout.back().phase == 0


def test_a_pinned_process_does_not_follow_and_is_seen(desk: Desk) -> None:
    control, clock = desk.process(rollout_phase=3)
    desk.rollout.back()
    clock.advance_s(1)
    assert phase_of(control) == 3
    with pytest.raises(RolloutError, match="pinned to phase 3 by its settings"):
        desk.rollout.back()
    control.leave()
    assert desk.rollout.back().phase == 1


def test_entries_that_would_not_be_read_any_more(desk: Desk) -> None:
    desk.held = Held(distributed_only=5)
    desk.rollout.back()
    assert "5 entries" in desk.rollout.status().back[0]
    with pytest.raises(RolloutError, match="phase 2 stays"):
        desk.rollout.back()


def test_two_operators_at_once_take_one_step(desk: Desk) -> None:
    def count() -> Held:  # while one looks, the other is through
        desk.rollout.back()
        return Held()

    slower = Rollout(desk.nodes, BufferConfig(), count)
    with pytest.raises(RolloutError, match="somebody else changed the phase"):
        slower.back()
    assert desk.rollout.status().phase == 2


def test_a_phase_of_a_newer_version(desk: Desk) -> None:
    control, clock = desk.process()
    desk.nodes.client.set(KEYS.rollout, msgspec.json.encode(RolloutState(7, "x", 1)))
    with pytest.raises(RolloutError, match="phase 7, which Afterglow"):
        desk.process()
    with pytest.raises(RolloutError, match="phase is 7"):
        desk.rollout.advance()
    clock.advance_s(1)
    with control.following() as now:
        assert now.refusal is not None and "phase 7" in now.refusal
    entry = ProcessEntry("h", 1, "collector", (9,))
    desk.nodes.client.set(KEYS.rollout, msgspec.json.encode(RolloutState(1, "x", 1)))
    clock.advance_s(2)
    phase_of(control)
    clock.advance_s(2)
    phase_of(control)
    seen = b"%d " % (desk.rollout.status().processes[0].pid + 10**15)
    desk.nodes.client.hset(KEYS.processes, "x", seen + msgspec.json.encode(entry))
    with pytest.raises(RolloutError, match="works in phase 9"):
        desk.rollout.advance()


def test_pressure_makes_ingest_refuse_until_nobody_says_so(desk: Desk) -> None:
    control, clock = desk.process()
    flusher_clock = ManualClock()
    pressure = RedisPressure(desk.nodes, BufferConfig(), flusher_clock)
    pressure.press("the sink is away")
    clock.advance_s(1)
    with control.following() as now:
        assert now.refusal == "the sink is away"
        assert 0 < now.retry_after_s <= 4.0
    assert 0 < desk.nodes.client.pttl(KEYS.pressure) <= 4_000
    desk.nodes.client.delete(KEYS.pressure)  # as its TTL does
    clock.advance_s(1)
    with control.following() as now:
        assert now.refusal is None


def test_a_full_node_is_pressure_and_can_still_be_said(desk: Desk) -> None:
    """At maxmemory the word of it, the signs of life and the phase go on."""
    control, clock = desk.process()
    for _, client in desk.nodes.masters():
        client.config_set("maxmemory", client.info("memory")["used_memory"])
    flusher_clock = ManualClock()
    RedisPressure(desk.nodes, BufferConfig(), flusher_clock).watch()
    clock.advance_s(1)
    with control.following() as now:
        assert now.refusal is not None and "of its maxmemory" in now.refusal
    assert desk.rollout.back().phase == 2
    clock.advance_s(1)
    assert phase_of(control) == 2


def test_a_redis_that_is_away(redis_single: SingleRedis) -> None:
    """Calls go on for a few seconds as before, then refuse: nobody knows the phase any more."""
    nodes = connect(redis_single.url, 1.0)
    clock = ManualClock()
    control = Control(nodes, BufferConfig(), clock=clock)
    redis_single.kill()
    clock.advance_s(1.5)
    with control.following() as now:
        assert (now.phase, now.refusal) == (3, None)
    clock.advance_s(4)
    with control.following() as now:
        assert now.refusal == "the control keys cannot be read"
    control.leave()
    redis_single.restart()
    clock.advance_s(1)
    with control.following() as now:
        assert now.refusal is None
    nodes.close()


def test_a_service_that_has_nothing_to_do_gives_signs_of_life(desk: Desk) -> None:
    idle = Control(desk.nodes, BufferConfig(), role="collector")
    desk.rollout.back()
    end = monotonic() + 30
    while desk.rollout.processes()[0].phases != (2,):
        assert monotonic() < end
    idle.leave()
    idle.leave()
    assert desk.rollout.processes() == ()


def test_no_control_key_but_the_pressure_and_leases_has_a_ttl(desk: Desk) -> None:
    desk.process()
    desk.rollout.back()
    for key in (KEYS.rollout, KEYS.processes):
        assert desk.nodes.client.ttl(key) == -1
