"""The supervisor with real processes: killed, hung, dying again and again, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest

from afterglow.errors import FlusherError
from afterglow.flush.supervisor import AllShards, Supervisor
from tests.flush.makers import CONFIG, Bad, Idle, Never, Poisoned, Slow

Watch = Callable[..., Supervisor]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervise(said: list[str]) -> Iterator[Watch]:
    """Supervisors that are stopped at the end."""
    made: list[Supervisor] = []

    def make(maker: Any, *, shards: int = 4, **settings: Any) -> Supervisor:
        config = msgspec.structs.replace(CONFIG, **settings)
        made.append(Supervisor(maker, config=config, leases=AllShards(shards), report=said.append))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.stop()


def until(supervisor: Supervisor, what: Callable[[], bool], within_s: float = 30) -> None:
    """Go round until it is so; each round waits for what happens to the processes."""
    end = monotonic() + within_s
    while not what():
        assert monotonic() < end, supervisor.status()
        supervisor.step()


def is_gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def test_all_are_healthy_and_have_their_shards(supervise: Watch, said: list[str]) -> None:
    supervisor = supervise(Idle())
    supervisor.start()
    assert supervisor.healthy
    until(supervisor, lambda: [one.shards for one in supervisor.status()] == [{0, 2}, {1, 3}])
    pids = {one.pid for one in supervisor.status()}
    assert len(pids) == 2 and os.getpid() not in pids
    supervisor.stop()
    assert all(pid is not None and is_gone(pid) for pid in pids)
    assert said == []


def test_one_that_was_killed_is_started_again(supervise: Watch, said: list[str]) -> None:
    supervisor = supervise(Idle())
    supervisor.start()
    first, second = supervisor.status()
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    until(supervisor, lambda: supervisor.status()[0].deaths == 1)
    until(supervisor, lambda: supervisor.healthy)
    until(supervisor, lambda: supervisor.status()[0].shards == {0, 2})
    assert supervisor.status()[0].pid != first.pid
    assert supervisor.status()[1].pid == second.pid
    (line,) = said
    assert line.startswith("flusher 0 died (killed by signal 9); death 1 in a row")


def test_one_that_hangs_is_killed_and_started_again(supervise: Watch, said: list[str]) -> None:
    supervisor = supervise(Idle())
    supervisor.start()
    pid = supervisor.status()[1].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    until(supervisor, lambda: supervisor.status()[1].deaths == 1)
    assert is_gone(pid)
    until(supervisor, lambda: supervisor.healthy)
    assert supervisor.status()[0].deaths == 0
    assert "gave no sign of life" in said[0]


def test_leases_that_cannot_be_given_back_do_not_keep_it_from_stopping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Redis that hangs: giving back is not waited for, and the flushers have ended by then."""
    monkeypatch.setattr("afterglow.flush.supervisor._LEAVE_S", 0.01)
    answered, left = threading.Event(), threading.Event()

    class Hanging(AllShards):
        def leave(self) -> None:
            answered.wait()
            left.set()

    supervisor = Supervisor(Idle(), config=CONFIG, leases=Hanging(4))
    supervisor.start()
    supervisor.stop()
    assert not left.is_set()
    assert [one.pid for one in supervisor.status()] == [None, None]
    answered.set()
    assert left.wait(10)


def test_more_than_ten_deaths_in_a_row_end_it(supervise: Watch, said: list[str]) -> None:
    supervisor = supervise(Poisoned(), retry_s=0.01)
    supervisor.start()
    with pytest.raises(FlusherError, match=r"flusher 0 died 11 times in a row.*poison"):
        until(supervisor, lambda: False, within_s=60)
    assert len(said) == 10
    supervisor.stop()
    assert [one.pid for one in supervisor.status()] == [None, None]


def test_a_start_is_refused_at_once_for_what_will_not_go_away(supervise: Watch) -> None:
    supervisor = supervise(Bad(1, for_ever=True), start_timeout_s=3_600)
    with pytest.raises(FlusherError, match="cannot start flushers: that setting is wrong"):
        supervisor.start()
    assert [one.pid for one in supervisor.status()] == [None, None]


@pytest.mark.parametrize("maker", [Never(), Bad(1)], ids=["hangs", "dies"])
def test_a_start_is_refused_when_one_is_not_healthy_in_time(supervise: Watch, maker: Any) -> None:
    supervisor = supervise(maker, start_timeout_s=1.5, retry_s=0.5, stop_timeout_s=0.2)
    with pytest.raises(FlusherError, match=r"was not healthy within 1\.5 s"):
        supervisor.start()
    assert [one.pid for one in supervisor.status()] == [None, None]


def test_stopping_waits_for_the_page_in_hand(supervise: Watch, tmp_path: Path) -> None:
    supervisor = supervise(Slow(tmp_path), flushers=1, hung_s=60)
    supervisor.start()
    until(supervisor, (tmp_path / "begun").exists)
    (tmp_path / "go on").touch()
    supervisor.stop()
    assert (tmp_path / "written").read_text() == f"{0:032x}"
    assert (tmp_path / "closed").exists()


def test_stopping_ends_with_one_that_does_not(
    supervise: Watch, tmp_path: Path, said: list[str]
) -> None:
    supervisor = supervise(Slow(tmp_path), flushers=1, hung_s=60, stop_timeout_s=0.2)
    supervisor.start()
    until(supervisor, (tmp_path / "begun").exists)
    supervisor.stop()
    assert supervisor.status()[0].pid is None
    assert any("did not stop within 0.2 s: killed" in line for line in said)


SERVICE = """
import sys
from afterglow.flush.service import serve
from afterglow.flush.supervisor import AllShards, Supervisor
from tests.flush.makers import CONFIG, Idle

if __name__ == "__main__":
    supervisor = Supervisor(Idle(), config=CONFIG, leases=AllShards(4))
    serve(supervisor, lambda: print(*(one.pid for one in supervisor.status()), flush=True))
    print("stopped", flush=True)
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A service of its own process, and the pids of its flushers."""
    script = tmp_path / "service.py"
    script.write_text(SERVICE)
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        yield process, pids
        process.kill()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_service(
    service: tuple[subprocess.Popen[str], list[int]], sign: signal.Signals
) -> None:
    process, pids = service
    assert len(pids) == 2
    for pid in (*pids, process.pid):  # as a terminal does, to the whole group
        os.kill(pid, sign)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "stopped\n", "")
    assert all(map(is_gone, pids))


def test_flushers_end_when_their_supervisor_is_killed(
    service: tuple[subprocess.Popen[str], list[int]],
) -> None:
    process, pids = service
    process.kill()
    end = monotonic() + 30
    while not all(map(is_gone, pids)):
        assert monotonic() < end
    process.wait(30)
