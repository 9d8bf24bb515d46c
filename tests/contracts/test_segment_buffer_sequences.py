"""Any sequence of adding, taking, acknowledging, releasing and dying, step by step with a model."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afterglow.config import BufferConfig
from afterglow.model.segment import BufferedSpan
from tests.contracts.forests import TRACES, batches, trace_spans
from tests.contracts.segment_backends import Backend
from tests.contracts.segment_model import Model
from tests.contracts.segment_oracle import Held, ns, segments

S = 10**9
START_NS = 1_700_000_000 * S
CONFIG = BufferConfig(
    root_timeout_s=10,
    timeout_s=60,
    max_open_s=100,
    lease_s=30,
    tombstone_s=86_400,
    max_segment_bytes=1024,
    inline_bytes=512,
    inline_entries=3,
    chunk_bytes=1024,
)
OWNERS = ["ada", "bob"]


@dataclass(frozen=True)
class Add:
    spans: list[BufferedSpan]


@dataclass(frozen=True)
class Wait:
    """Until the next thing happens, or a microsecond before or after; or some seconds.

    Redis knows the end of a lease by the microsecond, rounded down.
    """

    until_next: bool
    plus_ns: int


@dataclass(frozen=True)
class Take:
    owner: str
    max_segments: int
    max_bytes: int


@dataclass(frozen=True)
class Acknowledge:
    """Parts that ever came, the newest first: which of them, by turns."""

    newest: int
    every: int
    dropped: str | None


@dataclass(frozen=True)
class Release:
    newest: int


STEPS = st.one_of(
    st.builds(Add, batches()),
    st.builds(Add, batches(traces=1)),
    st.builds(Wait, st.just(True), st.sampled_from([-1_000, 0, 0, 1_000])),
    st.builds(Wait, st.just(False), st.sampled_from([0, S, 30 * S, 60 * S])),
    st.builds(
        Take,
        st.sampled_from(OWNERS),
        st.sampled_from([1, 2, 1000]),
        st.sampled_from([1, 1500, 1 << 20]),
    ),
    st.builds(Take, st.sampled_from(OWNERS), st.just(1000), st.just(1 << 20)),
    st.builds(
        Acknowledge,
        st.sampled_from([1, 3, 1000]),
        st.sampled_from([1, 1, 2]),
        st.sampled_from([None, None, None, "sink_refused"]),
    ),
    st.builds(Release, st.sampled_from([1, 3])),
)


def apply(model: Model, step: object, now_ns: int) -> int:
    """Make a step; returns the time after it."""
    match step:
        case Add(spans):
            model.add(spans, now_ns)
        case Wait(until_next=True, plus_ns=plus_ns):
            next_ns = model.next_ns(now_ns)
            return now_ns if next_ns is None else max(now_ns, next_ns + plus_ns)
        case Wait(plus_ns=plus_ns):
            return now_ns + plus_ns
        case Take(owner, max_segments, max_bytes):
            model.take(now_ns, owner, max_segments, max_bytes)
        case Acknowledge(newest, every, dropped):
            model.acknowledge(model.out[-newest:][::every], dropped)
        case Release(newest):
            model.release(model.out[-newest:])
    return now_ns


def drain(model: Model, now_ns: int) -> None:
    """Let everything become due, take and acknowledge it, until no more comes."""
    for _ in range(3):
        now_ns += ns(200)
        model.acknowledge(model.take(now_ns, "last"))
    assert model.take(now_ns + ns(200), "last") == []
    model.drop_repeats()
    model.check_empty()


def test_every_sequence_of_steps_does_what_the_model_does(backend: Backend) -> None:
    @given(st.lists(STEPS, max_size=25))
    @settings(max_examples=3 * backend.examples, deadline=None)
    def run(steps: list[object]) -> None:
        model = Model(backend.new(CONFIG), CONFIG)
        now_ns = START_NS
        for step in steps:
            now_ns = apply(model, step, now_ns)
        drain(model, now_ns)
        model.buffer.close()

    run()


def test_order_splits_and_repeats_do_not_matter(backend: Backend) -> None:
    """The same spans give the same segments, however they come, as long as nothing is taken."""

    @given(trace_spans(), st.data())
    @settings(
        max_examples=backend.examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    def run(spans: list[BufferedSpan], data: st.DataObject) -> None:
        buffer = backend.new(CONFIG)
        again = data.draw(st.lists(st.sampled_from(spans), max_size=20)) if spans else []
        arriving = spans + again
        while arriving:
            n = data.draw(st.integers(1, len(arriving)))
            buffer.add(arriving[:n], START_NS)
            arriving = arriving[n:]
        parts = [p for page in buffer.take_due(START_NS + ns(60), owner="ada") for p in page]
        found = {
            (part.project, part.trace_id, part.root_span_id): frozenset(part.span_ids)
            for part in parts
        }
        expected = {
            (*key, segment.root): frozenset(one.span.span_id for one in segment.spans)
            for key in TRACES
            for segment in segments(
                [Held(span, START_NS) for span in sorted(spans) if span[:2] == key], {}, CONFIG
            )
        }
        assert found == expected
        assert len(parts) == len(expected)
        assert buffer.acknowledge(parts) == len(parts)
        books = buffer.ledger()
        assert (books.delivered, books.held) == (len(spans), 0)
        assert sum(by.get("duplicate", 0) for by in books.dropped.values()) == len(again)
        buffer.close()

    run()
