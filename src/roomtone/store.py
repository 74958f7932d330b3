"""What was said, kept once: sessions, the graph of messages, turns and timers in one SQLite file.

One writer: every access runs on the store's own thread. Commits are WAL with synchronous=NORMAL, so a power cut may
take the last of them but never damages the file; what was promised aloud (timers) is committed with
synchronous=FULL. Idle time writes nothing. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roomtone import database
from roomtone.core.dialog import Ended, HandStopwatch, Item, Message, Session, Timer, Turn, TurnError, now
from roomtone.core.errors import SessionNotFound, StoreError
from roomtone.database import Statement
from roomtone.flow import Worker, close, worker

FILE_NAME = "roomtone.db"
"""The store in its state folder."""

_SAID = ("sessions", "messages", "edges", "turns")
_KEPT = (
    *("timers", "stopwatch", "items", "persona_versions", "persona_switches", "kept"),
    *("summaries", "llm_calls", "sent", "tool_runs", "routine_runs", "memories", "holds", "moves", "outbox"),
)
_SHORTEST_ID = 4
"""Characters of an id by which something can be asked for, where no other begins like it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a session stands: the number of its last turn, when something was last said, what nothing follows yet."""

    session: Session
    turns: int
    last_at: datetime
    tips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One message in the graph: what it follows, what follows it, and the turn and session in which it was said.

    The turn is None for a message that belongs to none, and not ``closed`` while it goes on.
    """

    message: Message
    parents: tuple[str, ...]
    children: tuple[str, ...]
    turn: Turn | None
    closed: bool
    session: Session | None


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

    async def save_session(self, session: Session) -> None:
        """Keep a session; one that is known already is brought up to date (its end)."""
        await self.write(_session(session, "UPDATE SET ended = excluded.ended"))

    async def add_message(self, message: Message, parents: Sequence[str] = ()) -> None:
        """Keep a message and the ids of those it follows; several where branches meet."""
        await self.write(*keeping_message(message, parents))

    async def save_turn(
        self,
        turn: Turn,
        *,
        closed: bool,
        messages: Iterable[tuple[Message, Sequence[str]]] = (),
        session: Session | None = None,
        durable: bool = False,
    ) -> None:
        """Write a turn's row or bring it up to date: as it comes on, and closed at its end.

        ``messages``, each with its parents, and ``session`` are kept in the same commit where they are not yet, which
        is what spares the disk. ``durable``: it has reached the disk when this returns.
        """
        row = (turn.session, turn.turn, turn.trace, iso(turn.at), turn.persona, closed, turn.model_dump_json())
        update = "at = excluded.at, persona = excluded.persona, closed = excluded.closed, data = excluded.data"
        statements = [_session(session, "NOTHING")] if session is not None else []
        statements.append(("INSERT INTO turns VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET " + update, row))
        for message, parents in messages:
            statements += keeping_message(message, parents)
        await self.write(*statements, durable=durable)

    async def drop_turn(self, turn: Turn) -> None:
        """Take back a turn that came to be part of another, and what was said in it."""
        said = "(SELECT id FROM messages WHERE session = :session AND json_extract(data, '$.trace') = :trace)"
        key = {"session": turn.session, "trace": turn.trace, "turn": turn.turn}
        await self.write(
            (f"DELETE FROM edges WHERE child IN {said} OR parent IN {said}", key),
            (f"DELETE FROM messages WHERE id IN {said}", key),
            ("DELETE FROM turns WHERE session = :session AND turn = :turn AND trace = :trace AND NOT closed", key),
        )

    async def last_turn(self, session: str) -> Turn | None:
        """Return the last finished turn of a session in which something was heard, but for one that only moved it."""
        said = "AND (json_extract(data, '$.ended') != 'moved' OR json_extract(data, '$.said') != '')"
        heard = "json_extract(data, '$.heard') != ''"
        where = f"session = ? AND closed AND {heard} {said} ORDER BY turn DESC LIMIT 1"
        found = await self._turns(where, session)
        return found[0] if found else None

    async def last_answer(self, skill: str, persona: str) -> Turn | None:
        """Return the last finished turn in which a persona answered by a skill, of whatever session."""
        intent = "json_extract(data, '$.intent')"
        where = f"closed AND persona = ? AND {intent} >= ? AND {intent} < ? ORDER BY rowid DESC LIMIT 1"
        found = await self._turns(where, persona, f"{skill}.", f"{skill}/")
        return found[0] if found else None

    async def times_asked(self, intent: str, persona: str) -> int:
        """Return how many finished turns of a persona asked for an intent."""
        where = "closed AND persona = ? AND json_extract(data, '$.intent') = ?"
        [row] = await self.read(f"SELECT count(*) AS times FROM turns WHERE {where}", persona, intent)
        return int(row["times"])

    async def history(self, limit: int = 20, session: str | None = None, number: int | None = None) -> list[Turn]:
        """Return the last turns, of all sessions or of one, or of those the one of a number, the oldest first."""
        where = "session = ifnull(?, session) AND turn = ifnull(?, turn) ORDER BY rowid DESC LIMIT ?"
        return (await self._turns(where, session, number, limit))[::-1]

    async def sessions(self, limit: int = 20) -> list[Session]:
        """Return the last sessions, the oldest first."""
        rows = await self.read("SELECT * FROM sessions ORDER BY rowid DESC LIMIT ?", limit)
        return [Session.model_validate(dict(row)) for row in reversed(rows)]

    async def session(self, id_: str) -> Session:
        """Return a session by its id or the beginning of it. Raises SessionNotFound."""
        return Session.model_validate(dict(await self._one("session", "sessions", id_)))

    async def open_sessions(self, room: str, persona: str) -> list[Session]:
        """Return the sessions of a room and a persona that nobody has ended, the newest first."""
        where = "ended IS NULL AND room = ? AND persona = ? ORDER BY rowid DESC"
        rows = await self.read(f"SELECT * FROM sessions WHERE {where}", room, persona)
        return [Session.model_validate(dict(row)) for row in rows]

    async def standing(self, session: Session) -> Standing:
        """Return where a session stands, for who goes on with it."""
        [last] = await self.read("SELECT max(turn) AS turn, max(at) AS at FROM turns WHERE session = ?", session.id)
        last_at = datetime.fromisoformat(last["at"]) if last["at"] else session.started
        return Standing(session, last["turn"] or 0, last_at, await self.tips(session.id))

    async def tips(self, session: str) -> tuple[str, ...]:
        """Return the messages of a session that none follows yet, in the order they were said."""
        where = "session = ? AND id NOT IN (SELECT parent FROM edges) ORDER BY at, rowid"
        return tuple(row["id"] for row in await self.read(f"SELECT id FROM messages WHERE {where}", session))

    async def node(self, id_: str) -> Node:
        """Return a message by its id or the beginning of it. Raises SessionNotFound."""
        message = as_message(await self._one("message", "messages", id_))
        parents = await self.read("SELECT parent FROM edges WHERE child = ? ORDER BY parent", message.id)
        children = await self.read("SELECT child FROM edges WHERE parent = ? ORDER BY child", message.id)
        key = (message.session, message.data.get("trace"))
        turns = await self.read("SELECT data, closed FROM turns WHERE session = ? AND trace = ?", *key)
        sessions = await self.read("SELECT * FROM sessions WHERE id = ?", message.session)
        return Node(
            message,
            tuple(row["parent"] for row in parents),
            tuple(row["child"] for row in children),
            Turn.model_validate_json(turns[0]["data"]) if turns else None,
            bool(turns and turns[0]["closed"]),
            Session.model_validate(dict(sessions[0])) if sessions else None,
        )

    async def messages(self, session: str, trace: str) -> list[Message]:
        """Return what was said in one turn, in order."""
        where = "session = ? AND json_extract(data, '$.trace') = ? ORDER BY at, rowid"
        return [as_message(row) for row in await self.read(f"SELECT * FROM messages WHERE {where}", session, trace)]

    async def ancestry(self, message: str) -> list[Message]:
        """Return a message and all it follows from, through every parent, in the order they were said."""
        rows = await self.read(
            "WITH RECURSIVE line(id) AS (SELECT ? UNION SELECT parent FROM edges JOIN line ON child = line.id) "
            "SELECT messages.* FROM messages JOIN line USING (id) ORDER BY at, messages.rowid",
            message,
        )
        return [as_message(row) for row in rows]

    async def erase(self, since: datetime | None = None, spare: str = "", *, whole: bool = True) -> int:
        """Forget what was said since a moment, or ever, also what was set aside or backed up; return how many turns.

        A turn that was not over then counts as said since. Timers and lists stay, and so does the turn whose trace is
        ``spare``; what was taken off a list since cannot be put back any more. No byte of what was erased is left in
        the file when this returns; without ``whole``, when ``shrink`` has. If the program ends before that, nothing
        or everything is erased, and the next ``open`` shrinks.
        """
        which = {"since": iso(since) or "", "spare": spare}

        def work(connection: sqlite3.Connection) -> int:
            erased = database.erase(connection, which)
            for aside in self._copies():
                if since is None or aside.stat().st_mtime >= since.timestamp():
                    aside.unlink()
            return erased

        erased = int(await self._run(work))
        if whole:
            await self.shrink()
        return erased

    def _copies(self) -> Iterator[Path]:
        """List the files that hold what the store held once: set aside, or kept by the night's work."""
        for pattern in (f"{self.path.name}.corrupt-*", "backups/*.tar.gz", f"before-restore-*/{self.path.name}*"):
            yield from self.path.parent.glob(pattern)

    async def shrink(self) -> None:
        """Rewrite the file without what was erased; all of it is written thrice, a year's talk in some seconds."""
        await self._run(database.shrink)

    async def export(self) -> AsyncIterator[str]:
        """Yield everything as JSON lines: ``{"table": ..., <columns>}``."""

        def work(emit: Callable[[str], None], stop: threading.Event) -> None:
            for table in (*_SAID, *_KEPT):
                order = "child" if table == "edges" else "rowid"
                for row in self._open_connection().execute(f"SELECT * FROM {table} ORDER BY {order}"):
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

    async def cancel_timers(self, timers: Sequence[Timer]) -> None:
        """Remove timers; durable as ``save_timers``."""
        await self.save_timers(remove=timers)

    async def save_timers(self, timers: Sequence[Timer] = (), remove: Sequence[Timer] = ()) -> None:
        """Keep some timers, new or changed, and remove others, in one commit that has reached the disk on return."""
        statements: list[Statement] = [("DELETE FROM timers WHERE id = ?", (timer.id,)) for timer in remove]
        await self.write(*statements, *map(keeping_timer, timers), durable=True)

    async def timers(self) -> list[Timer]:
        """Return all timers, the next first; some may be overdue after a power cut, some are marked missed."""
        rows = await self.read("SELECT * FROM timers ORDER BY due, set_at, rowid")
        return [Timer.model_validate(dict(row)) for row in rows]

    async def stopwatch(self) -> HandStopwatch:
        """Return the household's stopwatch."""
        rows = await self.read("SELECT data FROM stopwatch")
        return HandStopwatch.model_validate_json(rows[0]["data"]) if rows else HandStopwatch()

    async def save_stopwatch(self, stopwatch: HandStopwatch) -> None:
        """Keep the stopwatch as it is now; durable as ``save_timers``."""
        await self.write(
            ("INSERT OR REPLACE INTO stopwatch VALUES (1,?)", (stopwatch.model_dump_json(),)), durable=True
        )

    async def last_known(self) -> datetime | None:
        """Return the latest moment that the store tells of: a clock that shows an earlier one is wrong."""
        [row] = await self.read(
            "SELECT max(at) AS at FROM (SELECT max(at) AS at FROM turns UNION SELECT max(set_at) FROM timers)"
        )
        return datetime.fromisoformat(row["at"]) if row["at"] else None

    # --------------------------------------------------------------------------------------------- lists

    async def items(self) -> list[Item]:
        """Return the items of all lists in the order they were added, and of each list those removed last."""
        return [Item.model_validate(dict(row)) for row in await self.read("SELECT * FROM items ORDER BY rowid")]

    async def save_items(self, items: Sequence[Item]) -> None:
        """Keep items, new or changed, in one commit that has reached the disk on return.

        Of what was removed from a list only the last is kept: it takes the place of what was removed before.
        """
        emptied = {item.list for item in items if item.removed}
        forget = "DELETE FROM items WHERE list = ? AND removed IS NOT NULL"
        update = "ON CONFLICT DO UPDATE SET removed = excluded.removed"
        rows = [(item.id, item.list, item.text, iso(item.added), iso(item.removed)) for item in items]
        await self.write(
            *((forget, (name,)) for name in sorted(emptied)),
            *((f"INSERT INTO items VALUES (?,?,?,?,?) {update}", row) for row in rows),
            durable=True,
        )

    # ------------------------------------------------------------------------------------- what is kept

    async def keep(self, key: str, value: Any) -> None:
        """Keep a value (as JSON; None forgets it) under a key; it has reached the disk when this returns."""
        await self.write(keeping(key, value), durable=True)

    async def kept(self, key: str) -> Any:
        """Return what is kept under a key, None where nothing is."""
        rows = await self.read("SELECT value FROM kept WHERE key = ?", key)
        return json.loads(rows[0]["value"]) if rows else None

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

    async def write(self, *statements: Statement, durable: bool = False) -> None:
        """Commit some statements together; ``durable``: they have reached the disk when this returns."""
        await self._run(lambda connection: database.commit(connection, statements, durable))

    async def read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Return the rows that a query finds; its values are given in order, or by name as one mapping."""
        given = values[0] if len(values) == 1 and isinstance(values[0], Mapping) else values
        rows: list[sqlite3.Row] = await self._run(lambda connection: connection.execute(query, given).fetchall())
        return rows

    async def _one(self, what: str, table: str, id_: str) -> sqlite3.Row:
        """Return the row of an id, or of the only one that begins so."""
        where = "id = :id OR (substr(id, 1, length(:id)) = :id AND length(:id) >= :shortest)"
        order = "ORDER BY id != :id LIMIT 2"  # the one that is called so comes before one that only begins so
        key = {"id": id_, "shortest": _SHORTEST_ID}
        rows = await self._run(lambda db: db.execute(f"SELECT * FROM {table} WHERE {where} {order}", key).fetchall())
        if not rows:
            raise SessionNotFound(f"there is no {what} '{id_}'; see: roomtone history --sessions", id=id_)
        if len(rows) > 1 and rows[0]["id"] != id_:
            raise SessionNotFound(f"more than one {what} begins with '{id_}'; give more of its id", id=id_)
        row: sqlite3.Row = rows[0]
        return row

    async def _turns(self, where: str, *values: Any) -> list[Turn]:
        rows = await self.read(f"SELECT data FROM turns WHERE {where}", *values)
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


def keeping(key: str, value: Any) -> Statement:
    """Return the statement that keeps a value under a key, to be committed with others."""
    if value is None:
        return "DELETE FROM kept WHERE key = ?", (key,)
    return "INSERT OR REPLACE INTO kept VALUES (?,?,?)", (key, json.dumps(value, ensure_ascii=False), iso(now()))


def _session(session: Session, known: str) -> Statement:
    row = (session.id, session.room, session.persona, iso(session.started), iso(session.ended))
    return f"INSERT INTO sessions VALUES (?,?,?,?,?) ON CONFLICT DO {known}", row


def keeping_message(message: Message, parents: Sequence[str]) -> list[Statement]:
    """Return the statements that keep a message behind others, to be committed with others."""
    data = json.dumps(message.data, ensure_ascii=False)
    row = (message.id, message.session, message.role, message.text, iso(message.at), message.persona, data)
    # A parent that was erased, or that a full disk refused, leaves no edge into nowhere.
    edge = "INSERT INTO edges SELECT ?, id FROM messages WHERE id = ? ON CONFLICT DO NOTHING"
    edges = [(edge, (message.id, parent)) for parent in parents]
    return [("INSERT INTO messages VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING", row), *edges]


def as_message(row: sqlite3.Row) -> Message:
    """Return a message as its row keeps it."""
    return Message.model_validate(
        {**{key: row[key] for key in Message.model_fields}, "data": json.loads(row["data"])}
    )


def keeping_timer(timer: Timer) -> Statement:
    """Return the statement that keeps a timer, new or changed, to be committed with others."""
    row = {**timer.model_dump(), "set_at": iso(timer.set_at), "due": iso(timer.due)}
    columns, places = ", ".join(row), ", ".join("?" * len(row))
    return (f"INSERT OR REPLACE INTO timers ({columns}) VALUES ({places})", tuple(row.values()))


def iso(at: datetime | None) -> str | None:
    """Return a moment as the store writes it."""
    return None if at is None else at.astimezone(UTC).isoformat()
