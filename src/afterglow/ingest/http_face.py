"""OTLP/HTTP as a part of a service: a thread with a loop of its own, started and stopped."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from afterglow.config.ingest import IngestConfig
from afterglow.errors import MissingExtraError, SettingError
from afterglow.ingest.access import Access, Address, address_of, check_open
from afterglow.ingest.intake import Intake
from afterglow.ingest.listening import BACKLOG, listening
from afterglow.ingest.tls import tls_context

try:
    import httptools  # noqa: F401
    import uvicorn

    from afterglow.ingest.http_app import HttpApp, Routes
    from afterglow.ingest.http_protocol import Limits, guarded
except ImportError as _error:
    if isinstance(_error, MissingExtraError):
        raise
    raise MissingExtraError("OTLP over HTTP", "server") from None

__all__ = ["HttpFace"]

_TICK_S: Final = 0.02
#: What uvicorn gets to close connections that nothing is done on.
_CLOSING_S: Final = 1


class HttpFace:
    """Listens from `start` to `stop`. Signals are the caller's: it installs no handler.

    Raises SettingError where `http` is off or no address, is open to everybody, or its TLS files
    cannot be used; `start` raises it where the address cannot be listened at.
    """

    def __init__(
        self,
        intake: Intake,
        access: Access,
        config: IngestConfig,
        *,
        routes: Routes | None = None,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        address = address_of("http", config.http)
        if address is None:
            raise SettingError("http=off: there is nothing to listen at")
        check_open("http", address, config, access)
        self._address = address
        self._pool = ThreadPoolExecutor(config.threads, "afterglow-http")
        self._routes_pool = ThreadPoolExecutor(2, "afterglow-http-routes")
        self._app = HttpApp(
            intake,
            access,
            config,
            pool=self._pool,
            routes_pool=self._routes_pool,
            routes=routes,
            is_private=address.is_loopback,
            report=report,
        )
        self._server = _Server(self._app, config)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> Address:
        """Where it listens; the port that was found, once it was started with 0."""
        return self._address

    def start(self) -> None:
        """Listen. Returns when requests are answered."""
        self._socket = listening(self._address)
        self._address = Address(self._address.host, self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._run, name="afterglow-http-loop", daemon=True)
        self._thread.start()
        self._server.ready.wait()
        if self._server.problem is not None:
            self._thread.join()
            raise self._server.problem

    def stop(self, grace_s: float) -> None:
        """Refuse what is new (503), let what is in hand finish within `grace_s`, then close."""
        self._app.closed = "the collector is stopping"
        thread, self._thread = self._thread, None
        if thread is not None:
            self._server.finish(grace_s)
            thread.join()
        for pool in (self._pool, self._routes_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        assert self._socket is not None
        try:
            with asyncio.Runner() as runner:
                runner.run(self._server.serve(sockets=[self._socket]))
        except BaseException as error:  # noqa: BLE001  start() raises it in its own thread
            self._server.problem = error
        finally:
            self._socket.close()
            self._server.ready.set()


class _Server(uvicorn.Server):
    """uvicorn's server, told from outside when to stop and for how long to wait."""

    def __init__(self, app: HttpApp, config: IngestConfig) -> None:
        limits = Limits(
            max_connections=config.max_connections,
            max_header_bytes=config.max_header_bytes,
            header_timeout_s=config.header_timeout_s,
        )
        self._protocol: type[Any] = guarded(limits)
        settings: dict[str, Any] = {"timeout_keep_alive": config.keep_alive_s}
        super().__init__(
            uvicorn.Config(
                app,
                http=self._protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_CLOSING_S,
                backlog=BACKLOG,
                **settings,
            )
        )
        self._app = app
        self._handshake_s = config.header_timeout_s
        self._tls = tls_context(config)
        self._grace_s = 0.0
        self.ready = threading.Event()
        self.problem: BaseException | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """In place of uvicorn's, which waits a minute for a handshake."""
        loop = asyncio.get_running_loop()
        handshake = None if self._tls is None else self._handshake_s

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = self._protocol(
                config=self.config, server_state=self.server_state, app_state={}, _loop=loop
            )
            return made

        self.servers = [
            await loop.create_server(
                protocol,
                sock=sock,
                backlog=BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=handshake,
            )
            for sock in sockets or ()
        ]
        self.started = True
        self.ready.set()

    def finish(self, grace_s: float) -> None:
        """From another thread."""
        self._grace_s = grace_s
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            async with asyncio.timeout(self._grace_s):
                while self._app.in_hand:
                    await asyncio.sleep(_TICK_S)
        except TimeoutError:
            self._app.give_up()
            await asyncio.sleep(_TICK_S)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(_TICK_S)
