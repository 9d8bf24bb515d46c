"""Servers end with whoever started them, however that went, and their folders with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from scripts import cluster as cluster_command
from scripts import debian, postgres, servers
from scripts.guard import born
from scripts.postgres import Postgres
from scripts.redis_cluster import RedisCluster, SingleRedis
from scripts.servers import ServerTrouble, until

ROOT = Path(__file__).resolve().parents[2]

HOLDER = """
import os, sys
from scripts.postgres import Postgres, children
from scripts.redis_cluster import SingleRedis
redis, postgres = SingleRedis(), Postgres()
if os.fork() == 0:
    # A forked child outlives us with our end of the pipe.
    sys.stdin.read()
    os._exit(0)
pids = [redis.pid, postgres.process.pid, *children(postgres.process.pid)]
print(*pids, redis.process.place.folder, postgres.place.folder, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, None])
def test_nothing_outlives_who_started_it(sign: signal.Signals | None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        *pids, redis_folder, postgres_folder = holder.stdout.readline().split()
        folders = [Path(redis_folder), Path(postgres_folder)]
        assert all(folder.is_dir() for folder in folders)
        assert len(pids) > 3
        if sign is None:
            holder.stdin.close()  # it ends of itself and stops nothing
        else:
            holder.send_signal(sign)
        until(lambda: not any(born(int(pid)) for pid in pids), "all servers end")
        until(lambda: not any(folder.exists() for folder in folders), "their folders are gone")


def test_stop_leaves_no_process_and_no_folder() -> None:
    with SingleRedis() as redis, Postgres() as server:
        pids = [redis.pid, server.process.pid or 0, *postgres.children(server.process.pid or 0)]
        folders = [redis.process.place.folder, server.place.folder]
        server.crash()
    assert not any(map(born, pids))
    assert not any(folder.exists() for folder in folders)


def test_a_forked_child_does_not_stop_the_servers_of_its_parent(redis_single: SingleRedis) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os\n"
            "from scripts.servers import Place\n"
            "place = Place('afterglow-test')\n"
            "if os.fork() == 0:\n"
            "    place.close()\n"
            "    os._exit(0)\n"
            "os.wait()\n"
            "print(place.folder.exists())\n"
            "place.close()\n"
            "print(place.folder.exists())\n",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(ServerTrouble, match="FATAL CONFIG FILE ERROR"):
        RedisCluster(settings={"no-such-setting": "1"})


# --- the commands ---------------------------------------------------------------------------


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the servers that a developer has running in this clone."""
    monkeypatch.setattr(servers, "REMEMBERED", tmp_path)


def command(monkeypatch: pytest.MonkeyPatch, module: object, words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["make", *words.split()])
    module.main()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("own_state")
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_cluster_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="no cluster runs; start one with: make cluster"):
        command(monkeypatch, cluster_command, "status")
    command(monkeypatch, cluster_command, "start --node-timeout-ms 500")
    saved = servers.remembered("cluster")
    assert saved is not None
    try:
        assert RedisCluster.again(saved).url in capsys.readouterr().out
        command(monkeypatch, cluster_command, "move-slots 10 1 2")
        command(monkeypatch, cluster_command, "fill 1")
        command(monkeypatch, cluster_command, "status")
        shown = capsys.readouterr().out
        assert "5461-5470" in shown
        assert "FULL" in shown
        command(monkeypatch, cluster_command, "free 1")
        command(monkeypatch, cluster_command, "kill-master 0")
        assert "node-3" in capsys.readouterr().out
        with pytest.raises(SystemExit, match="node 0 is dead"):
            command(monkeypatch, cluster_command, "kill-master 0")
        command(monkeypatch, cluster_command, "restart")
        command(monkeypatch, cluster_command, "status")
        assert "of node 3" in capsys.readouterr().out
    finally:
        command(monkeypatch, cluster_command, "stop")
    assert not Path(saved["folder"]).exists()
    assert servers.remembered("cluster") is None


@pytest.mark.usefixtures("own_state")
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_postgres_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, postgres, "start")
    saved = servers.remembered("postgres")
    assert saved is not None
    try:
        url = capsys.readouterr().out.split()[0]
        with psycopg.connect(url) as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
        command(monkeypatch, postgres, "crash")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        command(monkeypatch, postgres, "restart")
        psycopg.connect(url).close()
    finally:
        command(monkeypatch, postgres, "stop")
    assert not Path(saved["folder"]).exists()


# --- where they come from -------------------------------------------------------------------


def test_a_program_that_is_too_old_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = debian.Program("afterglow-test", "no-package", 7, ("afterglow-test",))
    file = tmp_path / "afterglow-test"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for version, good in (("6.2.14", False), ("7.0.15", True), ("10.1", True)):
        file.write_text(f"#!/bin/sh\necho 'afterglow-test v={version} bits=64'\n")
        file.chmod(0o755)
        found = debian.find(program)
        assert (found is not None and found.version == version) is good


def test_what_cannot_be_had_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "has_apt", lambda: False)
    with pytest.raises(debian.NotHere, match=r"no-such 7 or newer is not on this machine.*install"):
        debian.need(debian.Program("no-such", "no-package", 7, ("no-such",)))
