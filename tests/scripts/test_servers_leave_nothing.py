"""Servers end with whoever started them, however that went, and their folders with them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from scripts import debian, postgres
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

Command = Callable[[str], str]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs a command as a user would, apart from what a developer has running in this clone; what
    it wrote, with its exit code in front if that is not 0."""

    def run(words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words.split()],
            cwd=ROOT,
            env={**os.environ, "TEST_SERVERS_STATE": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return f"{done.returncode or ''}{done.stdout}"

    return run


def test_cluster_command(command: Command, tmp_path: Path) -> None:
    none = "1cluster: no cluster runs; start one with: make cluster\n"
    assert command("scripts.cluster status") == none
    started = command("scripts.cluster start --node-timeout-ms 500")
    folder = Path(json.loads((tmp_path / "cluster.json").read_text())["folder"])
    try:
        assert started.startswith("redis+cluster://127.0.0.1:")
        assert "moved 10 slots" in command("scripts.cluster move-slots 10 1 2")
        assert "it refuses more" in command("scripts.cluster fill 1")
        shown = command("scripts.cluster status")
        assert "5461-5470" in shown
        assert "FULL" in shown
        assert "takes writes again" in command("scripts.cluster free 1")
        assert "node-3" in command("scripts.cluster kill-master 0")
        assert command("scripts.cluster kill-master 0").startswith("1cluster: node 0 is dead")
        assert "node-0 is back" in command("scripts.cluster restart")
        assert "of node 3" in command("scripts.cluster status")
    finally:
        command("scripts.cluster stop")
    assert not folder.exists()
    assert command("scripts.cluster stop") == none


def test_cluster_in_the_foreground_ends_with_its_signal() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "scripts.cluster", "start", "--foreground"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().startswith("redis+cluster://")
        assert "Ctrl-C" in holder.stdout.readline()
        its = postgres.children(holder.pid)
        assert len(its) == 7
        holder.send_signal(signal.SIGINT)
        assert holder.wait() == 0
    assert not any(map(born, its))


def test_postgres_command(command: Command, tmp_path: Path) -> None:
    url = command("scripts.postgres start").split()[0]
    folder = Path(json.loads((tmp_path / "postgres.json").read_text())["folder"])
    try:
        assert command("scripts.postgres start").startswith(f"{url}\n-- PostgreSQL runs already")
        psycopg.connect(url).close()
        command("scripts.postgres crash")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        assert "is up" in command("scripts.postgres restart")
        psycopg.connect(url).close()
    finally:
        command("scripts.postgres stop")
    assert not folder.exists()


def test_kafka_command(command: Command, tmp_path: Path) -> None:
    none = "1kafka: no broker runs; start one with: make kafka\n"
    assert command("scripts.kafka status") == none
    lines = command("scripts.kafka start")
    if "is not on this machine" in lines:
        pytest.skip("a broker of one's own needs Java and Maven; tests have the mock cluster then")
    folder = Path(json.loads((tmp_path / "kafka.json").read_text())["folder"])
    try:
        assert "127.0.0.1:" in lines
        assert "runs already" in command("scripts.kafka start")
        assert "is dead" in command("scripts.kafka crash")
        assert "is up" in command("scripts.kafka restart")
        assert "is up" in command("scripts.kafka status")
    finally:
        command("scripts.kafka stop")
    assert not folder.exists()
    assert command("scripts.kafka stop") == none


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
