"""Retention of the spans of one project in PostgreSQL (the rules are in keep/keeper.py).

The entries are those of a trace store in the same database, in the partition "spans:PROJECT".
Any number of processes may keep one project at once: ticks are taken once, and whoever removes an
entry holds the partition's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from afterglow.clock import Clock, SystemClock
from afterglow.config import RetentionConfig, ServersConfig
from afterglow.keep.keeper import Keeper, Pass
from afterglow.keep.postgres.backend import PostgresBackend
from afterglow.keep.postgres.spans import ProjectSpans
from afterglow.store.postgres.connections import Connections
from afterglow.store.room import Room

__all__ = ["PostgresRetention"]

#: As in a file: room is made when nine tenths are taken, until 85 % are.
_FULL: Final = 0.90
_ENOUGH: Final = 0.85
_LEAST_EVICTED: Final = 16


class PostgresRetention(Keeper):
    """The traces of `project` at `url`. Close it, or use `with`. Raises StoreError, NotFoundError
    where no collector has written anything for that project, and SettingError.

    `keep_max_bytes` is for the project: about what its rows take, not the size of the database,
    in which PostgreSQL uses the room of what was forgotten again. `keep_max_runs` is not for it.
    Without `make`, the trace store must be there.
    """

    spans: ProjectSpans

    def __init__(
        self,
        url: str,
        project: str = "default",
        config: RetentionConfig | None = None,
        *,
        servers: ServersConfig | None = None,
        clock: Clock | None = None,
        make: bool = True,
    ) -> None:
        clock = clock or SystemClock()
        servers = servers or ServersConfig()
        super().__init__(config, clock)
        partition = f"spans:{project}"
        connections = Connections(
            url, limit=2, connect_timeout_s=servers.postgres_connect_timeout_s,
            patience_s=servers.postgres_patience_s, clock=clock,
        )  # fmt: skip
        try:
            self.spans = ProjectSpans(connections, project, partition)
            self._backend = PostgresBackend(
                url, partition, connections=2,
                connect_timeout_s=servers.postgres_connect_timeout_s,
                patience_s=servers.postgres_patience_s, on_removed=self.forget_spans, clock=clock,
                read_only=not make,
            )  # fmt: skip
        except BaseException:
            connections.close()
            raise

    def close(self) -> None:
        super().close()
        self.spans.close()

    def step(
        self,
        *,
        progress: Callable[[int, int], None] | None = None,
        forget: bool = True,
        mend: bool = True,
    ) -> Pass:
        """Look at what came, let fade, and forget what has faded or has no room.

        Without `forget` nothing goes. `mend` holds all traces against their entries first.
        """
        self._pass = Pass()
        if mend:
            self._mend()
        if forget:
            self.fade()
        self.look()
        if forget:
            self.make_room()
        self.spans.tidy()
        used = self.spans.used_bytes()
        self._pass.room = Room(used, used)
        return self._pass

    def make_room(self) -> None:
        """Forget what would fade soonest until the project is within its quotas."""
        with self._because("quota"):
            self._evict(self.config.keep_max_traces)
            used = self.spans.used_bytes()
            if used > self.config.keep_max_bytes * _FULL:
                used = self._free(used)
        self._pass.over_bytes = max(0, used - self.config.keep_max_bytes)

    def _free(self, used: int) -> int:
        while used > self.config.keep_max_bytes * _ENOUGH:
            entries = self._backend.totals().entries
            mean = max(used / max(entries, 1), 1.0)
            # Half of what it should take: to forget too much is worse than to look again.
            too_much = used - self.config.keep_max_bytes * _ENOUGH
            count = max(_LEAST_EVICTED, int(too_much / mean / 2))
            if not self._evict(entries - count):
                break
            used = self.spans.used_bytes()
        return used

    @property
    def full(self) -> bool:
        """Whether the next pass makes room."""
        return self.spans.used_bytes() > self.config.keep_max_bytes * _FULL
