"""Segments to Kafka: one message a part, keyed by its trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from afterglow.clock import Clock, SystemClock
from afterglow.config.kafka import KafkaOutConfig, properties_of
from afterglow.errors import MissingExtraError, SettingError, SinkError, SinkUnavailableError
from afterglow.model.segment import SegmentPart

try:
    from confluent_kafka import KafkaError, KafkaException, Producer

    from afterglow.otlp.payload import to_request
except ImportError:
    raise MissingExtraError("Kafka", "kafka") from None

__all__ = ["KafkaSink"]

_POLL_S: Final = 0.05
#: Reports come within the messages' own timeout; this is for a client that is stuck.
_GRACE_S: Final = 5.0
#: So many parts of pages that failed are remembered, so as not to be sent twice.
_REMEMBERED: Final = 65_536

_TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
#: Sending these again is no use. All else may be mended: by time, or by an operator.
_FOR_EVER: Final = _TOO_LARGE | {KafkaError.INVALID_RECORD}


class KafkaSink:
    """A ports.SegmentSink. When `write` returns, all in-sync replicas have every part.

    The producer is idempotent: what it sends again by itself is there once. A part whose page
    failed is not sent again where its broker had said yes; where nobody knows (the answer did not
    come, or this process died), it is, with the same message id: consumers keep one of each.

    Raises SettingError for properties that librdkafka does not take, MissingExtraError.
    """

    def __init__(self, config: KafkaOutConfig, *, clock: Clock | None = None) -> None:
        if not config.bootstrap_servers:
            raise SettingError("Kafka out needs bootstrap_servers, such as 127.0.0.1:9092")
        self._config = config
        self._clock = clock or SystemClock()
        self._properties = properties_of(
            config.properties,
            config.properties_file,
            {
                "bootstrap.servers": config.bootstrap_servers,
                "client.id": config.client_id,
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": round(config.timeout_s * 1_000),
                "message.max.bytes": config.max_message_bytes,
            },
        )
        self._properties.setdefault("compression.type", "zstd")
        self._properties.setdefault("linger.ms", 5)
        #: As the Java clients choose a partition.
        self._properties.setdefault("partitioner", "murmur2_random")
        self._properties.setdefault("log_level", 0)
        #: Message ids that are safe, of pages of which others failed; a dict for its order.
        self._safe: dict[str, None] = {}
        self._closed = False
        self._producer: Any = self._made()

    def write(self, parts: Sequence[SegmentPart]) -> None:
        if self._closed:
            raise SinkError("the sink of Kafka was closed")
        page = _Page()
        until_ns = self._clock.monotonic_ns() + round((self._config.timeout_s + _GRACE_S) * 1e9)
        for part in parts:
            if part.message_id not in self._safe:
                self._send(part, page, until_ns)
        while page.waiting and self._clock.monotonic_ns() < until_ns:
            self._producer.poll(_POLL_S)
        if page.waiting:
            self._producer.purge()
            self._producer.poll(0)
            page.fail(None)
        if page.worst is None and not page.stuck:
            for part in parts:
                self._safe.pop(part.message_id, None)
            return
        self._remember(page.safe)
        self._raise(page)

    def close(self) -> None:
        """Nothing waits here between two calls of `write`."""
        self._closed = True
        self._producer = None

    def _made(self) -> Any:
        try:
            return Producer(self._properties)
        except KafkaException as error:
            raise SettingError(f"[kafka_out] {_text(error.args[0])}") from None

    def _send(self, part: SegmentPart, page: _Page, until_ns: int) -> None:
        """Queue it; where the queue is full, wait for room."""
        value = to_request(part.payloads)
        while True:
            try:
                self._producer.produce(
                    self._config.topic,
                    value=value,
                    key=part.trace_id.hex(),
                    headers=_headers(part),
                    on_delivery=page.report_for(part.message_id),
                )
            except BufferError:
                self._producer.poll(_POLL_S)
                if self._clock.monotonic_ns() < until_ns:
                    continue
                page.stuck = True
            except KafkaException as error:
                page.fail(error.args[0])
            else:
                page.waiting += 1
            return

    def _remember(self, safe: list[str]) -> None:
        self._safe.update(dict.fromkeys(safe))
        while len(self._safe) > _REMEMBERED:
            del self._safe[next(iter(self._safe))]

    def _raise(self, page: _Page) -> None:
        error = page.worst
        if error is None:
            raise SinkUnavailableError(f"Kafka at {self._config.bootstrap_servers} does not answer")
        if error.fatal() or error.code() == KafkaError._FATAL:
            # The producer's promise is broken; another begins anew.
            self._producer = self._made()
        if error.code() in _TOO_LARGE:
            raise SinkError(
                f"a message is too large for Kafka's topic {self._config.topic}: raise its "
                "max.message.bytes (and max_message_bytes of [kafka_out]), or lower "
                "max_segment_bytes of [buffer]"
            )
        if error.code() in _FOR_EVER:
            raise SinkError(f"Kafka's topic {self._config.topic} refuses it: {_text(error)}")
        raise SinkUnavailableError(
            f"Kafka at {self._config.bootstrap_servers}, topic {self._config.topic}: {_text(error)}"
        )


class _Page:
    """What became of the messages of one call."""

    def __init__(self) -> None:
        self.waiting = 0
        self.stuck = False
        self.safe: list[str] = []
        self.worst: Any = None

    def report_for(self, message_id: str) -> Any:
        def report(error: Any, _message: object) -> None:
            self.waiting -= 1
            if error is None:
                self.safe.append(message_id)
            else:
                self.fail(error)

        return report

    def fail(self, error: Any) -> None:
        """The page is tried again while anything of it may yet be taken."""
        if error is None:
            self.stuck = True
        elif self.worst is None or error.code() not in _FOR_EVER:
            self.worst = error


def _headers(part: SegmentPart) -> list[tuple[str, bytes]]:
    texts = {
        "content-type": "application/x-protobuf",
        "x-afterglow-message-id": part.message_id,
        "x-afterglow-project": part.project,
        "x-afterglow-root-span-id": part.root_span_id.hex(),
        "x-afterglow-part": str(part.part),
        "x-afterglow-is-last": str(part.is_last).lower(),
        "x-afterglow-addendum": str(part.addendum).lower(),
    }
    return [(name, text.encode()) for name, text in texts.items()]


def _text(error: Any) -> str:
    return str(error.str())
