"""`afterglow serve --check`: one line a thing, an exit code, and nothing changed."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from scripts.redis_cluster import SingleRedis
from tests.serve.serving import Serving, afterglow

OFF = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")


def checked(*words: str, status: int) -> dict[str, str]:
    """What is said of each thing, by name; those that are fine begin with ok."""
    code, out, err = afterglow("serve", *words, "--check", "--json")
    assert code == status, out + err
    assert err == ""
    return {one["name"]: ("ok: " if one["ok"] else "") + one["message"] for one in json.loads(out)}


def test_all_is_well_and_nothing_was_made(tmp_path: Path) -> None:
    found = checked("--db", str(tmp_path / "a.db"), *OFF, status=0)
    assert found.keys() >= {"database", "folder", "who may send", "http", "grpc"}
    assert all(message.startswith("ok: ") for message in found.values())
    assert list(tmp_path.iterdir()) == []


def test_each_problem_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("of somebody else")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = checked(
            "--db", str(tmp_path / "a.db"), "--http", f"127.0.0.1:{port}", "--grpc", "0.0.0.0:0",
            "--store", "postgresql://127.0.0.1:1/x", "--buffer", "redis://127.0.0.1:1",
            status=1,
        )  # fmt: skip
    assert "in use" in found["http"]
    assert "set tokens" in found["grpc"]
    assert "127.0.0.1:1" in found["buffer"]
    assert "127.0.0.1:1" in found["store"]
    found = checked("--db", str(tmp_path / "a.db"), *OFF, status=1)
    assert "a.db" in found["database"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_settings_that_cannot_be_used_are_no_check(tmp_path: Path) -> None:
    file = tmp_path / "afterglow.toml"
    file.write_text("[serve]\ndrain_timeout = 1\n")
    code, out, err = afterglow("serve", "--config", str(file), "--check")
    assert (code, out) == (2, "")
    assert err == (
        f"afterglow: {file}: [serve] has no 'drain_timeout': did you mean 'drain_timeout_s'?\n"
    )


def test_a_service_that_runs_is_seen(tmp_path: Path, redis_single: SingleRedis) -> None:
    database = tmp_path / "a.db"
    with Serving(database, "--buffer", redis_single.url) as serving:
        serving.said("spans are kept in")
        found = checked("--db", str(database), "--buffer", redis_single.url, *OFF, status=1)
        assert f"(pid {serving.process.pid})" in found["folder"]
        assert found["buffer"].startswith("ok: ")
        assert serving.stop() == 0
