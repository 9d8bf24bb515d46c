"""Health, readiness, and parts that stop in the mirror of their start."""

from __future__ import annotations

from afterglow.collecting.health import Health
from afterglow.collecting.steps import Steps, TimeLeft
from afterglow.testing import ManualClock


def test_not_ready_until_all_has_started() -> None:
    health = Health()
    assert health.healthz() == (200, ("ok",))
    assert health.readyz() == (503, ("serve: starting",))
    health.open()
    assert health.readyz() == (200, ("ok",))
    health.close("stopping")
    assert health.readyz().text == "serve: stopping\n"
    assert health.healthz().status == 200


def test_each_reason_is_a_line() -> None:
    health = Health()
    wrong: dict[str, str | None] = {"flusher": None, "buffer": None}
    health.alive("flusher", lambda: wrong["flusher"])
    health.ready("buffer", lambda: wrong["buffer"])
    health.open()
    assert health.readyz().status == 200
    wrong["buffer"] = "Redis is\naway"
    assert health.healthz().status == 200
    assert health.readyz() == (503, ("buffer: Redis is away",))
    wrong["flusher"] = "it ended"
    assert health.healthz() == (503, ("flusher: it ended",))
    assert health.readyz().lines == ("flusher: it ended", "buffer: Redis is away")


def test_a_probe_that_fails_is_not_well() -> None:
    health = Health()

    def broken() -> str | None:
        raise OSError("no")

    health.alive("store", broken)
    assert health.healthz() == (503, ("store: OSError: no",))


def test_parts_stop_in_the_mirror_whatever_one_raises() -> None:
    clock = ManualClock()
    said: list[str] = []
    stopped: list[tuple[str, float]] = []
    steps = Steps(clock, said.append)

    def stops(name: str, *, fails: bool = False) -> None:
        def stop(left_s: TimeLeft) -> None:
            stopped.append((name, left_s()))
            clock.advance_s(4.0)
            if fails:
                raise OSError("it is stuck")

        steps.add(name, stop)

    for name in ("store", "buffer", "faces"):
        stops(name, fails=name == "buffer")
    assert steps.stop(10.0) == ["buffer"]
    assert stopped == [("faces", 10.0), ("buffer", 6.0), ("store", 2.0)]
    assert said == ["stopping buffer failed: OSError: it is stuck"]
    assert steps.stop(1.0) == []
