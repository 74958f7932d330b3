"""The store's schema as numbered steps: each runs once, in order, and stands in a ledger.

A step is never changed after a release; a new one is added below it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

from roomtone.core.dialog import now
from roomtone.core.errors import StoreError

if TYPE_CHECKING:
    from sqlite_utils import Database

Steps = tuple[tuple[str, Callable[["Database"], None]], ...]
"""The steps of one schema: a name that is written down, and what it does."""


def _conversations(db: Database) -> None:
    db.table("sessions").create({"id": str, "room": str, "persona": str, "started": str, "ended": str}, pk="id")
    message = {"id": str, "session": str, "role": str, "text": str, "at": str, "persona": str, "data": str}
    db.table("messages").create(message, pk="id")
    db.table("edges").create({"child": str, "parent": str}, pk=("child", "parent"))
    turn = {"session": str, "turn": int, "trace": str, "at": str, "persona": str, "closed": int, "data": str}
    db.table("turns").create(turn, pk=("session", "turn"), not_null={"closed", "data"})


def _timers(db: Database) -> None:
    db.table("timers").create({"id": str, "name": str, "seconds": int, "set_at": str, "due": str}, pk="id")


def _alarms(db: Database) -> None:
    timers = db.table("timers")
    timers.add_column("kind", str, not_null_default="timer")
    timers.add_column("repeat", str)
    timers.add_column("paused_s", int)
    timers.add_column("missed", int, not_null_default=0)
    db.table("stopwatch").create({"id": int, "data": str}, pk="id")


def _lists(db: Database) -> None:
    db.table("items").create({"id": str, "list": str, "text": str, "added": str, "removed": str}, pk="id")


def _lean_edges(db: Database) -> None:
    """Keep an edge in one place instead of a table and its index: half the pages that a turn's edges touch."""
    db.execute("CREATE TABLE lean (child TEXT, parent TEXT, PRIMARY KEY (child, parent)) WITHOUT ROWID")
    db.execute("INSERT OR IGNORE INTO lean SELECT child, parent FROM edges WHERE parent IN (SELECT id FROM messages)")
    db.execute("DROP TABLE edges")
    db.execute("ALTER TABLE lean RENAME TO edges")


def _personas(db: Database) -> None:
    """Versions of personas by what is in their folders, who spoke when and why, and what else outlives a run."""
    version = {"content": str, "persona": str, "version": str, "since": str, "last_used": str, "files": str}
    db.table("persona_versions").create(version, pk=("persona", "content"))
    switch = {"at": str, "room": str, "earlier": str, "persona": str, "content": str, "source": str, "cause": str}
    db.table("persona_switches").create({"id": int, **switch, "took_ms": float}, pk="id")
    db.table("kept").create({"key": str, "value": str, "at": str}, pk="key")


def _minds(db: Database) -> None:
    """What models, tools and routines did, what left the machine for it, and what conversations were about."""
    db.execute("CREATE INDEX messages_of_a_session ON messages (session)")
    db.table("summaries").create({"session": str, "upto": str, "at": str, "text": str}, pk="session")
    call = {"id": int, "at": str, "trace": str, "persona": str, "provider": str, "model": str, "why": str}
    call |= {"status": str, "error": str, "read": int, "cached": int, "written": int, "cost": float}
    db.table("llm_calls").create({**call, "first_piece_ms": float, "total_ms": float}, pk="id")
    db.execute("CREATE INDEX llm_calls_by_time ON llm_calls (at)")
    sent = {"id": int, "at": str, "trace": str, "persona": str, "host": str, "reach": str}
    db.table("sent").create({**sent, "bytes": int, "kind": str, "why": str}, pk="id")
    db.execute("CREATE INDEX sent_by_time ON sent (at)")
    run = {
        "id": str,
        "at": str,
        "trace": str,
        "session": str,
        "persona": str,
        "tool": str,
        "status": str,
        "data": str,
    }
    db.table("tool_runs").create(run, pk="id")
    routine = {"id": str, "at": str, "ended": str, "trace": str, "session": str, "routine": str, "status": str}
    db.table("routine_runs").create({**routine, "data": str}, pk="id")


def _memories(db: Database) -> None:
    """What is known beyond a conversation, an index of its words, and vectors of what it means.

    ``same`` is the text without case and marks: one fact is kept once. Beside its words the index holds whose a fact
    is, so that looking for one persona's costs nothing for all others'. Numbers are never given twice.
    """
    fact = (
        "id TEXT NOT NULL UNIQUE, level TEXT, text TEXT, persona TEXT, at TEXT, expires TEXT, trace TEXT, same TEXT"
    )
    db.execute(f"CREATE TABLE memories (number INTEGER PRIMARY KEY AUTOINCREMENT, {fact})")
    db.execute("CREATE UNIQUE INDEX memories_once ON memories (same, coalesce(persona, ''))")
    db.execute("CREATE INDEX memories_by_time ON memories (at)")
    db.execute("CREATE INDEX memories_expiring ON memories (expires) WHERE expires IS NOT NULL")
    whose = "'p' || hex(coalesce({}persona, ''))"
    db.execute(f"CREATE VIEW memory_entries AS SELECT number, text, {whose.format('')} AS whose FROM memories")
    options = "content = 'memory_entries', content_rowid = 'number', columnsize = 0, tokenize = 'porter unicode61'"
    db.execute(f"CREATE VIRTUAL TABLE memory_index USING fts5(text, whose, {options})")
    vector = "number INTEGER PRIMARY KEY, embedder TEXT, signature BLOB, vector BLOB"
    db.execute(f"CREATE TABLE memory_vectors ({vector})")
    columns = "(memory_index, rowid, text, whose) VALUES ('delete', old.number, old.text, "
    leave = f"INSERT INTO memory_index {columns}{whose.format('old.')})"
    enter = f"INSERT INTO memory_index (rowid, text, whose) VALUES (new.number, new.text, {whose.format('new.')})"
    vectorless = "DELETE FROM memory_vectors WHERE number = old.number"
    changed = "UPDATE OF text, persona ON memories WHEN (old.text, old.persona) IS NOT (new.text, new.persona)"
    db.execute(f"CREATE TRIGGER memory_kept AFTER INSERT ON memories BEGIN {enter}; END")
    db.execute(f"CREATE TRIGGER memory_forgotten AFTER DELETE ON memories BEGIN {leave}; {vectorless}; END")
    db.execute(f"CREATE TRIGGER memory_changed AFTER {changed} BEGIN {leave}; {vectorless}; {enter}; END")


def _house(db: Database) -> None:
    """Conversations that walk from room to room, and what other rooms are still to be told.

    ``holds``: how this device stands to a session that was ever handed over (``standing``: held, released, offered),
    the newest epoch it has seen, and the ``bundle`` that it let go of or was offered. ``moves``: the history of
    handoffs of a session. ``outbox``: what must arrive, in order.
    """
    timers = db.table("timers")
    timers.add_column("session", str, not_null_default="")
    timers.add_column("person", str, not_null_default="")
    hold = {"session": str, "epoch": int, "standing": str, "handoff": str, "at": str, "bundle": str}
    db.table("holds").create(hold, pk="session", not_null={"epoch", "standing"})
    move = {"session": str, "epoch": int, "source": str, "target": str, "at": str, "why": str}
    db.table("moves").create(move, pk=("session", "epoch"))
    db.execute(
        "CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at TEXT, "
        "expires TEXT, topic TEXT, payload TEXT)"
    )


STEPS: Steps = (
    ("0001 conversations", _conversations),
    ("0002 timers", _timers),
    ("0003 alarms", _alarms),
    ("0004 lists", _lists),
    ("0005 lean edges", _lean_edges),
    ("0006 personas", _personas),
    ("0007 minds", _minds),
    ("0008 memories", _memories),
    ("0009 house", _house),
)


def migrate(connection: sqlite3.Connection, steps: Steps = STEPS) -> None:
    """Bring a database to the present schema, all steps or none.

    Raises StoreError for a database in which a newer version has already taken steps of its own.
    """
    done = _ledger(connection)
    unknown = done - {name for name, _ in steps}
    if unknown:
        raise StoreError(
            "the store was written by a newer Roomtone; upgrade this one, or use another --state-dir",
            steps=sorted(unknown),
        )
    due = [(name, step) for name, step in steps if name not in done]
    if due:
        _take(connection, due)


def _ledger(connection: sqlite3.Connection) -> set[str]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone():
        return set()
    return {name for (name,) in connection.execute("SELECT name FROM migrations")}


def _take(connection: sqlite3.Connection, due: list[tuple[str, Callable[[Database], None]]]) -> None:
    from sqlite_utils import Database  # 0.1 s and some megabytes, needed once in a store's life

    db = Database(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, taken TEXT)")
        for name, step in due:
            step(db)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (name, now().isoformat()))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
