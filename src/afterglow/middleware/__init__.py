"""A span for each request, for web programs without OpenTelemetry.

    app = afterglow.middleware.AsgiMiddleware(app)      # starlette, FastAPI, Django, ...
    app = afterglow.middleware.WsgiMiddleware(app)      # Flask, Django, bottle, ...

The names are OpenTelemetry's semantic conventions for HTTP. Query strings and headers are not
recorded unless asked for. docs/middleware.md has it all.
"""

from __future__ import annotations

from afterglow.middleware.asgi import AsgiMiddleware
from afterglow.middleware.wsgi import WsgiMiddleware

__all__ = ["AsgiMiddleware", "WsgiMiddleware"]
