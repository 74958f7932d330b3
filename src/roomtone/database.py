"""The SQLite file under the store: opened or set aside, committed to, and shrunk. It blocks: a thread's work."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from roomtone.core.dialog import now
from roomtone.core.errors import StoreError
from roomtone.migrations import STEPS, Steps, erasing, migrate

PAGE_BYTES = 1024
"""A quarter of SQLite's default: a turn touches a dozen pages, and every page touched is written twice. This took
a typed question from 33 kB, with pages of 2048, to 21."""

log = logging.getLogger(__name__)

Statement = tuple[str, tuple[Any, ...] | Mapping[str, Any]]

_TURNS = "SELECT trace FROM turns WHERE at >= :since AND trace != :spare"
_MESSAGES = f"""SELECT id FROM messages WHERE coalesce(json_extract(data, '$.trace'), '-') != :spare
    AND (at >= :since OR json_extract(data, '$.trace') IN ({_TURNS}))"""
_ERASE = (
    f"DELETE FROM edges WHERE child IN ({_MESSAGES}) OR parent IN ({_MESSAGES})",
    f"DELETE FROM messages WHERE id IN ({_MESSAGES})",
    f"DELETE FROM turns WHERE trace IN ({_TURNS})",
    "DELETE FROM sessions WHERE id NOT IN (SELECT session FROM turns UNION SELECT session FROM messages)",
    "DELETE FROM summaries WHERE at >= :since OR session NOT IN (SELECT id FROM sessions)",
    "DELETE FROM items WHERE removed >= :since",
    "DELETE FROM tool_runs WHERE at >= :since AND (trace = '' OR trace != :spare)",
    "DELETE FROM routine_runs WHERE at >= :since AND trace != :spare",
    "DELETE FROM memories WHERE level = 'summary' AND at >= :since",
    "DELETE FROM kept WHERE key LIKE 'persona/%' AND at >= :since",
    "UPDATE holds SET bundle = NULL WHERE at >= :since OR session NOT IN (SELECT id FROM sessions)",
    "DELETE FROM moves WHERE session NOT IN (SELECT id FROM sessions)",
    "DELETE FROM outbox WHERE at >= :since",
    "UPDATE persona_switches SET cause = '' WHERE at >= :since AND source NOT IN ('schedule', 'button')",
)
"""What takes everything that was said from a moment on; a message goes with its turn.

Lists are not what was said and stay. What was taken off one since then could only be put back: it goes too, and so
does what a persona has noted and what tools were told since, and the words that changed who speaks. Of what is
remembered only that goes which tells what a conversation was about: the rest was told to be kept.
"""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SAID = {
    sqlite3.SQLITE_FULL: "the disk with {path} is full; make room there, for example: sudo apt clean",
    sqlite3.SQLITE_IOERR: "the disk with {path} refuses to be written or read ({error}): it may be full, or worn out",
    sqlite3.SQLITE_READONLY: "{path} may not be written; give this user its folder: sudo chown -R $USER {folder}",
    sqlite3.SQLITE_CANTOPEN: "{path} cannot be opened; give this user its folder: sudo chown -R $USER {folder}",
    sqlite3.SQLITE_BUSY: "{path} is being written by another program; end that one and try again",
    sqlite3.SQLITE_CORRUPT: "{path} is damaged; restart Roomtone: it is set aside and a new one begun",
    sqlite3.SQLITE_NOTADB: "{path} is damaged; restart Roomtone: it is set aside and a new one begun",
}


def opened(path: Path, steps: Steps = STEPS) -> tuple[sqlite3.Connection, str | None]:
    """Open a database at its present schema, a new one where it is damaged; return it and what was done about damage.

    Raises sqlite3.Error and OSError where that fails, StoreError for a database of a newer version.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(0o600)  # what is said at home is nobody else's to read; SQLite's other files follow this one
    try:
        return _connected(path, steps), None
    except sqlite3.DatabaseError as error:
        if _cause(error) not in _DAMAGED:
            raise
    aside = _set_aside(path)
    return _connected(path, steps), f"the store was damaged and was moved to {aside}; a new one was begun"


def _connected(path: Path, steps: Steps) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            damage = sqlite3.DatabaseError("quick_check failed")
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
        migrate(connection, steps)
        _finish_erasing(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_aside(path: Path) -> Path:
    """Move the database and what belongs to it to a name of its own."""
    stem = f"{path.name}.corrupt-{now():%Y%m%dT%H%M%S.%fZ}"
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(path.with_name(stem + suffix))
    path.touch(0o600)
    return path.with_name(stem)


def commit(connection: sqlite3.Connection, statements: Iterable[Statement], durable: bool) -> None:
    """Run the statements as one transaction, all or none; ``durable``: on the disk when this returns."""
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement, values in statements:
            connection.execute(statement, values)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            connection.execute("ROLLBACK")
        raise


def erase(connection: sqlite3.Connection, which: Mapping[str, str]) -> int:
    """Delete what was said from ``since`` on (ISO 8601 in UTC) but in the turn ``spare``; return how many turns.

    The rows go in one commit that also notes, as the file's user_version, that their bytes are still there.
    """
    (turns,) = connection.execute(f"SELECT count(*) FROM ({_TURNS})", which).fetchone()
    statements = (*_ERASE, *erasing(connection), "PRAGMA user_version = 1")
    commit(connection, [(statement, which) for statement in statements], durable=True)
    return int(turns)


def shrink(connection: sqlite3.Connection) -> None:
    """Rewrite the file without the pages that were freed, so that what was erased cannot be read from it."""
    connection.execute(
        "INSERT INTO memory_index (memory_index) VALUES ('rebuild')"
    )  # it keeps words of what has gone
    connection.execute("VACUUM")
    connection.execute("PRAGMA user_version = 0")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _finish_erasing(connection: sqlite3.Connection) -> None:
    """Do what is left of an erasure that a power cut or a full disk came into."""
    if connection.execute("PRAGMA user_version").fetchone()[0]:
        try:
            shrink(connection)
        except sqlite3.OperationalError as error:
            log.warning("what was erased is still to be taken out of the file: %s", error)


def snapshot(source: Path, target: Path) -> None:
    """Write what a database holds at one moment into a new file, while others go on writing to it.

    It is a reader in a WAL: no writer waits for it. The new file holds no page that was freed, and the same bytes
    where the same was kept; it is not synced, since what is made of it is. Raises sqlite3.Error.
    """
    log_file = source.with_name(f"{source.name}-wal")
    # a card that may only be read has no room for the WAL's index
    still = not os.access(source.parent, os.W_OK) and not (log_file.exists() and log_file.stat().st_size)
    address = f"file:{quote(str(source.absolute()))}?{'mode=ro&immutable=1' if still else 'mode=rw'}"
    with closing(sqlite3.connect(address, uri=True, timeout=5, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("VACUUM INTO ?", (str(target),))


def speaking(work: Callable[[], Any], path: Path) -> Callable[[], Any]:
    """Let ``work`` fail with a line for a person."""

    def said() -> Any:
        try:
            return work()
        except sqlite3.Error as error:
            text = _SAID.get(_cause(error), "{path} failed ({error}); see: roomtone doctor")
            raise StoreError(text.format(path=path, folder=path.parent, error=error), path=str(path)) from error
        except OSError as error:
            text = f"{path} cannot be opened ({error.strerror}); mend the folder, or use another --state-dir"
            raise StoreError(text, path=str(path)) from error

    return said


def _cause(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
