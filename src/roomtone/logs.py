"""The log: lines of text or of JSON on stderr, where systemd's journal and people find them.

A line that is written while a turn runs says which: the part that runs the turn says so with ``during``, and every
task begun in there inherits it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from roomtone.settings import Log

Place = Callable[[], Mapping[str, object]]
"""Says where things stand when a line is written: ``turn``, ``session``, ``trace``, ``state``."""

_place: ContextVar[Place | None] = ContextVar("roomtone_log_place", default=None)

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "place"}

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""syslog's numbers, which the journal takes from the head of a line (sd-daemon(3))."""


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
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return f"<{priority}>" + self._lines.format(record).rstrip("\n").replace("\n", "\\n")


def set_up(log: Log, stream: TextIO | None = None) -> None:
    """Send the log to ``stream`` (stderr), as the configuration says; a second call replaces the first."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    lines = JsonLines() if log.format == "json" else TextLines()
    handler.setFormatter(JournalLines(lines) if is_journal(stream) else lines)
    handler.addFilter(add_place)
    root = logging.getLogger()
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
