"""Spans into Redis: chunks to the nodes they spread over first, then the index.

In that order an index entry never refers to a chunk that is not there. The append of all traces
of a bucket is one script. What was refused may be repeated whole: chunks have the same keys then,
and spans that came twice are dropped when their segment goes out.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import OutOfMemoryError, ResponseError

from afterglow.buffer.codec import chunk_id, encode, reference
from afterglow.buffer.dictionaries import Dictionaries
from afterglow.buffer.keys import Keys, bucket_of, trace_name
from afterglow.buffer.layouts import ChunkWriter
from afterglow.buffer.routing import AwayError, Command, Router, command, evalsha, slot_of
from afterglow.buffer.sorting import Lot, sort
from afterglow.buffer.squeeze import Squeezer
from afterglow.config.buffer import BufferConfig
from afterglow.model.segment import AddResult, BufferedSpan

__all__ = ["Adder"]

#: A script call carries about so much, and a trace's spans ride inline up to so many.
_CALL_BYTES: Final = 512 << 10
_CALL_TRACES: Final = 250
_CHUNK_SPANS: Final = 4_096
_LONG_TRACES: Final = 100_000
_RETRY_S: Final = 1.0


class _Append(NamedTuple):
    """What one batch appends to one trace."""

    name: bytes
    project: bytes
    n_spans: int
    entries: list[bytes]
    dictionary: int


class Adder:
    """Takes batches in; safe in many threads."""

    def __init__(
        self,
        router: Router,
        keys: Keys,
        config: BufferConfig,
        squeezer: Squeezer,
        dictionaries: Dictionaries,
        replicas: int,
    ) -> None:
        self._router = router
        self._keys = keys
        self._config = config
        self._squeezer = squeezer
        self._dictionaries = dictionaries
        self._replicas = replicas
        self._slots = [slot_of(key) for key in keys.queue]
        self._look_ns = round(min(config.root_timeout_s, config.timeout_s, config.max_open_s) * 1e9)
        self._ttl_s = max(round(config.ttl_s), 1)
        #: Traces with so many entries that they are spread, newest last; guarded by the lock.
        self._long: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, spans: Sequence[BufferedSpan], now_ns: int, writer: ChunkWriter) -> AddResult:
        """Take a batch in, or refuse it as a value."""
        lots, faults = sort(spans, now_ns, self._config)
        dropped = _by_reason(faults)
        self._dictionaries.see(spans)
        dictionary = self._squeezer.current
        n_spans = sum(len(lot.flags) for lot in lots)
        chunks: list[Command] = []
        by_bucket: dict[int, list[_Append]] = {}
        for lot in lots:
            append = self._append(lot, now_ns, writer, dictionary, chunks)
            bucket = bucket_of(lot.project, lot.trace_id)
            if bucket in by_bucket:
                by_bucket[bucket].append(append)
            else:
                by_bucket[bucket] = [append]
        if chunks:
            refusal = self._run(chunks, self._replicas)
            if refusal:
                return _refused(len(spans), refusal)
        calls, traces = self._calls(by_bucket, (now_ns + self._look_ns) // 1_000)
        lengths: list[Any] = []
        refusal = self._run([*calls, *self._drops(faults)], self._replicas, lengths)
        if not refusal and dictionary:
            refusal = self._again(calls, list(by_bucket), dictionary, lengths)
        if refusal:
            return _refused(len(spans), refusal)
        self._note_long(traces, lengths[: len(calls)])
        return AddResult(n_spans, dropped)

    def _append(
        self, lot: Lot, now_ns: int, writer: ChunkWriter, dictionary: int, chunks: list[Command]
    ) -> _Append:
        """What to append to a trace; what is large goes into chunks, for which it adds commands."""
        project, trace_id, ids, parents, flags, sizes, payloads = lot
        name = trace_name(project, trace_id)
        config = self._config
        if (
            sum(sizes) <= config.inline_bytes
            and len(sizes) <= _CHUNK_SPANS
            and config.inline_bytes
            and name not in self._long
        ):
            blob, raw, used = self._squeezer.squeeze(b"".join(payloads), dictionary)
            entry = encode(now_ns, ids, parents, flags, sizes, blob, raw=raw, dictionary=used)
            return _Append(name, project, len(flags), [entry], used)
        entries = []
        for begin, end in _cuts(sizes, config.chunk_bytes):
            blob, raw, _ = self._squeezer.squeeze(b"".join(payloads[begin:end]))
            held, above = ids[8 * begin : 8 * end], parents[8 * begin : 8 * end]
            encoded = encode(now_ns, held, above, flags[begin:end], sizes[begin:end], blob, raw=raw)
            chunk = chunk_id(encoded)
            chunks += [
                command(key, b"SET", key, encoded, b"EX", 2 * self._ttl_s)
                for key in writer.keys(name, chunk)
            ]
            entries.append(reference(encoded, writer.places, chunk))
        return _Append(name, project, len(flags), entries, 0)

    def _calls(
        self, by_bucket: dict[int, list[_Append]], score: int
    ) -> tuple[list[Command], list[list[_Append]]]:
        calls, traces = [], []
        for bucket, appends in by_bucket.items():
            for group in _groups(appends):
                calls.append(self._call(bucket, group, score))
                traces.append(group)
        return calls, traces

    def _call(self, bucket: int, group: list[_Append], score: int) -> Command:
        keys = self._keys
        members = keys.members[bucket]
        projects: dict[bytes, int] = {}
        words: list[Any] = []
        names = [keys.queue[bucket], keys.counts[bucket], keys.books[bucket]]
        dictionary = 0
        for name, project, n_spans, entries, used in group:
            dictionary = dictionary or used
            projects[project] = projects.get(project, 0) + n_spans
            names.append(members + name)
            words += (name, n_spans, len(entries))
            words += entries
        if dictionary:
            names.append(self._dictionaries.key(bucket, dictionary))
        head: list[Any] = [score, self._ttl_s, 1 if dictionary else 0, len(projects)]
        for project, n_spans in projects.items():
            head += (project, n_spans)
        return evalsha(self._slots[bucket], "append", names, head + words)

    def _again(
        self, calls: list[Command], buckets: list[int], dictionary: int, answers: list[Any]
    ) -> str | None:
        """Append what a bucket refused because it has no copy of the dictionary yet."""
        refused = [at for at, answer in enumerate(answers) if isinstance(answer, ResponseError)]
        if not refused:
            return None
        slots = {calls[at].slot for at in refused}
        lacking = [bucket for bucket in buckets if self._slots[bucket] in slots]
        found: list[Any] = []
        refusal = self._run(self._dictionaries.put(lacking, dictionary), self._replicas)
        refusal = refusal or self._run([calls[at] for at in refused], self._replicas, found)
        if refusal is None:
            for at, answer in zip(refused, found, strict=True):
                if isinstance(answer, ResponseError):
                    return f"Redis refused the spans: {answer}"
                answers[at] = answer
        return refusal

    def _drops(self, faults: dict[str, dict[str, int]]) -> Iterator[Command]:
        """What can never be held is taken in and dropped in the books."""
        for project, reasons in faults.items():
            name = project.encode("utf-8", "surrogatepass")
            bucket = bucket_of(name, b"")
            key = self._keys.books[bucket]
            for reason, n in reasons.items():
                field = b"x:%s:%s" % (reason.encode(), name)
                yield command(key, b"HINCRBY", key, field, n)
                yield command(key, b"HINCRBY", key, b"i", n)

    def _run(
        self, commands: list[Command], replicas: int, into: list[Any] | None = None
    ) -> str | None:
        """Why the batch is refused; None if it is not."""
        try:
            answers, missing = self._router.run(commands, replicas)
        except AwayError as error:
            return str(error)
        for answer in answers:
            if isinstance(answer, OutOfMemoryError):
                return "Redis is full (maxmemory)"
            if isinstance(answer, Exception) and not str(answer).startswith("NODICTIONARY"):
                return f"Redis refused the spans: {answer}"
        if missing:
            return f"{missing} of {replicas} replicas did not confirm the spans (wait_replicas)"
        if into is not None:
            into += answers
        return None

    def _note_long(self, traces: list[list[_Append]], lengths: list[Any]) -> None:
        limit = self._config.inline_entries
        for group, found in zip(traces, lengths, strict=True):
            if max(found) < limit:
                continue
            with self._lock:
                for append, length in zip(group, found, strict=True):
                    if length >= limit:
                        self._long[append.name] = None
                        self._long.move_to_end(append.name)
                while len(self._long) > _LONG_TRACES:
                    self._long.popitem(last=False)


def _cuts(sizes: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Where to cut payloads, so that no chunk is larger than the limit unless one span is."""
    begin = held = 0
    for at, size in enumerate(sizes):
        if at > begin and (held + size > limit or at - begin >= _CHUNK_SPANS):
            yield begin, at
            begin, held = at, 0
        held += size
    yield begin, len(sizes)


def _groups(appends: list[_Append]) -> Iterator[list[_Append]]:
    """Lots of one bucket, in calls that are not too large."""
    group: list[_Append] = []
    held = 0
    for append in appends:
        size = sum(map(len, append.entries))
        if group and (held + size > _CALL_BYTES or len(group) >= _CALL_TRACES):
            yield group
            group, held = [], 0
        group.append(append)
        held += size
    if group:
        yield group


def _by_reason(faults: dict[str, dict[str, int]]) -> dict[str, int]:
    dropped: dict[str, int] = {}
    for reasons in faults.values():
        for reason, n in reasons.items():
            dropped[reason] = dropped.get(reason, 0) + n
    return dropped


def _refused(n_spans: int, reason: str) -> AddResult:
    return AddResult(0, {}, n_spans, reason, _RETRY_S)
