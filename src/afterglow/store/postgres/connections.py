"""Connections to one server: made when needed, lent to one thread at a time.

A pool of ours and no library's: psycopg_pool connects in threads of its own, which do not live
through a fork, and whoever waits for it learns that there is no connection but not why.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import psycopg

from afterglow.clock import Clock
from afterglow.errors import StoreBusyError, StoreError
from afterglow.store.postgres.failures import is_transient, place_of, unreachable

__all__ = ["Connection", "Connections"]

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_OLDEST_SERVER = 130_000
_RETRY_S = 0.05
_LONGEST_RETRY_S = 1.0

#: What each session needs. A flush is durable when it returns; nobody waits for ever, also not
#: for a process that stopped in the middle of a transaction.
_SESSION = """
SELECT current_setting('server_encoding'),
  set_config('client_encoding', 'UTF8', false),
  set_config('lock_timeout', %(lock_ms)s, false),
  set_config('idle_in_transaction_session_timeout', %(idle_ms)s, false),
  -- Joins are look-ups of a few rows in an index, whatever the statistics say (see sql.py).
  set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false),
  set_config('jit', 'off', false),
  CASE WHEN current_setting('synchronous_commit') = 'off'
    THEN set_config('synchronous_commit', 'on', false) END
"""

_pools: weakref.WeakSet[Connections] = weakref.WeakSet()
#: Connections that a forked child inherited: they stay the parent's, and are never closed here.
_inherited: list[Connection] = []


class Connections:
    """At most `limit` connections to `url`; raises SettingError for one that is no URL.

    `patience_s` is how long to try for a server that was there and is away.
    """

    def __init__(
        self, url: str, *, limit: int, connect_timeout_s: float, patience_s: float, clock: Clock
    ) -> None:
        self.place = place_of(url)
        self.patience_s = patience_s
        self._url = url
        self._limit = limit
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock
        self._never = threading.Event()
        self.closed = False
        #: Whether the server was ever there: then it is worth waiting for.
        self._seen = False
        self._begin()
        _pools.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(self._limit)
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """A connection outside any transaction. One that comes back within one is closed."""
        if not self._turns.acquire(timeout=max(1.0, self.patience_s)):
            raise StoreBusyError(
                f"PostgreSQL at {self.place}: all {self._limit} connections are in use; "
                "raise postgres_connections"
            )
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._turns.release()

    def forget_idle(self) -> None:
        """Close those that nobody uses: the server went away, and took them with it."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            self._drop(connection)

    def close(self) -> None:
        """Close all; those in use when they come back."""
        self.closed = True
        self.forget_idle()

    def pause(self, attempt: int) -> float:
        """Wait before another try; returns how long, in seconds."""
        wait_s = min(_LONGEST_RETRY_S, _RETRY_S * (1 << min(attempt, 10)))
        self._clock.wait(self._never, wait_s)
        return wait_s

    def _take(self) -> Connection:
        if self.closed:
            raise StoreError("this store is closed; open another")
        with self._lock:
            if self._idle:
                return self._idle.pop()
        connection = self._connect_patiently()
        with self._lock:
            self._all.add(connection)
        return connection

    def _give_back(self, connection: Connection) -> None:
        idle = psycopg.pq.TransactionStatus.IDLE
        if self.closed or connection.closed or connection.info.transaction_status != idle:
            self._drop(connection)
            return
        with self._lock:
            self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        with self._lock:
            self._all.discard(connection)
        connection.close()

    def _connect_patiently(self) -> Connection:
        waited_s, attempt = 0.0, 0
        while True:
            try:
                connection = self._connect()
            except psycopg.OperationalError as error:
                if not self._seen or not is_transient(error) or waited_s >= self.patience_s:
                    raise unreachable(error, self.place) from None
            else:
                self._seen = True
                return connection
            waited_s += self.pause(attempt)
            attempt += 1

    def _connect(self) -> Connection:
        given: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(self._url)
        for name, value in {
            "connect_timeout": max(1, round(self._connect_timeout_s)),
            "application_name": "afterglow",
            # A network that swallows everything is noticed after half a minute.
            "tcp_user_timeout": 30_000,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        }.items():
            given.setdefault(name, value)
        connection = psycopg.connect(**given, autocommit=True)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: Connection) -> None:
        version = connection.info.server_version
        if version < _OLDEST_SERVER:
            raise StoreError(
                f"PostgreSQL at {self.place} is version {version // 10_000}; "
                "Afterglow needs 13 or newer"
            )
        timeouts = {"lock_ms": "30s", "idle_ms": "60s"}
        row = connection.execute(_SESSION, timeouts).fetchone()
        if row is not None and row[0] != "UTF8":
            raise StoreError(
                f"the database at {self.place} is encoded in {row[0]}; "
                "name one that was created with ENCODING 'UTF8'"
            )

    def after_fork(self) -> None:
        """In a forked child: its own connections, made when needed."""
        for connection in self._all:
            _inherited.append(connection)
            # The child's copy of the socket only: nothing is said to the server.
            if not connection.closed:
                os.close(connection.fileno())
        self._begin()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
