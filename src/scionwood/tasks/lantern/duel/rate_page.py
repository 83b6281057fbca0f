"""The rating page: a small server on loopback, two answers side by side, and nothing in it that names a model."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scionwood.errors import UserError
from scionwood.tasks.lantern.duel.pairs import FIRST, SECOND, SKIP, TIE, first_is_left, order, pairs
from scionwood.tasks.lantern.duel.reading import RATINGS, Duel
from scionwood.tasks.lantern.duel.store import Rating, Store

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
FOLDER = Path(__file__).resolve().parent / "page"
HOST = "127.0.0.1"
OURSELVES = {"127.0.0.1", "localhost", "::1"}  # another name in Host is a page elsewhere that had its own name point here
MOST_BODY = 10_000
LONGEST_NAME = 40
POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class Refused(Exception):
    """A request that is not understood; its text goes to the page."""


class Desk:
    """What raters are shown and what becomes of their choices. Called by the threads of the server."""

    def __init__(self, duel: Duel, store: Store, now=time.monotonic):
        self.plan, self.store, self.now = pairs(duel), store, now
        self.by_id = {p.id: p for p in self.plan}
        self.rounds, self.lock, self.shown = duel.samples, threading.Lock(), {}

    def state(self, rater: str, again: str | None = None) -> dict[str, Any]:
        """What the page shows: the next pair (``again``: this one, after an undo), and how far the rater is. No name of any contestant."""
        mine, done = order(self.plan, rater), self.store.of(rater)
        left = [p for p in mine if p.id not in done]
        pair = self.by_id[again] if again in self.by_id and again not in done else left[0] if left else None
        rated = sum(p.id in done for p in mine)
        out: dict[str, Any] = {"rater": rater, "done": rated, "total": len(mine), "skipped": sum(done.get(p.id) == SKIP for p in mine)}
        out["rounds"] = {"of": self.rounds, "at": (pair.sample + 1) if pair else self.rounds}
        if pair is None:
            return out | {"pair": None}
        with self.lock:
            self.shown[rater, pair.id] = self.now()
        texts = pair.texts if first_is_left(pair, rater) else pair.texts[::-1]
        return out | {"pair": {"id": pair.id, "kind": pair.kind, "prompt": pair.prompt, "left": texts[0], "right": texts[1]}}

    def rate(self, rater: str, key: str, choice: str) -> dict[str, Any]:
        """Keep a choice (left, right, tie, skip) and show the next pair."""
        pair = self.by_id.get(key)
        if pair is None or pair.settled:
            raise Refused("this pair is not in the duel any more; reload the page")
        is_left = first_is_left(pair, rater)
        meant = {"left": FIRST if is_left else SECOND, "right": SECOND if is_left else FIRST, "tie": TIE, "skip": SKIP}.get(choice)
        if meant is None:
            raise Refused("the choice is left, right, tie or skip")
        with self.lock:
            since = self.shown.pop((rater, key), None)
        self.store.add(Rating(rater, key, meant, is_left), None if since is None else round(self.now() - since, 2))
        return self.state(rater)

    def undo(self, rater: str) -> dict[str, Any]:
        """Take the last choice back and show its pair again."""
        return self.state(rater, self.store.undo(rater))


def rater_of(value: Any) -> str:
    """A rater's name, trimmed. Raises Refused where it is none."""
    if not isinstance(value, str) or not (name := " ".join(value.split())) or len(name) > LONGEST_NAME or not name.isprintable():
        raise Refused(f"a name of 1 to {LONGEST_NAME} characters is needed")
    return name


class Handler(BaseHTTPRequestHandler):
    """Answers one connection. ``server`` is a ``Page``."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        """The page, its files, or the state of a rater."""
        url = urlsplit(self.path)
        if not self._ours():
            return
        if url.path in FILES:
            name, kind = FILES[url.path]
            return self._send(200, kind, (FOLDER / name).read_bytes())
        if url.path == "/state":
            return self._act(lambda: self.server.desk.state(rater_of(parse_qs(url.query).get("rater", [""])[0])))
        self._json(404, {"error": "not here"})

    def do_POST(self) -> None:  # noqa: N802
        """A choice, or an undo."""
        if not self._ours():
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BODY:
            self.close_connection = True
            return self._json(413, {"error": "a small JSON body is expected"})
        body = self.rfile.read(int(length))
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.headers.get("Host"):
            return self._json(403, {"error": "this page is for this machine alone"})
        if self.headers.get_content_type() != "application/json":
            return self._json(415, {"error": "JSON is expected"})
        try:
            asked = json.loads(body)
            if not isinstance(asked, dict):
                raise ValueError
        except (ValueError, RecursionError):
            return self._json(400, {"error": "not valid JSON"})
        path, desk = urlsplit(self.path).path, self.server.desk
        if path == "/rate":
            return self._act(lambda: desk.rate(rater_of(asked.get("rater")), str(asked.get("pair")), str(asked.get("choice"))))
        if path == "/undo":
            return self._act(lambda: desk.undo(rater_of(asked.get("rater"))))
        self._json(404, {"error": "not here"})

    def _ours(self) -> bool:
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname in OURSELVES:
            return True
        self.close_connection = True
        self._json(403, {"error": "this page is for this machine alone"})
        return False

    def _act(self, work) -> None:
        try:
            self._json(200, work())
        except Refused as e:
            self._json(422, {"error": str(e)})

    def _json(self, status: int, value: Any) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args) -> None:
        """No line for every request."""


class Page(ThreadingHTTPServer):
    """The server, running in threads of its own until ``close``."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, duel: Duel, port: int):
        self.store = Store(duel.folder / RATINGS)
        self.desk = Desk(duel, self.store)
        if not any(not p.settled for p in self.desk.plan):
            self.store.close()
            raise UserError(
                f"{duel.folder}: there is no pair of answers to rate; let 'scion lantern duel' finish first, with two contestants or more"
            )
        try:
            super().__init__((HOST, port), Handler)
        except OSError as e:
            self.store.close()
            raise UserError(f"--port {port}: cannot be used ({e.strerror}); name another, or 0 for any free one") from None

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def handle_error(self, request, client_address) -> None:
        """A reader that goes away in the middle is no news."""

    def close(self) -> None:
        """Stop serving, and close the ratings."""
        self.shutdown()
        self.server_close()
        self.store.close()


def serve(duel: Duel, port: int) -> Page:
    """Serve the rating page of a duel on loopback; port 0 picks a free one."""
    page = Page(duel, port)
    threading.Thread(target=page.serve_forever, name="page", daemon=True).start()
    return page
