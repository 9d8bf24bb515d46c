"""Kafka in, Kafka out: a service between two topics of a real broker."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Consumer, Producer

from scripts.kafka import Broker, Kafka
from tests.serve.serving import Serving, afterglow, assembled_in, spans_in, until
from tests.serve.test_cluster import body
from tests.sink.payloads import buffered


def test_spans_from_one_topic_are_kept_and_go_on_to_another(
    kafka: Kafka | Broker, tmp_path: Path
) -> None:
    incoming, outgoing = kafka.new_topic(), kafka.new_topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for trace in range(1, 6):
        spans = [buffered(trace * 10 + i, trace * 10 if i else 0, trace=trace) for i in range(3)]
        producer.produce(incoming, body(*(span.payload for span in spans)))
    assert producer.flush(60) == 0
    database = tmp_path / "afterglow.db"
    servers = kafka.bootstrap
    options = ("--kafka-in", f"{servers}/{incoming}", "--to-kafka", f"{servers}/{outgoing}")
    status, out, err = afterglow("serve", "--db", str(database), *options, "--http", "127.0.0.1:0",
                                 "--grpc", "off", "--check")  # fmt: skip
    assert status == 0, out + err
    with Serving(database, *options) as serving:
        until(lambda: assembled_in(database) == 15, "not kept")
        consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader",
                             "auto.offset.reset": "earliest"})  # fmt: skip
        consumer.subscribe([outgoing])
        keys: list[bytes] = []

        def read() -> bool:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                keys.append(message.key())
            return len(keys) == 5

        until(read, "not sent on")
        consumer.close()
        assert serving.metric('afterglow_accepted_spans_total{face="kafka"}') == 15
        assert serving.stop() == 0
    assert sorted(keys) == [f"{trace:032x}".encode() for trace in range(1, 6)]
    assert spans_in(database) == 15
