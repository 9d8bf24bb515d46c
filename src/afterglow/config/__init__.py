"""Every setting once: default, unit, reason, environment names, limits.

A room's settings are one frozen class. A value comes from, in this order: the argument, the
environment (`AFTERGLOW_...`, then the `OTEL_...` name where the OpenTelemetry specification
has one), the file of `afterglow serve --config`, the default. `docs/settings.md` is generated
from these files.
"""

from __future__ import annotations

import msgspec

from afterglow.config.buffer import BufferConfig
from afterglow.config.collect import ServeConfig
from afterglow.config.file import read_settings_file
from afterglow.config.flush import FlushConfig
from afterglow.config.ingest import IngestConfig
from afterglow.config.intake import IntakeConfig
from afterglow.config.kafka import KafkaInConfig, KafkaOutConfig
from afterglow.config.keep import KeepConfig
from afterglow.config.memory import ErrorConfig, MemoryConfig, SnapshotConfig
from afterglow.config.otlp import OtlpConfig
from afterglow.config.record import JournalConfig, Overflow, RecordConfig, RunConfig, WriteConfig
from afterglow.config.retention import RetentionConfig
from afterglow.config.send import SendConfig, destination, is_url
from afterglow.config.servers import ServersConfig
from afterglow.config.setting import (
    Setting,
    checked,
    described,
    from_environment,
    load,
    room_fields,
)
from afterglow.config.store import StoreConfig

__all__ = [
    "ROOMS",
    "TABLES",
    "BufferConfig",
    "ErrorConfig",
    "FlushConfig",
    "IngestConfig",
    "IntakeConfig",
    "JournalConfig",
    "KafkaInConfig",
    "KafkaOutConfig",
    "KeepConfig",
    "MemoryConfig",
    "OtlpConfig",
    "Overflow",
    "RecordConfig",
    "RetentionConfig",
    "RunConfig",
    "SendConfig",
    "ServeConfig",
    "ServersConfig",
    "Setting",
    "SnapshotConfig",
    "StoreConfig",
    "WriteConfig",
    "checked",
    "described",
    "destination",
    "from_environment",
    "is_url",
    "load",
    "read_settings_file",
    "room_fields",
]

ROOMS: tuple[type[msgspec.Struct], ...] = (
    RecordConfig,
    WriteConfig,
    JournalConfig,
    RunConfig,
    RetentionConfig,
    BufferConfig,
    FlushConfig,
    SendConfig,
    KafkaInConfig,
    KafkaOutConfig,
    MemoryConfig,
    SnapshotConfig,
    KeepConfig,
    ServersConfig,
    StoreConfig,
    ErrorConfig,
    ServeConfig,
    IngestConfig,
    IntakeConfig,
    OtlpConfig,
)

#: The tables of `afterglow serve --config`, each a room.
TABLES: dict[str, type[msgspec.Struct]] = {
    "serve": ServeConfig,
    "ingest": IngestConfig,
    "intake": IntakeConfig,
    "otlp": OtlpConfig,
    "buffer": BufferConfig,
    "flush": FlushConfig,
    "send": SendConfig,
    "kafka_in": KafkaInConfig,
    "kafka_out": KafkaOutConfig,
    "store": ServersConfig,
    "retention": RetentionConfig,
}
