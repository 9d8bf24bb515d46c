"""Whether a Kafka answers, has the topics, and takes messages as large as ours; makes nothing."""

from __future__ import annotations

import re
from typing import Any

from afterglow.config.kafka import KafkaInConfig, KafkaOutConfig, properties_of
from afterglow.errors import MissingExtraError, SettingError, SinkUnavailableError

__all__ = ["kafka_answers"]


def kafka_answers(
    config: KafkaInConfig | KafkaOutConfig, timeout_s: float, *, largest_bytes: int = 0
) -> str:
    """What was found, in words; with what to do where a segment of `largest_bytes` may be too
    large. Raises SinkUnavailableError, SettingError, MissingExtraError."""
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
    missing = [name for name in _names(config) if not _is_there(name, list(topics))]
    lacks = f", which has no {' and no '.join(missing)} yet" if missing else ""
    found = f"Kafka at {config.bootstrap_servers} answers{lacks}; {config.topic}"
    if isinstance(config, KafkaOutConfig):
        takes = config.max_message_bytes
        if not missing:
            takes = min(takes, _taken_bytes(client, config.topic, timeout_s) or takes)
        if takes < largest_bytes:
            found += (
                f" takes messages of {takes:,} bytes, compressed, and a segment may have "
                f"{largest_bytes:,} before that: what is larger is dropped and counted; raise the "
                "topic's max.message.bytes, or lower max_segment_bytes of [buffer]"
            )
    return found


def _names(config: KafkaInConfig | KafkaOutConfig) -> list[str]:
    if isinstance(config, KafkaOutConfig):
        return [config.topic]
    return [name.strip() for name in config.topic.split(",")]


def _is_there(name: str, topics: list[str]) -> bool:
    if name.startswith("^"):
        try:
            return any(re.match(name, topic) for topic in topics)
        except re.error:
            return True  # librdkafka's expressions are not quite Python's
    return name in topics


def _taken_bytes(client: Any, topic: str, timeout_s: float) -> int | None:
    """The topic's max.message.bytes; None where we may not know it."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]

    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        answer = client.describe_configs([asked], request_timeout=timeout_s)[asked]
        return int(answer.result(timeout_s)["max.message.bytes"].value)
    except (KafkaException, KeyError, TypeError, ValueError, TimeoutError):
        return None
