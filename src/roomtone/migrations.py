"""The store's schema as numbered steps: each runs once, in order, and stands in a ledger.

A step is never changed after a release; a new one is added below it. Since 0008 a step brings a way back, which
stands in the ledger too: an older program undoes by it what it does not know. What only the newer one can read is set
aside in tables called ``kept_...``, and the same step takes it up again when the newer program returns.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from roomtone.core.dialog import now
from roomtone.core.errors import StoreError

if TYPE_CHECKING:
    from sqlite_utils import Database

log = logging.getLogger(__name__)


class Step(NamedTuple):
    """One step of a schema: the ``name`` that is written down, and what it does.

    ``back`` undoes it: SQL statements that leave the schema as the step found it, and lose nothing that the household
    said or set. ``erase`` takes from what they set aside all that was said since ``:since`` (ISO 8601 in UTC), but in
    the turn ``:spare``: the older program erases by it what it cannot read. A step without ``back`` stays.
    """

    name: str
    take: Callable[[Database], None]
    back: tuple[str, ...] = ()
    erase: tuple[str, ...] = ()


Steps = tuple[Step, ...]


_CHANGES = ("ALTER ", "CREATE ", "DELETE ", "DROP ", "INSERT ", "UPDATE ")
"""How the statements of a way back begin: they change tables, and nothing else."""


class _Taken(NamedTuple):
    """A line of the ledger: ``back`` and ``erase`` as JSON, None where there are none."""

    name: str
    back: str | None
    erase: str | None
    undone: str | None


def _taken_up(db: Database, *tables: str) -> bool:
    """Take up again what a way back has set aside; say whether there was anything."""
    if not db.table(f"kept_{tables[0]}").exists():
        return False
    for table in tables:
        db.execute(f"ALTER TABLE kept_{table} RENAME TO {table}")
    return True


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
    known = _taken_up(db, "memories", "memory_vectors")
    if not known:
        _facts(db)
    whose = "'p' || hex(coalesce({}persona, ''))"
    db.execute(f"CREATE VIEW memory_entries AS SELECT number, text, {whose.format('')} AS whose FROM memories")
    options = "content = 'memory_entries', content_rowid = 'number', columnsize = 0, tokenize = 'porter unicode61'"
    db.execute(f"CREATE VIRTUAL TABLE memory_index USING fts5(text, whose, {options})")
    columns = "(memory_index, rowid, text, whose) VALUES ('delete', old.number, old.text, "
    leave = f"INSERT INTO memory_index {columns}{whose.format('old.')})"
    enter = f"INSERT INTO memory_index (rowid, text, whose) VALUES (new.number, new.text, {whose.format('new.')})"
    vectorless = "DELETE FROM memory_vectors WHERE number = old.number"
    changed = "UPDATE OF text, persona ON memories WHEN (old.text, old.persona) IS NOT (new.text, new.persona)"
    db.execute(f"CREATE TRIGGER memory_kept AFTER INSERT ON memories BEGIN {enter}; END")
    db.execute(f"CREATE TRIGGER memory_forgotten AFTER DELETE ON memories BEGIN {leave}; {vectorless}; END")
    db.execute(f"CREATE TRIGGER memory_changed AFTER {changed} BEGIN {leave}; {vectorless}; {enter}; END")
    if known:
        db.execute("INSERT INTO memory_index (memory_index) VALUES ('rebuild')")


def _facts(db: Database) -> None:
    fact = (
        "id TEXT NOT NULL UNIQUE, level TEXT, text TEXT, persona TEXT, at TEXT, expires TEXT, trace TEXT, same TEXT"
    )
    db.execute(f"CREATE TABLE memories (number INTEGER PRIMARY KEY AUTOINCREMENT, {fact})")
    db.execute("CREATE UNIQUE INDEX memories_once ON memories (same, coalesce(persona, ''))")
    db.execute("CREATE INDEX memories_by_time ON memories (at)")
    db.execute("CREATE INDEX memories_expiring ON memories (expires) WHERE expires IS NOT NULL")
    vector = "number INTEGER PRIMARY KEY, embedder TEXT, signature BLOB, vector BLOB"
    db.execute(f"CREATE TABLE memory_vectors ({vector})")


_WITHOUT_MEMORIES = (
    *(f"DROP TRIGGER memory_{name}" for name in ("kept", "forgotten", "changed")),
    "DROP TABLE memory_index",
    "DROP VIEW memory_entries",
    "ALTER TABLE memories RENAME TO kept_memories",
    "ALTER TABLE memory_vectors RENAME TO kept_memory_vectors",
)
_SUMMARIES = "level = 'summary' AND at >= :since"
_ERASE_MEMORIES = (
    f"DELETE FROM kept_memory_vectors WHERE number IN (SELECT number FROM kept_memories WHERE {_SUMMARIES})",
    f"DELETE FROM kept_memories WHERE {_SUMMARIES}",
)


def _house(db: Database) -> None:
    """Conversations that walk from room to room, and what other rooms are still to be told.

    ``holds``: how this device stands to a session that was ever handed over (``standing``: held, released, offered),
    the newest epoch it has seen, and the ``bundle`` that it let go of or was offered. ``moves``: the history of
    handoffs of a session. ``outbox``: what must arrive, in order.
    """
    timers = db.table("timers")
    timers.add_column("session", str, not_null_default="")
    timers.add_column("person", str, not_null_default="")
    if db.table("kept_timers").exists():
        update = "session = kept.session, person = kept.person FROM kept_timers AS kept WHERE kept.id = timers.id"
        db.execute(f"UPDATE timers SET {update}")
        db.execute("DROP TABLE kept_timers")
    if _taken_up(db, "holds", "moves", "outbox"):
        return
    hold = {"session": str, "epoch": int, "standing": str, "handoff": str, "at": str, "bundle": str}
    db.table("holds").create(hold, pk="session", not_null={"epoch", "standing"})
    move = {"session": str, "epoch": int, "source": str, "target": str, "at": str, "why": str}
    db.table("moves").create(move, pk=("session", "epoch"))
    db.execute(
        "CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at TEXT, "
        "expires TEXT, topic TEXT, payload TEXT)"
    )


_WITHOUT_HOUSE = (
    "CREATE TABLE kept_timers AS SELECT id, session, person FROM timers WHERE session != '' OR person != ''",
    "ALTER TABLE timers DROP COLUMN session",
    "ALTER TABLE timers DROP COLUMN person",
    *(f"ALTER TABLE {name} RENAME TO kept_{name}" for name in ("holds", "moves", "outbox")),
)
_GONE = "session NOT IN (SELECT id FROM sessions)"
_ERASE_HOUSE = (
    f"UPDATE kept_holds SET bundle = NULL WHERE at >= :since OR {_GONE}",
    f"DELETE FROM kept_moves WHERE {_GONE}",
    "DELETE FROM kept_outbox WHERE at >= :since",
)


STEPS: Steps = (
    Step("0001 conversations", _conversations),
    Step("0002 timers", _timers),
    Step("0003 alarms", _alarms),
    Step("0004 lists", _lists),
    Step("0005 lean edges", _lean_edges),
    Step("0006 personas", _personas),
    Step("0007 minds", _minds),
    Step("0008 memories", _memories, _WITHOUT_MEMORIES, _ERASE_MEMORIES),
    Step("0009 house", _house, _WITHOUT_HOUSE, _ERASE_HOUSE),
)


def migrate(connection: sqlite3.Connection, steps: Steps = STEPS) -> None:
    """Bring a database to the present schema, also from that of a newer program: all steps or none.

    Raises StoreError for a database in which a newer version has taken a step that cannot be undone.
    """
    ledger = _ledger(connection)
    strange = _to_undo(ledger, steps)
    if strange:
        _undo(connection, strange)
    done = {line.name: line for line in ledger if line.undone is None}
    due = [step for step in steps if step.name not in done]
    unwritten = [step for step in steps if step.name in done and _ways(step) != done[step.name][1:3]]
    if due or unwritten:
        _take(connection, due, unwritten)


def check(connection: sqlite3.Connection, steps: Steps = STEPS) -> None:
    """Look, without writing, whether ``migrate`` would take a database. Raises StoreError where it would not."""
    _to_undo(_ledger(connection), steps)


def erasing(connection: sqlite3.Connection) -> list[str]:
    """Return the statements that erase what was said from what is set aside for a newer program."""
    asides = [_statements(line.erase) for line in _ledger(connection) if line.undone is not None]
    return [statement for aside in asides for statement in aside]


def _statements(told: str | None) -> list[str]:
    """Return the statements of a way that stands in a ledger; none where it is none.

    A store may come from elsewhere, in a backup: nothing in it may write to another file or end the transaction.
    sqlite3 takes one statement at a time, so its first word says what it does.
    """
    try:
        read = json.loads(told or "[]")
    except (ValueError, RecursionError):
        return []
    plain = isinstance(read, list) and all(isinstance(one, str) and one.startswith(_CHANGES) for one in read)
    return read if plain else []


def _ledger(connection: sqlite3.Connection) -> list[_Taken]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone():
        return []
    rows = connection.execute("SELECT * FROM migrations ORDER BY rowid")
    columns = [name for name, *_ in rows.description]
    lines = [dict(zip(columns, row, strict=True)) for row in rows]
    return [_Taken(*(line.get(field) for field in _Taken._fields)) for line in lines]  # type: ignore[arg-type]


def _to_undo(ledger: Sequence[_Taken], steps: Steps) -> list[_Taken]:
    """Return what a newer program did, the last first. Raises StoreError where that cannot be undone."""
    known = {step.name for step in steps}
    done = [line for line in ledger if line.undone is None]
    strange = [line for line in reversed(done) if line.name not in known]
    if all(_statements(line.back) for line in strange) and strange == done[::-1][: len(strange)]:
        return strange
    raise StoreError(
        "the store was written by a newer Roomtone; upgrade this one, or use another --state-dir",
        steps=sorted(line.name for line in strange),
    )


def _ways(step: Step) -> tuple[str | None, str | None]:
    """Write a step's ways as the ledger keeps them."""
    return (json.dumps(step.back) if step.back else None, json.dumps(step.erase) if step.erase else None)


def _undo(connection: sqlite3.Connection, strange: Iterable[_Taken]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for line in strange:
            for statement in _statements(line.back):
                connection.execute(statement)
            connection.execute("UPDATE migrations SET undone = ? WHERE name = ?", (now().isoformat(), line.name))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            connection.execute("ROLLBACK")
        raise
    log.warning("a newer Roomtone wrote this store: what only that one can read is set aside until it is back")


def _take(connection: sqlite3.Connection, due: Iterable[Step], unwritten: Iterable[Step]) -> None:
    from sqlite_utils import Database  # 0.1 s and some megabytes, needed once in a store's life

    db = Database(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, taken TEXT)")
        present = db.table("migrations").columns_dict
        for column in ("back", "erase", "undone"):
            if column not in present:
                connection.execute(f"ALTER TABLE migrations ADD COLUMN {column} TEXT")
        for step in unwritten:
            connection.execute("UPDATE migrations SET back = ?, erase = ? WHERE name = ?", (*_ways(step), step.name))
        for step in due:
            step.take(db)
            # anew, not in its old place: the order of the ledger is the order in which steps are undone
            insert = "INSERT OR REPLACE INTO migrations (name, taken, back, erase) VALUES (?, ?, ?, ?)"
            connection.execute(insert, (step.name, now().isoformat(), *_ways(step)))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            connection.execute("ROLLBACK")
        raise
