"""Whether a Kafka answers, and has a topic; nothing is made there."""

from __future__ import annotations

from typing import Any

from afterglow.config.kafka import KafkaInConfig, KafkaOutConfig, properties_of
from afterglow.errors import MissingExtraError, SettingError, SinkUnavailableError

__all__ = ["kafka_answers"]


def kafka_answers(config: KafkaInConfig | KafkaOutConfig, timeout_s: float) -> str:
    """What was found, in words. Raises SinkUnavailableError, SettingError, MissingExtraError."""
    try:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient
    except ImportError:
        raise MissingExtraError("Kafka", "kafka") from None
    fixed: dict[str, object] = {"bootstrap.servers": config.bootstrap_servers}
    properties: dict[str, Any] = properties_of(config.properties, config.properties_file, fixed)
    try:
        client = AdminClient({"log_level": 0, **properties})
    except KafkaException as error:
        raise SettingError(f"Kafka: {error.args[0].str()}") from None
    try:
        topics = client.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise SinkUnavailableError(
            f"Kafka at {config.bootstrap_servers} does not answer: {error.args[0].str()}"
        ) from None
    there = "" if config.topic in topics else ", which has no such topic yet"
    return f"Kafka at {config.bootstrap_servers} answers; {config.topic}{there}"
