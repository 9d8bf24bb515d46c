"""OTLP/HTTP as an ASGI program: POST /v1/traces, and what others mount beside it.

It lives in one loop; bodies are unpacked, decoded and added in a pool of threads, so that the loop
goes on meanwhile. docs/otlp-in.md lists each answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from afterglow.config.ingest import IngestConfig
from afterglow.errors import MalformedOtlpError, OtlpLimitError
from afterglow.ingest.access import Access, Denial
from afterglow.ingest.http_answers import JSON, PROTOBUF, Answer, failure, retry_header
from afterglow.ingest.http_body import BodyReader, Gone, Receive, Waiting
from afterglow.ingest.http_protocol import CROWDED
from afterglow.ingest.intake import Intake, Outcome
from afterglow.model.clean import safe_str
from afterglow.otlp.answer import export_answer
from afterglow.otlp.body import ENCODINGS, decompress

__all__ = ["HttpApp", "Route", "Routes"]

#: Made in a thread at each request: status, content type, body.
Route = Callable[[], tuple[int, str, bytes]]
Routes = Mapping[str, Route]

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TRACES: Final = "/v1/traces"
_OTHER_SIGNALS: Final = {"/v1/metrics": "metrics", "/v1/logs": "logs"}
#: Whoever restarts or balances asks these, and has no token.
_OPEN_ROUTES: Final = frozenset({"/healthz", "/readyz"})
_CLOSE: Final = ("connection", "close")

_GONE: Final[dict[Gone, tuple[int, str, Outcome]]] = {
    "too_large": (413, "the body is larger than {max_body_bytes:,} bytes", "too_large"),
    "crowded": (429, "too many bodies wait here: send it again later", "refused"),
    "timeout": (408, "the body did not come within {body_timeout_s:g} s", "timeout"),
}
_DENIED: Final = {"unauthenticated": 401, "forbidden": 403, "bad_project": 400}


class _Request:
    """The headers that we look at."""

    def __init__(self, scope: Scope) -> None:
        self.path: str = scope["path"]
        self.method: str = scope["method"]
        self.is_crowded = CROWDED in scope
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        media = (self.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        self.content_type = media.decode("latin-1")
        self.encoding = (self.header(b"content-encoding") or b"identity").decode("latin-1")

    def header(self, name: bytes) -> bytes | None:
        """All values of a header as one; None if there is none."""
        values = [value for key, value in self._headers if key == name]
        return b", ".join(values) if values else None

    def declared_bytes(self) -> int | None:
        """What content-length says; the parser has checked that it is a number."""
        given = self.header(b"content-length")
        return int(given) if given is not None and given.isdigit() else None


class HttpApp:
    """Answers requests. `pool` is for bodies, `routes_pool` for what is mounted: a busy intake
    must not make us look dead. `is_private`: only this machine reaches us."""

    def __init__(
        self,
        intake: Intake,
        access: Access,
        config: IngestConfig,
        *,
        pool: ThreadPoolExecutor,
        routes_pool: ThreadPoolExecutor,
        routes: Routes | None = None,
        is_private: bool = True,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._intake = intake
        self._access = access
        self._config = config
        self._pool = pool
        self._routes_pool = routes_pool
        self._routes = routes or {}
        self._is_private = is_private
        self._report = report
        self._waiting = Waiting(config.max_waiting_bytes)
        #: Why nothing new is taken; set by the face when it stops.
        self.closed: str | None = None
        #: The tasks of requests for `/v1/traces` that were begun and not answered yet.
        self.in_hand: set[asyncio.Task[Any]] = set()

    def give_up(self) -> None:
        """Answer what is in hand with 503, in the loop: there is no time left."""
        for task in self.in_hand:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = _Request(scope)
        try:
            answer = await self._answer(request, receive)
        except asyncio.CancelledError:  # stopping, and its time is over
            answer = self._not_now(request, "the collector is stopping")
        except Exception as error:  # noqa: BLE001  a fault of ours must not look like an empty answer
            self._report(f"OTLP/HTTP failed: {type(error).__name__}: {safe_str(error)}")
            self._intake.count("http", "failed")
            answer = self._failed(request, 500, "a fault of the collector; its log says more")
        if answer is None:
            return
        headers = answer.raw_headers()
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, request: _Request, receive: Receive) -> Answer | None:
        if request.path == TRACES:
            return await self._traces(request, receive)
        route = self._routes.get(request.path)
        if route is not None:
            return await self._mounted(request, route)
        signal = _OTHER_SIGNALS.get(request.path)
        why = f"only {TRACES} takes what is sent"
        if signal is not None:
            why = f"Afterglow takes no {signal}: switch them off where they are sent"
        return self._failed(request, 404, why)

    # --- what is mounted

    async def _mounted(self, request: _Request, route: Route) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return self._failed(request, 405, "this is to be read", ("allow", "GET, HEAD"))
        if request.path not in _OPEN_ROUTES and not self._is_private:
            known = self._access.knows(request.header(b"authorization"))
            if isinstance(known, Denial):
                return self._denied(request, known)
        loop = asyncio.get_running_loop()
        status, content_type, body = await loop.run_in_executor(self._routes_pool, route)
        return Answer(status, body, content_type)

    # --- spans

    async def _traces(self, request: _Request, receive: Receive) -> Answer | None:
        project = self._project(request)
        if isinstance(project, Answer):
            return project
        task = asyncio.current_task()
        assert task is not None
        self.in_hand.add(task)
        reader = BodyReader(
            self._waiting,
            max_bytes=self._intake.limits.max_body_bytes,
            timeout_s=self._config.body_timeout_s,
        )
        try:
            body = await self._read(reader, receive)
            if isinstance(body, str):
                return self._gone(request, body)
            return await self._run(request, body, project)
        finally:
            reader.close()
            self.in_hand.discard(task)

    async def _run(self, request: _Request, body: bytes, project: str) -> Answer:
        """Hand a body to a thread, which sees it through, whatever becomes of us meanwhile."""
        job = self._pool.submit(self._take, request, body, project)
        try:
            return await asyncio.shield(asyncio.wrap_future(job))
        except asyncio.CancelledError:
            if job.cancel():  # else it counts what becomes of it itself
                self._intake.count("http", "refused")
            raise

    async def _read(self, reader: BodyReader, receive: Receive) -> bytes | Gone:
        try:
            return await reader.read(receive)
        except asyncio.CancelledError:
            self._intake.count("http", "refused")
            raise

    def _project(self, request: _Request) -> str | Answer:
        """Whose spans these are, or why the body is not even read."""
        if request.method != "POST":
            return self._failed(request, 405, "send spans by POST", ("allow", "POST"))
        project = self._access.project_of(
            request.header(b"authorization"), request.header(b"x-afterglow-project")
        )
        if isinstance(project, Denial):
            return self._denied(request, project)
        return self._refused_unread(request) or project

    def _refused_unread(self, request: _Request) -> Answer | None:
        if request.content_type not in (PROTOBUF, JSON):
            self._intake.count("http", "malformed")
            return self._failed(
                request, 415, f"send {PROTOBUF} or {JSON} as content-type", ("accept", PROTOBUF)
            )
        if request.encoding.strip().lower() not in ENCODINGS:
            self._intake.count("http", "malformed")
            listed = ", ".join(ENCODINGS)
            return self._failed(
                request,
                415,
                f"send one of {listed} as content-encoding",
                ("accept-encoding", listed),
            )
        closed = self.closed or self._intake.closed
        if closed is not None or request.is_crowded:
            self._intake.count("http", "refused")
            return self._not_now(request, closed or "too many connections are open")
        length = request.declared_bytes()
        if length is None and request.header(b"transfer-encoding") is None:
            self._intake.count("http", "malformed")
            return self._failed(request, 411, "say content-length, or send the body in chunks")
        if length is not None and length > self._intake.limits.max_body_bytes:
            return self._gone(request, "too_large")
        return None

    def _take(self, request: _Request, body: bytes, project: str) -> Answer:
        """The part in a thread: unpack, decode, add, and say what became of it."""
        try:
            unpacked = self._unpacked(body, request.encoding)
            json = request.content_type == JSON
            taken = self._intake.take(
                unpacked, json=json, project=project, face="http", received_bytes=len(body)
            )
        except OtlpLimitError as error:
            return self._failed(request, 413, str(error))
        except MalformedOtlpError as error:
            return self._failed(request, 400, str(error))
        if taken.refused:
            after = retry_header(taken.retry_after_s)
            return self._failed(request, 503, taken.reason or "not now", after)
        answer = export_answer(taken.rejected, taken.rejected_why, json=json)
        return Answer(200, answer, request.content_type)

    def _unpacked(self, body: bytes, encoding: str) -> bytes:
        try:
            return decompress(
                body, encoding.strip().lower(), self._intake.limits.max_decompressed_bytes
            )
        except OtlpLimitError:
            self._intake.count("http", "too_large")
            raise
        except MalformedOtlpError:
            self._intake.count("http", "malformed")
            raise

    # --- refusals

    def _gone(self, request: _Request, why: Gone) -> Answer | None:
        if why == "left":
            self._intake.count("http", "timeout")
            return None
        status, text, outcome = _GONE[why]
        self._intake.count("http", outcome)
        message = text.format(
            max_body_bytes=self._intake.limits.max_body_bytes,
            body_timeout_s=self._config.body_timeout_s,
        )
        if status == 429:
            return self._failed(request, status, message, retry_header(1.0))
        # What comes of a late body is no next request.
        return self._failed(request, status, message, *([_CLOSE] if status == 408 else []))

    def _denied(self, request: _Request, denial: Denial) -> Answer:
        status = _DENIED[denial.kind]
        self._intake.count("http", "malformed" if status == 400 else "unauthorized")
        extra = [("www-authenticate", "Bearer")] if status == 401 else []
        return self._failed(request, status, denial.message, *extra)

    def _not_now(self, request: _Request, why: str) -> Answer:
        return self._failed(request, 503, f"{why}: send it again", retry_header(1.0), _CLOSE)

    def _failed(
        self, request: _Request, status: int, message: str, *headers: tuple[str, str]
    ) -> Answer:
        return failure(status, message, request.content_type, headers=headers)
