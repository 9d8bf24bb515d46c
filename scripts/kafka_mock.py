"""Holds librdkafka's mock cluster and prints where it listens: for machines without Java.

    python scripts/kafka_mock.py          until it is killed

It is in memory and in this process: topics are made when somebody asks for them, with 4 partitions.
"""

from __future__ import annotations

import signal

from confluent_kafka import Producer


def main() -> None:
    holder = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "", "log_level": 0})
    brokers = holder.list_topics(timeout=30).brokers.values()
    print(",".join(f"{one.host}:{one.port}" for one in brokers), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
