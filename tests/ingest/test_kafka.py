"""Kafka in and out, with a real broker: every span once, whatever is cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from afterglow.buffer import MemoryBuffer
from afterglow.clock import SystemClock
from afterglow.config import BufferConfig, KafkaInConfig, KafkaOutConfig, OtlpConfig
from afterglow.counts import Counts
from afterglow.errors import SettingError, SinkError, SinkUnavailableError
from afterglow.flush.flusher import Flusher
from afterglow.ingest.intake import Intake
from afterglow.ingest.kafka import KafkaFace
from afterglow.model.segment import Fence, SegmentPart
from afterglow.model.span import Span
from afterglow.otlp.payload import payload_of, read_payloads, to_request, to_request_json
from afterglow.otlp.request import OtlpRules
from afterglow.sink.kafka import KafkaSink
from scripts.kafka import Broker, Kafka
from scripts.servers import until

SOON = BufferConfig(root_timeout_s=0.1, timeout_s=0.2)


def payload(number: int) -> bytes:
    span = Span(
        trace_id=number, span_id=number, parent_span_id=0, name=f"span {number}", kind="server",
        start_ns=1_000, end_ns=2_000, attributes={}, events=(), links=(), status="unset",
        status_description="", trace_state="", trace_flags=1, scope="", scope_version="",
    )  # fmt: skip
    return payload_of(span, {"service.name": "shop"})


def part(number: int, payloads: tuple[bytes, ...] | None = None) -> SegmentPart:
    return SegmentPart(
        message_id=f"{number:032x}", project="p", trace_id=number.to_bytes(16),
        root_span_id=number.to_bytes(8), part=0, is_last=True, addendum=False,
        span_ids=(number.to_bytes(8),), payloads=payloads or (payload(number),),
        fence=Fence("o", 1, 1),
    )  # fmt: skip


class Rig:
    """A face before a buffer; `said` is what it complained of."""

    def __init__(self, kafka: Kafka, topic: str, buffer: Any = None, **settings: Any) -> None:
        self.buffer = MemoryBuffer(SOON) if buffer is None else buffer
        self.counts = Counts()
        self.said: list[str] = []
        rules = OtlpRules.of(OtlpConfig())
        self.intake = Intake(self.buffer, rules, self.counts, clock=SystemClock())
        settings = {"properties": ("session.timeout.ms=6000",), **settings}
        self.face = KafkaFace(
            self.intake,
            KafkaInConfig(bootstrap_servers=kafka.bootstrap, topic=topic, **settings),
            report=self.said.append,
        )

    def read(self, condition: Callable[[], bool]) -> None:
        def stepped() -> bool:
            self.face.step(0.05)
            return condition()

        until(stepped, "records are read")

    def count(self, name: Any, **labels: str) -> int:
        wanted = set(labels.items())
        return sum(
            n
            for (of, found), n in self.counts.read().items()
            if of == name and wanted <= set(found)
        )


def send(kafka: Kafka, topic: str, *values: bytes | None, headers: Any = None) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for value in values:
        producer.produce(topic, value=value, headers=headers, partition=0)
    assert producer.flush(30) == 0


@pytest.fixture
def read(kafka: Kafka) -> Iterator[Callable[[str, int], list[Any]]]:
    """So many messages of a topic from its beginning."""
    made: list[Any] = []

    def messages(topic: str, count: int) -> list[Any]:
        consumer = Consumer(
            {"bootstrap.servers": kafka.bootstrap, "group.id": f"reader of {topic}",
             "auto.offset.reset": "earliest", "log_level": 0}
        )  # fmt: skip
        made.append(consumer)
        consumer.subscribe([topic])
        found: list[Any] = []

        def enough() -> bool:
            found.extend(m for m in consumer.consume(100, timeout=0.2) if m.error() is None)
            return len(found) >= count

        until(enough, f"{count} messages are in {topic}")
        return found

    yield messages
    for consumer in made:
        consumer.close()


def names(message: Any) -> list[str]:
    rules = OtlpRules.of(OtlpConfig())
    from afterglow.otlp.request import read_request

    request = read_request(message.value(), json=False, project="p", rules=rules)
    return [one.span.name for one in read_payloads(span.payload for span in request.spans)]


def test_what_comes_in_goes_out_once_though_the_broker_dies(
    kafka: Kafka, read: Callable[[str, int], list[Any]]
) -> None:
    into, out = kafka.new_topic("in"), kafka.new_topic("out")
    send(kafka, into, *(to_request([payload(n)]) for n in range(1, 101)))
    send(kafka, into, to_request_json([payload(101)]))
    rig = Rig(kafka, into)
    rig.read(lambda: rig.count("accepted_spans") >= 50)
    sink = KafkaSink(KafkaOutConfig(bootstrap_servers=kafka.bootstrap, topic=out, timeout_s=5))
    flusher = Flusher(rig.buffer, sink, owner="o", report=rig.said.append)
    kafka.crash()
    rig.face.step(0.05)
    kafka.start()
    rig.read(lambda: rig.count("accepted_spans") >= 101)

    def delivered() -> bool:
        flusher.step()
        rig.face.step(0.01)
        return rig.buffer.ledger().delivered >= 101

    until(delivered, "all is delivered")
    found = {dict(m.headers())["x-afterglow-message-id"]: m for m in read(out, 101)}
    assert sorted(name for m in found.values() for name in names(m)) == sorted(
        f"span {n}" for n in range(1, 102)
    )
    one = next(iter(found.values()))
    assert dict(one.headers())["x-afterglow-project"] == b"default"
    assert len(one.key()) == 32
    assert rig.buffer.ledger().balanced
    flusher.close()
    rig.face.close()


def test_poison_is_counted_copied_and_passed_over(
    kafka: Kafka, read: Callable[[str, int], list[Any]]
) -> None:
    topic, dead = kafka.new_topic("in"), kafka.new_topic("dead")
    send(kafka, topic, to_request([payload(1)]), b"\xff\xff", None, b'{"resourceSpans": 3}')
    send(kafka, topic, to_request([payload(3)]), headers=[("x-afterglow-project", b"../x")])
    send(kafka, topic, to_request([payload(2)]), headers=[("X-Afterglow-Project", b"shop")])
    rig = Rig(kafka, topic, dead_letter_topic=dead)
    rig.read(lambda: rig.count("accepted_spans") == 2)
    assert rig.count("requests", outcome="malformed", face="kafka") == 4
    copies = {m.offset(): dict(m.headers()) for m in read(dead, 4)}
    assert all("x-afterglow-error" in headers for headers in copies.values())
    assert any("is passed over" in line for line in rig.said)
    rig.face.close()


def test_a_refused_record_is_read_again_and_committed_only_then(kafka: Kafka) -> None:
    topic = kafka.new_topic("in")
    send(kafka, topic, *(to_request([payload(n)]) for n in (1, 2, 3)))
    full = Full()
    rig = Rig(kafka, topic, full)
    rig.read(lambda: full.refusals >= 2)
    rig.face.close()
    assert rig.count("accepted_spans") == 0
    again = Rig(kafka, topic, full)
    again.read(lambda: full.refusals >= 3)
    full.is_full = False
    again.read(lambda: full.accepted == [1, 2, 3])
    again.face.close()
    send(kafka, topic, to_request([payload(4)]))
    last = Rig(kafka, topic, full)
    last.read(lambda: len(full.accepted) >= 4)
    last.face.close()
    assert full.accepted == [1, 2, 3, 4]


class Full(MemoryBuffer):
    """A real buffer whose `add` refuses while `is_full`."""

    def __init__(self) -> None:
        super().__init__(SOON)
        self.is_full, self.refusals = True, 0
        self.accepted: list[int] = []

    def add(self, spans: Any, now_ns: int) -> Any:
        from afterglow.model.segment import AddResult

        if self.is_full:
            self.refusals += 1
            return AddResult(
                accepted=0, refused=len(spans), reason="the buffer is full", retry_after_s=0.05
            )
        self.accepted += [int.from_bytes(span.span_id) for span in spans]
        return super().add(spans, now_ns)


def test_two_of_a_group_lose_nothing_by_a_rebalance(kafka: Kafka) -> None:
    topic = kafka.new_topic("in")
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for number in range(1, 201):
        producer.produce(topic, to_request([payload(number)]), partition=number % 4)
    assert producer.flush(30) == 0
    one = Rig(kafka, topic, max_records=10)
    one.read(lambda: one.count("accepted_spans") >= 20)
    two = Rig(kafka, topic, one.buffer, max_records=10)

    def shared() -> bool:
        one.face.step(0.05)
        two.face.step(0.05)
        return len(two.face._assigned) == len(one.face._assigned) == 2

    until(shared, "both have partitions")
    one.face.close()
    for number in range(201, 241):
        producer.produce(topic, to_request([payload(number)]), partition=number % 4)
    assert producer.flush(30) == 0
    two.read(
        lambda: (
            one.count("accepted_spans") + two.count("accepted_spans") >= 240
            and len(two.face._assigned) == 4
        )
    )
    two.face.close()
    found: set[bytes] = set()
    for page in one.buffer.take_due(1 << 62, owner="o"):
        found |= {span_id for part in page for span_id in part.span_ids}
    assert len(found) == 240


def test_a_message_that_no_broker_takes_is_refused_alone(
    kafka: Kafka, read: Callable[[str, int], list[Any]]
) -> None:
    topic = kafka.new_topic("out")
    config = KafkaOutConfig(
        bootstrap_servers=kafka.bootstrap, topic=topic, max_message_bytes=10_000, timeout_s=10
    )
    sink = KafkaSink(config)
    with pytest.raises(SinkError, match=r"too large.*max_message_bytes") as caught:
        sink.write([part(1), part(2, (payload(2) * 200,)), part(3)])
    assert not isinstance(caught.value, SinkUnavailableError)
    sink.write([part(1)])
    sink.write([part(3)])
    assert sorted(len(m.value()) > 0 for m in read(topic, 2)) == [True, True]
    sink.close()


def test_the_brokers_own_limit_is_of_the_compressed_message(kafka: Kafka) -> None:
    if not isinstance(kafka, Broker):
        pytest.skip("the mock cluster has no limits")
    topic = kafka.new_topic("out", max_message_bytes="2000")
    import os

    config = KafkaOutConfig(bootstrap_servers=kafka.bootstrap, topic=topic, timeout_s=10)
    sink = KafkaSink(config)
    sink.write([part(1, (payload(1) * 200,))])
    with pytest.raises(SinkError, match=r"raise its max\.message\.bytes"):
        sink.write([part(2, (os.urandom(5_000),))])
    sink.close()


def test_an_absent_broker_is_unavailable_and_a_bad_property_is_said(kafka: Kafka) -> None:
    sink = KafkaSink(KafkaOutConfig(bootstrap_servers="127.0.0.1:1", timeout_s=0.5))
    with pytest.raises(SinkUnavailableError, match=r"127\.0\.0\.1:1"):
        sink.write([part(1)])
    for wrong in ("no.such.thing=1", "acks=0", "nothing"):
        with pytest.raises(SettingError):
            KafkaSink(KafkaOutConfig(bootstrap_servers="127.0.0.1:1", properties=(wrong,)))


def test_json_and_protobuf_are_told_apart_by_header_or_first_byte(kafka: Kafka) -> None:
    topic = kafka.new_topic("in")
    document = json.loads(to_request_json([payload(1)]))
    send(kafka, topic, json.dumps(document).encode(), to_request([payload(2)]))
    spaced = b"\n" + json.dumps(json.loads(to_request_json([payload(3)]))).encode()
    send(kafka, topic, spaced, headers=[("Content-Type", b"application/json")])
    rig = Rig(kafka, topic)
    rig.read(lambda: rig.count("accepted_spans") == 3)
    rig.face.close()
