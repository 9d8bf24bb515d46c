"""The trace store: entries that fade unless they are used, written down by what changed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from afterglow.clock import Clock, SystemClock
from afterglow.config import KeepConfig
from afterglow.errors import EntryError, StoreError
from afterglow.keep import decay, encode
from afterglow.keep.backend import Backend, Cycle, Selection
from afterglow.keep.changes import Coactivated, Content, Reinforced
from afterglow.keep.dirty import Overlay
from afterglow.keep.entry import Entry
from afterglow.keep.flush import Flusher, FlushReport
from afterglow.keep.maintenance import Chore, Maintenance, to_stderr
from afterglow.keep.profile import MEMORY, Profile, QuotaPolicy
from afterglow.keep.reading import Reading, Step, by_strength
from afterglow.keep.snapshots import KEEP, Snapshot, Snapshots
from afterglow.keep.upkeep import Tiers, Upkeep
from afterglow.keep.writing import Writing
from afterglow.ledger import KEEP_COUNTERS, KeepCounter

if TYPE_CHECKING:
    import logging

    from afterglow.keep.error_recorder import ErrorRecorder

__all__ = ["TraceStore"]


class TraceStore:
    """Keeps entries of one partition. Any thread may use it; close it, or use `with`.

    What is stored, reinforced, linked or deleted can be read at once, and is in the database
    when `flush` (or `close`) has returned. Raises EntryError for what cannot be kept, and
    StoreError, with one line that says what to do, where the database cannot be used; what was
    not written stays, and is written by the next flush.
    """

    def __init__(
        self,
        backend: Backend,
        profile: Profile = MEMORY,
        *,
        config: KeepConfig | None = None,
        clock: Clock | None = None,
        maintenance: bool = True,
        report: Callable[[str], None] = to_stderr,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.profile = profile
        self.partition = backend.partition
        self._config = config = config or KeepConfig()
        self._backend = backend
        self._clock = clock = clock or SystemClock()
        self._overlay = Overlay()
        self._counters: Counter[str] = Counter()
        self._reading = Reading(backend, self._overlay, clock)
        self._flusher = Flusher(backend, self._overlay, clock, self._counters)
        self._writing = Writing(backend, self._overlay, self._reading, clock, self._counters)
        self._upkeep = Upkeep(backend, profile, clock, self._counters)
        self._snapshots = snapshots or Snapshots(
            backend, profile=profile.name, folder=None, key=None
        )
        self._pid = os.getpid()
        self._closed = False
        self._before_close: list[Callable[[], object]] = []
        chores = [
            Chore("flush", config.flush_interval_s, self.flush),
            Chore("decay", config.decay_interval_s, lambda: self.decay_cycle(ticks=None)),
            Chore("tiers", config.tier_interval_s, self.migrate_tiers),
            Chore("quota", config.quota_interval_s, self.enforce_quota),
        ]
        self._maintenance = Maintenance(
            chores if maintenance else [], clock, report, lambda: self._count("maintenance_errors")
        )
        self._maintenance.start()

    # --- storing --------------------------------------------------------------------------

    def store(
        self,
        payload: Any,
        *,
        kind: str,
        tags: Iterable[str] = (),
        intensity: object = 0.0,
        valence: object = 0.0,
        trace_id: str | None = None,
        embedding: Iterable[float] | None = None,
        confidence: float | None = None,
        origin: str = "direct_experience",
        source_id: str | None = None,
        parent_id: str | None = None,
        unresolved: bool = False,
        consolidation_candidate: bool = False,
        imprinting: bool = False,
    ) -> str:
        """Keep a payload (any JSON value, or bytes) and return its id, a new one if none is given.

        An id that is there gets the new content and keeps what it went through (strength, times,
        links); the same content again changes nothing. `intensity` and `valence` take numbers,
        texts or mappings (keep/decay.py); `confidence` is 0 to 1, the kind's own if left out. An
        entry that is imprinted begins with one reinforcement. Raises EntryError.
        """
        self._check()
        content = Content(
            kind=kind,
            tags=encode.valid_tags(tags),
            intensity=decay.intensity(intensity),
            valence=decay.valence(valence),
            confidence=None if confidence is None else encode.share(confidence, "confidence"),
            origin=encode.known_origin(origin),
            source_id=None if source_id is None else encode.valid_text(source_id, "source_id"),
            parent_id=None if parent_id is None else encode.valid_id(parent_id, "parent_id"),
            unresolved=bool(unresolved),
            consolidation_candidate=bool(consolidation_candidate),
            embedding=encode.encode_embedding(embedding),
            payload=encode.encode_payload(payload, self._config.max_entry_bytes),
        )
        rules = encode.known_kind(self.profile, kind)
        if trace_id is not None:
            trace_id = encode.valid_id(trace_id, "trace_id")
            if content.parent_id == trace_id:
                raise EntryError(f"{trace_id!r} cannot be its own parent")
        self._make_room()
        return self._writing.store(trace_id, content, rules, imprinting=imprinting)

    def delete(self, trace_id: str) -> bool:
        """Forget an entry, with its links; False if there is none of this id."""
        self._check()
        self._make_room()
        return self._writing.delete(trace_id)

    def reinforce(self, trace_id: str, *, imprinting: bool = False) -> Reinforced:
        """Strengthen an entry by 0.10 (0.30 while imprinting); its fading begins anew.

        True, or false with the reason: there is none of this id, or it does not fade.
        """
        self._check()
        self._make_room()
        return self._writing.reinforce(trace_id, imprinting=imprinting)

    def record_coactivation(self, a: str, b: str) -> Coactivated:
        """Count that two entries were active together; at three times they link, if neither has
        twenty links already. True, or false with the reason: unknown ids, or the same twice."""
        self._check()
        self._make_room()
        return self._writing.coactivate(a, b)

    # --- reading --------------------------------------------------------------------------

    def get(self, trace_id: str) -> Entry | None:
        """The entry of this id as it is now, or None."""
        self._check()
        return self._reading.entry(trace_id)

    def count(self) -> int:
        """How many entries there are."""
        self._check()
        return self._reading.count()

    def all(self, min_strength: float = 0.0, limit: int | None = None) -> list[Entry]:
        """All entries of at least this strength, strongest first."""
        self._check()
        return self._reading.strongest(Selection(), min_strength, limit)

    def by_kind(
        self, kind: str, min_strength: float = 0.0, limit: int | None = None
    ) -> list[Entry]:
        """Entries of a kind, strongest first. Raises EntryError for one that there is not."""
        self._check()
        encode.known_kind(self.profile, kind)
        return self._reading.strongest(Selection("kind", kind), min_strength, limit)

    def by_tag(self, tag: str, min_strength: float = 0.0, limit: int | None = None) -> list[Entry]:
        """Entries that have exactly this tag, strongest first."""
        self._check()
        tag = encode.valid_text(tag, "a tag")
        return self._reading.strongest(Selection("tag", tag), min_strength, limit)

    def associated(
        self, trace_id: str, min_strength: float = 0.0, limit: int | None = None
    ) -> list[Entry]:
        """Entries that this one is linked with, strongest first."""
        self._check()
        return self._reading.associated(trace_id, min_strength, limit)

    def ranked(
        self,
        ids: Sequence[str],
        at: int | None = None,
        min_strength: float = 0.0,
        limit: int | None = None,
    ) -> list[Entry]:
        """These by retrieval score (their `score`) at a time (ns; None: now), best first."""
        self._check()
        at_ns = self._clock.wall_ns() if at is None else at
        return self._reading.ranked(ids, at_ns, min_strength, limit)

    def walk_associations(
        self, start: str, max_hops: int = 12, min_strength: float = 0.1
    ) -> list[Step]:
        """What can be reached along links, nearest first: (id, depth, path). Not `start` itself;
        what is weaker than `min_strength` is not entered."""
        self._check()
        return self._reading.walk(start, max_hops, min_strength)

    def retrieve_and_reinforce(self, limit: int = 10, min_strength: float = 0.1) -> list[Entry]:
        """The strongest entries, as they are after being reinforced (those that fade)."""
        chosen = self.all(min_strength, limit)
        for entry in chosen:
            if entry.decay_rate > 0:
                self.reinforce(entry.trace_id)
        found = self._reading.entries([entry.trace_id for entry in chosen])
        return by_strength(found.values(), 0.0, limit)

    # --- upkeep ---------------------------------------------------------------------------

    def decay_cycle(self, ticks: int | None = 1) -> Cycle:
        """Let so many ticks pass, and remove what has faded; what that came to.

        None: as many as are due by the profile's time or volume since the last one, whichever
        process that was; a late cycle catches up. Maintenance does this.
        """
        self._check()
        if ticks is not None:
            ticks = encode.whole(ticks, "ticks")
        self.flush()
        cycle = self._upkeep.decay_cycle(ticks)
        self._reading.forget_moment()
        return cycle

    @property
    def last_cycle(self) -> Cycle | None:
        """What the last decay cycle of any process did; None before the first."""
        self._check()
        return self._upkeep.last_cycle()

    def migrate_tiers(self) -> Tiers:
        """How many entries are hot, warm and cold by the age of their last reinforcement, and
        how many have become so since this was asked before."""
        self.flush()
        return self._upkeep.migrate_tiers()

    def enforce_quota(
        self,
        max_entries: int | None = None,
        max_payload_bytes: int | None = None,
        policy: QuotaPolicy | None = None,
    ) -> list[str]:
        """Remove what is beyond the quota (the profile's, where nothing is given), by `policy`,
        and not one entry more. Their ids."""
        self.flush()
        return self._upkeep.enforce_quota(max_entries, max_payload_bytes, policy)

    def erase_by_kind(self, kind: str) -> int:
        """Remove all entries of a kind; how many. Raises EntryError for one that there is not."""
        encode.known_kind(self.profile, kind)
        self.flush()
        return self._upkeep.erase(Selection("kind", kind))

    def erase_by_partition(self, partition: str) -> int:
        """Remove all entries of a partition of this database; how many."""
        self.flush()
        return self._upkeep.erase(Selection(), encode.valid_id(partition, "partition"))

    def partitions(self) -> list[str]:
        """The partitions of this database that hold entries."""
        self._check()
        return self._backend.partitions()

    # --- snapshots ------------------------------------------------------------------------

    def snapshot(self, name: str | os.PathLike[str] | None = None) -> Snapshot:
        """Write all that the partition holds into a sealed file; see Snapshots.take."""
        self.flush()
        return self._snapshots.take(name, self._clock.wall_ns())

    def restore(
        self, name: str | os.PathLike[str] | None = None, *, force: bool = False
    ) -> Snapshot:
        """Replace all that the partition holds by a snapshot (None: the newest); see
        Snapshots.restore. Changes that are made meanwhile are gone as well."""
        self.flush()
        with self._flusher.resting():
            restored = self._snapshots.restore(name, self._clock.wall_ns(), force=force)
            with self._overlay.lock:
                self._overlay.clear()
        self._reading.forget_moment()
        return restored

    def list_snapshots(self) -> list[Snapshot]:
        """The snapshots in the folder, the newest first."""
        self._check()
        return self._snapshots.listed()

    def prune_snapshots(self, keep: int = KEEP) -> list[Snapshot]:
        """Remove all but the newest; which were removed."""
        self._check()
        return self._snapshots.prune(keep)

    # --- logged errors --------------------------------------------------------------------

    def record_errors(
        self, logger: logging.Logger | str | None = None, **settings: Any
    ) -> ErrorRecorder:
        """Keep what a logger (the root one if left out) says at ERROR and above, until close().

        Each is an episodic entry; see ErrorRecorder. Raises SettingError.
        """
        from afterglow.keep.error_recorder import ErrorRecorder

        self._check()
        recorder = ErrorRecorder(self, clock=self._clock, **settings)
        recorder.attach(logger)
        return recorder

    def before_close(self, do: Callable[[], object]) -> None:
        """Call this when the store is about to close, while it can still be stored into."""
        self._before_close.append(do)

    # --- writing down ---------------------------------------------------------------------

    def flush(self) -> FlushReport:
        """Write what has changed; it is in the database when this returns.

        Raises StoreError; what was not written stays, and is written by the next flush.
        """
        self._check()
        return self._flusher.flush()

    def _make_room(self) -> None:
        """Where too much waits to be written, whoever brings more writes it first."""
        overlay, config = self._overlay, self._config
        if (
            len(overlay) >= config.max_dirty_entries
            or overlay.payload_bytes >= config.max_dirty_bytes
        ):
            self._flusher.flush()

    @property
    def dirty(self) -> int:
        """Changes that are not in the database yet."""
        return len(self._overlay)

    def counters(self) -> dict[str, int]:
        """What this store has done so far (docs/ledger.md)."""
        return {name: self._counters[name] for name in KEEP_COUNTERS}

    def _count(self, name: KeepCounter) -> None:
        self._counters[name] += 1

    # --- the end --------------------------------------------------------------------------

    def close(self, *, discard: bool = False) -> None:
        """Stop maintenance, write what has changed, give the database back.

        Where it cannot be written the store stays open (without maintenance) and StoreError
        comes out: close again when it can, or with `discard`, which gives the changes up.
        """
        if self._closed:
            return
        if self._pid != os.getpid():
            self._closed = True  # the parent's threads and connections are not ours to end
            return
        while self._before_close:
            self._before_close.pop()()
        self._maintenance.stop()
        if not discard:
            self._flusher.flush()
        self._closed = True
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self) -> None:
        if self._closed:
            raise StoreError("this TraceStore is closed; open a new one")
        if self._pid != os.getpid():
            raise StoreError(
                "this TraceStore belongs to the process that was forked; open a new one here"
            )
