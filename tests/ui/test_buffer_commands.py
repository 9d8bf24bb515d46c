"""`afterglow buffer ...` as an operator calls it: real processes, a real Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from afterglow.buffer.redis import RedisBuffer
from afterglow.config import BufferConfig
from afterglow.sink.segment_file import read_segments
from scripts.redis_cluster import RedisCluster, SingleRedis
from tests.flush.rig import spans_of
from tests.ui.conftest import Command

Child = Callable[..., "subprocess.CompletedProcess[str]"]
TRACE = spans_of(1)[0].trace_id.hex()


@pytest.fixture
def url(redis_single: SingleRedis, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Redis that the commands find by themselves."""
    monkeypatch.setenv("AFTERGLOW_BUFFER_URL", redis_single.url)
    return redis_single.url


@pytest.fixture
def buffer(url: str) -> Iterator[RedisBuffer]:
    opened = RedisBuffer.from_url(url, BufferConfig(), role="collector")
    yield opened
    opened.close()


def fill(buffer: RedisBuffer, traces: int) -> None:
    for trace in range(traces):
        assert buffer.add(spans_of(trace), time.time_ns()).accepted == 3


def only_line(result: subprocess.CompletedProcess[str]) -> str:
    assert (result.returncode, result.stdout) == (2, ""), result
    assert result.stderr.startswith("afterglow: ") and result.stderr.count("\n") == 1
    return result.stderr


def document(result: subprocess.CompletedProcess[str], status: int = 0) -> Any:
    assert (result.returncode, result.stderr) == (status, "")
    return msgspec.json.decode(result.stdout)


def test_stats_inspect_and_check(child: Child, buffer: RedisBuffer) -> None:
    fill(buffer, 5)
    shown = child("buffer", "stats")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "15 ingested" in shown.stdout and "15 held" in shown.stdout
    stats = document(child("buffer", "stats", "--json"))
    assert sum(shard["queued_traces"] for shard in stats["shards"]) == 5
    assert "holds 3 spans in 1 entry (1 inline)" in child("buffer", "inspect", TRACE).stdout
    (trace,) = document(child("buffer", "inspect", TRACE, "--project", "p", "--json"))
    assert (trace["project"], trace["held_spans"], trace["seal"]) == ("p", 3, None)
    assert child("buffer", "check").stdout == "nothing is wrong\n"


def test_a_trace_that_is_not_there(child: Child, url: str) -> None:
    assert "nothing of trace" in only_line(child("buffer", "inspect", TRACE))
    assert "32 hexadecimal digits" in only_line(child("buffer", "inspect", "xyz"))


def test_check_says_what_to_do(
    child: Child, buffer: RedisBuffer, redis_single: SingleRedis
) -> None:
    redis_single.client.set("span-buf:mine", "1")
    result = child("buffer", "check")
    assert (result.returncode, result.stderr) == (1, "")
    assert "1 keys that no part of Afterglow owns" in result.stdout
    assert "key_prefix" in result.stdout
    problems = document(child("buffer", "check", "--json"), status=1)
    assert [problem["count"] for problem in problems] == [1, 1]


def test_drain_writes_everything_once(child: Child, buffer: RedisBuffer, tmp_path: Path) -> None:
    fill(buffer, 4)
    drained = document(child("buffer", "drain", "--to", "a.jsonl", "--json"))
    assert (drained["parts"], drained["spans"], drained["held"]) == (4, 12, 0)
    found = sorted(s.payload for line in read_segments(tmp_path / "a.jsonl") for s in line.spans)
    assert found == sorted(span.payload for trace in range(4) for span in spans_of(trace))
    again = child("buffer", "drain", "--to", "a.jsonl")
    assert again.stdout.startswith("0 spans in 0 parts to a.jsonl")


def test_drain_with_longer_timeouts_than_its_own_settings(
    child: Child, url: str, tmp_path: Path
) -> None:
    patient = RedisBuffer.from_url(
        url, BufferConfig(root_timeout_s=3_600, timeout_s=7_200, max_open_s=9_000)
    )
    fill(patient, 2)
    patient.close()
    assert document(child("buffer", "drain", "--to", "a.jsonl", "--json"))["spans"] == 6


def test_drain_says_what_is_held_still(
    child: Child, buffer: RedisBuffer, redis_single: SingleRedis
) -> None:
    fill(buffer, 1)
    for bucket in range(64):  # as what others have, it is not to be had
        redis_single.client.delete(f"span-buf:q:{{b{bucket}}}")
    result = child("buffer", "drain", "--to", "a.jsonl")
    assert (result.returncode, result.stderr) == (1, "")
    assert "3 spans are held still" in result.stdout


def test_drain_leaves_what_it_cannot_write(
    child: Child, buffer: RedisBuffer, tmp_path: Path
) -> None:
    fill(buffer, 1)
    assert "nowhere" in only_line(child("buffer", "drain", "--to", "nowhere/a.jsonl"))
    (tmp_path / "notes.txt").write_text("mine")
    assert "name another file" in only_line(child("buffer", "drain", "--to", "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert buffer.ledger().held == 3


def test_drain_is_refused_while_flushers_run(child: Child, url: str) -> None:
    flusher = RedisBuffer.from_url(url, BufferConfig(), role="flusher")
    assert "stop them first" in only_line(child("buffer", "drain", "--to", "a.jsonl"))
    assert child("buffer", "drain", "--to", "a.jsonl", "--force").returncode == 0
    flusher.close()
    assert child("buffer", "drain", "--to", "a.jsonl").returncode == 0


def test_a_rollout_by_hand(child: Child, url: str) -> None:
    buffer = RedisBuffer.from_url(url, BufferConfig(rollout_phase=3), role="collector")
    status = document(child("buffer", "rollout", "status", "--json"))
    assert (status["phase"], status["set_by"], status["advance"]) == (
        3,
        None,
        ["3 is the last phase"],
    )
    (process,) = status["processes"]
    assert (process["pid"], process["role"], process["standing"]) == (
        os.getpid(),
        "collector",
        "pinned",
    )
    assert "the last: nothing to do" in only_line(child("buffer", "rollout", "advance"))
    assert "phase 2" in child("buffer", "rollout", "back").stdout
    refused = only_line(child("buffer", "rollout", "back"))
    assert "phase 2 stays" in refused and "is pinned to phase 3 by its settings" in refused
    shown = child("buffer", "rollout", "status").stdout
    assert "pinned" in shown and "back: refused" in shown and "advance: open" in shown
    buffer.close()


@pytest.mark.parametrize(
    "words",
    [
        ["stats"],
        ["inspect", TRACE],
        ["check"],
        ["drain", "--to", "a.jsonl"],
        ["flush", "--to", "a.jsonl"],
        ["rollout", "status"],
        ["rollout", "advance"],
        ["rollout", "back"],
    ],
    ids=" ".join,
)
def test_a_wrong_url_is_one_line(
    command: Command, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url, says in [
        (None, "name one in Redis with --url"),
        ("postgres://a", "is no URL of a span buffer"),
        ("redis://127.0.0.1:1", "Connection refused"),
        ("redis+cluster://127.0.0.1:1,127.0.0.1:2", "Connection refused"),
    ]:
        result = command("buffer", *words, *(["--url", url] if url else []), status=2)
        assert result.stdout == "" and result.stderr.count("\n") == 1
        assert result.stderr.startswith("afterglow: ") and says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_server_of_the_other_kind(
    child: Child, redis_single: SingleRedis, redis_cluster: RedisCluster
) -> None:
    single, cluster = redis_single.url, redis_cluster.url
    wrong = single.replace("redis://", "redis+cluster://").removesuffix("/0")
    assert "is no cluster: use redis://" in only_line(child("buffer", "stats", "--url", wrong))
    node = "redis://" + cluster.removeprefix("redis+cluster://").split(",")[0]
    assert "use redis+cluster://" in only_line(child("buffer", "stats", "--url", node))
    assert child("buffer", "stats", "--url", cluster).returncode == 0


def test_passwords_are_not_printed(child: Child, redis_single: SingleRedis) -> None:
    url = redis_single.url.replace("redis://", "redis://me:secret@")
    said = only_line(child("buffer", "stats", "--url", url))
    assert "refuses us" in said and "secret" not in said


def flushing(folder: Path, *words: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "afterglow", "buffer", "flush", "--to", "a.jsonl", *words],
        cwd=folder,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_flush_runs_until_sigterm(url: str, tmp_path: Path) -> None:
    buffer = RedisBuffer.from_url(url, BufferConfig(root_timeout_s=0.1))
    fill(buffer, 3)
    with flushing(tmp_path, "--flushers", "2", AFTERGLOW_BUFFER_ROOT_TIMEOUT_S="0.1") as service:
        assert service.stderr is not None
        assert service.stderr.readline() == "afterglow: 2 flushers run\n"
        end = time.monotonic() + 60
        while buffer.ledger().held:
            assert time.monotonic() < end
        service.send_signal(signal.SIGTERM)
        output, errors = service.communicate(timeout=60)
    buffer.close()
    assert (service.returncode, output, errors) == (0, "", "")
    assert sum(len(line.spans) for line in read_segments(tmp_path / "a.jsonl")) == 9


def test_flushers_that_do_not_start_end_with_3(url: str, tmp_path: Path) -> None:
    with flushing(tmp_path, AFTERGLOW_FLUSH_START_TIMEOUT_S="0.1") as service:
        output, errors = service.communicate(timeout=60)
    assert (service.returncode, output) == (3, "")
    assert errors.startswith("afterglow: flusher 0 was not healthy within 0.1 s")
    assert errors.count("\n") == 1


@pytest.mark.soak
def test_flushers_that_die_again_and_again_end_with_3(url: str, tmp_path: Path) -> None:
    """The file that they write becomes one of somebody else's."""
    with flushing(tmp_path, AFTERGLOW_FLUSH_RETRY_S="0.01") as service:
        assert service.stderr is not None
        assert service.stderr.readline() == "afterglow: 1 flusher runs\n"
        (tmp_path / "a.jsonl").write_text("notes\n")
        pid = int(Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()[-1])
        os.kill(pid, signal.SIGKILL)
        errors = service.communicate(timeout=300)[1].splitlines()
    assert service.returncode == 3
    assert errors[-1].startswith("afterglow: flusher 0 died 11 times in a row")
    assert "name another file" in errors[-1]
