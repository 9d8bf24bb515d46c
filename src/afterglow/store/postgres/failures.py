"""What PostgreSQL's errors mean, and what to do about each, in one line.

Nothing that is said here holds a password: a server is named by host, port and database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict

from afterglow.errors import SettingError, StoreBusyError, StoreError

__all__ = ["explained", "is_lost", "is_transient", "place_of", "unreachable"]

#: Part of a message (PostgreSQL gives no code while connecting), and what to do about it.
_CONNECTING = (
    ("password authentication failed", "check the user and the password in the URL"),
    ("no password supplied", "give a password in the URL, PGPASSWORD or ~/.pgpass"),
    ("no pg_hba.conf entry", "the server's pg_hba.conf has no entry for this user and host"),
    ("Peer authentication failed", "name the host in the URL, or run as that user"),
    ("does not support SSL", "the server has no TLS: drop sslmode from the URL"),
    ("does not exist", "create it (createdb, createuser), or name another in the URL"),
    ("too many", "the server has no connection left: raise max_connections, or close some"),
    ("failed to resolve host", "check the host in the URL"),
    ("invalid", "check the URL"),
)
#: Those of them that may pass by themselves.
_PASSING = (
    "Connection refused",
    "starting up",
    "shutting down",
    "recovery mode",
    "closed the connection",
    "not yet accepting connections",
    "too many",
    "timeout",
    "timed out",
    "reset by peer",
    "No such file or directory",
)
#: By SQLSTATE: what to do about it.
_RUNNING = {
    "25006": "the server only reads: name the primary, or add target_session_attrs=read-write",
    "42501": "the user may not: GRANT CREATE ON DATABASE to it, or name the owner in the URL",
    "42P01": "the tables of schema afterglow are gone: restore them, or drop the schema whole",
    "53100": "the server's disk is full: make room, then flush again",
    "53200": "the server is out of memory: make room, then flush again",
}


def place_of(url: str) -> str:
    """Host, port and database of a URL, without user and password. Raises SettingError."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:
        # The message ends with the URL itself.
        reason = str(error).split(': "')[0].strip()
        raise SettingError(
            f"the PostgreSQL URL cannot be read ({reason}): it takes "
            "postgresql://user:password@host:port/database"
        ) from None
    host = parts.get("host") or parts.get("hostaddr") or "the local socket"
    port = parts.get("port")
    return f"{host}{f':{port}' if port else ''}/{parts.get('dbname') or ''}"


def unreachable(error: psycopg.Error, place: str) -> StoreError:
    """The error for a connection that could not be made."""
    reason = _reason(error)
    advice = next(
        (text for part, text in _CONNECTING if part in reason),
        "is the server running, and does the URL name its host and port?",
    )
    return StoreError(f"cannot connect to PostgreSQL at {place} ({reason}); {advice}")


def is_transient(error: psycopg.Error) -> bool:
    """Whether a connection that could not be made may be there in a moment."""
    text = str(error)
    return any(part in text for part in _PASSING)


def is_lost(error: psycopg.Error, connection: psycopg.Connection[object]) -> bool:
    """Whether the connection is gone, rather than the statement refused."""
    state = error.sqlstate or ""
    # 57P: the administrator, a crash of a neighbour, or a start ended it; 08: the network did.
    return connection.closed or connection.broken or state.startswith(("57P", "08"))


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what psycopg raises into StoreError, with one line that says what to do; what it
    raises about a value into ValueError."""
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise StoreBusyError(
            f"PostgreSQL at {place}: another process held the partition for too long; try again"
        ) from None
    except psycopg.Error as error:
        if isinstance(error, psycopg.DataError) or error.sqlstate == "54000":
            # About a value that was given: a store sets it aside, and writes the rest.
            raise ValueError(f"PostgreSQL takes no such value: {_reason(error)}") from error
        advice = _RUNNING.get(error.sqlstate or "", "nothing was changed; try again")
        raise StoreError(f"PostgreSQL at {place}: {_reason(error)}; {advice}") from error


def _reason(error: psycopg.Error) -> str:
    """The first line of it, without what every message begins with."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[0]
    for start in ("connection failed: ", "connection is bad: ", "FATAL:  ", "ERROR:  "):
        line = line.removeprefix(start)
    if "FATAL:" in line:
        line = line.split("FATAL:", 1)[1].strip()
    return line.strip()
