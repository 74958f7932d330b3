"""The store and its folder, looked at without writing a byte."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from roomtone.core.errors import StoreError
from roomtone.doctor.findings import Finding, split
from roomtone.doctor.machine import nearest, usable
from roomtone.migrations import check
from roomtone.models import megabytes
from roomtone.store import FILE_NAME


def look(state_dir: Path, *, running: bool) -> Iterator[Finding]:
    """Tell whether the state folder can be used and the store in it read. ``running``: a daemon has it open."""
    if running and not os.access(state_dir, os.R_OK | os.X_OK):
        mend = f"to look inside: sudo -u roomtone roomtone doctor --state-dir {state_dir}"
        yield Finding("store", "ok", f"{state_dir} is the service's own, which has it open", mend)
        return
    if not usable(state_dir) and not running:
        where = nearest(state_dir)
        mend = (
            f"run: sudo chown -R $USER {where}" if where == state_dir.absolute() else "name another with --state-dir"
        )
        yield Finding("store", "fail", f"{state_dir} may not be written by this user", mend)
    file = state_dir / FILE_NAME
    try:
        if not file.exists():
            yield Finding("store", "ok", f"nothing is kept yet in {state_dir}")
        else:
            yield _judge(file, running=running)
        aside = sorted(state_dir.glob(f"{FILE_NAME}.corrupt-*"))
    except OSError as error:
        yield Finding(
            "store", "fail", f"{file} cannot be read ({error.strerror})", f"run: sudo chown -R $USER {state_dir}"
        )
        return
    if aside:
        size = megabytes(sum(path.stat().st_size for path in aside))
        mend = f"look at them or delete them: ls {state_dir}/{FILE_NAME}.corrupt-*"
        yield Finding("store", "warn", f"{len(aside)} files of a damaged store were set aside ({size})", mend)


def _judge(file: Path, *, running: bool) -> Finding:
    try:
        with _reading(file, running=running) as database:
            wrong = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if wrong != "ok":
                return Finding("store", "fail", f"{file} is damaged: {' '.join(str(wrong).split())}", _mend(running))
            check(database)
    except sqlite3.Error as error:
        return Finding("store", "fail", f"{file} cannot be read ({error})", _mend(running))
    except StoreError as error:
        return split("store", "fail", error.message)
    return Finding("store", "ok", f"{file} is sound ({megabytes(file.stat().st_size)})")


def _mend(running: bool) -> str:
    restart = "sudo systemctl restart roomtone" if running else "roomtone run"
    return f"run: {restart} (what is damaged is set aside, and a new store begun)"


@contextmanager
def _reading(file: Path, *, running: bool) -> Iterator[sqlite3.Connection]:
    """Open the store so that nothing is written beside it.

    A daemon's files are all there to be read along. Without one, SQLite would make files of its own for a WAL: a
    store that was closed well is declared unchanging, one that was not is looked at in a copy.
    """
    log = file.with_name(f"{file.name}-wal")
    if running:
        with closing(_open(file, "mode=ro")) as database:
            yield database
    elif not log.exists() or not log.stat().st_size:
        with closing(_open(file, "mode=ro&immutable=1")) as database:
            yield database
    else:
        with tempfile.TemporaryDirectory(prefix="roomtone-doctor-") as folder:
            for part in (file, log):
                shutil.copyfile(part, Path(folder) / part.name)
            with closing(_open(Path(folder) / file.name, "mode=rw")) as database:
                yield database


def _open(file: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?{how}", uri=True, timeout=5)


def holder(state_dir: Path) -> str | None:
    """Return the process id, as it wrote it down, of who holds the state folder's lock; None where nobody does."""
    try:
        lock = os.open(state_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(lock)
    return None
