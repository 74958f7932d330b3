"""What was said, kept once: sessions, the graph of messages, turns and timers in one SQLite file.

One writer: every access runs on the store's own thread. Commits are WAL with synchronous=NORMAL, so a power cut may
take the last of them but never damages the file; what was promised aloud (timers) is committed with
synchronous=FULL. Idle time writes nothing. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from roomtone import database
from roomtone.core.dialog import Ended, HandStopwatch, Message, Session, Timer, Turn, TurnError
from roomtone.core.errors import StoreError
from roomtone.database import Statement
from roomtone.flow import Worker, close, worker

FILE_NAME = "roomtone.db"
"""The store in its state folder."""

_ERASED = ("sessions", "messages", "edges", "turns")


class Store:
    """The open store. ``mended`` says what was done where the file was damaged, else None; ``unfinished`` are
    the turns that the last stop of the program cut off (they are closed now, as failed).

    Every method raises StoreError, one line, where the disk fails; the next call works once the cause is gone.
    """

    def __init__(self, path: Path, thread: Worker) -> None:
        self.path = path
        self.mended: str | None = None
        self.unfinished: tuple[Turn, ...] = ()
        self._thread = thread
        self._connection: sqlite3.Connection | None = None

    # ------------------------------------------------------------------------------------- conversations

    async def begin_session(self, session: Session) -> None:
        """Keep a session; one that is known already is brought up to date (its end, its persona)."""
        row = (session.id, session.room, session.persona, _iso(session.started), _iso(session.ended))
        update = "persona = excluded.persona, ended = excluded.ended"
        await self._write(("INSERT INTO sessions VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE SET " + update, row))

    async def add_message(self, message: Message, parents: Sequence[str] = ()) -> None:
        """Keep a message and the ids of those it follows; several where branches meet."""
        await self._write(*_message(message, parents))

    async def save_turn(
        self, turn: Turn, *, closed: bool, messages: Iterable[tuple[Message, Sequence[str]]] = ()
    ) -> None:
        """Write a turn's row or bring it up to date: at Commit, at each sentence heard, and closed at its end.

        ``messages``, each with its parents, are kept in the same commit, which is what spares the disk.
        """
        row = (turn.session, turn.turn, turn.trace, _iso(turn.at), turn.persona, closed, turn.model_dump_json())
        upsert = (
            "ON CONFLICT DO UPDATE SET persona = excluded.persona, closed = excluded.closed, data = excluded.data"
        )
        statements = [("INSERT INTO turns VALUES (?,?,?,?,?,?,?) " + upsert, row)]
        for message, parents in messages:
            statements += _message(message, parents)
        await self._write(*statements)

    async def drop_turn(self, session: str, turn: int) -> None:
        """Take back the row of a turn that came to be part of another."""
        await self._write(("DELETE FROM turns WHERE session = ? AND turn = ? AND NOT closed", (session, turn)))

    async def last_turn(self, session: str) -> Turn | None:
        """Return the last finished turn of a session in which something was heard."""
        where = "session = ? AND closed AND json_extract(data, '$.heard') != '' ORDER BY turn DESC LIMIT 1"
        found = await self._turns(where, session)
        return found[0] if found else None

    async def history(self, limit: int = 20, session: str | None = None) -> list[Turn]:
        """Return the last turns, of all sessions or of one, the oldest first."""
        where = "? IS NULL OR session = ? ORDER BY rowid DESC LIMIT ?"
        return (await self._turns(where, session, session, limit))[::-1]

    async def sessions(self, limit: int = 20) -> list[Session]:
        """Return the last sessions, the oldest first."""
        rows = await self._read("SELECT * FROM sessions ORDER BY rowid DESC LIMIT ?", limit)
        return [Session.model_validate(dict(row)) for row in reversed(rows)]

    async def ancestry(self, message: str) -> list[Message]:
        """Return a message and all it follows from, through every parent, in the order they were said."""
        rows = await self._read(
            "WITH RECURSIVE line(id) AS (SELECT ? UNION SELECT parent FROM edges JOIN line ON child = line.id) "
            "SELECT messages.* FROM messages JOIN line USING (id) ORDER BY at, messages.rowid",
            message,
        )
        return [Message.model_validate({**dict(row), "data": json.loads(row["data"])}) for row in rows]

    async def erase(self) -> None:
        """Forget all that was said, also in databases that were set aside; timers stay."""
        await self._write(*((f"DELETE FROM {table}", ()) for table in _ERASED))
        await self._run(database.shrink)
        for aside in self.path.parent.glob(f"{self.path.name}.corrupt-*"):
            aside.unlink()

    async def export(self) -> AsyncIterator[str]:
        """Yield everything as JSON lines: ``{"table": ..., <columns>}``."""

        def work(emit: Callable[[str], None], stop: threading.Event) -> None:
            for table in (*_ERASED, "timers", "stopwatch"):
                for row in self._open_connection().execute(f"SELECT * FROM {table} ORDER BY rowid"):
                    if stop.is_set():
                        return
                    emit(json.dumps({"table": table, **dict(row)}, ensure_ascii=False))

        stream = self._thread.stream(work)
        try:
            async for line in stream:
                yield line
        finally:
            await close(stream)

    # -------------------------------------------------------------------------------------------- timers

    async def add_timer(self, timer: Timer) -> None:
        """Keep a timer, new or changed; it has reached the disk when this returns."""
        await self.save_timers([timer])

    async def cancel_timers(self, timers: Sequence[Timer]) -> None:
        """Remove timers; durable as ``add_timer``."""
        await self.save_timers(remove=timers)

    async def save_timers(self, timers: Sequence[Timer] = (), remove: Sequence[Timer] = ()) -> None:
        """Keep some timers, new or changed, and remove others, in one commit that has reached the disk on return."""
        statements: list[Statement] = [("DELETE FROM timers WHERE id = ?", (timer.id,)) for timer in remove]
        await self._write(*statements, *map(_timer, timers), durable=True)

    async def timers(self) -> list[Timer]:
        """Return all timers, the next first; some may be overdue after a power cut, some are marked missed."""
        rows = await self._read("SELECT * FROM timers ORDER BY due, set_at, rowid")
        return [Timer.model_validate(dict(row)) for row in rows]

    async def stopwatch(self) -> HandStopwatch:
        """Return the household's stopwatch."""
        rows = await self._read("SELECT data FROM stopwatch")
        return HandStopwatch.model_validate_json(rows[0]["data"]) if rows else HandStopwatch()

    async def save_stopwatch(self, stopwatch: HandStopwatch) -> None:
        """Keep the stopwatch as it is now; durable as ``add_timer``."""
        await self._write(
            ("INSERT OR REPLACE INTO stopwatch VALUES (1,?)", (stopwatch.model_dump_json(),)), durable=True
        )

    async def last_known(self) -> datetime | None:
        """Return the latest moment that the store tells of: a clock that shows an earlier one is wrong."""
        [row] = await self._read(
            "SELECT max(at) AS at FROM (SELECT max(at) AS at FROM turns UNION SELECT max(set_at) FROM timers)"
        )
        return datetime.fromisoformat(row["at"]) if row["at"] else None

    # ----------------------------------------------------------------------------------------- machinery

    async def open(self) -> None:
        """Open the file: set it aside if it is damaged, migrate it, close turns that were cut off."""

        def work() -> None:
            self._connection, self.mended = database.opened(self.path)

        await self._thread.call(database.speaking(work, self.path))
        cut = await self._turns("closed = 0 ORDER BY rowid")
        stopped = TurnError(code="STOPPED", message="Roomtone stopped in the middle of this turn")
        self.unfinished = tuple(turn.model_copy(update={"ended": Ended.FAILED, "error": stopped}) for turn in cut)
        for turn in self.unfinished:
            await self.save_turn(turn, closed=True)

    async def close(self) -> None:
        """Close the file."""

        def work() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        await self._thread.call(work)

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"{self.path} is closed")
        return self._connection

    async def _run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        return await self._thread.call(database.speaking(lambda: work(self._open_connection()), self.path))

    async def _write(self, *statements: Statement, durable: bool = False) -> None:
        await self._run(lambda connection: database.commit(connection, statements, durable))

    async def _read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        rows: list[sqlite3.Row] = await self._run(lambda connection: connection.execute(query, values).fetchall())
        return rows

    async def _turns(self, where: str, *values: Any) -> list[Turn]:
        rows = await self._read(f"SELECT data FROM turns WHERE {where}", *values)
        return [Turn.model_validate_json(row["data"]) for row in rows]


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    """Open the store, making the file and its folder where there are none.

    A damaged file is moved aside, never deleted, and ``mended`` says so. Raises StoreError where it cannot be
    opened or was written by a newer version.
    """
    with worker("store") as thread:
        store = Store(path, thread)
        try:
            await store.open()
            yield store
        finally:
            await store.close()


def _message(message: Message, parents: Sequence[str]) -> list[Statement]:
    data = json.dumps(message.data, ensure_ascii=False)
    row = (message.id, message.session, message.role, message.text, _iso(message.at), message.persona, data)
    edges = [("INSERT INTO edges VALUES (?,?)", (message.id, parent)) for parent in parents]
    return [("INSERT INTO messages VALUES (?,?,?,?,?,?,?)", row), *edges]


def _timer(timer: Timer) -> Statement:
    row = {**timer.model_dump(), "set_at": _iso(timer.set_at), "due": _iso(timer.due)}
    columns, places = ", ".join(row), ", ".join("?" * len(row))
    return (f"INSERT OR REPLACE INTO timers ({columns}) VALUES ({places})", tuple(row.values()))


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
