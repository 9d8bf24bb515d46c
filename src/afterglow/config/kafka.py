"""Kafka: where spans are read from, and where segments are written to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from afterglow.config.setting import Setting
from afterglow.errors import SettingError

__all__ = ["KafkaInConfig", "KafkaOutConfig", "properties_of"]

_MIB = 1 << 20


class KafkaInConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Spans in from Kafka: records of OTLP, protobuf or JSON (docs/kafka.md)."""

    bootstrap_servers: Annotated[
        str | None,
        Setting(
            "",
            "Brokers to ask first, HOST:PORT,HOST:PORT. None: nothing is read from Kafka.",
            ("AFTERGLOW_KAFKA_IN_BOOTSTRAP_SERVERS",),
        ),
    ] = None
    topic: Annotated[
        str,
        Setting(
            "",
            "The topic, or several with commas between; ^ begins a regular expression.",
            ("AFTERGLOW_KAFKA_IN_TOPIC",),
            1,
            4_096,
        ),
    ] = "otlp_spans"
    group: Annotated[
        str,
        Setting(
            "",
            "The consumer group; collectors of one group share the partitions.",
            ("AFTERGLOW_KAFKA_IN_GROUP",),
            1,
            249,
        ),
    ] = "afterglow"
    client_id: Annotated[
        str,
        Setting("", "What brokers call us.", ("AFTERGLOW_KAFKA_IN_CLIENT_ID",), 1, 249),
    ] = "afterglow"
    start_at: Annotated[
        Literal["earliest", "latest"],
        Setting(
            "",
            "Where a group begins that has read nothing yet.",
            ("AFTERGLOW_KAFKA_IN_START_AT",),
        ),
    ] = "earliest"
    project: Annotated[
        str,
        Setting(
            "",
            "Whose spans these are, where no header says so.",
            ("AFTERGLOW_KAFKA_IN_PROJECT",),
            1,
            64,
        ),
    ] = "default"
    project_header: Annotated[
        bool,
        Setting(
            "",
            "A record's header x-afterglow-project says whose spans they are. Off: the header is "
            "not looked at.",
            ("AFTERGLOW_KAFKA_IN_PROJECT_HEADER",),
        ),
    ] = True
    dead_letter_topic: Annotated[
        str | None,
        Setting(
            "",
            "Records that are no OTLP are copied here. None: they are counted and passed over.",
            ("AFTERGLOW_KAFKA_IN_DEAD_LETTER_TOPIC",),
        ),
    ] = None
    max_records: Annotated[
        int,
        Setting(
            "records",
            "So many are taken at once at most.",
            ("AFTERGLOW_KAFKA_IN_MAX_RECORDS",),
            1,
            100_000,
        ),
    ] = 500
    timeout_s: Annotated[
        float,
        Setting(
            "s",
            "A broker that does not answer within this is away.",
            ("AFTERGLOW_KAFKA_IN_TIMEOUT_S",),
            0.5,
            600.0,
        ),
    ] = 10.0
    properties: Annotated[
        tuple[str, ...],
        Setting(
            "",
            "Properties of librdkafka, NAME=VALUE each, such as security.protocol=SASL_SSL.",
            ("AFTERGLOW_KAFKA_IN_PROPERTIES",),
            secret=True,
        ),
    ] = ()
    properties_file: Annotated[
        str | None,
        Setting(
            "path",
            "The same in a file, one a line; # begins a comment.",
            ("AFTERGLOW_KAFKA_IN_PROPERTIES_FILE",),
        ),
    ] = None


class KafkaOutConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Segments out to Kafka: one message a part, its trace the key (docs/kafka.md)."""

    bootstrap_servers: Annotated[
        str | None,
        Setting(
            "",
            "Brokers to ask first, HOST:PORT,HOST:PORT. None: nothing is written to Kafka.",
            ("AFTERGLOW_KAFKA_OUT_BOOTSTRAP_SERVERS",),
        ),
    ] = None
    topic: Annotated[
        str,
        Setting("", "The topic.", ("AFTERGLOW_KAFKA_OUT_TOPIC",), 1, 249),
    ] = "afterglow_segments"
    client_id: Annotated[
        str,
        Setting("", "What brokers call us.", ("AFTERGLOW_KAFKA_OUT_CLIENT_ID",), 1, 249),
    ] = "afterglow"
    timeout_s: Annotated[
        float,
        Setting(
            "s",
            "Messages that no broker took within this are tried again later.",
            ("AFTERGLOW_KAFKA_OUT_TIMEOUT_S",),
            0.5,
            600.0,
        ),
    ] = 20.0
    max_message_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A larger message is refused before it is compressed. What a broker takes is its "
            "topic's max.message.bytes, of the compressed one.",
            ("AFTERGLOW_KAFKA_OUT_MAX_MESSAGE_BYTES",),
            1_000,
            1_000_000_000,
        ),
    ] = 64 * _MIB
    properties: Annotated[
        tuple[str, ...],
        Setting(
            "",
            "Properties of librdkafka, NAME=VALUE each, such as compression.type=lz4.",
            ("AFTERGLOW_KAFKA_OUT_PROPERTIES",),
            secret=True,
        ),
    ] = ()
    properties_file: Annotated[
        str | None,
        Setting(
            "path",
            "The same in a file, one a line; # begins a comment.",
            ("AFTERGLOW_KAFKA_OUT_PROPERTIES_FILE",),
        ),
    ] = None


def properties_of(
    given: tuple[str, ...], file: str | None, fixed: Mapping[str, object]
) -> dict[str, object]:
    """Properties as librdkafka wants them: the file's, then those `given`, then our `fixed` ones.

    Raises SettingError, which shows no value, for what is no NAME=VALUE, a file that cannot be
    read, and a property of which what we promise depends.
    """
    lines: list[str] = []
    if file is not None:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"cannot read properties_file {file}: {error}") from None
    found: dict[str, object] = {}
    for line in (*lines, *given):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise SettingError("properties of Kafka are NAME=VALUE each; one of them has no =")
        if name in fixed:
            raise SettingError(
                f"the property {name} is not yours to set: what is promised depends on it, or a "
                "setting of its own says it (docs/kafka.md)"
            )
        found[name] = value.strip()
    return {**found, **fixed}
