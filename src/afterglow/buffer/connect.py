"""Connections of the control side: a single Redis or a cluster, by URL; trouble in one line.

Control keys are few and read once a second, so redis-py's own cluster client is good enough
here, and it follows failovers by itself. Payloads go through routing of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from afterglow.errors import MissingExtraError, SettingError, SpanBufferError

__all__ = ["Address", "Nodes", "address_of", "connect", "redis_errors", "saying_so"]

_CLUSTER: Final = {"redis+cluster": False, "rediss+cluster": True}
_SINGLE: Final = ("redis", "rediss", "unix")
_PORT: Final = 6379


class Address(NamedTuple):
    """Where a Redis is. `url` is without a password, for people; `hosts` are (name, port)."""

    url: str
    hosts: tuple[tuple[str, int], ...]
    is_cluster: bool
    is_tls: bool
    username: str | None
    password: str | None


def address_of(url: str) -> Address:
    """What a URL says. Raises SettingError with what a URL of ours looks like."""
    scheme, separator, rest = url.partition("://")
    if not separator or (scheme not in _CLUSTER and scheme not in _SINGLE):
        raise SettingError(
            f"{_shown(url)!r} is no URL of a span buffer: use redis://host:port for one server, "
            "redis+cluster://host:port,host:port for a cluster"
        )
    login, _, place = rest.rpartition("@")
    username, _, password = login.partition(":")
    named = place.partition("/")[0] if scheme != "unix" else ""
    hosts = tuple(_host_of(host, url) for host in named.split(",") if host)
    if scheme != "unix" and (not hosts or (len(hosts) > 1 and scheme not in _CLUSTER)):
        raise SettingError(
            f"{_shown(url)!r} names {len(hosts)} servers: redis:// takes one, "
            "redis+cluster:// one or more, as host:port,host:port"
        )
    return Address(
        _shown(url),
        hosts,
        scheme in _CLUSTER,
        _CLUSTER.get(scheme, scheme == "rediss"),
        unquote(username) or None,
        unquote(password) or None,
    )


def _host_of(text: str, url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None:
        raise SettingError(f"{text!r} in {_shown(url)!r} is not host:port, such as 127.0.0.1:6379")
    return host, _PORT if port is None else port


def _shown(url: str) -> str:
    """A URL as it may be printed: without its password."""
    scheme, _, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if not at:
        return url
    return urlunsplit((scheme, f"{login.partition(':')[0]}:***@{place}", "", "", ""))


class Nodes(NamedTuple):
    """A connected client, and its masters one by one.

    `client` routes single commands and scripts by their keys; it is safe in many threads.
    `masters()` gives (name, client of that node alone), as they are now.
    """

    address: Address
    client: Any
    masters: Callable[[], Sequence[tuple[str, Any]]]
    close: Callable[[], None]


def connect(url: str, timeout_s: float) -> Nodes:
    """Connect, and see that it is what the URL says.

    Raises SettingError for a URL that is none, MissingExtraError without redis-py, and
    SpanBufferError, in one line, for a server that is away, or that is (no) part of a cluster.
    """
    address = address_of(url)
    try:
        import redis
    except ImportError:
        raise MissingExtraError(f"a span buffer at {address.url}", "redis") from None
    with saying_so(address):
        if address.is_cluster:
            return _connect_cluster(redis, address, timeout_s)
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=_retry((redis.ConnectionError,)),
        )
        if int(client.info("cluster").get("cluster_enabled", 0)):
            client.close()
            place = url.partition("://")[2].partition("@")[2] or url.partition("://")[2]
            raise SpanBufferError(
                f"{address.url} is a node of a cluster: use redis+cluster://{place.split('/')[0]}"
            )
        _check_version(client.info("server"), address)
    name = ":".join(map(str, address.hosts[0])) if address.hosts else address.url
    return Nodes(address, client, lambda: [(name, client)], client.close)


def _retry(errors: tuple[type[Exception], ...]) -> Any:
    """Once again, for a connection that was cut while it was idle; redis-py's ten and more times
    would make a command hang for minutes where a server does."""
    backoff, retry = import_module("redis.backoff"), import_module("redis.retry")
    return retry.Retry(backoff.ConstantBackoff(0.05), 1, errors)


def _connect_cluster(redis: Any, address: Address, timeout_s: float) -> Nodes:
    cluster = import_module("redis.cluster")
    try:
        client = cluster.RedisCluster(
            startup_nodes=[cluster.ClusterNode(host, port) for host, port in address.hosts],
            username=address.username,
            password=address.password,
            ssl=address.is_tls,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=_retry((redis.ConnectionError, redis.TimeoutError)),
        )
    except redis.exceptions.RedisClusterException as error:
        if "cluster mode is not enabled" in str(error).lower():
            host, port = address.hosts[0]
            raise SpanBufferError(
                f"{address.url} is no cluster: use redis://{host}:{port}"
            ) from None
        raise

    def masters() -> list[tuple[str, Any]]:
        return [
            (node.name, client.get_redis_connection(node))
            for node in sorted(client.get_primaries(), key=lambda node: node.name)
        ]

    _check_version(masters()[0][1].info("server"), address)
    return Nodes(address, client, masters, client.close)


def _check_version(server: dict[str, Any], address: Address) -> None:
    version = str(server.get("redis_version", "0"))
    if int(version.partition(".")[0]) < 7:
        raise SpanBufferError(
            f"{address.url} is Redis {version}: the span buffer needs 7.0 or newer, for scripts "
            "that may run when memory is full"
        )


@contextmanager
def saying_so(address: Address) -> Iterator[None]:
    """What redis-py raises becomes SpanBufferError, in one line that names the server."""
    import redis

    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        raise SpanBufferError(
            f"{address.url} refuses us ({error}): give user and password in the URL, "
            "redis://user:password@host:port"
        ) from None
    except redis_errors() as error:
        raise SpanBufferError(
            f"cannot use the span buffer at {address.url}: {_reason(error)}; is it running, and "
            "is the URL right?"
        ) from None


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(cause).split()) or type(cause).__name__


def redis_errors() -> tuple[type[Exception], ...]:
    """What a command may raise when a server is away or refuses; redis-py is there by then."""
    from redis.exceptions import RedisClusterException, RedisError

    return (RedisError, RedisClusterException, OSError)
