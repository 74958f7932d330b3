"""The night's work: what was written is settled and looked at, what only grows is cut, and a backup is kept.

What it came to is in ``maintenance.json`` in the state folder: a line for each thing, and what nobody was told yet.
The daemon goes on meanwhile: the databases are read beside it, and written in pieces that take milliseconds. Where
nothing has changed since the last night, the disk is written for that file alone.
"""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from roomtone import models
from roomtone.core.dialog import now
from roomtone.core.errors import BackupError, RoomtoneError
from roomtone.durable import write_durably
from roomtone.hub.folder import database_path
from roomtone.settings import Settings
from roomtone.state_swap import PREPARING
from roomtone.store import FILE_NAME
from roomtone.upkeep import backup

log = logging.getLogger(__name__)

OUTCOME = "maintenance.json"
BACKUPS = "backups"

RUNS_KEPT = timedelta(days=90)
"""So long it can be looked up what a tool did and how a routine went."""

PRUNED = ("tool_runs", "routine_runs")
PRUNED_AT_ONCE = 200
"""Rows of one commit: some milliseconds on a slow card, for which the daemon may have to wait."""

CHECK_BOUND_S = 600.0
MODELS_BOUND_S = 900.0
"""What is not looked at by then is looked at first the next night."""

BUSY_MS = 200
"""Longest that this waits for the daemon, and far less than the daemon would wait for this."""

KEPT = 7
"""Backups that are kept, the last of so many nights on which something had changed."""

BUDGET_BYTES = 512_000_000
BUDGET_SHARE = 0.1
"""All backups together take no more than that, nor than this share of the disk; the last one is kept in any case."""

RUBBISH = (f"{PREPARING}*", ".roomtone-backup-*", f"{BACKUPS}/.roomtone-backup-*")
RUBBISH_AGE_S = 24 * 3600.0

DUE_AFTER = timedelta(hours=12)
DAY = range(9, 20)
"""Hours of the household's clock at which it is told what was found at night."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one thing came to. ``mend``: the command that mends what is wrong, or what to do."""

    what: str
    ok: bool
    said: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a night's work came to. ``untold``: what is wrong and nobody was told yet, by ``what``.

    ``looked_at``: when each model was last read whole. ``written_kb``: what this wrote to the disk.
    """

    at: datetime
    lines: tuple[Line, ...]
    untold: tuple[str, ...] = ()
    looked_at: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    written_kb: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(line.ok for line in self.lines)


@dataclass(slots=True)
class Night:
    """A night's work under way: what it works on, what is known from the last one, and what it found."""

    settings: Settings
    config: Path | None
    before: Outcome | None
    looked_at: dict[str, str]
    digest: str
    damaged: bool = False

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.settings.state_dir

    @property
    def databases(self) -> list[Path]:
        """The databases that are there."""
        return [path for path in (self.state / FILE_NAME, database_path(self.state)) if path.is_file()]


def maintain(settings: Settings, config: Path | None = None) -> Outcome:
    """Do the night's work and write down what it came to; what fails is a line. Raises OSError where it cannot be."""
    written = _written_kb()
    before = read(settings.state_dir)
    night = Night(settings, config, before, dict(before.looked_at if before else {}), before.digest if before else "")
    lines = tuple(line for name, work in WORK for line in _done(name, work, night))
    wrong = tuple(dict.fromkeys(line.what for line in lines if not line.ok))
    known = {line.what for line in before.lines if not line.ok} - set(before.untold) if before else set()
    untold = tuple(what for what in wrong if what not in known)
    outcome = Outcome(now(), lines, untold, night.looked_at, night.digest, _written_kb() - written)
    keep(settings.state_dir, outcome)
    return outcome


def _done(name: str, work: Callable[[Night], Iterator[Line]], night: Night) -> list[Line]:
    """Do one thing; what fails costs nothing but itself."""
    try:
        return list(work(night))
    except (RoomtoneError, OSError, sqlite3.Error) as error:
        said, _, mend = str(getattr(error, "message", error)).partition("; ")
        return [Line(name, False, said, mend or "see: roomtone doctor")]


def _written_kb() -> int:
    """Return what this process has sent to the disk, in kilobytes (proc(5), /proc/pid/io); 0 where nobody may know.

    The kernel does not tell it to a process that has changed its user.
    """
    try:
        counted = dict(line.split(": ") for line in Path("/proc/self/io").read_text("ascii").splitlines())
    except OSError:
        return 0
    return (int(counted["write_bytes"]) - int(counted["cancelled_write_bytes"])) // 1000


# -------------------------------------------------------------------------------------------- outcome


def read(state_dir: Path) -> Outcome | None:
    """Return what the last night's work came to; None where there was none, or none that can be read."""
    try:
        told = json.loads((state_dir / OUTCOME).read_text("utf-8"))
        lines = tuple(Line(**line) for line in told["lines"])
        return replace(
            Outcome(datetime.fromisoformat(told["at"]), lines),
            untold=tuple(told["untold"]),
            looked_at=dict(told["looked_at"]),
            digest=str(told["digest"]),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def keep(state_dir: Path, outcome: Outcome) -> None:
    """Write an outcome down, whole or not at all. Raises OSError."""
    told: dict[str, Any] = {"v": 1, "ok": outcome.ok, **asdict(outcome), "at": outcome.at.isoformat()}
    write_durably(state_dir / OUTCOME, (json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode())


def is_due(outcome: Outcome | None) -> bool:
    """Say whether a night's work is to be done again; also where the last one is in the future, by a wrong clock."""
    return outcome is None or not timedelta(0) <= now() - outcome.at < DUE_AFTER


def may_be_told(settings: Settings) -> bool:
    """Say whether it is day, and no quiet hours of the household's."""
    at = now().astimezone(settings.zone)
    return at.hour in DAY and not (settings.quiet_hours is not None and settings.quiet_hours.holds(at.time()))


# ---------------------------------------------------------------------------------------- the databases


def _checkpoint(night: Night) -> Iterator[Line]:
    """Write what is in the WALs to the databases: most of it beside the daemon, the rest in a moment."""
    for path in () if night.damaged else night.databases:
        with closing(sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        yield Line("checkpoint", True, f"{path.name}: " + ("written as far as it goes now" if busy else "written"))


def _integrity(night: Night) -> Iterator[Line]:
    """Read every page of the databases, and look whether the indexes agree with the tables."""
    for path in night.databases:
        wrong = _wrong_in(path)
        night.damaged |= wrong not in ("ok", "")
        if wrong == "ok":
            yield Line("store", True, f"{path.name} is whole")
        elif not wrong:
            yield Line("store", True, f"{path.name} is too large to be looked through in {CHECK_BOUND_S:.0f} s")
        else:
            yield Line("store", False, f"{path} is damaged: {wrong}", _mend(night))


def _wrong_in(path: Path) -> str:
    """Return ``ok``, or what is wrong with a database; "" where there was no time to find out."""
    ends = time.monotonic() + CHECK_BOUND_S
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > ends, 100_000)
        try:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            return "" if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT else str(error)
    return " ".join(str(found).split())


def _mend(night: Night) -> str:
    kept = backups(night.state)
    return f"run: sudo roomtone restore {kept[-1]}" if kept else "run: sudo systemctl restart roomtone"


def _prune(night: Night) -> Iterator[Line]:
    """Forget the oldest runs, counted from the last one: a clock that is wrong must not cost them all."""
    store = night.state / FILE_NAME
    if night.damaged or not store.is_file():
        return
    gone = 0
    with closing(sqlite3.connect(store, timeout=5, isolation_level=None)) as connection:
        for table in PRUNED:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                continue
            (last,) = connection.execute(f"SELECT max(at) FROM {table}").fetchone()
            if last is not None:
                gone += _pruned(connection, table, (datetime.fromisoformat(last) - RUNS_KEPT).isoformat())
    yield Line("prune", True, f"{gone} runs of tools and routines from before {RUNS_KEPT.days} days were forgotten")


def _pruned(connection: sqlite3.Connection, table: str, since: str) -> int:
    """Delete what is older, in pieces; return how many rows."""
    old = f"SELECT id FROM {table} WHERE at < ? AND status != 'running' LIMIT {PRUNED_AT_ONCE}"
    gone = 0
    while deleted := connection.execute(f"DELETE FROM {table} WHERE id IN ({old})", (since,)).rowcount:
        gone += deleted
    return gone


# ------------------------------------------------------------------------------------------ the models


def _models(night: Night) -> Iterator[Line]:
    """Read the models whole, the longest unread first, until the time is up; one that is damaged is used no more."""
    folder, ends = night.state / "models", time.monotonic() + MODELS_BOUND_S
    there = {models.typed(kind, name): (kind, name) for kind, name in models.there(folder)}
    night.looked_at = {name: at for name, at in night.looked_at.items() if name in there}
    looked = 0
    for typed in sorted(there, key=lambda name: night.looked_at.get(name, "")):
        if time.monotonic() > ends:
            break
        for verdict in models.verify_all(folder, [there[typed]]):
            looked += 1
            night.looked_at[typed] = now().isoformat()
            if verdict.faults:
                said = f"{verdict.faults[0]}: it is not used any more"
                yield Line("models", False, said, f"run: roomtone models pull {typed}")
    if there:
        yield Line("models", True, f"{looked} of {len(there)} models were read")


# ----------------------------------------------------------------------------------------- the backups


def backups(state_dir: Path) -> list[Path]:
    """List the backups that were made at night, the oldest first."""
    made = (state_dir / BACKUPS).glob("roomtone-*.tar.gz")
    return sorted(made, key=lambda path: (path.name.rsplit("-", 2)[1:], path.name))


def _backup(night: Night) -> Iterator[Line]:
    """Keep a backup where anything has changed, and as many of the earlier ones as there is room for."""
    if night.damaged:
        yield Line("backup", True, "none is made of a damaged store; the earlier ones are kept")
        return
    folder = night.state / BACKUPS
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = backups(night.state)

    def known(digest: str) -> bool:
        same, night.digest = bool(kept) and digest == night.digest, digest
        return same

    try:
        made = _made(night, folder, kept, known)
    except backup.Unchanged:
        yield Line("backup", True, f"nothing has changed since {kept[-1].name}")
        return
    except BackupError:
        night.digest = night.before.digest if night.before else ""
        raise
    _rotate(folder, backups(night.state), made.file)
    yield Line("backup", True, f"{made.file.name}: {made.size // 1000} KB")


def _made(night: Night, folder: Path, kept: Sequence[Path], known: Callable[[str], bool]) -> backup.Made:
    """Make a backup; where the disk is full, without the oldest of the others, but never without the last."""
    oldest = list(kept[:-1])
    while True:
        file = folder / backup.name_for(night.settings.device.id)
        try:
            return backup.make(night.settings, file, config=night.config, unless=known)
        except BackupError:
            if not oldest or shutil.disk_usage(folder).free > models.SPARE_BYTES:
                raise
            oldest.pop(0).unlink()


def _rotate(folder: Path, kept: Sequence[Path], newest: Path) -> None:
    """Delete the oldest backups beyond their number and their share of the disk, never the newest."""
    budget = min(BUDGET_BYTES, int(shutil.disk_usage(folder).total * BUDGET_SHARE))
    others = [path for path in kept if path != newest]
    while others and (len(others) >= KEPT or sum(path.stat().st_size for path in (*others, newest)) > budget):
        others.pop(0).unlink()


def _rubbish(night: Night) -> Iterator[Line]:
    """Delete what a cut restore or backup has left behind."""
    found = [path for pattern in RUBBISH for path in night.state.glob(pattern)]
    old = [path for path in found if time.time() - path.stat().st_mtime > RUBBISH_AGE_S]
    for path in old:
        shutil.rmtree(path)
        yield Line("rubbish", True, f"{path.name}, which was cut short, is gone")


WORK: tuple[tuple[str, Callable[[Night], Iterator[Line]]], ...] = (
    ("store", _integrity),
    ("checkpoint", _checkpoint),
    ("prune", _prune),
    ("backup", _backup),
    ("models", _models),
    ("rubbish", _rubbish),
)
"""What is done, in that order: the backup before the models, which may take long, and after the look at the store."""
