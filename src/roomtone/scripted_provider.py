"""A language-model provider for rehearsals: a real HTTP server on loopback that says, and fails, as it is told.

It speaks the two dialects that the engines ``openai`` and ``anthropic`` speak, as server-sent events in chunks over
HTTP/1.1, and is a thread of its own, so that its waits are as real as a provider's whatever clock its client has.

Sources of the shapes: https://platform.openai.com/docs/api-reference/chat-streaming and
https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import json
import re
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from roomtone.core.dialog import Tokens

NAME = "scripted"
"""The model that it says it is, where a request names none."""

_POLL_S = 0.02
"""Longest that closing waits for the thread that accepts connections."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one request is answered with, and how that goes wrong.

    ``text`` is sent word by word, or ``deltas`` as they are (they may be without end); ``tool_calls`` (name,
    arguments as JSON) follow. ``dies_after_words``: the connection breaks; ``stalls_after_words``: nothing more comes
    for as long as the client waits. ``cut_at``: the connection breaks after so many bytes of the body; ``silent_at``:
    it stays open, and nothing more comes after so many of them. ``status``: an HTTP error with ``message`` instead of
    a reply. ``raw``: a body of your own, sent as it is, an error's too. Waits in seconds: ``first_piece_s`` before
    the first event, ``delta_s`` between words. ``finish`` is why it ends, in the dialect's own word (None: as it
    should). Without ``usage`` words are counted.
    """

    text: str = ""
    deltas: Iterable[str] | None = None
    tool_calls: Sequence[tuple[str, str]] = ()
    dies_after_words: int | None = None
    stalls_after_words: int | None = None
    cut_at: int | None = None
    silent_at: int | None = None
    status: int | None = None
    message: str = "as it was told"
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    first_piece_s: float = 0.0
    delta_s: float = 0.0
    finish: str | None = None
    usage: Tokens | None = None


@dataclass(slots=True)
class Request:
    """A request as it came. ``over`` is set when it was answered; ``hung_up``: the client left before the end."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    over: threading.Event = field(default_factory=threading.Event)
    hung_up: bool = False


Plan = Callable[[Request], Reply] | Sequence[Reply]


@dataclass(slots=True)
class Provider:
    """A running provider. ``url`` is the base of both dialects; ``requests`` are those for replies, oldest first."""

    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def provider(plan: Plan, *, models: Sequence[str] = (NAME,), key: str | None = None) -> Iterator[Provider]:
    """Serve on a free port of loopback until the context ends; no thread or connection is left then.

    ``plan`` makes a reply of each request, or lists the replies in order, the last one again and again. Only
    ``models`` are there (any, if there are none); with ``key`` only who knows it is answered.
    """
    server = _Server(plan, models, key)
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="scripted-provider", daemon=True)
    thread.start()
    try:
        yield server.provider
    finally:
        server.hang_up()
        server.shutdown()
        server.server_close()
        thread.join()


class _Gone(Exception):
    """The client hung up, or the server is being closed."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for each of them

    def __init__(self, plan: Plan, models: Sequence[str], key: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.provider = Provider(f"http://127.0.0.1:{self.server_address[1]}/v1")
        self.models, self.key = models, key
        self.closing, self._close = socket.socketpair()
        self._plan = plan
        self._asked = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def reply_to(self, request: Request) -> Reply:
        with self._lock:
            self.provider.requests.append(request)
            self._asked += 1
            if not callable(self._plan):
                return self._plan[min(self._asked, len(self._plan)) - 1]
        return self._plan(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Wake whoever waits: in a pause of a reply, or for a connection's next request."""
        self._close.close()
        with self._lock:
            for connection in self._open:
                _shut(connection)

    def server_close(self) -> None:
        self.hang_up()  # those that were accepted in the meantime
        super().server_close()
        self.closing.close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # the base class's names
        """Say nothing of clients that hang up; what else goes wrong is the client's to see."""


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is gone already


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Write nothing: what came is in ``requests``."""

    def do_GET(self) -> None:  # the base class's name
        if not self._known():
            return
        shown = [{"id": name, "object": "model", "type": "model"} for name in self.server.models]
        self._send(200, {}, json.dumps({"object": "list", "data": shown, "has_more": False}).encode())

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._known():
            return
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, json.loads(sent))
        reply = self.server.reply_to(request)
        try:
            self._answer(request, reply)
        except (_Gone, ConnectionError):
            request.hung_up = True
            self.close_connection = True
        finally:
            request.over.set()

    def _known(self) -> bool:
        """Turn away who has not the key, and whatever is asked of another address."""
        given = self.headers.get("x-api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.key is not None and given != self.server.key:
            self._refuse(401, "the key is wrong")
        elif not self.path.partition("?")[0].endswith(("/chat/completions", "/messages", "/models")):
            self._refuse(404, "there is nothing here")
        else:
            return True
        return False

    def _refuse(
        self, status: int, message: str, headers: Mapping[str, str] | None = None, raw: bytes | None = None
    ) -> None:
        kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(status, "api_error")
        body = {"type": "error", "error": {"type": kind, "message": message, "code": None}}
        self._send(status, headers or {}, json.dumps(body).encode() if raw is None else raw)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, request: Request, reply: Reply) -> None:
        model = request.body.get("model")
        if reply.status is not None:
            self._refuse(reply.status, reply.message, reply.headers, reply.raw)
        elif self.server.models and model not in self.server.models:
            self._refuse(404, f"there is no model {model}")
        else:
            self.send_response(200)
            for name, value in {"Content-Type": "text/event-stream", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._tell(reply, events(reply, request))

    def _tell(self, reply: Reply, told: Iterable[tuple[bytes, bool]]) -> None:
        """Send the events, each a chunk, up to where the reply is to break."""
        words = sent = 0
        end = reply.cut_at if reply.silent_at is None else reply.silent_at
        self._wait(reply.first_piece_s)
        for event, is_word in told:
            if words == reply.stalls_after_words:
                self._wait(None)
            if words == reply.dies_after_words:
                return self._die()
            if is_word:
                self._wait(reply.delta_s if words else 0)
                words += 1
            left = None if end is None else end - sent
            piece = event if left is None else event[:left]
            if piece:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            sent += len(piece)
            if left is not None and left <= len(event):
                return self._die() if reply.silent_at is None else self._wait(None)
        try:
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:  # who has read every event need not wait for the last chunk
            self.close_connection = True
        return None

    def _die(self) -> None:
        """Break the connection as a crash would: no last chunk, no goodbye."""
        self.close_connection = True
        _shut(self.connection)

    def _wait(self, seconds: float | None) -> None:
        """Wait so long, None for as long as the client does; raise _Gone where it, or the server, is leaving."""
        if seconds is not None and seconds <= 0:
            return
        readable, _, _ = select.select([self.connection, self.server.closing], [], [], seconds)
        if readable:
            raise _Gone


# --------------------------------------------------------------------------------------- the dialects


def events(reply: Reply, request: Request) -> Iterator[tuple[bytes, bool]]:
    """Yield a reply's events as bytes, each with whether it is a word, in the dialect that the request has."""
    if reply.raw is not None:
        yield reply.raw, False
        return
    dialect = _anthropic if request.path.partition("?")[0].endswith("/messages") else _openai
    yield from dialect(reply, request.body)


def words(reply: Reply) -> Iterable[str]:
    """Return what a reply is sent in: its deltas, else the words of its text, the space before each with it."""
    return reply.deltas if reply.deltas is not None else re.findall(r"\s*\S+|\s+$", reply.text)


def _usage(reply: Reply, body: Mapping[str, Any], written: int) -> Tokens:
    return reply.usage or Tokens(read=len(json.dumps(body.get("messages", ())).split()), written=written)


def _openai(reply: Reply, body: Mapping[str, Any]) -> Iterator[tuple[bytes, bool]]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": body.get("model", NAME)}

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        return _data({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    yield chunk({"role": "assistant", "content": ""}), False
    written = 0
    for word in words(reply):
        written += 1
        yield chunk({"content": word}), True
    for index, (name, arguments) in enumerate(reply.tool_calls):
        named = {"index": index, "id": f"call_{index}", "type": "function"}
        yield chunk({"tool_calls": [{**named, "function": {"name": name, "arguments": ""}}]}), False
        for part in _halves(arguments):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}), False
    yield chunk({}, reply.finish or ("tool_calls" if reply.tool_calls else "stop")), False
    if (body.get("stream_options") or {}).get("include_usage"):
        tokens = _usage(reply, body, written)
        usage = {
            "prompt_tokens": tokens.read,
            "completion_tokens": tokens.written,
            "total_tokens": tokens.read + tokens.written,
            "prompt_tokens_details": {"cached_tokens": tokens.cached},
        }
        yield _data({**head, "choices": [], "usage": usage}), False
    yield b"data: [DONE]\n\n", False


def _anthropic(reply: Reply, body: Mapping[str, Any]) -> Iterator[tuple[bytes, bool]]:
    tokens = _usage(reply, body, 0)
    usage = {
        "input_tokens": tokens.read - tokens.cached,
        "cache_read_input_tokens": tokens.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": 1,
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": body.get("model", NAME)}
    yield (
        _event("message_start", message={**message, "stop_reason": None, "stop_sequence": None, "usage": usage}),
        False,
    )
    yield _event("ping"), False
    written = index = 0
    for word in words(reply):
        if not written:
            yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""}), False
        written += 1
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": word}), True
    if written:
        yield _event("content_block_stop", index=0), False
        index = 1
    for number, call in enumerate(reply.tool_calls):
        yield from ((event, False) for event in _tool_use(index + number, *call))
    reason = reply.finish or ("tool_use" if reply.tool_calls else "end_turn")
    output = {"output_tokens": tokens.written or written}
    yield _event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=output), False
    yield _event("message_stop"), False


def _tool_use(index: int, name: str, arguments: str) -> Iterator[bytes]:
    block = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
    yield _event("content_block_start", index=index, content_block=block)
    for part in _halves(arguments):
        yield _event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": part})
    yield _event("content_block_stop", index=index)


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _data(piece: Mapping[str, Any]) -> bytes:
    return b"data: %s\n\n" % json.dumps(piece, ensure_ascii=False).encode()


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\n%s" % (kind.encode(), _data({"type": kind, **fields}))
