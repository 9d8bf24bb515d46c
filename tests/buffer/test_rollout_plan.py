"""Which step of the rollout may be taken: pure rules."""

from __future__ import annotations

import pytest

from afterglow.buffer.rollout_plan import Held, Seen, refusals, standing, target

SILENT_S = 15.0


def process(*phases: int, pinned: bool = False, silent_s: float = 0.5) -> Seen:
    return Seen("collector a:1", "collector", phases, pinned, silent_s)


def reasons(phase: int, to: int, *processes: Seen, held: Held = Held()) -> list[str]:  # noqa: B008
    return refusals(phase, to, processes, held, SILENT_S)


@pytest.mark.parametrize(("phase", "to"), [(0, 1), (1, 2), (2, 3), (3, 2), (2, 1), (1, 0)])
def test_a_step_that_everybody_is_ready_for(phase: int, to: int) -> None:
    assert reasons(phase, to, process(phase), process(phase)) == []


def test_a_process_that_still_works_in_another_phase() -> None:
    (why,) = reasons(1, 2, process(1), process(0, 1))
    assert "collector a:1 still works in phase 0 and 1" in why and "stop it" in why


def test_a_process_that_is_gone_holds_nobody_up() -> None:
    assert reasons(1, 2, process(0, silent_s=16.0)) == []
    assert standing(process(0, silent_s=16.0), 1, SILENT_S) == "gone"


@pytest.mark.parametrize(
    ("phase", "to", "pinned_to", "refused"),
    [(1, 2, 0, True), (1, 2, 1, False), (0, 1, 1, False), (2, 3, 0, True), (2, 1, 3, True)],
)
def test_a_process_that_is_pinned_must_be_a_neighbour_of_both_phases(
    phase: int, to: int, pinned_to: int, refused: bool
) -> None:
    found = reasons(phase, to, process(pinned_to, pinned=True))
    assert bool(found) is refused
    assert all("AFTERGLOW_BUFFER_ROLLOUT_PHASE" in why for why in found)


@pytest.mark.parametrize(
    ("phase", "to", "held", "refused"),
    [
        (1, 2, Held(colocated_only=3), True),
        (2, 3, Held(colocated_only=3), True),
        (2, 1, Held(distributed_only=3), True),
        (1, 0, Held(distributed_only=3), True),
        (0, 1, Held(colocated_only=3), False),
        (3, 2, Held(distributed_only=3), False),
    ],
)
def test_entries_that_the_layout_to_be_read_does_not_hold(
    phase: int, to: int, held: Held, refused: bool
) -> None:
    found = reasons(phase, to, held=held)
    assert bool(found) is refused
    assert all("3 entries" in why and "drain" in why for why in found)


def test_phases_that_nobody_knows() -> None:
    assert "phase is 7" in reasons(7, 7)[0]
    (why,) = reasons(2, 3, process(9))
    assert "works in phase 9" in why
    assert target(3, 1) is None and target(0, -1) is None and target(1, 1) == 2
