"""Without a Redis, too, what was acknowledged survives: killed services, full disks, the books."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.serve.serving import (
    Serving,
    afterglow,
    assembled_in,
    one,
    query,
    spans_in,
    until,
)
from tests.serve.test_cluster import body
from tests.serve.test_kills import load
from tests.sink.payloads import buffered


def audited(database: Path) -> dict[str, object]:
    status, out, err = afterglow("audit", str(database), "--json")
    assert status == 0, out + err
    document: dict[str, object] = json.loads(out)
    return document


def test_kill_9_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Senders send again what nobody acknowledged; what was is there once, and assembled."""
    database = tmp_path / "afterglow.db"
    with Serving(database) as first:
        url = first.http
        with load([url], 2, 4_000) as sender:
            for count in (4_000, 8_000, 12_000):
                until(lambda n=count: spans_in(database) >= n, "nothing comes")
                first.kill()
                first.__exit__()
                first.__init__(database, "--http", url.removeprefix("http://"))  # type: ignore[misc]
                assert first.http == url
            out, _ = sender.communicate(timeout=120)
        assert sender.returncode == 0
        assert json.loads(out.splitlines()[-1])["again"] > 0  # it was away while they sent
        until(lambda: assembled_in(database) >= 20_000, "not assembled")
        until(lambda: first.metric("afterglow_buffer_held_spans") == 0, "held")
        assert first.stop() == 0
    assert one(database, "SELECT count(*) FROM spans") == 20_000
    assert query(database, "SELECT DISTINCT n FROM (SELECT count(*) AS n FROM spans GROUP BY"
                 " trace_id)") == [(20,)]  # fmt: skip
    audited(database)


def test_what_waits_when_it_stops_goes_on_with_the_next_start(tmp_path: Path) -> None:
    database = tmp_path / "afterglow.db"
    with Serving(database, env={"AFTERGLOW_BUFFER_ROOT_TIMEOUT_S": "3600"}) as serving:
        assert serving.post(body(*(buffered(n, 1 if n > 1 else 0).payload for n in (1, 2)))) == 200
        assert serving.stop() == 0
    assert spans_in(database) == 2  # visible
    assert assembled_in(database) == 0
    service = audited(database)["service"]
    assert isinstance(service, dict)
    assert (service["received"], service["delivered"], service["in_flight"]) == (2, 0, 2)
    with Serving(database):
        until(lambda: assembled_in(database) == 2, "not assembled")
    assert spans_in(database) == 2


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit (util-linux) is not here")
def test_a_full_disk_refuses_and_forgets_nothing(tmp_path: Path) -> None:
    """No file may grow beyond 900 kB, as on a disk that is full; then there is room again."""
    database = tmp_path / "afterglow.db"
    accepted = 0
    with Serving(database, wrap=("prlimit", "--fsize=900000")) as serving:
        for trace in range(1, 5_000):
            spans = (
                buffered(n, 1 if n > 1 else 0, trace=trace, name="x" * 500).payload
                for n in range(1, 30)
            )
            status = serving.post(body(*spans))
            if status != 200:
                break
            accepted += 29
        assert status == 503
        assert serving.get("/healthz")[0] == 200
        assert serving.stop(signal.SIGTERM) in (0, 3)
        assert any("disk is full" in line or "disk" in line for line in serving.lines)
    with Serving(database) as serving:
        until(lambda: assembled_in(database) == accepted, "not assembled")
        until(lambda: serving.metric("afterglow_buffer_held_spans") == 0, "held")
        assert serving.stop() == 0
    assert spans_in(database) == accepted
    audited(database)
