"""A real HTTP server on this machine that answers chat completions as it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler"], None]


@dataclass
class Story:
    """The replies in order (the last one again and again), and what was asked."""

    replies: list[Reply]
    port: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


class Handler(BaseHTTPRequestHandler):
    """Notes the request and plays the next reply."""

    story: Story

    def do_POST(self) -> None:
        story = self.story
        reply = story.replies[min(len(story.bodies), len(story.replies) - 1)]
        story.times.append(time.monotonic())
        story.paths.append(self.path)
        story.headers.append({name.lower(): value for name, value in self.headers.items()})
        story.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has hung up, as it should
            reply(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def send(self, status: int, body: str, kind: str = "application/json", **headers: str) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


def says(text: Any) -> Reply:
    """A completion with this content."""
    return raw(200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}))


def raw(status: int, body: str, kind: str = "application/json", **headers: str) -> Reply:
    return lambda handler: handler.send(status, body, kind, **headers)


def hangs(handler: Handler) -> None:
    time.sleep(1.2)


def trickles(handler: Handler) -> None:
    """One byte at a time: never silent for long, never done."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def floods(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(64):
        handler.wfile.write(b"x" * 2**17)


@contextmanager
def serving(*replies: Reply) -> Iterator[Story]:
    """A server that plays the replies."""
    story = Story(list(replies))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"story": story}))
    story.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield story
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
