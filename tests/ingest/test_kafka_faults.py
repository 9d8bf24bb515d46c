"""Kafka in and out, when somebody dies in the middle: a consumer, a broker, a member of a group."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from afterglow.buffer import MemoryBuffer
from afterglow.clock import SystemClock
from afterglow.config import KafkaOutConfig
from afterglow.errors import SinkUnavailableError
from afterglow.model.segment import AddResult
from afterglow.otlp.payload import to_request
from afterglow.sink.kafka import KafkaSink
from scripts.kafka import Broker, Kafka
from scripts.servers import until
from tests.ingest.test_kafka import SOON, Rig, part, payload, send

SOON_DEAD = ("session.timeout.ms=1500", "heartbeat.interval.ms=300")


class Noting(MemoryBuffer):
    """A real buffer that knows how often it was asked."""

    def __init__(self) -> None:
        super().__init__(SOON)
        self.adds: list[int] = []

    def add(self, spans: Any, now_ns: int) -> AddResult:
        self.adds.append(len(spans))
        return super().add(spans, now_ns)


def committed(kafka: Kafka, topic: str, partition: int = 0) -> int:
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": "afterglow", "log_level": 0}
    )
    try:
        (found,) = consumer.committed([TopicPartition(topic, partition)], timeout=30)
        return int(found.offset)
    finally:
        consumer.close()


def messages_in(kafka: Kafka, topic: str) -> int:
    """By the broker's own offsets."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "-", "log_level": 0})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), 30) for p in partitions]
        return sum(high - low for low, high in ends)
    finally:
        consumer.close()


# --- in -----------------------------------------------------------------------------------------


class Through:
    """The buffer of a consumer that is to die: its spans go to the parent, whose word it awaits."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def add(self, spans: Any, _now_ns: int) -> Any:
        self._pipe.send(spans)
        return self._pipe.recv()


def _consume(bootstrap: str, topic: str, pipe: Connection) -> None:
    kafka = Kafka.__new__(Kafka)
    kafka.bootstrap = bootstrap
    rig = Rig(kafka, topic, Through(pipe), max_records=10, properties=SOON_DEAD)
    while True:
        rig.face.step()


def test_a_consumer_that_is_killed_between_add_and_commit_loses_and_doubles_nothing(
    kafka: Kafka,
) -> None:
    topic = kafka.new_topic("in", partitions=1)
    send(kafka, topic, *(to_request([payload(n)]) for n in range(1, 31)))
    buffer = Noting()
    clock = SystemClock()
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    child = context.Process(target=_consume, args=(kafka.bootstrap, topic, its), daemon=True)
    child.start()
    # The first add is answered; those after it are safe in the buffer, and the child never knows.
    ours.send(buffer.add(ours.recv(), clock.wall_ns()))
    buffer.add(ours.recv(), clock.wall_ns())
    child.kill()
    child.join()
    safe = sum(buffer.adds)
    assert committed(kafka, topic) < safe
    rig = Rig(kafka, topic, buffer, properties=SOON_DEAD)
    rig.read(lambda: committed_by(rig, topic) == 30)
    rig.face.close()
    repeats = sum(buffer.adds) - 30
    assert repeats >= buffer.adds[1] > 0
    found = Counter[bytes]()
    for page in buffer.take_due(1 << 62, owner="o"):
        for one in page:
            found.update(one.span_ids)
        buffer.acknowledge(page)
    assert sorted(found) == [n.to_bytes(8) for n in range(1, 31)]
    assert set(found.values()) == {1}
    books = buffer.ledger()
    assert books.balanced
    assert books.delivered == 30
    assert books.dropped == {"default": {"duplicate": repeats}}


def committed_by(rig: Rig, topic: str, partition: int = 0) -> int:
    return rig.face._committed.get((topic, partition), 0)


def test_small_records_are_added_together_and_poison_among_them_is_alone(kafka: Kafka) -> None:
    topic = kafka.new_topic("in", partitions=1)
    values = [to_request([payload(n)]) for n in range(1, 201)]
    send(kafka, topic, *values[:100], b"\xff\xff", *values[100:])
    buffer = Noting()
    rig = Rig(kafka, topic, buffer)
    rig.read(lambda: committed_by(rig, topic) == 201)
    rig.face.close()
    assert sum(buffer.adds) == 200
    assert max(buffer.adds) > 20
    assert rig.count("requests", face="kafka", outcome="accepted") == 200
    assert rig.count("requests", face="kafka", outcome="malformed") == 1
    assert rig.count("accepted_spans", face="kafka") == 200


class Held(MemoryBuffer):
    """A real buffer whose `add` waits for `go`."""

    def __init__(self) -> None:
        super().__init__(SOON)
        self.asked, self.go = threading.Event(), threading.Event()

    def add(self, spans: Any, now_ns: int) -> AddResult:
        self.asked.set()
        assert self.go.wait(60)
        return super().add(spans, now_ns)


def test_stop_gives_up_waiting_and_what_was_in_hand_is_committed_all_the_same(
    kafka: Kafka,
) -> None:
    topic = kafka.new_topic("in", partitions=1)
    send(kafka, topic, to_request([payload(1)]))
    buffer = Held()
    rig = Rig(kafka, topic, buffer)
    rig.face.start()
    assert rig.face.is_alive
    assert buffer.asked.wait(60)
    rig.face.stop(0.01)
    assert rig.face.is_alive
    assert any("took longer than 0.01 s" in line for line in rig.said)
    buffer.go.set()
    until(lambda: not rig.face.is_alive, "the thread ends")
    assert committed(kafka, topic) == 1
    assert buffer.ledger().held == 1


def test_a_reader_starts_and_stops_while_its_broker_is_away(kafka: Kafka) -> None:
    topic = kafka.new_topic("in", partitions=1)
    send(kafka, topic, to_request([payload(1)]))
    kafka.crash()
    rig, idle = Rig(kafka, topic), Rig(kafka, topic)
    for one in (rig, idle):
        one.face.start()
    until(lambda: any("trying again" in line for line in idle.said), "it says so", 90)
    idle.face.stop(30)
    assert not idle.face.is_alive
    kafka.start()
    until(lambda: rig.count("accepted_spans") == 1, "read when it is back")
    rig.face.stop(30)
    assert not rig.face.is_alive
    assert committed(kafka, topic) == 1


def test_a_consumer_that_is_of_no_use_any_more_is_replaced(kafka: Kafka) -> None:
    """A static member that another of its name drives out: librdkafka calls that fatal."""
    if not isinstance(kafka, Broker):
        pytest.skip("the mock cluster knows no static members")
    topic = kafka.new_topic("in", partitions=1)
    send(kafka, topic, to_request([payload(1)]))
    rig = Rig(kafka, topic, properties=(*SOON_DEAD, "group.instance.id=one"))
    rig.read(lambda: committed_by(rig, topic) == 1)
    first = rig.face._consumer
    other = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap, "group.id": "afterglow",
            "group.instance.id": "one", "log_level": 0,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )  # fmt: skip
    other.subscribe([topic])

    def driven_out() -> bool:
        other.poll(0.05)
        return any("fence" in line.lower() for line in rig.said)

    rig.read(driven_out)
    other.close()
    send(kafka, topic, to_request([payload(2)]))
    rig.read(lambda: rig.count("accepted_spans") == 2)
    assert rig.face._consumer is not first
    rig.face.close()
    assert committed(kafka, topic) == 2


# --- out ----------------------------------------------------------------------------------------


def sink_to(kafka: Kafka, topic: str) -> KafkaSink:
    config = KafkaOutConfig(
        bootstrap_servers=kafka.bootstrap, topic=topic, timeout_s=3,
        properties=("linger.ms=200", "retry.backoff.max.ms=300", "reconnect.backoff.max.ms=300"),
    )  # fmt: skip
    return KafkaSink(config)


def test_pages_are_in_the_topic_once_while_nobody_dies(kafka: Kafka) -> None:
    topic = kafka.new_topic("out")
    sink = sink_to(kafka, topic)
    for page in range(5):
        sink.write([part(page * 20 + n) for n in range(1, 21)])
    sink.close()
    assert messages_in(kafka, topic) == 100


def test_a_broker_that_is_killed_in_the_middle_of_a_write_loses_nothing(
    kafka: Kafka,
) -> None:
    topic = kafka.new_topic("out")
    sink = sink_to(kafka, topic)
    pages = [[part(page * 20 + n) for n in range(1, 21)] for page in range(6)]
    inside, unavailable = threading.Event(), []

    def write() -> None:
        for number, page in enumerate(pages):
            if number == 3:
                inside.set()
            while True:
                try:
                    sink.write(page)
                except SinkUnavailableError as error:
                    unavailable.append(error)
                else:
                    break

    writer = threading.Thread(target=write)
    writer.start()
    assert inside.wait(60)
    kafka.crash()  # what is queued lingers for 200 ms
    until(lambda: bool(unavailable), "the sink says that its broker is away")
    kafka.start()
    writer.join(60)
    assert not writer.is_alive()
    sink.close()
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": "reader of out", "log_level": 0,
         "auto.offset.reset": "earliest"}
    )  # fmt: skip
    consumer.subscribe([topic])
    ids = Counter[bytes]()

    def all_read() -> bool:
        for message in consumer.consume(500, timeout=0.2):
            if message.error() is None:
                ids[dict(message.headers())["x-afterglow-message-id"]] += 1
        return ids.total() >= messages_in(kafka, topic)

    until(all_read, "the topic is read")
    consumer.close()
    assert sorted(ids) == sorted(one.message_id.encode() for page in pages for one in page)
    # Only the page that was being written when it died may be there again, with the same ids.
    twice = {found for found, times in ids.items() if times > 1}
    assert twice <= {one.message_id.encode() for one in pages[3]}
