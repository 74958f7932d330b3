"""The log: lines of text or of JSON on stderr, and records with fields in systemd's journal.

A line that is written while a turn runs says which: the part that runs the turn says so with ``during``, and every
task begun in there inherits it.

The journal's own protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/) is spoken here, since the library for it,
systemd-python, has no wheels: it takes a compiler and systemd's headers on every Pi for these few lines.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from roomtone.settings import Log

Place = Callable[[], Mapping[str, object]]
"""Says where things stand when a line is written: ``turn``, ``session``, ``trace``, ``state``."""

_place: ContextVar[Place | None] = ContextVar("roomtone_log_place", default=None)

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "place"}

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""syslog's numbers, which the journal takes from the head of a line (sd-daemon(3))."""

JOURNAL = Path("/run/systemd/journal/socket")

LONGEST_FIELD = 48_000
"""Bytes. A datagram of a few such fields is still below what a socket sends at once (212,992: net.core.wmem_max)."""

WAIT_S = 0.1
"""So long a record waits for a journal that does not read, before it goes to stderr: the voice must not wait."""


@contextmanager
def during(place: Place) -> Iterator[None]:
    """Let every line written in here, and by every task begun in here, say what ``place`` says at that time."""
    before = _place.get()
    _place.set(place)
    try:
        yield
    finally:
        _place.set(before)  # no token: what was opened in one task may be closed in another


def standing() -> Mapping[str, object]:
    """Return where things stand for whoever runs this: {} outside of any turn."""
    place = _place.get()
    return place() if place is not None else {}


def add_place(record: logging.LogRecord) -> bool:
    """Put the place into a record; a filter that keeps every record."""
    record.place = {key: value for key, value in standing().items() if value is not None}
    return True


class JsonLines(logging.Formatter):
    """One JSON object a line: ``at`` (UTC), ``level``, ``logger``, ``message``, its turn, what ``extra`` held."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line."""
        said = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "place", {}),
            **{key: value for key, value in vars(record).items() if key not in _OWN},
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """A line for a person, what is known of its turn at its end in brackets."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s%(turn)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name for it
        """Write the first line; a traceback follows it."""
        place = getattr(record, "place", {})
        record.turn = f" [{' '.join(f'{key}={value}' for key, value in place.items())}]" if place else ""
        return super().formatMessage(record)


class JournalLines(logging.Formatter):
    """Lines of another format for systemd's journal: one a record, with its priority."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line: the journal would make a record of each line of a traceback."""
        return f"<{_priority(record)}>" + self._lines.format(record).rstrip("\n").replace("\n", "\\n")


def _priority(record: logging.LogRecord) -> int:
    return next((number for level, number in _PRIORITIES if record.levelno >= level), 7)


class Journal(logging.Handler):
    """Sends each record to systemd's journal with its fields, so that ``journalctl ROOMTONE_SESSION=...`` finds it.

    ``ROOMTONE_TURN``, ``_SESSION``, ``_TRACE`` and ``_STATE`` are those of ``during``, ``ROOMTONE_<KEY>`` is what
    ``extra`` held. What cannot be sent goes to ``otherwise``.
    """

    def __init__(self, address: Path, otherwise: logging.Handler) -> None:
        super().__init__()
        self._address = str(address)
        self._otherwise = otherwise
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(WAIT_S)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            self._socket.sendto(datagram(fields(record)), self._address)
        except OSError:
            self._otherwise.handle(record)
        except Exception:  # a record that cannot be written, as of a "%d" with a text, is logging's to report
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


_PLAIN = logging.Formatter("%(message)s")


def fields(record: logging.LogRecord) -> dict[str, object]:
    """Return a record as the journal's fields (systemd.journal-fields(7))."""
    extra = {key: value for key, value in vars(record).items() if key not in _OWN}
    own = {**extra, **getattr(record, "place", {}), "logger": record.name, "thread": record.threadName}
    return {
        "MESSAGE": _PLAIN.format(record),
        "PRIORITY": _priority(record),
        "SYSLOG_IDENTIFIER": "roomtone",
        "CODE_FILE": record.pathname,
        "CODE_LINE": record.lineno,
        "CODE_FUNC": record.funcName,
        **{f"ROOMTONE_{re.sub('[^A-Z0-9_]', '_', key.upper())}"[:64]: value for key, value in own.items()},
    }


def datagram(told: Mapping[str, object]) -> bytes:
    """Write fields as the journal reads them: each with its length, so that any byte may stand in it."""
    parts = []
    for name, value in told.items():
        text = str(value).encode("utf-8", "replace")[:LONGEST_FIELD]
        parts += [name.encode("ascii"), b"\n", len(text).to_bytes(8, "little"), text, b"\n"]
    return b"".join(parts)


def set_up(log: Log, stream: TextIO | None = None, journal: Path = JOURNAL) -> None:
    """Send the log to ``stream`` (stderr), as the configuration says; a second call replaces the first.

    Where the stream is systemd's journal, that gets records with fields at its socket instead, whatever the format.
    """
    stream = stream or sys.stderr
    handler: logging.Handler = logging.StreamHandler(stream)
    lines = JsonLines() if log.format == "json" else TextLines()
    handler.setFormatter(lines)
    if is_journal(stream):
        handler.setFormatter(JournalLines(lines))
        handler = Journal(journal, handler) if journal.exists() else handler
    handler.addFilter(add_place)
    root = logging.getLogger()
    for replaced in root.handlers:
        if isinstance(replaced, Journal):
            replaced.close()
    root.handlers[:] = [handler]
    root.setLevel(log.level.upper())
    for chatty in ("asyncio", "httpx2"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def is_journal(stream: TextIO, env: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a stream is systemd's journal: ``JOURNAL_STREAM`` is its device and inode (systemd.exec(5))."""
    try:
        file = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return env.get("JOURNAL_STREAM") == f"{file.st_dev}:{file.st_ino}"
