"""What a service says: one line each, not too many, no secret."""

from __future__ import annotations

import io
import json
import logging
import pickle

import pytest

from afterglow.collecting.log import Log, LogReport, listen_to_logging
from afterglow.config import ServeConfig
from afterglow.testing import ManualClock


def log_of(clock: ManualClock, **settings: object) -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    config = ServeConfig(**settings)  # type: ignore[arg-type]
    return Log(config, stream=stream, clock=clock, secrets=["s3cret-token", ""]), stream


def test_text_is_one_line_whatever_is_said() -> None:
    log, stream = log_of(ManualClock())
    log.say("a\nb \x1b[31m \ud800", "warning")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("Z warning serve: a b \\x1b[31m \\ud800") or "\\x1b" in line
    assert "\x1b" not in line


def test_json_is_one_object_a_line() -> None:
    log, stream = log_of(ManualClock(), log_format="json")
    log.say('quotes " and\nlines', "error", part="flusher")
    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert fields["level"] == "error"
    assert fields["part"] == "flusher"
    assert fields["message"] == 'quotes " and lines'
    assert fields["time"].endswith("Z")


def test_no_secret_is_written() -> None:
    for log_format in ("text", "json"):
        log, stream = log_of(ManualClock(), log_format=log_format)
        log.say("somebody sent s3cret-token here")
        assert "s3cret" not in stream.getvalue()
        assert "***" in stream.getvalue()


def test_the_level_holds_back_what_is_below_it() -> None:
    log, stream = log_of(ManualClock(), log_level="warning")
    log.say("not this")
    log.report("this")
    assert "not this" not in stream.getvalue()
    assert "this" in stream.getvalue()


def test_a_flood_is_cut_and_counted() -> None:
    clock = ManualClock()
    log, stream = log_of(clock, log_lines_per_s=1.0)
    for i in range(25):
        log.say(f"line {i}")
    assert len(stream.getvalue().splitlines()) == 10
    clock.advance_s(1.0)
    log.say("later")
    lines = stream.getvalue().splitlines()
    assert "15 lines were left out" in lines[10]
    assert lines[11].endswith("later")
    assert len(lines) == 12


def test_a_stream_that_is_gone_hurts_nobody() -> None:
    log, stream = log_of(ManualClock())
    stream.close()
    log.say("into nowhere")


def test_what_libraries_log_ends_in_it_once_a_minute() -> None:
    clock = ManualClock()
    log, stream = log_of(clock)
    handler = listen_to_logging(log, clock)
    try:
        logger = logging.getLogger("somelibrary.part")
        for i in range(3):
            logger.warning("broken %d", i)
        logger.info("never")
        try:
            raise ValueError("why")
        except ValueError:
            logger.exception("it failed")
    finally:
        logging.getLogger().removeHandler(handler)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("warning somelibrary: broken 0")
    assert lines[1].endswith("error   somelibrary: it failed: ValueError: why")


def test_a_report_goes_to_another_process(capsys: pytest.CaptureFixture[str]) -> None:
    report = pickle.loads(pickle.dumps(LogReport(ServeConfig(), "flusher 1", ["s3cret-token"])))
    report("the sink is away, s3cret-token")
    assert "warning flusher 1: the sink is away, ***" in capsys.readouterr().err
