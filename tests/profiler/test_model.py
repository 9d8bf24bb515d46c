"""`span.model`: what a program sees of a span while it runs and after."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import afterglow


@pytest.fixture
def profiler() -> Iterator[afterglow.Profiler]:
    made = afterglow.Profiler(run_id="run")
    yield made
    made.close()


def test_the_model_follows_the_span(profiler: afterglow.Profiler) -> None:
    before = time.time()
    with profiler.measure("work", {"a": 1}) as span:
        model = span.model
        assert (model.name, model.run_id, model.status) == ("work", "run", "ok")
        assert model.end_time is None and model.duration is None
        assert before - 0.1 <= model.start_time <= time.time() + 0.1
        span.annotate(b=2)
        model.tags["c"] = 3
        assert model.tags == {"a": 1, "b": 2, "c": 3}
        assert len(model.span_id) == 16 and int(model.span_id, 16)
    assert model.end_time is not None and model.duration is not None
    assert model.end_time == pytest.approx(model.start_time + model.duration)
    (node,) = afterglow.Report(profiler.db).build_trees("run")
    assert node.span.tags == {"a": 1, "b": 2, "c": 3}
    assert (node.span.span_id, node.span.duration) == (model.span_id, model.duration)
    assert node.span.start_time == pytest.approx(model.start_time)


def test_name_and_tags_can_be_set_until_the_end(profiler: afterglow.Profiler) -> None:
    span = profiler.start("first name", {"old": 1})
    span.model.name = "second name"
    span.model.tags = {"new": 2}
    span.end()
    span.model.name = "too late"
    span.model.tags = {"late": 3}
    span.model.tags["late"] = 3
    span.annotate(late=3)
    assert (span.model.name, span.model.tags) == ("second name", {"new": 2})
    (node,) = afterglow.Report(profiler.db).build_trees("run")
    assert (node.span.name, node.span.tags) == ("second name", {"new": 2})


def test_the_first_end_counts(profiler: afterglow.Profiler) -> None:
    span = profiler.start("work")
    span.end()
    first = span.model.model_dump()
    span.end("error")
    assert span.model.model_dump() == first


def test_the_model_as_a_dict(profiler: afterglow.Profiler) -> None:
    span = profiler.start("work", {"a": 1})
    span.end("warning")
    assert list(span.model.model_dump()) == [
        "span_id",
        "parent_id",
        "run_id",
        "name",
        "start_time",
        "end_time",
        "duration",
        "tags",
        "status",
    ]
    assert "warning" in repr(span.model)


@pytest.mark.parametrize("setting", ["AFTERGLOW_ENABLED=false", "AFTERGLOW_SAMPLE_RATIO=0"])
def test_without_recording_all_of_it_still_works(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv(*setting.split("="))
    profiler = afterglow.Profiler(run_id="run", namespace="other")

    @profiler.measure("call")
    def call() -> int:
        return 1

    with pytest.raises(ValueError, match="passed on"), profiler.measure("block", {"a": 1}) as span:
        span.annotate(b=2)
        span.model.status = "warning"
        span.model.name = "other"
        assert span.model.status == "warning"
        assert span.model.model_dump()["run_id"] == "run"
        assert call() == 1
        raise ValueError("passed on")
    manual = profiler.start("manual")
    manual.end("cancelled")
    assert manual.model.duration is not None
    assert afterglow.Report(profiler.db, namespace="other").analyze_run("run") == {}
    profiler.close()
