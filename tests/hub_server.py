"""A small hub on loopback: it takes what huggingface_hub uploads and keeps it. Weights go the way of small files."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """``files`` is what was committed; ``status`` other than 200 is answered to the commit."""

    def __init__(self, status: int = 200):
        self.files: dict[str, bytes] = {}
        self.created: list[dict] = []
        self.status = status
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, value, status=200):
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.answer({"id": "someone/tiny", "sha": "0" * 40, "siblings": []})

            def do_POST(self):
                chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
                sent = self.chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/api/repos/create":
                    hub.created.append(json.loads(sent))
                    return self.answer({"url": f"{hub.url}/someone/{hub.created[-1]['name']}", "name": hub.created[-1]["name"]})
                if self.path == "/api/validate-yaml":
                    return self.answer({"errors": [], "warnings": []})
                if "/preupload/" in self.path:
                    return self.answer({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                                                  for f in json.loads(sent)["files"]]})
                if "/commit/" in self.path:
                    if hub.status != 200:
                        return self.answer({"error": "not yours"}, hub.status)
                    for line in sent.decode().splitlines():
                        entry = json.loads(line)
                        if entry["key"] == "file":
                            hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                    return self.answer({"success": True, "commitUrl": f"{hub.url}/someone/tiny/commit/{'0' * 40}", "commitOid": "0" * 40,
                                        "hookOutput": ""})
                return self.answer({"error": f"unknown {self.path}"}, 404)

            def chunks(self) -> bytes:
                out = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    out += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return out

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
