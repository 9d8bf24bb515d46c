"""A PostgreSQL server on a free port of loopback, and on a socket, for tests and benchmarks.

    make postgres                       or: python -m scripts.postgres start; stays until stop
    make postgres ARGS="status"         start, status, restart, crash, stop

    from scripts.postgres import Postgres

    with Postgres() as server:
        psycopg.connect(server.new_database())

PostgreSQL refuses to run as root: as root it runs as the user `postgres`, or `nobody` where there
is none, in a folder that belongs to it. `fsync` is off unless asked for: what is committed then
survives any death of the server's processes, not one of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import psycopg

from scripts import debian
from scripts.guard import born
from scripts.servers import (
    Place,
    Process,
    ServerTrouble,
    User,
    forget,
    free_ports,
    remember,
    remembered,
    run_as,
    until,
)

USER = "afterglow"
"""the superuser of the databases, without a password; the server listens on loopback only"""

SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


def unprivileged() -> User | None:
    """Whom to run as when we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(found.pw_uid, found.pw_gid)
    raise ServerTrouble("PostgreSQL does not run as root, and there is no user postgres or nobody")


class Postgres:
    """One server with an empty database `postgres`; a context manager.

    Args: `fsync`, for real durability at its real price; `settings`, any of postgresql.conf.
    """

    def __init__(
        self,
        *,
        fsync: bool = False,
        settings: dict[str, str] | None = None,
        stays: bool = False,
    ) -> None:
        onoff = "on" if fsync else "off"
        self.settings = {
            "fsync": onoff,
            "full_page_writes": onoff,
            "jit": "off",
            "shared_buffers": "64MB",
            # Backends of clients that left go when they get a core, which may take a while.
            "max_connections": "400",
            "dynamic_shared_memory_type": "mmap",
            "autovacuum_naptime": "1h",
            **(settings or {}),
        }
        self.place = Place("afterglow-postgres", stays=stays)
        self.folder = self.place.folder / "main"
        self.process = Process(self.place, "postgres")
        self.port = 0
        self.program: debian.Found | None = None
        self._databases = 0
        try:
            self.program = debian.need(debian.POSTGRES)
            self._make()
            self._launch_somewhere()
        except BaseException:
            self.stop()
            raise

    def saved(self) -> dict[str, Any]:
        """What `again` makes it from in another process."""
        return {
            "folder": str(self.place.folder),
            "settings": self.settings,
            "port": self.port,
            "identity": self.process.identity,
        }

    @classmethod
    def again(cls, saved: dict[str, Any]) -> Self:
        """A server that was started with `stays`, by another process."""
        server = cls.__new__(cls)
        server.settings = dict(saved["settings"])
        server.place = Place("", stays=True, folder=Path(saved["folder"]))
        server.folder = server.place.folder / "main"
        pid, born_at = saved["identity"]
        server.process = Process(server.place, "postgres", (pid, born_at))
        server.port = saved["port"]
        server.program = debian.need(debian.POSTGRES)
        server._databases = 0
        return server

    # --- its life -------------------------------------------------------------------------

    def _make(self) -> None:
        """`initdb`, as whom it will run."""
        assert self.program is not None
        user = unprivileged()
        if user is not None:
            os.chown(self.place.folder, user.uid, user.gid)
        initdb = self.program.executable.with_name("initdb")
        done = subprocess.run(
            [
                initdb,
                *("--pgdata", self.folder, "--username", USER, "--auth", "trust"),
                *("--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
            ],
            cwd=self.place.folder,
            env={**os.environ, **self.program.env, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **run_as(user),
        )
        if done.returncode:
            raise ServerTrouble(f"{initdb} failed: {done.stdout[-1500:]}{done.stderr[-1500:]}")

    def _launch_somewhere(self) -> None:
        """On a free port; on another if somebody took it in between."""
        for _ in range(5):
            (self.port,) = free_ports(1)
            try:
                self.start()
            except ServerTrouble as trouble:
                if "in use" not in str(trouble):
                    raise
            else:
                return
        raise ServerTrouble(f"no free port for PostgreSQL: {self.process.said()}")

    def start(self) -> None:
        """Start it on the port that it has, and wait until it answers; recovery is in that."""
        assert self.program is not None
        if not self.alive():
            self._remove_leavings()
        settings = {
            **self.settings,
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.place.folder),
        }
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self.process.start(
            self.program,
            ["-D", self.folder, *words],
            user=unprivileged(),
            # SIGKILL would leave its children and a piece of shared memory.
            end_by=signal.SIGQUIT,
        )
        self.process.wait_for(self.answers, "PostgreSQL answers")

    def shut_down(self, how: str = "fast") -> None:
        """`fast`: sessions are cut, all is written; `immediate`: as in a crash, recovery at the
        next start; `smart`: when the last session has ended."""
        self.process.end(SIGNALS[how])

    def restart(self, how: str = "fast") -> None:
        """shut_down() and start(), on the same port with the same databases."""
        if self.alive():
            self.shut_down(how)
        self.start()

    def crash(self) -> None:
        """SIGKILL to all its processes at once, and nothing is started again."""
        if self.process.pid is None:
            raise ServerTrouble("PostgreSQL does not run")
        # Stopped first, so that it neither cleans up after its children nor makes new ones.
        self.process.send(signal.SIGSTOP)
        its = children(self.process.pid)
        for pid in its:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.end(signal.SIGKILL)
        until(lambda: not any(map(born, its)), "all processes of PostgreSQL end")

    def alive(self) -> bool:
        return self.process.alive()

    def answers(self) -> bool:
        """Whether it takes sessions now."""
        try:
            with self.connect():
                return True
        except psycopg.OperationalError:
            return False

    def stop(self) -> None:
        """End it and remove its folder."""
        if self.alive():
            self.shut_down("immediate")
        else:
            self._remove_leavings()
        self.place.close()
        shutil.rmtree(self.place.folder, ignore_errors=True)

    def _remove_leavings(self) -> None:
        """What a crash leaves: a small piece of the kernel's shared memory, and lock files. With
        those PostgreSQL would hold a dead process that nobody has collected for a living one."""
        lock = self.folder / "postmaster.pid"
        with contextlib.suppress(OSError, IndexError):
            piece = lock.read_text().splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "-m", piece], capture_output=True, check=False)
        for file in (lock, *self.place.folder.glob(".s.PGSQL.*")):
            file.unlink(missing_ok=True)

    # --- what it has ----------------------------------------------------------------------

    def url(self, database: str = "postgres") -> str:
        """By TCP; no password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        """By the Unix socket in its folder."""
        return f"postgresql://{USER}@/{database}?host={self.place.folder}&port={self.port}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A session that commits each statement; close it."""
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=10)

    def new_database(self, name: str = "") -> str:
        """Create an empty database; its URL."""
        self._databases += 1
        name = name or f"test_{os.getpid()}_{self._databases}"
        with self.connect() as session:
            session.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def drop_databases(self) -> None:
        """Remove all databases that were made, cutting the sessions in them."""
        with self.connect() as session:
            rows = session.execute(
                "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
            )
            for (name,) in rows.fetchall():
                session.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())

    def reset(self) -> None:
        """As at the start: running, with no database but its own."""
        if not self.alive():
            self.start()
        self.process.send(signal.SIGCONT)
        self.drop_databases()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def children(parent: int) -> list[int]:
    """The process ids of a process's children; zombies are none."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, _, rest = stat.read_text().partition(" ")
            state, of, *_ = rest.rpartition(")")[2].split()
            if int(of) == parent and state != "Z":
                found.append(int(pid))
    return found


# --- as a command -------------------------------------------------------------------------

NAME = "postgres"


def begin(fsync: bool) -> None:
    saved = remembered(NAME)
    if saved is not None:
        server = Postgres.again(saved)
        if server.alive():
            tell(server, "runs already")
            return
        server.stop()  # the machine was started anew; what is left is a folder
        forget(NAME)
    server = Postgres(fsync=fsync, stays=True)
    remember(NAME, server.saved())
    tell(server, "is up")


def tell(server: Postgres, what: str) -> None:
    print(server.url())
    debian.say(f'PostgreSQL {what}; stop it with: make postgres ARGS="stop"')


def main() -> None:
    parser = argparse.ArgumentParser(prog="make postgres", description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["start", "status", "restart", "crash", "stop"])
    parser.add_argument("--fsync", action="store_true", help="start: durable, at its real price")
    arguments = parser.parse_args()
    try:
        if arguments.command == "start":
            begin(arguments.fsync)
            return
        saved = remembered(NAME)
        if saved is None:
            raise ServerTrouble("no server runs; start one with: make postgres")
        server = Postgres.again(saved)
        if arguments.command == "stop":
            server.stop()
            forget(NAME)
            debian.say("PostgreSQL is stopped, its folder removed")
            return
        if arguments.command == "restart":
            server.restart()
        elif arguments.command == "crash":
            server.crash()
        remember(NAME, server.saved())
        tell(server, "is up" if server.alive() else "is dead (`restart` brings it back)")
    except (ServerTrouble, debian.NotHere) as problem:
        sys.exit(f"postgres: {problem}")


if __name__ == "__main__":
    main()
