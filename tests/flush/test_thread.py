"""A flusher in a thread of its own, for a buffer in memory."""

from __future__ import annotations

from time import monotonic

import pytest

from afterglow.buffering import flush_in_thread, open_buffer
from afterglow.config import BufferConfig, FlushConfig
from afterglow.errors import SettingError
from afterglow.flush.service import FlusherThread
from tests.flush.rig import Noting, Rig, spans_of

FLUSH = FlushConfig(idle_s=0.01, retry_s=0.01)


def until_empty(buffer: object) -> None:
    end = monotonic() + 30
    while buffer.ledger().held:  # type: ignore[attr-defined]
        assert monotonic() < end


def test_it_flushes_until_it_is_closed() -> None:
    config = BufferConfig(root_timeout_s=0.0)
    buffer, sink = open_buffer(config), Noting()
    thread = flush_in_thread(buffer, sink, config, FLUSH)
    for trace in range(20):
        buffer.add(spans_of(trace), 1)
    until_empty(buffer)
    thread.close()
    thread.close()
    assert len(sink.spans()) == 60
    assert sink.closed


def test_what_nobody_foresaw_is_said_and_tried_again() -> None:
    config = BufferConfig(root_timeout_s=0.0)
    buffer, sink, said = open_buffer(config), Noting(), list[str]()
    failures = iter([ZeroDivisionError("oops"), ZeroDivisionError("oops")])
    sink.trouble = lambda _: next(failures, None)
    thread = flush_in_thread(buffer, sink, config, FLUSH, said.append)
    buffer.add(spans_of(1), 1)
    until_empty(buffer)
    thread.close()
    assert said == ["a flusher failed, and tries again: ZeroDivisionError: oops"]
    assert len(sink.spans()) == 3


def test_closing_goes_on_with_what_was_taken() -> None:
    rig = Rig()
    rig.add(*range(6), size=100)
    rig.due()
    flusher = rig.flusher(page_bytes=330)
    flusher.step()
    thread = FlusherThread(flusher, config=FlushConfig(idle_s=60), report=rig.said.append)
    thread.close()
    rig.check_all_out()


@pytest.mark.parametrize("url", ["", "memory", "http://a", "redis:/x"])
def test_what_is_no_url_of_a_buffer(url: str) -> None:
    with pytest.raises(SettingError, match="redis://host:port"):
        open_buffer(BufferConfig(url=url))
