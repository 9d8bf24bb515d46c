"""All settings of `afterglow serve`, in one place: default < file < environment < flags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import msgspec

from afterglow.collecting.folder import folder_of
from afterglow.config import (
    TABLES,
    BufferConfig,
    FlushConfig,
    IngestConfig,
    IntakeConfig,
    KafkaInConfig,
    KafkaOutConfig,
    OtlpConfig,
    RetentionConfig,
    SendConfig,
    ServeConfig,
    ServersConfig,
    Setting,
    described,
    load,
    read_settings_file,
)

__all__ = ["MEMORY", "Flags", "ServeSettings", "load_settings"]

MEMORY: Final = "memory:"

#: What the command line says, by table and key; None is not said.
Flags = Mapping[str, Mapping[str, object]]

#: A shorter text is in any line.
_LEAST_SECRET: Final = 4

#: One process knows all that it was sent: it need not wait as long as many collectors must.
_EMBEDDED: Final[dict[str, dict[str, object]]] = {
    "buffer": {"root_timeout_s": 2.0, "timeout_s": 10.0},
}

Room = TypeVar("Room", bound=msgspec.Struct)


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Each room's settings; it goes to flusher processes by pickle."""

    serve: ServeConfig
    ingest: IngestConfig
    otlp: OtlpConfig
    intake: IntakeConfig
    buffer: BufferConfig
    flush: FlushConfig
    servers: ServersConfig
    retention: RetentionConfig
    send: SendConfig
    kafka_in: KafkaInConfig
    kafka_out: KafkaOutConfig

    @property
    def is_embedded(self) -> bool:
        """Whether spans wait for their trees in this process."""
        return self.buffer.url == MEMORY

    @property
    def database(self) -> Path:
        """The SQLite file of project `default`."""
        return Path(self.serve.database)

    @property
    def folder(self) -> Path:
        """What must survive a restart beside the store."""
        named = self.serve.folder
        return Path(named) if named else folder_of(self.database)

    def secrets(self) -> list[str]:
        """Texts that no line of the log may have."""
        found: list[str] = []
        for room in (getattr(self, field) for field in self.__dataclass_fields__):
            for name, _kind, _default, setting in _described(type(room)):
                value = getattr(room, name)
                if setting.secret:
                    texts = [value] if isinstance(value, str) else list(value or ())
                    found += [part for text in texts for part in _secret_parts(text)]
                elif isinstance(value, str):
                    found += _passwords(value)
        return [text for text in found if len(text) >= _LEAST_SECRET]


def _secret_parts(text: str) -> list[str]:
    """`a=secret,b=secret` and `secret:project`, whole and cut; the names in them are no secrets."""
    values = [pair.partition("=")[2] for pair in text.split(",")]
    return [text, text.partition(":")[0], *values, *map(unquote, values)]


def _described(room: type[msgspec.Struct]) -> tuple[tuple[str, Any, object, Setting], ...]:
    return described(room)


def _passwords(url: str) -> list[str]:
    """What stands between : and @ of a URL, as it is written and as it is meant."""
    login, at, _place = url.partition("://")[2].rpartition("@")
    _user, _, password = login.partition(":")
    return [password, unquote(password)] if at and password else []


def load_settings(
    file: str | os.PathLike[str] | None,
    flags: Flags,
    environment: Mapping[str, str] | None = None,
) -> ServeSettings:
    """All of them, checked. Raises SettingError, one line that names where a value came from."""
    environ = os.environ if environment is None else environment
    tables = {} if file is None else read_settings_file(file, TABLES)

    def room(kind: type[Room], base: Mapping[str, Mapping[str, object]]) -> Room:
        table = next(name for name, of in TABLES.items() if of is kind)
        below = {**base.get(table, {}), **tables.get(table, {})}
        return load(kind, flags.get(table, {}), environ, base=below)

    base: dict[str, Any] = {}
    if room(BufferConfig, base).url == MEMORY:
        base = _EMBEDDED
    return ServeSettings(
        serve=room(ServeConfig, base),
        ingest=room(IngestConfig, base),
        otlp=room(OtlpConfig, base),
        intake=room(IntakeConfig, base),
        send=room(SendConfig, base),
        kafka_in=room(KafkaInConfig, base),
        kafka_out=room(KafkaOutConfig, base),
        buffer=room(BufferConfig, base),
        flush=room(FlushConfig, base),
        servers=room(ServersConfig, base),
        retention=room(RetentionConfig, base),
    )
