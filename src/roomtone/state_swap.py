"""Another state put in the place of a state folder's own: all of it or nothing, whatever cuts in.

    <state>/.restoring-*/       what is being prepared; rubbish where the program ended
    <state>/.restored/          decided: what comes is in ``new``, and ``aside`` names the folder for what was there
    <state>/.restored/placing   what was there has gone aside, and what comes is being put in its place

Nothing is copied and each step is one rename, so ``finish`` may be begun again after any of them: whoever opens the
state next does it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roomtone.durable import sync

DECIDED, NEW, ASIDE, PLACING = ".restored", "new", "aside", "placing"
PREPARING = ".restoring-"
"""How the name of a folder begins in which something is prepared."""

STAYS = ("models", "backups", "lock", "control.sock")
"""What is the machine's own, and no part of what is swapped."""

KEPT_AS = "before-restore-"
"""How the name of a folder begins in which something was set aside."""


def decide(state_dir: Path, prepared: Path, stamp: str) -> None:
    """Let what lies in ``new`` of a prepared folder replace the state; from here on ``finish`` does it.

    ``stamp`` ends the name of the folder for what was there.
    """
    (prepared / ASIDE).write_text(f"{KEPT_AS}{stamp}", "utf-8")
    for path in (prepared, *prepared.rglob("*")):  # every byte of what comes, before what was is let go
        sync(path)
    prepared.rename(state_dir / DECIDED)
    sync(state_dir)


def finish(state_dir: Path) -> Path | None:
    """Do what is left of a swap that was decided; return the folder with what was there, None where nothing was.

    Raises OSError; what is left then is done by the next call.
    """
    decided = state_dir / DECIDED
    if not decided.is_dir():
        return None
    with _alone(decided):
        if not decided.is_dir():  # another process, the hub's or the daemon's, was first
            return None
        aside = state_dir / (decided / ASIDE).read_text("utf-8")
        if not (decided / PLACING).exists():
            aside.mkdir(mode=0o700, exist_ok=True)
            for path in list(state_dir.iterdir()):
                if path.name not in STAYS and not path.name.startswith((".", KEPT_AS)):
                    path.rename(aside / path.name)
            sync(aside)
            sync(state_dir)
            (decided / PLACING).touch()
            sync(decided)
        for path in list((decided / NEW).iterdir()):
            path.rename(state_dir / path.name)
        sync(state_dir)
        rubbish = state_dir / f"{PREPARING}done"
        shutil.rmtree(rubbish, ignore_errors=True)
        decided.rename(rubbish)
        shutil.rmtree(rubbish, ignore_errors=True)
        if any(aside.iterdir()):
            return aside
        aside.rmdir()
        return None


@contextmanager
def acting_as(owner: tuple[int, int] | None) -> Iterator[None]:
    """Let root act as who has the state (user, group), if anyone else; for the whole process, threads too.

    In a folder that another user owns, every name may become a link to anywhere between two steps.
    """
    if owner is None or os.geteuid() != 0 or owner[0] == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(owner[1])
    os.seteuid(owner[0])
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
