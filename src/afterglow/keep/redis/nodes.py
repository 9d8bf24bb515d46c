"""The Redis servers behind a URL, one or a cluster: which of them has a bucket, and asking it.

redis://host:port/0 (or rediss://, unix://) is one server; redis+cluster://host:port,host:port
(or rediss+cluster://) names some nodes of a cluster, which tell of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha1
from importlib import resources
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from afterglow.errors import SettingError

__all__ = ["Nodes", "Script"]

_FORMS = "redis://host:port/0, or redis+cluster://host:port,host:port"
#: What a node answers instead of doing it: its answers are no errors of the server's.
_ELSEWHERE = (redis.exceptions.MovedError, redis.exceptions.AskError)


class Script:
    """A Lua script of this room; nodes that do not know it are told."""

    def __init__(self, name: str) -> None:
        folder = resources.files("afterglow.keep.redis").joinpath("lua")
        self.text = folder.joinpath(f"{name}.lua").read_text(encoding="utf-8")
        self.sha = sha1(self.text.encode()).hexdigest()


class Nodes:
    """Raises SettingError for a URL that is none; connects when first asked.

    `connected(run_id)` is told of each connection that is made: the address, and the server's
    run id, which another start or another server has not.
    """

    def __init__(
        self, url: str, *, timeout_s: float, connected: Callable[[str, str], None]
    ) -> None:
        self._connected = connected
        self._options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            # Whoever asks has PostgreSQL to go to; and wants to know.
            "retry": Retry(NoBackoff(), 0),
            "redis_connect_func": self._on_connect,
        }
        self._cluster: RedisCluster | None = None
        self._single: redis.Redis | None = None
        self._startup: list[ClusterNode] = []
        try:
            self._read(url)
        except ValueError as error:
            raise SettingError(
                f"the Redis URL cannot be read ({error}): it takes {_FORMS}"
            ) from None

    def _read(self, url: str) -> None:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2]
        if parts.scheme in ("redis+cluster", "rediss+cluster"):
            for host in hosts.split(","):
                one = urlsplit(f"//{host}")
                if not one.hostname:
                    raise ValueError("it names no host")
                node = ClusterNode(one.hostname, one.port or 6379)  # type: ignore[no-untyped-call]
                self._startup.append(node)
            self._options["ssl"] = parts.scheme == "rediss+cluster"
            if parts.username:
                self._options["username"] = unquote(parts.username)
            if parts.password:
                self._options["password"] = unquote(parts.password)
            self.place = hosts
        elif parts.scheme in ("redis", "rediss", "unix"):
            options = {k: v for k, v in self._options.items() if k != "redis_connect_func"}
            self._single = redis.Redis.from_url(url, **options)
            self._single.connection_pool.connection_kwargs["redis_connect_func"] = self._on_connect
            self.place = hosts or parts.path
        else:
            raise ValueError(f"{parts.scheme or 'no'} scheme")

    def _on_connect(self, connection: Any) -> None:
        connection.on_connect()
        connection.send_command("INFO", "server")
        answer = connection.read_response()
        text = answer.decode() if isinstance(answer, bytes) else str(answer)
        lines = text.splitlines()
        run_id = next((line[7:] for line in lines if line.startswith("run_id:")), "")
        host, port = getattr(connection, "host", ""), getattr(connection, "port", "")
        self._connected(f"{host}:{port}", run_id)

    def ping(self) -> None:
        """Raises redis.RedisError or OSError unless every node with slots answers."""
        if self._single is not None:
            self._single.ping()
            return
        cluster = self._known()
        for node in cluster.get_primaries():  # type: ignore[no-untyped-call]
            cluster.get_redis_connection(node).ping()

    def by_node(self, keys: Sequence[bytes]) -> Iterator[tuple[redis.Redis, list[int]]]:
        """Which node has which of these keys (by place)."""
        if self._single is not None:
            yield self._single, list(range(len(keys)))
            return
        cluster = self._known()
        nodes: dict[str, tuple[ClusterNode, list[int]]] = {}
        for place, key in enumerate(keys):
            node = cluster.get_node_from_key(key)  # type: ignore[no-untyped-call]
            nodes.setdefault(node.name, (node, []))[1].append(place)
        for node, places in nodes.values():
            yield cluster.get_redis_connection(node), places

    def ask(self, commands: Sequence[tuple[bytes, tuple[Any, ...]]]) -> list[Any]:
        """Answers to commands, each with a key of its slot; nodes are asked in one go each.

        An answer may be a redis.ResponseError. Raises redis.RedisError or OSError for a node that
        does not answer.
        """
        answers: list[Any] = [None] * len(commands)
        elsewhere = False
        for client, places in self.by_node([key for key, _ in commands]):
            with client.pipeline(transaction=False) as pipe:
                for place in places:
                    pipe.execute_command(*commands[place][1])  # type: ignore[no-untyped-call]
                for place, answer in zip(places, pipe.execute(raise_on_error=False), strict=True):
                    answers[place] = answer
                    elsewhere = elsewhere or isinstance(answer, _ELSEWHERE)
        if elsewhere and self._cluster is not None:
            # Slots have moved: learn where to, for the next time.
            self._cluster.nodes_manager.initialize()
        return answers

    def run(
        self, script: Script, calls: Sequence[tuple[Sequence[bytes], Sequence[Any]]]
    ) -> list[Any]:
        """The answers of a script to calls, each of keys in one slot, and arguments."""
        answers = self._evaluate("EVALSHA", script.sha, calls)
        unknown = [
            place
            for place, answer in enumerate(answers)
            if isinstance(answer, redis.exceptions.NoScriptError)
        ]
        if unknown:
            again = self._evaluate("EVAL", script.text, [calls[place] for place in unknown])
            for place, answer in zip(unknown, again, strict=True):
                answers[place] = answer
        return answers

    def _evaluate(
        self, command: str, script: str, calls: Iterable[tuple[Sequence[bytes], Sequence[Any]]]
    ) -> list[Any]:
        commands = [
            (keys[0], (command, script, len(keys), *keys, *arguments)) for keys, arguments in calls
        ]
        return self.ask(commands)

    def _known(self) -> RedisCluster:
        if self._cluster is None:
            self._cluster = RedisCluster(startup_nodes=self._startup, **self._options)
        return self._cluster

    def relearn(self) -> None:
        """After trouble: learn anew which nodes there are, when next asked."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()

    def close(self) -> None:
        self.relearn()
        if self._single is not None:
            self._single.close()
