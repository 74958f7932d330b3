"""A hub of models on loopback: as much of the Hugging Face Hub as fetching a file needs, and ways for it to fail.

It serves ``plain`` files too, as any web server does: without saying what they are.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves ``files`` (by ``repo/path``) and notes what was asked for, by method, path and range."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.files: dict[str, bytes] = {}
        self.plain: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.breaks_off_after: int | None = None
        self.lies_about: str | None = None
        self.answers: int | None = None
        self.sends: bytes | None = None
        self.redirects = False
        self.ignores_ranges = False
        self.hangs = threading.Event()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def gets(self) -> list[tuple[str, str]]:
        """Return the downloads that were asked for: file name and range."""
        return [(path.rpartition("/")[2], span) for method, path, span in self.asked if method == "GET"]


class _Request(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return

    def do_HEAD(self) -> None:
        self._answer(whole=False)

    def do_GET(self) -> None:
        self._answer(whole=True)

    def _answer(self, *, whole: bool) -> None:
        hub, span = self.server, self.headers.get("Range", "")
        hub.asked.append((self.command, self.path, span))
        if "/resolve/" not in self.path:
            self._answer_plainly(span, whole=whole)
            return
        owner, name, _resolve, _revision, *path = self.path.removeprefix("/cdn").lstrip("/").split("/")
        key = f"{owner}/{name}/{'/'.join(path)}"
        if hub.answers is not None or key not in hub.files:
            self._refuse(hub.answers or 404)
            return
        content = hub.files[key]
        told = b"another" + content if hub.lies_about == path[-1] else content
        large = path[-1].endswith((".bin", ".onnx"))
        if hub.redirects and large and not self.path.startswith("/cdn/"):
            self._redirect(content)
            return
        if hub.sends is not None and large and whole:
            content = hub.sends
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and not hub.ignores_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_etag(told, large=large)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if whole:
            self._send(content[start:])

    def _answer_plainly(self, span: str, *, whole: bool) -> None:
        content = self.server.plain.get(unquote(self.path).strip("/"))
        if content is None:
            self._refuse(404)
            return
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if whole:
            self._send(content[start:])

    def _redirect(self, content: bytes) -> None:
        """Send whoever asks to where large files are kept, as the hub does, saying here what they are."""
        self.send_response(302)
        self.send_header("Location", f"{self.server.url}/cdn{self.path}")
        self.send_header("X-Linked-ETag", f'"{_etag(content, large=True)}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes) -> None:
        hub = self.server
        if hub.breaks_off_after is not None and len(content) > hub.breaks_off_after:
            self.wfile.write(content[: hub.breaks_off_after])
            self.wfile.flush()
            if hub.hangs.is_set():
                hub.over.wait()
            self.close_connection = True
            return
        self.wfile.write(content)


def _etag(content: bytes, *, large: bool) -> str:
    """Mark a file as the hub does: large ones by SHA-256, small ones as git does."""
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub for as long as the context lasts."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, name="hub")
        thread.start()
        try:
            yield hub
        finally:
            hub.over.set()
            hub.shutdown()
            thread.join()
