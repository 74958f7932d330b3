"""Where a room goes on whose disk takes nothing: a folder in memory, for as long as it runs.

A card that has come to its end, or is full, must not make the room fall silent: who asks for the time is answered.
What was kept is there, as far as it can be read; what comes is forgotten at the next start.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from roomtone.store import FILE_NAME

log = logging.getLogger(__name__)

ROOM = 512 * 1024
"""Bytes without which it is not worth beginning: the store's own files take as much."""

NOTE = "disk-trouble"
"""Tells, in a refuge, why it is one."""

MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of its own is made in there
LEFT_BEHIND = ("lock", "control.sock", FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm")
"""What of a state folder belongs to the one process that runs there, or is copied."""


def hindrance(state_dir: Path) -> str | None:
    """Return why a state folder cannot be written, None where it can; it is made where there is none."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=state_dir) as probe:
            os.posix_fallocate(probe.fileno(), 0, ROOM)
    except OSError as error:
        return f"{state_dir} cannot be written ({error.strerror})"
    return None


def trouble(state_dir: Path) -> str | None:
    """Return why a state folder is a refuge, None where it is none."""
    try:
        return (state_dir / NOTE).read_text("utf-8")
    except OSError:
        return None


@contextmanager
def instead_of(state_dir: Path, env: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Give the state folder where it can be written, else one in memory with all that can be read of it."""
    why = hindrance(state_dir)
    if why is None:
        yield state_dir
        return
    log.error("%s; the room goes on in memory and forgets what comes: make room or mend the disk, then restart", why)
    runtime = env.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    memory = runtime or (str(MEMORY) if MEMORY.is_dir() else None)
    with tempfile.TemporaryDirectory(prefix="roomtone-", dir=memory) as made:
        refuge = Path(made)
        (refuge / NOTE).write_text(why, "utf-8")
        _bring(state_dir, refuge)
        yield refuge


def _bring(state_dir: Path, refuge: Path) -> None:
    """Copy the store, and point at all else."""
    try:
        for name in LEFT_BEHIND[2:]:
            if (state_dir / name).exists():
                shutil.copyfile(state_dir / name, refuge / name)
    except OSError as error:
        log.error("what was kept is not there meanwhile: %s", error.strerror)
        for name in LEFT_BEHIND[2:]:
            (refuge / name).unlink(missing_ok=True)
    try:
        for entry in state_dir.iterdir():
            if entry.name not in LEFT_BEHIND and not entry.name.startswith("."):  # a swap of states among them
                (refuge / entry.name).symlink_to(entry.absolute())
    except OSError as error:
        log.error("models, personas and the house are not there meanwhile: %s", error.strerror)
