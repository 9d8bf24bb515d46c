"""A TraceStore on servers, as a program uses it: by URL, shared, through a restart."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import afterglow
from afterglow.errors import MissingExtraError, SettingError, StoreError
from afterglow.keeping import last_decay_cycle
from afterglow.ledger import HOT_COUNTERS
from scripts.postgres import Postgres
from scripts.redis_cluster import RedisCluster, SingleRedis
from tests.contracts.trace_store.places import url_of

HARD = ["\0", "ü\U0001f600\u2028", '{"looks": "like JSON"}', 1 << 62, -1.5e-300, None, [], {}, True]


def open_store(url: str, **settings: Any) -> afterglow.TraceStore:
    return afterglow.TraceStore(url, maintenance=False, **settings)


@pytest.mark.parametrize("hot", [False, True], ids=["postgresql", "with a hot tier"])
def test_two_stores_of_a_partition_see_each_other_and_values_come_back(
    postgres: str, redis_servers: SingleRedis | RedisCluster, hot: bool
) -> None:
    settings = {"hot": url_of(redis_servers)} if hot else {}
    with open_store(postgres, **settings) as one, open_store(postgres, **settings) as other:
        kept = one.store({"values": HARD}, kind="semantic", tags=["a\0", "b"], embedding=[0.1, 2.0])
        raw = one.store(b"\0\xff", kind="episodic", parent_id=kept)
        one.flush()
        for _ in range(2):
            entry = other.get(kept)
            assert entry is not None
            assert entry.payload == {"values": HARD}
            assert (entry.tags, entry.embedding) == (("a\0", "b"), [0.1, 2.0])
            assert entry.child_ids == (raw,)
        for _ in range(3):
            other.record_coactivation(kept, raw)
        assert other.reinforce(kept)
        other.flush()
        assert [entry.trace_id for entry in one.associated(raw)] == [kept]
        assert [entry.trace_id for entry in one.by_tag("a\0")] == [kept]
        before = one.get(kept)
        assert before is not None
        assert (before.strength, before.reinforcement_count) == (0.6, 1)
        other.delete(raw)
        other.flush()
        after = one.get(kept)
        assert after is not None
        assert (after.associated, after.child_ids) == ((), ())
        assert one.get(raw) is None
        assert one.count() == other.count() == 1
        assert (one.counters().keys() >= set(HOT_COUNTERS)) == hot


def test_a_flush_that_failed_is_written_by_the_next(
    postgres_server: Postgres, postgres: str
) -> None:
    with open_store(postgres, postgres_patience_s=0.1) as store:
        first = store.store("first", kind="semantic")
        store.flush()
        store.reinforce(first)
        second = store.store("second", kind="semantic")
        postgres_server.shut_down("immediate")
        with pytest.raises(StoreError, match="is the server running"):
            store.flush()
        assert store.dirty > 0
        assert store.counters()["flush_errors"] == 1
        postgres_server.start()
        store.flush()
        assert store.dirty == 0
    with open_store(postgres) as store:
        found = store.get(second)
        assert found is not None
        assert found.payload == "second"
        again = store.get(first)
        assert again is not None
        assert again.reinforcement_count == 1


KILLED = """
import os, sys, afterglow
store = afterglow.TraceStore(sys.argv[1], maintenance=False, postgres_patience_s=30.0)
n = 0
while True:
    ids = [store.store(f"payload {n}", kind="semantic", trace_id=f"e{n + k}") for k in range(50)]
    store.flush()
    n += 50
    print(n, flush=True)
"""


def test_what_a_killed_process_had_flushed_is_there_though_the_server_restarted(
    postgres_server: Postgres, postgres: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, postgres], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    flushed = 0
    for how in ("immediate", "fast"):
        for _ in range(3):
            flushed = int(process.stdout.readline())
        postgres_server.restart(how)
    for _ in range(3):
        flushed = int(process.stdout.readline())
    process.kill()
    process.communicate()
    with open_store(postgres) as store:
        assert all(store.get(f"e{n}") is not None for n in range(flushed))
        assert store.count() % 50 == 0


def test_the_last_cycle_is_read_without_a_store(postgres: str) -> None:
    with pytest.raises(StoreError, match="no trace store"):
        last_decay_cycle(postgres)
    with open_store(postgres) as store:
        store.store("a", kind="sensory")
        cycle = store.decay_cycle()
        assert cycle.decayed == 1
    assert last_decay_cycle(postgres) == cycle


def test_a_snapshot_of_one_back_end_is_restored_into_another(
    postgres: str, redis_servers: SingleRedis | RedisCluster, tmp_path: Any
) -> None:
    settings = {"snapshot_key": "k" * 32, "snapshot_folder": str(tmp_path / "snapshots")}
    with open_store(str(tmp_path / "memory.db"), **settings) as files:
        a, b = (files.store({"n": n}, kind="semantic", tags=["t"]) for n in range(2))
        for _ in range(3):
            files.record_coactivation(a, b)
        snapshot = files.snapshot()
    with open_store(postgres, hot=url_of(redis_servers), **settings) as store:
        gone = store.store("gone", kind="semantic")
        store.flush()
        assert store.get(gone) is not None
        store.restore(snapshot.path, force=True)
        assert store.get(gone) is None
        assert {entry.payload["n"] for entry in store.by_tag("t")} == {0, 1}
        assert [entry.trace_id for entry in store.associated(a)] == [b]


# --- what is not as it should be ------------------------------------------------------------


def test_wrong_places_are_clear_errors(postgres: str, tmp_path: Any) -> None:
    with pytest.raises(SettingError, match="postgresql://"):
        open_store("mysql://localhost/x")
    with pytest.raises(SettingError, match="it takes redis://"):
        open_store(postgres, hot="http://localhost")
    with pytest.raises(SettingError, match="hot"):
        open_store(str(tmp_path / "memory.db"), hot="redis://localhost")
    with pytest.raises(SettingError, match="postgres_connections"):
        open_store(postgres, postgres_connections=0)


def test_a_tier_that_was_never_there_is_reported_and_no_error(postgres: str) -> None:
    reports: list[str] = []
    with open_store(postgres, hot="redis://127.0.0.1:1", report=reports.append) as store:
        kept = store.store("a", kind="semantic")
        store.flush()
        assert store.get(kept) is not None
        store.reinforce(kept)
        store.flush()
        assert store.counters()["hot_troubles"] >= 1
    assert len(reports) == 1
    assert "hot tier in Redis at 127.0.0.1:1" in reports[0]


@pytest.mark.parametrize(("module", "extra"), [("psycopg", "postgres"), ("redis", "redis")])
def test_a_missing_extra_is_named(postgres: str, module: str, extra: str) -> None:
    program = f"""
import sys
sys.modules[{module!r}] = None
import afterglow
try:
    afterglow.TraceStore({postgres!r}, hot="redis://localhost")
except afterglow.errors.MissingExtraError as error:
    print(error.extra, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.startswith(f"{extra} "), done.stderr
    assert f"pip install 'afterglow[{extra}]'" in done.stdout
    assert issubclass(MissingExtraError, ImportError)
