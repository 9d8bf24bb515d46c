"""Pure rules of the rollout: which step may be taken, and what stands in the way of it.

    phase   writes                     reads where an entry is in both
    0       colocated                  colocated
    1       colocated + distributed    colocated
    2       colocated + distributed    distributed
    3       distributed                distributed

A step is safe when every process works under the present phase, so that none is two steps
away from another, and when the layout that will be read holds all that the other one holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

__all__ = ["READS", "Held", "Seen", "Standing", "refusals", "standing", "target"]

Layout = Literal["colocated", "distributed"]
READS: Final[Mapping[int, Layout]] = {
    0: "colocated",
    1: "colocated",
    2: "distributed",
    3: "distributed",
}


class Seen(NamedTuple):
    """A process as the registry shows it; `silent_s` since its last sign of life."""

    name: str
    role: str
    phases: tuple[int, ...]
    pinned: bool
    silent_s: float


class Held(NamedTuple):
    """How many index entries are in one of the two layouts only, of those that wait."""

    colocated_only: int = 0
    distributed_only: int = 0


Standing = Literal["follows", "behind", "pinned", "gone"]


def standing(process: Seen, phase: int, silent_s: float) -> Standing:
    """How a process stands to the present phase."""
    if process.silent_s > silent_s:
        return "gone"
    if process.pinned:
        return "pinned"
    return "follows" if process.phases == (phase,) else "behind"


def target(phase: int, step: int) -> int | None:
    """The phase that a step (1 or -1) leads to; None where there is none."""
    return phase + step if phase in READS and phase + step in READS else None


def refusals(
    phase: int, to_phase: int, processes: Sequence[Seen], held: Held, silent_s: float
) -> list[str]:
    """Why the step from `phase` to `to_phase` would lose spans, and what to do; [] for: go."""
    if phase not in READS:
        return [f"the present phase is {phase}, which this version does not know: upgrade it"]
    found: list[str] = []
    for process in processes:
        unknown = [p for p in process.phases if p not in READS]
        match standing(process, phase, silent_s):
            case "gone" | "follows":
                continue
            case _ if unknown:
                found.append(
                    f"{process.name} works in phase {unknown[0]}, which this version does not "
                    "know: run the command with the version of that process"
                )
            case "pinned" if not {*process.phases} <= {phase, to_phase}:
                # One that is pinned to a neighbour of its own is no danger: phases side by
                # side go together, and the next step sees it again.
                found.append(
                    f"{process.name} is pinned to phase {_list(process.phases)} by its settings: "
                    "restart it without rollout_phase (AFTERGLOW_BUFFER_ROLLOUT_PHASE)"
                )
            case "behind":
                found.append(
                    f"{process.name} still works in phase {_list(process.phases)}: wait a few "
                    "seconds and try again, or stop it"
                )
    layout = READS[to_phase]
    missing = held.distributed_only if layout == "colocated" else held.colocated_only
    if missing:
        other = "distributed" if layout == "colocated" else "colocated"
        found.append(
            f"{missing:,} entries are in the {other} layout only, and phase {to_phase} reads the "
            f"{layout} one: wait until they are flushed, or run afterglow buffer drain"
        )
    return found


def _list(phases: Sequence[int]) -> str:
    return " and ".join(map(str, phases))
