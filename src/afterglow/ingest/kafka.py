"""Spans in from Kafka: a consumer of a group, which commits what is safe with the buffer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from afterglow.clock import Clock, SystemClock
from afterglow.config.kafka import KafkaInConfig, properties_of
from afterglow.errors import MalformedOtlpError, MissingExtraError, OtlpError, SettingError
from afterglow.ingest.access import is_project
from afterglow.ingest.intake import Body, Intake, Taken
from afterglow.write.complaints import Complaints, to_stderr

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

    from afterglow.otlp.body import decompress
except ImportError:
    raise MissingExtraError("Kafka", "kafka") from None

__all__ = ["KafkaFace"]

_POLL_S: Final = 0.2
_AGAIN_S: Final = 1.0
#: Records are added to the buffer together, until they have so much.
_TOGETHER_BYTES: Final = 4 << 20
_PROJECT: Final = "x-afterglow-project"
Place = tuple[str, int]


class KafkaFace:
    """Reads from `start` to `stop`, in a thread round `step`. One thread calls `step`.

    An offset is committed once the buffer took the record and all before it in its partition, or
    once it was passed over as no OTLP. What the buffer refuses is read again: its partitions rest
    for as long as it says. Raises SettingError, MissingExtraError.
    """

    def __init__(
        self,
        intake: Intake,
        config: KafkaInConfig,
        *,
        clock: Clock | None = None,
        report: Callable[[str], None] = to_stderr,
    ) -> None:
        if not config.bootstrap_servers:
            raise SettingError("Kafka in needs bootstrap_servers, such as 127.0.0.1:9092")
        if not is_project(config.project):
            raise SettingError(f"project={config.project!r} of [kafka_in] is no project's name")
        self._intake = intake
        self._config = config
        self._clock = clock or SystemClock()
        self._complaints = Complaints(report, self._clock)
        fixed: dict[str, object] = {
            "bootstrap.servers": config.bootstrap_servers,
            "client.id": config.client_id,
        }
        self._properties = properties_of(
            config.properties,
            config.properties_file,
            {
                **fixed,
                "group.id": config.group,
                "auto.offset.reset": config.start_at,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
            },
        )
        self._properties.setdefault("partition.assignment.strategy", "cooperative-sticky")
        self._properties.setdefault("log_level", 0)
        #: All below is the stepping thread's.
        self._assigned: set[Place] = set()
        #: Where partitions that rest go on; they are read again from there.
        self._resting: dict[Place, int] = {}
        self._rest_until_ns = 0
        #: The next offset of each partition: what is accepted, what is committed.
        self._accepted: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}
        self._is_committing = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        #: Whether this consumer is of no use any more; `step` makes another.
        self._fatal = False
        try:
            self._consumer: Any = self._made()
            self._dead: Any = None
            if config.dead_letter_topic:
                own = properties_of(config.properties, config.properties_file, fixed)
                self._dead = Producer(
                    {"enable.idempotence": True, "log_level": 0, **own,
                     "message.timeout.ms": round(config.timeout_s * 1_000)}
                )  # fmt: skip
        except KafkaException as error:
            raise SettingError(f"[kafka_in] {error.args[0].str()}") from None

    def _made(self) -> Any:
        consumer = Consumer(
            {**self._properties, "error_cb": self._error, "on_commit": self._on_commit}
        )
        consumer.subscribe(
            [topic.strip() for topic in self._config.topic.split(",")],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        return consumer

    def start(self) -> None:
        """Read, in a thread of its own; the broker need not be there yet."""
        self._thread = threading.Thread(target=self._run, name="afterglow-kafka", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, within_s: float) -> None:
        """Finish what is in hand, commit, leave the group; give up waiting after so long: the
        others of the group get the partitions all the same, a little later."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(within_s)
            if self._thread.is_alive():
                self._complaints.tell(f"leaving Kafka's group took longer than {within_s:g} s")

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step()
            except Exception as error:  # noqa: BLE001  a reader that ended would lose by silence
                self._complaints.say_error("kafka", "reading from Kafka failed, again soon", error)
                self._clock.wait(self._stopping, _AGAIN_S)
        self.close()

    def close(self) -> None:
        """Commit and leave; for whoever calls `step` by hand."""
        self._commit_now(set(self._assigned))
        self._consumer.close()

    def step(self, wait_s: float = _POLL_S) -> int:
        """Take what there is, waiting for it so long; the number of records that are done with."""
        if self._fatal:
            self._begin_anew()
        self._wake()
        first = self._consumer.poll(wait_s)
        if first is None:
            self._commit()
            return 0
        messages = [first, *self._consumer.consume(self._config.max_records - 1, timeout=0)]
        done = sum(self._take(together) for together in _together(messages))
        self._commit()
        return done

    def _begin_anew(self) -> None:
        """Another consumer, from what is committed; librdkafka has no way back from such errors."""
        self._fatal = False
        self._consumer.close()
        self._assigned.clear()
        for of in (self._resting, self._accepted, self._committed):
            of.clear()
        self._is_committing = False
        self._consumer = self._made()

    # --- records --------------------------------------------------------------------------------

    def _take(self, messages: list[Any]) -> int:
        """Add them together; how many are done with: taken, or passed over."""
        came: list[Any] = []
        read: list[Body | OtlpError] = []
        for message in messages:
            if not self._is_ours(message):
                continue
            came.append(message)
            try:
                read.append(self._body(message))
            except OtlpError as error:
                read.append(error)
        bodies = [one for one in read if isinstance(one, Body)]
        outcomes = iter(self._intake.take_many(bodies, face="kafka") if bodies else ())
        done = 0
        for message, one in zip(came, read, strict=True):
            outcome = next(outcomes) if isinstance(one, Body) else one
            done += self._settle(message, outcome)
        return done

    def _is_ours(self, message: Any) -> bool:
        """Whether it is a record to take now; else it is said, or rests."""
        error = message.error()
        if error is not None:
            self._error(error)
            return False
        place = message.topic(), message.partition()
        if place not in self._assigned:
            return False  # revoked while we polled: whoever has it now reads it
        if place in self._resting or self._is_resting():
            self._rest(place, message.offset())
            return False
        return True

    def _settle(self, message: Any, outcome: Taken | OtlpError) -> bool:
        """In the order of the records: whether this one is done with."""
        place = message.topic(), message.partition()
        if place in self._resting:
            return False  # one before it rests: both are read again
        if isinstance(outcome, OtlpError):
            if not self._pass_over(message, outcome):
                return False
        elif outcome.refused:
            self._refused(place, message.offset(), f"{outcome.reason}", outcome.retry_after_s)
            return False
        else:
            self._complaints.over("refused", "the buffer takes Kafka's records again")
        self._accepted[place] = max(self._accepted.get(place, 0), message.offset() + 1)
        return True

    def _body(self, message: Any) -> Body:
        """What the intake is given. Raises OtlpError, counted, for what cannot be one."""
        headers = {name.lower(): value or b"" for name, value in message.headers() or ()}
        try:
            body = message.value()
            if body is None:
                raise MalformedOtlpError("the record has no value")
            project = self._config.project
            if self._config.project_header and _PROJECT in headers:
                project = headers[_PROJECT].decode("ascii", "replace")
                if not is_project(project):
                    raise MalformedOtlpError(f"{_PROJECT} is no project's name")
            encoding = headers.get("content-encoding", b"").decode("ascii", "replace").lower()
            came = len(body)
            body = decompress(body, encoding, self._intake.limits.max_decompressed_bytes)
        except OtlpError as error:
            malformed = isinstance(error, MalformedOtlpError)
            self._intake.count("kafka", "malformed" if malformed else "too_large")
            raise
        kind = headers.get("content-type", b"").lower()
        # No request in protobuf begins with a brace, no JSON text of one with anything else.
        json = b"json" in kind if kind else body[:1] == b"{"
        return Body(body, json, project, came)

    def _pass_over(self, message: Any, error: OtlpError) -> bool:
        """Say that it is no OTLP, and copy it if asked to; False if that cannot be now."""
        place = message.topic(), message.partition()
        where = f"{place[0]}[{place[1]}] at {message.offset()}"
        self._complaints.say("malformed", f"Kafka's record {where} is passed over: {error}")
        if self._dead is None:
            return True
        failed: list[Any] = []
        try:
            self._dead.produce(
                self._config.dead_letter_topic,
                value=message.value(),
                key=message.key(),
                headers=[
                    *(message.headers() or ()),
                    ("x-afterglow-error", str(error).encode()[:1_000]),
                    ("x-afterglow-from", where.encode()),
                ],
                on_delivery=lambda error, _message: failed.append(error),
            )
            self._dead.flush(self._config.timeout_s + 1.0)
        except (KafkaException, BufferError) as wrong:
            failed = [wrong]
        if failed == [None]:
            return True
        why = f"the dead letter topic does not take it: {failed[0] if failed else 'no answer'}"
        self._refused(place, message.offset(), why, _AGAIN_S)
        return False

    # --- resting --------------------------------------------------------------------------------

    def _refused(self, place: Place, offset: int, reason: str, retry_after_s: float) -> None:
        self._complaints.say("refused", f"Kafka's records wait: {reason}; nothing is lost")
        wait_s = retry_after_s or _AGAIN_S
        self._rest_until_ns = self._clock.monotonic_ns() + round(wait_s * 1e9)
        self._rest(place, offset)

    def _is_resting(self) -> bool:
        return self._clock.monotonic_ns() < self._rest_until_ns

    def _rest(self, place: Place, offset: int) -> None:
        """Read no more of it until `_wake`, and then from this offset on."""
        if place not in self._resting:
            self._consumer.pause([TopicPartition(*place)])
        self._resting[place] = min(self._resting.get(place, offset), offset)

    def _wake(self) -> None:
        """Go on where the time is over; a partition that cannot be set back rests on."""
        if not self._resting or self._is_resting():
            return
        for place, offset in list(self._resting.items()):
            try:
                self._consumer.seek(TopicPartition(*place, offset))
                self._consumer.resume([TopicPartition(*place)])
            except KafkaException as error:
                self._complaints.say("seek", f"Kafka's {place[0]}[{place[1]}] rests: {error}")
            else:
                del self._resting[place]

    # --- commits and rebalances -----------------------------------------------------------------

    def _offsets(self, places: set[Place]) -> list[Any]:
        return [
            TopicPartition(*place, offset)
            for place, offset in self._accepted.items()
            if place in places and offset != self._committed.get(place)
        ]

    def _commit(self) -> None:
        offsets = [] if self._is_committing else self._offsets(self._assigned)
        if offsets:
            self._is_committing = True
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                self._is_committing = False
                self._complaints.say("commit", f"Kafka's offsets cannot be committed: {error}")

    def _commit_now(self, places: set[Place]) -> None:
        offsets = self._offsets(places)
        if offsets:
            try:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException as error:
                self._complaints.say(
                    "commit", f"offsets not committed, records will come again: {error}"
                )

    def _on_commit(self, error: Any, offsets: list[Any]) -> None:
        self._is_committing = False
        if error is not None:
            self._complaints.say("commit", f"Kafka's offsets cannot be committed: {error.str()}")
            return
        for one in offsets:
            if one.error is None:
                self._committed[one.topic, one.partition] = one.offset

    def _on_assign(self, _consumer: Any, partitions: list[Any]) -> None:
        self._complaints.over("kafka", "Kafka answers again")
        for one in partitions:
            self._forget((one.topic, one.partition))
            self._assigned.add((one.topic, one.partition))

    def _on_revoke(self, _consumer: Any, partitions: list[Any]) -> None:
        places = {(one.topic, one.partition) for one in partitions}
        self._commit_now(places)
        self._on_lost(_consumer, partitions)

    def _on_lost(self, _consumer: Any, partitions: list[Any]) -> None:
        for one in partitions:
            self._assigned.discard((one.topic, one.partition))
            self._forget((one.topic, one.partition))

    def _forget(self, place: Place) -> None:
        for of in (self._resting, self._accepted, self._committed):
            of.pop(place, None)

    def _error(self, error: Any) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        if error.fatal() or error.code() == KafkaError._FATAL:  # messages have but the code
            self._fatal = True
        self._complaints.say("kafka", f"Kafka: {error.str()}; trying again, nothing is lost")


def _together(messages: list[Any]) -> Iterator[list[Any]]:
    """The same in their order, cut where they have enough bytes."""
    found: list[Any] = []
    size = 0
    for message in messages:
        found.append(message)
        size += len(message)
        if size >= _TOGETHER_BYTES:
            yield found
            found, size = [], 0
    if found:
        yield found
