"""The page of a session: a small server on loopback with server-sent events, and nothing from anywhere else."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from scionwood.errors import UserError
from scionwood.tasks.lumen.live.feed import Feed

FILES = {"/": ("index.html", "text/html; charset=utf-8"), "/page.css": ("page.css", "text/css; charset=utf-8"),
         "/page.js": ("page.js", "text/javascript; charset=utf-8")}
FOLDER = Path(__file__).resolve().parent / "page"
HOST = "127.0.0.1"
OURSELVES = {"127.0.0.1", "localhost", "::1"}  # another name in Host is a page elsewhere that had its own name point here
MOST_STREAMS = 16
ALIVE_S = 15.0  # a comment goes over a quiet stream so often
POLICY = ("default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
          "frame-ancestors 'none'; base-uri 'none'; form-action 'none'")


class Handler(BaseHTTPRequestHandler):
    """Answers one connection. ``server`` is a ``Page``."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        """The page, its files, the whole state, the drawing, or the stream."""
        url = urlsplit(self.path)
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in OURSELVES:
            return self._send(403, "text/plain; charset=utf-8", b"this page is for this machine alone\n")
        if url.path in FILES:
            name, kind = FILES[url.path]
            return self._send(200, kind, (FOLDER / name).read_bytes())
        if url.path == "/state.json":
            return self._send(200, "application/json", json.dumps(self.server.feed.whole()).encode())
        if url.path == "/drawing.png":
            image = self.server.feed.drawing()
            return self._send(200, "image/png", image) if image else self._send(404, "text/plain; charset=utf-8", b"no drawing yet\n")
        if url.path == "/events":
            return self._stream(url.query)
        self._send(404, "text/plain; charset=utf-8", b"not here\n")

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
                            ("Content-Security-Policy", POLICY), ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, query: str) -> None:
        """Ticks as they come. A reader that reconnects says the number of its last one."""
        if not self.server.streams.acquire(blocking=False):
            return self._send(503, "text/plain; charset=utf-8", b"too many pages are watching\n")
        try:
            asked = self.headers.get("Last-Event-ID") or parse_qs(query).get("after", ["0"])[0]
            last = int(asked) if asked.isdecimal() else 0
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            while (ticks := self.server.feed.after(last, ALIVE_S)) is not None:
                text = "".join(f"id: {t['n']}\ndata: {json.dumps(t)}\n\n" for t in ticks) or ": still here\n\n"
                self.wfile.write(text.encode())
                last = ticks[-1]["n"] if ticks else last
        except (ConnectionError, TimeoutError):
            pass  # the page was closed
        finally:
            self.server.streams.release()

    def log_message(self, format: str, *args) -> None:
        """No line for every request."""


class Page(ThreadingHTTPServer):
    """The server, running in threads of its own until ``close``."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, feed: Feed, port: int):
        try:
            super().__init__((HOST, port), Handler)
        except OSError as e:
            raise UserError(f"--port {port}: cannot be used ({e.strerror}); name another, or 0 for any free one") from None
        self.feed, self.streams = feed, threading.BoundedSemaphore(MOST_STREAMS)

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def handle_error(self, request, client_address) -> None:
        """A reader that goes away in the middle is no news."""

    def close(self) -> None:
        """Stop serving."""
        self.feed.close()
        self.shutdown()
        self.server_close()


def serve(feed: Feed, port: int) -> Page:
    """Serve a feed on loopback; port 0 picks a free one."""
    page = Page(feed, port)
    threading.Thread(target=page.serve_forever, name="page", daemon=True).start()
    return page
