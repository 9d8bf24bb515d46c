"""A Redis server on loopback for tests and benchmarks: a node of a cluster, or one alone.

    from scripts.redis_server import SingleRedis

    with SingleRedis() as server:
        client = redis.Redis.from_url(server.url)

It keeps nothing on disk unless `appendonly=True`, and never evicts. Everything that waits asks
again and again until a deadline, then raises ServerTrouble.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from scripts import debian
from scripts.servers import Identity, Place, Process, ServerTrouble, free_ports, until
from scripts.slots import SLOTS

FILLER = "test-filler"
BEYOND_BYTES = 256 << 10
IMMUTABLE = {"slaveof", "replicaof"}
"""settings that change by themselves and that nobody can set in a cluster"""


class RedisNode:
    """One redis-server process. `client` is a plain connection pool to it."""

    def __init__(
        self, place: Place, name: str, port: int, identity: Identity = (None, None)
    ) -> None:
        self.name = name
        self.port = port
        self.process = Process(place, name, identity)
        self.settings: dict[str, str] = {}
        self._as_started: dict[Any, Any] = {}
        # No retry: a test wants to see what this server says now.
        self.client: redis.Redis = redis.Redis(
            host="127.0.0.1",
            port=port,
            socket_timeout=30,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self.process.pid is None:
            raise ServerTrouble(f"{self.name} does not run")
        return self.process.pid

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.address}>"

    # --- its life -------------------------------------------------------------------------

    def launch(self, program: debian.Found) -> None:
        """Start the process; `wait_until_up` waits for it."""
        folder = self.process.place.folder / self.name
        folder.mkdir(exist_ok=True)
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": "0",
            **self.settings,
        }
        file = folder / "redis.conf"
        file.write_text("".join(f'{key} "{value}"\n' for key, value in settings.items()))
        self.process.start(program, [file])

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        self.process.wait_for(self.answers, f"{self.name} answers")
        self._as_started = self.client.config_get("*")

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def alive(self) -> bool:
        """Whether its process is there; a paused one is."""
        return self.process.alive()

    def kill(self, sign: signal.Signals = signal.SIGKILL) -> None:
        """End it by a signal, and wait until it is gone. Without appendonly all it knew is gone."""
        if sign != signal.SIGKILL:
            self.resume()
        self.process.end(sign)
        self.client.connection_pool.disconnect()

    def restart(self) -> None:
        """Start it again on the same port, killing it first if it runs. It comes back empty
        without appendonly: let a replica take over first if its keys matter."""
        if self.alive():
            self.kill()
        self.launch(debian.need(debian.REDIS))
        self.wait_until_up()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self.process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send(signal.SIGCONT)

    # --- what it says ---------------------------------------------------------------------

    def ask(self, *words: str | bytes | int) -> Any:
        """Any command, with the answer as redis-py parses it."""
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    def ask_all(self, commands: Iterable[tuple[str | bytes | int, ...]]) -> list[Any]:
        """Many commands in one go, and their answers."""
        with self.client.pipeline(transaction=False) as pipe:
            for words in commands:
                pipe.execute_command(*words)  # type: ignore[no-untyped-call]
            return pipe.execute()

    def info(self, section: str = "everything") -> dict[str, Any]:
        found: dict[str, Any] = self.client.info(section)
        return found

    def commandstats(self) -> dict[str, dict[str, Any]]:
        """By command as Redis names it (`set`, `script|load`): calls, usec, rejected_calls ...

        Calls by scripts are in it; resetstat() starts from nothing.
        """
        found = self.info("commandstats")
        return {name.removeprefix("cmdstat_"): values for name, values in found.items()}

    def calls(self) -> int:
        """All commands that it has run since it started or since resetstat()."""
        return sum(int(values["calls"]) for values in self.commandstats().values())

    def resetstat(self) -> None:
        """Start command statistics and the slow log from nothing."""
        self.client.config_resetstat()
        self.client.slowlog_reset()

    def watch_slow(self, threshold_us: int) -> None:
        """Have the slow log note every command that runs as long (µs); -1 for none."""
        self.client.config_set("slowlog-log-slower-than", threshold_us)
        self.client.config_set("slowlog-max-len", 10_000)
        self.client.slowlog_reset()

    def slowlog(self) -> list[dict[str, Any]]:
        """What the slow log noted: duration (µs), command (bytes), start_time (s)."""
        found: list[dict[str, Any]] = self.client.slowlog_get(10_000)
        return found

    def cpu_s(self) -> float:
        """CPU seconds that its process has used, user and system."""
        found = self.info("cpu")
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])

    def used_memory_bytes(self) -> int:
        return int(self.info("memory")["used_memory"])

    def kept_bytes(self) -> int:
        """Memory in use but for the buffers of clients, replicas and other nodes."""
        memory = self.info("memory")
        buffers = ("mem_total_replication_buffers", "mem_clients_normal", "mem_cluster_links")
        return int(memory["used_memory"]) - sum(int(memory[name]) for name in buffers)

    def carried_bytes(self) -> int:
        """What clients sent to it and got from it so far; its replicas' part is not in it."""
        stats = self.info("stats")
        total, replicas = (
            sum(int(stats[f"{kind}_{way}put_bytes"]) for way in ("in", "out"))
            for kind in ("total_net", "total_net_repl")
        )
        return total - replicas

    def keys(self, pattern: str = "*") -> list[bytes]:
        """Its keys, sorted; a replica's too."""
        return sorted(self.client.scan_iter(match=pattern, count=10_000))

    # --- what can be done to it -----------------------------------------------------------

    def slots(self) -> set[int]:
        """The hash slots whose keys it takes."""
        return set(range(SLOTS))

    def fill_memory(self, room_bytes: int = 1 << 20, *, lower: bool = True) -> int:
        """Write values of our own until it refuses all writes; how many bytes that were.

        It lowers maxmemory to what is used and `room_bytes` first (`lower=False`: fills up to the
        maxmemory that is set). free_memory() undoes both.
        """
        before = self.used_memory_bytes()
        limit = before + room_bytes if lower else int(self.info("memory")["maxmemory"])
        if not limit:
            raise ServerTrouble(f"{self.name} has no maxmemory to fill up to")
        # Filled beyond the limit, for the buffers of clients count too, and come and go.
        self.client.config_set("maxmemory", limit + BEYOND_BYTES)
        number, slots = 0, self.slots()
        with contextlib.suppress(redis.exceptions.OutOfMemoryError):
            while True:
                number += 1
                key = f"{FILLER}:{number}"
                if key_slot(key.encode()) in slots:
                    self.client.set(key, b"x" * 16_000)
        self.client.config_set("maxmemory", limit)
        return self.used_memory_bytes() - before

    def free_memory(self) -> None:
        """Remove our values, set maxmemory to what it was at the start."""
        for key in self.keys(f"{FILLER}:*"):
            self.client.unlink(key)
        self.client.config_set("maxmemory", self.settings.get("maxmemory", "0"))

    def is_full(self) -> bool:
        """Whether it refuses writes for its memory now."""
        found = self.info("memory")
        return 0 < int(found["maxmemory"]) <= int(found["used_memory"])

    def cut_connections(self) -> int:
        """Close the connections of all clients but ours, as a network would; how many."""
        return int(self.ask("CLIENT KILL", "TYPE", "normal", "SKIPME", "yes"))

    def hold(self, seconds: float) -> None:
        """Be slow: answer nobody, us neither, for so long. The other nodes do not hold it for
        dead, for only clients wait."""
        self.ask("CLIENT PAUSE", round(seconds * 1_000), "ALL")

    def script_flush(self) -> None:
        """It forgets every script."""
        self.client.script_flush()

    def flush_all(self) -> None:
        """It forgets every key."""
        self.client.flushall()

    def forget(self) -> None:
        """As it was when it was started: settings, scripts, statistics, and keys if a master."""
        now = self.client.config_get("*")
        for name, value in self._as_started.items():
            if now.get(name) != value and name not in IMMUTABLE:
                self.client.config_set(name, value)
        self.script_flush()
        with contextlib.suppress(redis.exceptions.ReadOnlyError):
            self.flush_all()
            self.ask("FUNCTION FLUSH")
        self.resetstat()


def start_together(make: Callable[[list[int]], Sequence[RedisNode]], ports: int) -> None:
    """Start nodes on free ports; on others if somebody took one in between."""
    program = debian.need(debian.REDIS)
    for attempt in range(5):
        nodes = make(free_ports(ports))
        for node in nodes:
            node.launch(program)
        try:
            for node in nodes:
                node.wait_until_up()
        except ServerTrouble as trouble:
            for node in nodes:
                node.kill()
            if attempt == 4 or "in use" not in str(trouble):
                raise
        else:
            return
    raise AssertionError


class SingleRedis(RedisNode):
    """One server without cluster, in a folder of its own; a context manager."""

    def __init__(
        self, *, maxmemory: str = "0", appendonly: bool = False, stays: bool = False
    ) -> None:
        place = Place("afterglow-redis", stays=stays)
        settings = {"maxmemory": maxmemory, "appendonly": "yes" if appendonly else "no"}

        def make(ports: list[int]) -> list[RedisNode]:
            RedisNode.__init__(self, place, "redis", ports[0])
            self.settings = settings
            return [self]

        try:
            start_together(make, 1)
        except BaseException:
            place.close()
            raise

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def reset(self) -> None:
        """As at the start: running, no keys, no scripts, no limits but its own; cheap."""
        if not self.alive():
            self.restart()
        self.resume()
        until(self.answers, f"{self.name} answers")
        self.forget()

    def stop(self) -> None:
        """End it and remove its folder."""
        if self.alive():
            self.kill()
        self.client.close()
        self.process.place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
