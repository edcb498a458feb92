"""A Hugging Face Hub in miniature: serves local folders as dataset repositories, at any revision, over HTTP."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _handler(root: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _json(self, value: object) -> None:
            self._send(200, json.dumps(value).encode(), Content_Type="application/json")

        def _missing(self, code: str) -> None:
            self._send(404, b"{}", X_Error_Code=code)

        def _entry(self, repo: Path, path: str) -> dict[str, object]:
            place = repo / path
            if place.is_dir():
                return {"type": "directory", "path": path, "oid": "d" * 40, "size": 0}
            return {"type": "file", "path": path, "oid": "f" * 40, "size": place.stat().st_size}

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            match = re.match(r"/api/datasets/([^/]+/[^/]+)/paths-info/", self.path)
            if not match:
                return self._missing("EntryNotFound")
            if body.startswith("{"):
                paths = json.loads(body)["paths"]
            else:
                paths = [unquote(pair.split("=", 1)[1]) for pair in body.split("&") if pair.startswith("paths=")]
            repo = root / match[1]
            self._json([self._entry(repo, path) for path in paths if (repo / path).exists()])

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if match := re.match(r"/api/datasets/([^/]+/[^/]+)/tree/(?:refs/convert/)?[^/]+/?(.*)$", path):
                folder = root / match[1] / match[2]
                if not folder.is_dir():
                    return self._missing("EntryNotFound")
                found = sorted(p.relative_to(root / match[1]).as_posix() for p in folder.rglob("*"))
                return self._json([self._entry(root / match[1], p) for p in found])
            if match := re.match(r"/api/datasets/([^/]+/[^/]+?)(?:/revision/(.*))?$", path):
                if not (root / match[1]).is_dir():
                    return self._missing("RepoNotFound")
                if match[2] == "nowhere":
                    return self._missing("RevisionNotFound")
                return self._json({"id": match[1], "sha": COMMIT, "siblings": [], "private": False, "tags": []})
            if match := re.match(r"/datasets/([^/]+/[^/]+)/resolve/(?:refs/convert/)?[^/]+/(.*)$", path):
                place = root / match[1] / match[2]
                if not place.is_file():
                    return self._missing("EntryNotFound")
                body = place.read_bytes()
                tag = f'"{hashlib.sha1(body).hexdigest()}"'
                return self._send(200, body, ETag=tag, X_Repo_Commit=COMMIT, Accept_Ranges="none")
            return self._missing("EntryNotFound")

    return Handler


@contextmanager
def fake_hub(root: Path) -> Iterator[str]:
    """Serve root/owner/name/... ; yields the value for HF_ENDPOINT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(root))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
