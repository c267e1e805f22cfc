"""The page as a web application: nothing from elsewhere is loaded, and nothing beside the drafts is given away."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from refine.errors import InputError
from refine.ui.desk import Desk
from refine.ui.page import CSS, THEME, build

LARGEST_UPLOAD = 20 * 2**20  # bytes
HEADERS = {
    b"content-security-policy": b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


class Guarded:
    """An application whose answers forbid the browser to load anything from elsewhere, and which takes no body beyond the limit."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS.items()]}
            await send(message)

        declared = dict(scope.get("headers", ())).get(b"content-length", b"0")
        if scope["type"] == "http" and declared.isdigit() and int(declared) > LARGEST_UPLOAD + 2**16:  # a form around the file
            while (await receive()).get("more_body"):  # read to the end: a client that is still sending would not hear the answer
                pass
            await sending({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"9")]})
            await send({"type": "http.response.body", "body": b"too large"})
            return
        await self.app(scope, receive, sending)


def application(desk: Desk, host: str) -> FastAPI:
    """The page under its limits. On a loopback address only requests for it are answered, so that no other site can reach it by name."""
    app = FastAPI(openapi_url=None)
    if is_loopback(host):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", host])
    app.add_middleware(Guarded)
    return gr.mount_gradio_app(
        app,
        build(desk),
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[str(desk.folder.absolute())],
        show_error=False,
        max_file_size=LARGEST_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        theme=THEME,
        css=CSS,
    )


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 is any free one. Raises InputError where it cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(f"Cannot listen on {host} port {port}: {error}. Choose another --port (0: any free one) or --host.") from error


def serve(desk: Desk, host: str, bound: socket.socket) -> None:
    """Answer until interrupted."""
    server = uvicorn.Server(uvicorn.Config(application(desk, host), log_level="warning"))
    server.run(sockets=[bound])
