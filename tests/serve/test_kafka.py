"""Kafka in, Kafka out: a service between two topics of a real broker."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Consumer, Producer

from scripts.kafka import Broker, Kafka
from tests.ingest.test_kafka_faults import messages_in
from tests.serve.serving import Serving, afterglow, assembled_in, run_program, spans_in, until
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


def test_one_collector_sends_to_a_topic_that_another_reads(kafka: Kafka, tmp_path: Path) -> None:
    topic, servers = kafka.new_topic(), kafka.bootstrap
    near, far = tmp_path / "near.db", tmp_path / "far.db"
    reads = ("--http", "off", "--grpc", "off", "--kafka-in", f"{servers}/{topic}")
    env = {"AFTERGLOW_KAFKA_IN_GROUP": f"far of {topic}"}
    with (
        Serving(near, "--to-kafka", f"{servers}/{topic}") as one,
        Serving(far, *reads, env=env) as other,
    ):
        run_program(one.http, traces=100)
        until(lambda: assembled_in(far) == spans_in(far) == 300, "not in the far store")
        assert one.metric('afterglow_sink_spans_total{sink="kafka"}') == 300
        assert (one.stop(), other.stop()) == (0, 0)
    assert messages_in(kafka, topic) == 100
    for database in (near, far):
        status, out, err = afterglow("audit", str(database))
        assert status == 0, out + err


def test_check_says_which_topics_are_missing_and_what_is_too_large(
    kafka: Kafka, tmp_path: Path
) -> None:
    topic, servers = kafka.new_topic(), kafka.bootstrap

    def check(*options: str) -> tuple[int, str]:
        return afterglow("serve", "--db", str(tmp_path / "a.db"), "--http", "off", "--grpc", "off",
                         "--check", *options)[:2]  # fmt: skip

    status, said = check("--to-kafka", f"{servers}/{topic}")
    assert status == 0
    if isinstance(kafka, Broker):
        assert "takes messages of 1,048,588 bytes" in said
        assert "max_segment_bytes of [buffer]" in said
    status, said = check("--kafka-in", f"{servers}/{topic},^test-.*,nowhere,^nobody.*")
    assert status == 0
    assert "which has no nowhere and no ^nobody.* yet" in said
    status, said = check("--kafka-in", f"127.0.0.1:1/{topic}")
    assert status == 1
    assert "PROBLEM  kafka_in: Kafka at 127.0.0.1:1 does not answer" in said
